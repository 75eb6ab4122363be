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
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/prometheus/prometheus/util/annotations"
)

type exemplarQuerier struct {
	ctx    context.Context //nolint:containedctx // storage.ExemplarQuerier's Select takes none
	router *Router
	of     reading
	// warnings are what the last answer is to carry.
	warnings annotations.Annotations
}

// Warnings returns what there is to warn of, once Select has returned.
func (q *exemplarQuerier) Warnings() annotations.Annotations { return q.warnings }

// Select returns the exemplars of [start, end] (ms) of the series that match
// any of the matcher sets, sorted by labels, then time.
func (q *exemplarQuerier) Select(start, end int64, matchers ...[]*labels.Matcher) ([]exemplar.QueryResult, error) {
	pinned, err := q.router.pin(q.ctx, q.of, start, end)
	if err != nil {
		return nil, err
	}
	defer pinned.release()
	var all []exemplar.QueryResult
	for i := range pinned.shards {
		shard := &pinned.shards[i]
		for _, l := range shard.layers() {
			found, err := l.exemplars(q.ctx, q.of.tenant, max(start, shard.oldest), end, matchers)
			if err != nil {
				return nil, err
			}
			all = append(all, found...)
		}
	}
	q.warnings = pinned.warnings
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

func (r *Router) metadata(ctx context.Context, of reading, family string) (map[string]metadata.Metadata, annotations.Annotations, error) {
	mint, maxt := r.recently()
	pinned, err := r.pin(ctx, of, mint, maxt)
	if err != nil {
		return nil, nil, err
	}
	defer pinned.release()
	all := make(map[string]metadata.Metadata)
	for _, l := range pinned.layers() { // later buckets, and later layers, know better
		found, err := l.metadata(ctx, of.tenant, family)
		if err != nil {
			return nil, nil, err
		}
		maps.Copy(all, found)
	}
	return all, pinned.warnings, nil
}

func (r *Router) stats(ctx context.Context, of reading, label string, limit int) (*tsdb.Stats, annotations.Annotations, error) {
	now := r.now().UnixMilli()
	pinned, err := r.pin(ctx, of, now, now)
	if err != nil {
		return nil, nil, err
	}
	defer pinned.release()
	sum := &tsdb.Stats{IndexPostingStats: &index.PostingsStats{}}
	for i := range pinned.shards {
		s, err := pinned.shards[i].base.stats(ctx, of.tenant, label, limit)
		if err != nil {
			return nil, nil, err
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
	return sum, pinned.warnings, nil
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
