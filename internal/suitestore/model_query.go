package suitestore

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/promql"
)

var _ promql.Queryable = (*Model)(nil)

// Querier returns a querier of the tenant's samples as they are now.
func (m *Model) Querier(_ context.Context, tenant quorate.TenantID, mint, maxt int64) (storage.Querier, error) {
	return &modelQuerier{labelModel{m.view(tenant)}, mint, maxt}, nil
}

// ChunkQuerier is Querier for chunks in Prometheus' encodings.
func (m *Model) ChunkQuerier(_ context.Context, tenant quorate.TenantID, mint, maxt int64) (storage.ChunkQuerier, error) {
	return &modelChunkQuerier{modelQuerier{labelModel{m.view(tenant)}, mint, maxt}}, nil
}

// ExemplarQuerier returns a querier of the tenant's exemplars as they are now.
func (m *Model) ExemplarQuerier(_ context.Context, tenant quorate.TenantID) (storage.ExemplarQuerier, error) {
	return modelExemplars(m.view(tenant)), nil
}

// Metadata returns what the tenant's newest entries say.
func (m *Model) Metadata(_ context.Context, tenant quorate.TenantID, family string) (map[string]metadata.Metadata, annotations.Annotations, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := map[string]metadata.Metadata{}
	if t, ok := m.tenants[tenant]; ok {
		for name, md := range t.metadata {
			if family == "" || family == name {
				found[name] = md
			}
		}
	}
	return found, nil, nil
}

// Stats counts the tenant's series with upstream's own index.
func (m *Model) Stats(_ context.Context, tenant quorate.TenantID, label string, limit int) (*tsdb.Stats, annotations.Annotations, error) {
	view := m.view(tenant)
	postings := index.NewMemPostings()
	stats := &tsdb.Stats{NumSeries: uint64(len(view))}
	for i, s := range view {
		postings.Add(storage.SeriesRef(i+1), s.labels)
		for _, p := range s.samples {
			if stats.MinTime == 0 || p.T() < stats.MinTime {
				stats.MinTime = p.T()
			}
			stats.MaxTime = max(stats.MaxTime, p.T())
		}
	}
	stats.IndexPostingStats = postings.Stats(label, limit, labels.SizeOfLabels)
	return stats, nil, nil
}

// view copies the tenant's series, sorted by labels: nothing stored later shows.
func (m *Model) view(tenant quorate.TenantID) []*seriesModel {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, ok := m.tenants[tenant]
	if !ok {
		return nil
	}
	view := make([]*seriesModel, 0, len(t.series))
	for _, s := range t.series {
		view = append(view, &seriesModel{labels: s.labels, samples: slices.Clone(s.samples), exemplars: slices.Clone(s.exemplars)})
	}
	slices.SortFunc(view, func(a, b *seriesModel) int { return labels.Compare(a.labels, b.labels) })
	return view
}

func matching(view []*seriesModel, matchers []*labels.Matcher) []*seriesModel {
	var found []*seriesModel
	for _, s := range view {
		if !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(s.labels.Get(m.Name)) }) {
			found = append(found, s)
		}
	}
	return found
}

// labelModel answers what is asked of labels.
type labelModel struct{ view []*seriesModel }

func (l labelModel) LabelValues(_ context.Context, name string, hints *storage.LabelHints, matchers ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	found := map[string]bool{}
	for _, s := range matching(l.view, matchers) {
		if v := s.labels.Get(name); v != "" {
			found[v] = true
		}
	}
	return sortedUpTo(found, hints), nil, nil
}

func (l labelModel) LabelNames(_ context.Context, hints *storage.LabelHints, matchers ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	found := map[string]bool{}
	for _, s := range matching(l.view, matchers) {
		s.labels.Range(func(l labels.Label) { found[l.Name] = true })
	}
	return sortedUpTo(found, hints), nil, nil
}

func (labelModel) Close() error { return nil }

func sortedUpTo(set map[string]bool, hints *storage.LabelHints) []string {
	sorted := slices.Sorted(maps.Keys(set))
	if hints != nil && hints.Limit > 0 && len(sorted) > hints.Limit {
		sorted = sorted[:hints.Limit]
	}
	return sorted
}

type modelQuerier struct {
	labelModel
	mint, maxt int64
}

func (q *modelQuerier) Select(_ context.Context, _ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	var found []storage.Series
	for _, s := range matching(q.view, matchers) {
		samples, err := withResetHints(s)
		if err != nil {
			return storage.ErrSeriesSet(err)
		}
		lo, _ := slices.BinarySearchFunc(samples, q.mint, sampleAt)
		hi, last := slices.BinarySearchFunc(samples, q.maxt, sampleAt)
		if last {
			hi++
		}
		if lo < hi {
			found = append(found, listed(s.labels, samples[lo:hi]))
		}
	}
	return &seriesList{list: found}
}

func sampleAt(s chunks.Sample, t int64) int { return cmp.Compare(s.T(), t) }

// listed is storage.NewListSeries, except that it gives out copies of its
// histograms, since the engine calculates in place.
func listed(ls labels.Labels, samples []chunks.Sample) storage.Series {
	return &storage.SeriesEntry{Lset: ls, SampleIteratorFn: func(chunkenc.Iterator) chunkenc.Iterator {
		return storage.NewListSeriesIteratorWithCopy(sampleList(samples))
	}}
}

// withResetHints sends a series through Prometheus' chunks and back: they give
// histograms the counter reset hints that its engine expects of any storage.
// All of it, since a histogram's hint follows from the one before, which may
// lie outside of what is asked for.
func withResetHints(s *seriesModel) ([]chunks.Sample, error) {
	set := storage.NewSeriesSetFromChunkSeriesSet(storage.NewSeriesSetToChunkSet(&seriesList{list: []storage.Series{listed(s.labels, s.samples)}}))
	if !set.Next() {
		return nil, set.Err()
	}
	return storage.ExpandSamplesWithoutReplacingNaNs(set.At().Iterator(nil), func(st, t int64, f float64, h *histogram.Histogram, fh *histogram.FloatHistogram) chunks.Sample {
		return sample{t: t, st: st, f: f, h: h, fh: fh}
	})
}

// sampleList is storage.Samples over a slice.
type sampleList []chunks.Sample

func (l sampleList) Get(i int) chunks.Sample { return l[i] }
func (l sampleList) Len() int                { return len(l) }

type modelChunkQuerier struct{ modelQuerier }

func (q *modelChunkQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.ChunkSeriesSet {
	return storage.NewSeriesSetToChunkSet(q.modelQuerier.Select(ctx, sorted, hints, matchers...))
}

// seriesList is a storage.SeriesSet of what is in memory.
type seriesList struct {
	list []storage.Series
	next int
}

func (s *seriesList) Next() bool                        { s.next++; return s.next <= len(s.list) }
func (s *seriesList) At() storage.Series                { return s.list[s.next-1] }
func (s *seriesList) Err() error                        { return nil }
func (s *seriesList) Warnings() annotations.Annotations { return nil }

type modelExemplars []*seriesModel

func (view modelExemplars) Select(start, end int64, sets ...[]*labels.Matcher) ([]exemplar.QueryResult, error) {
	var results []exemplar.QueryResult
	for _, s := range view {
		if !slices.ContainsFunc(sets, func(ms []*labels.Matcher) bool { return len(matching([]*seriesModel{s}, ms)) > 0 }) {
			continue
		}
		var inside []exemplar.Exemplar
		for _, e := range s.exemplars {
			if start <= e.Ts && e.Ts <= end {
				inside = append(inside, e)
			}
		}
		if len(inside) > 0 {
			results = append(results, exemplar.QueryResult{SeriesLabels: s.labels, Exemplars: inside})
		}
	}
	return results, nil
}
