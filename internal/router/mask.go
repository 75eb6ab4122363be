package router

import (
	"context"
	"errors"
	"math"
	"sync"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/quorate/quorate/tsdbshard"
)

// maskedQuerier reads one layer of a shard without the samples before oldest,
// which retention hides, and without those that the reader has as deleted.
type maskedQuerier struct {
	// Querier is upstream's over the reader.
	storage.Querier
	reader     tsdbshard.TenantReader
	mint, maxt int64
	oldest     int64
	// deleted is what the reader has as deleted, nil for nothing.
	deleted tombstones.Reader

	mu     sync.Mutex
	opened []storage.Querier // for one Select each
}

func newMaskedQuerier(reader tsdbshard.TenantReader, mint, maxt, oldest int64) (*maskedQuerier, error) {
	q := &maskedQuerier{reader: reader, mint: max(mint, oldest), maxt: maxt, oldest: oldest}
	deleted, err := reader.Tombstones()
	if err != nil {
		return nil, err
	}
	if deleted.Total() > 0 {
		q.deleted = deleted
	}
	q.Querier, err = tsdb.NewBlockQuerier(reader, q.mint, q.maxt)
	if err != nil {
		return nil, err
	}
	return q, nil
}

// Select returns the series with samples that are not masked.
func (q *maskedQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	hints, some := maskHints(hints, q.oldest)
	switch {
	case !some:
		return storage.EmptySeriesSet()
	case q.deleted == nil:
		return q.Querier.Select(ctx, sorted, hints, matchers...)
	}
	trimmed := storage.SelectHints{Start: q.mint, End: q.maxt}
	if hints != nil {
		trimmed = *hints
	}
	reader := trimmedReader{q.reader, trimmedTombstones{q.deleted, trimmed.Start, trimmed.End}}
	trimmed.DisableTrimming = true
	querier, err := tsdb.NewBlockQuerier(reader, trimmed.Start, trimmed.End)
	if err != nil {
		return storage.ErrSeriesSet(err)
	}
	q.mu.Lock()
	q.opened = append(q.opened, querier)
	q.mu.Unlock()
	return querier.Select(ctx, sorted, &trimmed, matchers...)
}

// Close closes the queriers of all selects.
func (q *maskedQuerier) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	err := errors.Join(closeAll(q.opened), q.Querier.Close())
	q.opened = nil
	return err
}

// maskHints keeps a selection from samples before oldest: the range of the
// hints, where there are any, counts for more than that of the querier. It
// tells whether something is left to select.
func maskHints(hints *storage.SelectHints, oldest int64) (*storage.SelectHints, bool) {
	if hints == nil || hints.Start >= oldest {
		return hints, true
	}
	masked := *hints
	masked.Start, masked.DisableTrimming = oldest, false
	return &masked, masked.Start <= masked.End
}

// maskedChunkQuerier is maskedQuerier for the chunks of a reader that has
// nothing as deleted.
type maskedChunkQuerier struct {
	storage.ChunkQuerier
	oldest int64
}

// Select returns the series with samples at or after oldest.
func (q *maskedChunkQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.ChunkSeriesSet {
	hints, some := maskHints(hints, q.oldest)
	if !some {
		return storage.NewSeriesSetToChunkSet(storage.EmptySeriesSet())
	}
	return q.ChunkQuerier.Select(ctx, sorted, hints, matchers...)
}

// trimmedReader is a reader with other tombstones.
type trimmedReader struct {
	tsdbshard.TenantReader
	tombstones trimmedTombstones
}

// Tombstones returns them.
func (r trimmedReader) Tombstones() (tombstones.Reader, error) { return r.tombstones, nil }

// trimmedTombstones are tombstones to which everything outside of [mint, maxt]
// is deleted as well. Upstream's querier would add that to them itself, by
// tombstones.Intervals.Add, which panics where what is deleted reaches over the
// end of the range and something before it is deleted too: it counts from the
// wrong end when an interval lasts for ever (Prometheus v0.315).
type trimmedTombstones struct {
	tombstones.Reader
	mint, maxt int64
}

// Get returns what of a series is not to be read.
func (t trimmedTombstones) Get(ref storage.SeriesRef) (tombstones.Intervals, error) {
	deleted, err := t.Reader.Get(ref)
	if err != nil {
		return nil, err
	}
	all := make(tombstones.Intervals, 0, len(deleted)+2)
	if t.mint > math.MinInt64 {
		all = append(all, tombstones.Interval{Mint: math.MinInt64, Maxt: t.mint - 1})
	}
	for _, i := range deleted {
		if i.Mint <= t.maxt {
			all = appendInterval(all, i)
		}
	}
	if t.maxt < math.MaxInt64 {
		all = appendInterval(all, tombstones.Interval{Mint: t.maxt + 1, Maxt: math.MaxInt64})
	}
	return all, nil
}

// appendInterval appends an interval to those that begin before it, or widens
// the last of them where the two touch.
func appendInterval(all tombstones.Intervals, i tombstones.Interval) tombstones.Intervals {
	if n := len(all); n > 0 && (all[n-1].Maxt == math.MaxInt64 || i.Mint <= all[n-1].Maxt+1) {
		all[n-1].Maxt = max(all[n-1].Maxt, i.Maxt)
		return all
	}
	return append(all, i)
}
