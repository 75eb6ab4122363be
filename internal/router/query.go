package router

import (
	"context"
	"errors"
	"math"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/quorate/quorate"
)

func (r *Router) querier(ctx context.Context, of reading, mint, maxt int64) (storage.Querier, error) {
	pinned, err := r.pin(ctx, of, mint, maxt)
	if err != nil {
		return nil, err
	}
	queriers := make([]storage.Querier, 0, len(pinned.shards))
	for i := range pinned.shards {
		q, err := pinned.shards[i].querier(of.tenant, mint, maxt)
		if err != nil {
			err = errors.Join(err, closeAll(queriers))
			pinned.release()
			return nil, err
		}
		queriers = append(queriers, q)
	}
	return &querier{Querier: storage.NewMergeQuerier(queriers, nil, storage.ChainedSeriesMerge), pinned: pinned}, nil
}

func (r *Router) chunkQuerier(ctx context.Context, of reading, mint, maxt int64) (storage.ChunkQuerier, error) {
	pinned, err := r.pin(ctx, of, mint, maxt)
	if err != nil {
		return nil, err
	}
	queriers := make([]storage.ChunkQuerier, 0, len(pinned.shards))
	for i := range pinned.shards {
		q, err := pinned.shards[i].chunkQuerier(of.tenant, mint, maxt)
		if err != nil {
			err = errors.Join(err, closeAll(queriers))
			pinned.release()
			return nil, err
		}
		queriers = append(queriers, q)
	}
	merge := storage.NewCompactingChunkSeriesMerger(storage.ChainedSeriesMerge)
	return &chunkQuerier{ChunkQuerier: storage.NewMergeChunkQuerier(queriers, nil, merge), pinned: pinned}, nil
}

// closeAll closes what was opened before a later one failed.
func closeAll[C interface{ Close() error }](opened []C) error {
	var errs []error
	for _, c := range opened {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// querier opens a querier over the layers of a shard.
func (p *pinnedShard) querier(tenant quorate.TenantID, mint, maxt int64) (storage.Querier, error) {
	var opened []storage.Querier
	for _, l := range p.layers() {
		q, err := l.querier(tenant, mint, maxt, p.oldest)
		if err != nil {
			return nil, errors.Join(err, closeAll(opened))
		}
		opened = append(opened, q)
	}
	if len(opened) == 1 {
		return opened[0], nil
	}
	return newLayeredQuerier(opened[ofBase], opened[ofOverlay]), nil
}

// chunkQuerier is querier for chunks. Those of two layers are encoded from
// samples, and so counter resets are judged over the series as it is read.
func (p *pinnedShard) chunkQuerier(tenant quorate.TenantID, mint, maxt int64) (storage.ChunkQuerier, error) {
	if p.overlay == nil {
		return p.base.chunkQuerier(tenant, mint, maxt, p.oldest)
	}
	q, err := p.querier(tenant, mint, maxt)
	if err != nil {
		return nil, err
	}
	return encodedQuerier{q}, nil
}

// encodedQuerier gives the samples of a querier in chunks.
type encodedQuerier struct{ storage.Querier }

// Select returns the series that match, in chunks of Prometheus' encodings.
func (q encodedQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.ChunkSeriesSet {
	return storage.NewSeriesSetToChunkSet(q.Querier.Select(ctx, sorted, hints, matchers...))
}

// querier is what the edges read from: the views are let go at its Close, and
// its answers carry what there is to warn of.
type querier struct {
	storage.Querier
	pinned *pinned
}

// Select returns the series that match.
func (q *querier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	set := q.Querier.Select(ctx, sorted, hints, matchers...)
	if len(q.pinned.warnings) == 0 {
		return set
	}
	return warned{set, q.pinned.warnings}
}

// LabelValues returns the values of a label over the series that match.
func (q *querier) LabelValues(ctx context.Context, name string, hints *storage.LabelHints, matchers ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	values, warnings, err := q.Querier.LabelValues(ctx, name, hints, matchers...)
	return values, warnings.Merge(q.pinned.warnings), err
}

// LabelNames returns the label names of the series that match.
func (q *querier) LabelNames(ctx context.Context, hints *storage.LabelHints, matchers ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	names, warnings, err := q.Querier.LabelNames(ctx, hints, matchers...)
	return names, warnings.Merge(q.pinned.warnings), err
}

// Close closes the queriers, then lets go of what they read.
func (q *querier) Close() error {
	defer q.pinned.release()
	return q.Querier.Close()
}

// chunkQuerier is querier for chunks.
type chunkQuerier struct {
	storage.ChunkQuerier
	pinned *pinned
}

// Select returns the series that match.
func (q *chunkQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.ChunkSeriesSet {
	set := q.ChunkQuerier.Select(ctx, sorted, hints, matchers...)
	if len(q.pinned.warnings) == 0 {
		return set
	}
	return warnedChunks{set, q.pinned.warnings}
}

// Close closes the queriers, then lets go of what they read.
func (q *chunkQuerier) Close() error {
	defer q.pinned.release()
	return q.ChunkQuerier.Close()
}

// warned is a set of series with more to warn of.
type warned struct {
	storage.SeriesSet
	more annotations.Annotations
}

// Warnings returns all there is to warn of.
func (s warned) Warnings() annotations.Annotations {
	all := s.SeriesSet.Warnings()
	return all.Merge(s.more)
}

// warnedChunks is warned for chunks.
type warnedChunks struct {
	storage.ChunkSeriesSet
	more annotations.Annotations
}

// Warnings returns all there is to warn of.
func (s warnedChunks) Warnings() annotations.Annotations {
	all := s.ChunkSeriesSet.Warnings()
	return all.Merge(s.more)
}

// recently is the range in which metadata and head statistics are looked for:
// two days cover the current and the previous bucket of the default span.
func (r *Router) recently() (mint, maxt int64) {
	const twoDays = 48 * 60 * 60 * 1000
	now := r.now().UnixMilli()
	return now - twoDays, math.MaxInt64
}

// layers lists what is pinned, by start of bucket, the base of a shard before
// its overlay.
func (p *pinned) layers() []layer {
	var all []layer
	for i := range p.shards {
		all = append(all, p.shards[i].layers()...)
	}
	return all
}
