package promql

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
)

var errQuerierClosed = errors.New("querier is used after its Close")

// queryable turns a Queryable into upstream's interfaces. Upstream opens a
// querier without a context and passes one to each of its reads, so the
// tenant, and with it the querier behind, is found at the first read.
type queryable struct {
	// of tells what a context asks for.
	of func(context.Context) (reading, error)
}

// reading is what is read, and whose data of it; nobody's if the tenant was not
// found.
type reading struct {
	source Queryable
	tenant Tenant
}

// Querier never fails: nothing is opened before the first read.
func (q *queryable) Querier(mint, maxt int64) (storage.Querier, error) {
	return &querier{labelReads[storage.Querier]{once[storage.Querier]{
		open: func(ctx context.Context) (storage.Querier, error) {
			of, err := q.of(ctx)
			if err != nil || !of.tenant.Found {
				return nobodys(of.tenant), err
			}
			return of.source.Querier(ctx, of.tenant.ID, mint, maxt)
		},
	}}}, nil
}

// ChunkQuerier never fails: nothing is opened before the first read.
func (q *queryable) ChunkQuerier(mint, maxt int64) (storage.ChunkQuerier, error) {
	return &chunkQuerier{labelReads[storage.ChunkQuerier]{once[storage.ChunkQuerier]{
		open: func(ctx context.Context) (storage.ChunkQuerier, error) {
			of, err := q.of(ctx)
			if err != nil || !of.tenant.Found {
				return nobodysChunks(of.tenant), err
			}
			return of.source.ChunkQuerier(ctx, of.tenant.ID, mint, maxt)
		},
	}}}, nil
}

// ExemplarQuerier opens the tenant's exemplars for one Select.
func (q *queryable) ExemplarQuerier(ctx context.Context) (storage.ExemplarQuerier, error) {
	of, err := q.of(ctx)
	if err != nil {
		return nil, fromStorage(ctx, err)
	}
	if !of.tenant.Found {
		noteWarnings(ctx, of.tenant.Warnings)
		return noExemplars{}, nil
	}
	inner, err := of.source.ExemplarQuerier(ctx, of.tenant.ID)
	if err != nil {
		return nil, fromStorage(ctx, err)
	}
	return &exemplarQuerier{
		inner:  inner,
		failed: func(err error) error { return fromStorage(ctx, err) },
		warn:   func(of annotations.Annotations) { noteWarnings(ctx, of) },
	}, nil
}

// once opens something at its first use and closes it once. Uses that race for
// the first wait for the same opening, so all of them share one view.
type once[Q io.Closer] struct {
	open func(context.Context) (Q, error)

	opening, closing sync.Once
	inner            Q
	err              error
}

func (o *once[Q]) get(ctx context.Context) (Q, error) {
	o.opening.Do(func() {
		if o.inner, o.err = o.open(ctx); o.err != nil {
			o.err = fromStorage(ctx, o.err)
		}
	})
	return o.inner, o.err
}

// Close releases what was opened. What was never opened stays so.
func (o *once[Q]) Close() error {
	var err error
	o.closing.Do(func() {
		o.opening.Do(func() { o.err = errQuerierClosed })
		if o.err == nil {
			err = o.inner.Close()
		}
	})
	return err
}

// labelReads are the reads that queriers of samples and of chunks have in common.
type labelReads[Q storage.LabelQuerier] struct{ once[Q] }

func (q *labelReads[Q]) LabelValues(ctx context.Context, name string, hints *storage.LabelHints, matchers ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	inner, err := q.get(ctx)
	if err != nil {
		return nil, nil, err
	}
	values, warnings, err := inner.LabelValues(ctx, name, hints, matchers...)
	return values, warnings, fromStorage(ctx, err)
}

func (q *labelReads[Q]) LabelNames(ctx context.Context, hints *storage.LabelHints, matchers ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	inner, err := q.get(ctx)
	if err != nil {
		return nil, nil, err
	}
	names, warnings, err := inner.LabelNames(ctx, hints, matchers...)
	return names, warnings, fromStorage(ctx, err)
}

type querier struct{ labelReads[storage.Querier] }

func (q *querier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	inner, err := q.get(ctx)
	if err != nil {
		return storage.ErrSeriesSet(err)
	}
	return seriesSet{
		SeriesSet: inner.Select(ctx, sorted, hints, matchers...),
		failed:    func(err error) error { return fromStorage(ctx, err) },
	}
}

// SearchLabelNames serves the search endpoints from the inner querier's own
// search, or from its label names where it has none.
func (q *querier) SearchLabelNames(ctx context.Context, hints *storage.SearchHints, matchers ...*labels.Matcher) storage.SearchResultSet {
	if s, ok, err := q.searcher(ctx); err != nil {
		return storage.ErrSearchResultSet(err)
	} else if ok {
		return s.SearchLabelNames(ctx, hints, matchers...)
	}
	names, warnings, err := q.LabelNames(ctx, nil, matchers...)
	if err != nil {
		return storage.ErrSearchResultSet(err, warnings)
	}
	return storage.NewSearchResultSetFromSlice(storage.ApplySearchHints(names, hints), warnings)
}

// SearchLabelValues is SearchLabelNames for the values of a label.
func (q *querier) SearchLabelValues(ctx context.Context, name string, hints *storage.SearchHints, matchers ...*labels.Matcher) storage.SearchResultSet {
	if s, ok, err := q.searcher(ctx); err != nil {
		return storage.ErrSearchResultSet(err)
	} else if ok {
		return s.SearchLabelValues(ctx, name, hints, matchers...)
	}
	values, warnings, err := q.LabelValues(ctx, name, nil, matchers...)
	if err != nil {
		return storage.ErrSearchResultSet(err, warnings)
	}
	return storage.NewSearchResultSetFromSlice(storage.ApplySearchHints(values, hints), warnings)
}

func (q *querier) searcher(ctx context.Context) (storage.Searcher, bool, error) {
	inner, err := q.get(ctx)
	if err != nil {
		return nil, false, err
	}
	if inner == storage.NoopQuerier() {
		// Upstream's empty querier answers a search with a nil set, which its
		// own handler then dereferences.
		return nil, false, nil
	}
	s, ok := inner.(storage.Searcher)
	return s, ok, nil
}

type chunkQuerier struct {
	labelReads[storage.ChunkQuerier]
}

func (q *chunkQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.ChunkSeriesSet {
	inner, err := q.get(ctx)
	if err != nil {
		return storage.ErrChunkSeriesSet(err)
	}
	return chunkSeriesSet{
		ChunkSeriesSet: inner.Select(ctx, sorted, hints, matchers...),
		failed:         func(err error) error { return fromStorage(ctx, err) },
	}
}

// seriesSet judges the error with which a set of series ends. The iterators of
// single series are not wrapped: that would cost a call per sample, and
// statusOf finds the kind of their errors all the same.
type seriesSet struct {
	storage.SeriesSet
	failed func(error) error
}

func (s seriesSet) Err() error { return s.failed(s.SeriesSet.Err()) }

type chunkSeriesSet struct {
	storage.ChunkSeriesSet
	failed func(error) error
}

func (s chunkSeriesSet) Err() error { return s.failed(s.ChunkSeriesSet.Err()) }

type exemplarQuerier struct {
	inner  storage.ExemplarQuerier
	failed func(error) error
	warn   func(annotations.Annotations)
}

func (q *exemplarQuerier) Select(start, end int64, matchers ...[]*labels.Matcher) ([]exemplar.QueryResult, error) {
	if c, ok := q.inner.(io.Closer); ok {
		defer c.Close() //nolint:errcheck // a view that was read whole has nothing to lose
	}
	results, err := q.inner.Select(start, end, matchers...)
	if err != nil {
		return nil, q.failed(err)
	}
	if w, ok := q.inner.(interface {
		Warnings() annotations.Annotations
	}); ok {
		q.warn(w.Warnings())
	}
	if results == nil {
		// Grafana's start-up probe wants a list, and nil is encoded as null.
		results = []exemplar.QueryResult{}
	}
	return results, nil
}

type noExemplars struct{}

func (noExemplars) Select(int64, int64, ...[]*labels.Matcher) ([]exemplar.QueryResult, error) {
	return []exemplar.QueryResult{}, nil
}
