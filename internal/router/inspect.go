package router

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/quorate/quorate"
)

// ExemplarQuerier returns a querier over a tenant's exemplars. Each Select
// pins its own views.
func (r *Router) ExemplarQuerier(ctx context.Context, tenant quorate.TenantID) (storage.ExemplarQuerier, error) {
	return &exemplarQuerier{ctx: ctx, router: r, tenant: tenant}, nil
}

type exemplarQuerier struct {
	ctx    context.Context //nolint:containedctx // storage.ExemplarQuerier's Select takes none
	router *Router
	tenant quorate.TenantID
}

// Select returns the exemplars of [start, end] (ms) of the series that match
// any of the matcher sets, sorted by labels, then time.
func (q *exemplarQuerier) Select(start, end int64, matchers ...[]*labels.Matcher) ([]exemplar.QueryResult, error) {
	pinned, err := q.router.pin(q.ctx, q.tenant, start, end)
	if err != nil {
		return nil, err
	}
	defer pinned.release()
	var all []exemplar.QueryResult
	for i := range pinned.shards {
		shard := &pinned.shards[i]
		for _, reader := range shard.readers(q.tenant) {
			found, err := reader.ExemplarQuerier().Select(max(start, shard.oldest), end, matchers...)
			if err != nil {
				return nil, err
			}
			all = append(all, found...)
		}
	}
	return mergeExemplars(all), nil
}

// mergeExemplars puts the exemplars of each series together, in order of time
// and each once: both layers of a shard may have been sent the same. The result
// is sorted by labels.
func mergeExemplars(all []exemplar.QueryResult) []exemplar.QueryResult {
	slices.SortStableFunc(all, func(a, b exemplar.QueryResult) int { return labels.Compare(a.SeriesLabels, b.SeriesLabels) })
	merged := all[:0]
	for _, one := range all {
		n := len(merged)
		if n == 0 || !labels.Equal(merged[n-1].SeriesLabels, one.SeriesLabels) {
			merged = append(merged, one)
			continue
		}
		list := slices.Concat(merged[n-1].Exemplars, one.Exemplars)
		slices.SortStableFunc(list, func(a, b exemplar.Exemplar) int { return cmp.Compare(a.Ts, b.Ts) })
		merged[n-1].Exemplars = slices.CompactFunc(list, func(a, b exemplar.Exemplar) bool {
			return a.Ts == b.Ts && math.Float64bits(a.Value) == math.Float64bits(b.Value) && labels.Equal(a.Labels, b.Labels)
		})
	}
	return merged
}

// Metadata returns what the tenant's senders last said of a metric family, or
// of all families where family is empty, from the buckets of the last two days.
func (r *Router) Metadata(ctx context.Context, tenant quorate.TenantID, family string) (map[string]metadata.Metadata, error) {
	mint, maxt := r.recently()
	pinned, err := r.pin(ctx, tenant, mint, maxt)
	if err != nil {
		return nil, err
	}
	defer pinned.release()
	all := make(map[string]metadata.Metadata)
	for _, reader := range pinned.tenantReaders(tenant) { // later buckets, and later layers, know better
		found, err := reader.Metadata(family)
		if err != nil {
			return nil, err
		}
		maps.Copy(all, found)
	}
	return all, nil
}

// Stats returns the cardinality of a tenant's series in the bucket that takes
// samples now, with the limit largest entries of each list. Series lie in one
// shard each, so numbers of series add up exactly; lists are merged from each
// shard's own. Of a shard that was sealed although it takes samples still, what
// the overlay alone has is not counted: most of it is in both layers.
func (r *Router) Stats(ctx context.Context, tenant quorate.TenantID, label string, limit int) (*tsdb.Stats, error) {
	now := r.now().UnixMilli()
	pinned, err := r.pin(ctx, tenant, now, now)
	if err != nil {
		return nil, err
	}
	defer pinned.release()
	sum := &tsdb.Stats{IndexPostingStats: &index.PostingsStats{}}
	for i := range pinned.shards {
		s, err := pinned.shards[i].base.Tenant(tenant).Stats(label, limit)
		if err != nil {
			return nil, err
		}
		if s.NumSeries == 0 {
			continue // a shard without series has no times
		}
		if sum.NumSeries == 0 || s.MinTime < sum.MinTime {
			sum.MinTime = s.MinTime
		}
		if sum.NumSeries == 0 || s.MaxTime > sum.MaxTime {
			sum.MaxTime = s.MaxTime
		}
		sum.NumSeries += s.NumSeries
		addPostingsStats(sum.IndexPostingStats, s.IndexPostingStats, limit)
	}
	return sum, nil
}

func addPostingsStats(sum, s *index.PostingsStats, limit int) {
	sum.CardinalityMetricsStats = mergeStats(sum.CardinalityMetricsStats, s.CardinalityMetricsStats, limit, addCounts)
	sum.LabelValuePairsStats = mergeStats(sum.LabelValuePairsStats, s.LabelValuePairsStats, limit, addCounts)
	// The same label values stand in several shards: the largest shard's
	// number is a lower bound of the whole, their sum would count them twice.
	sum.CardinalityLabelStats = mergeStats(sum.CardinalityLabelStats, s.CardinalityLabelStats, limit, maxCount)
	sum.LabelValueStats = mergeStats(sum.LabelValueStats, s.LabelValueStats, limit, maxCount)
	sum.NumLabelPairs = max(sum.NumLabelPairs, s.NumLabelPairs)
}

func addCounts(a, b uint64) uint64 { return a + b }
func maxCount(a, b uint64) uint64  { return max(a, b) }

func mergeStats(a, b []index.Stat, limit int, merge func(a, b uint64) uint64) []index.Stat {
	counts := make(map[string]uint64, len(a)+len(b))
	for _, s := range a {
		counts[s.Name] = s.Count
	}
	for _, s := range b {
		counts[s.Name] = merge(counts[s.Name], s.Count)
	}
	merged := make([]index.Stat, 0, len(counts))
	for name, count := range counts {
		merged = append(merged, index.Stat{Name: name, Count: count})
	}
	slices.SortFunc(merged, func(a, b index.Stat) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Name, b.Name))
	})
	return merged[:min(limit, len(merged))]
}
