package interchange

import (
	"context"

	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

// position is how far a block was sent: everything of the slices before slice,
// and in it of all series up to the one at series.
type position struct {
	slice  int64
	series uint64
}

// sliceWriter cuts the series of one slice into requests.
type sliceWriter struct {
	out     *outbox
	batch   *batch
	samples int // of a batch, about
	// position is behind the last series that is whole in the batch or before.
	position position
	// within tells that the batch goes on with a series that an earlier one has
	// begun.
	within bool

	// The iterators are used again for each series and chunk.
	chunkIterator  chunks.Iterator
	sampleIterator chunkenc.Iterator
}

// write adds the samples of a series in the closed range; sent tells whether
// there were any.
func (w *sliceWriter) write(ctx context.Context, series storage.ChunkSeries, mint, maxt int64) (sent bool, err error) {
	w.batch.begin(series.Labels())
	w.chunkIterator = series.Iterator(w.chunkIterator)
	for w.chunkIterator.Next() {
		w.sampleIterator = w.chunkIterator.At().Chunk.Iterator(w.sampleIterator)
		it := w.sampleIterator
		for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
			if t := it.AtT(); t < mint || t > maxt {
				continue
			}
			if err := w.batch.add(it, kind); err != nil {
				return sent, err
			}
			sent = true
			// A batch is cut at the end of a series if it can be: what goes on
			// with a series has to wait.
			if w.batch.full(2 * w.samples) {
				if err := w.flush(ctx); err != nil {
					return sent, err
				}
				w.within = true
				w.batch.begin(series.Labels())
			}
		}
		if err := it.Err(); err != nil {
			return sent, err
		}
	}
	return sent, w.chunkIterator.Err()
}

// endSeries notes that the series at a reference is complete.
func (w *sliceWriter) endSeries(ctx context.Context, reference uint64) error {
	w.position.series = reference
	if w.batch.full(w.samples) {
		return w.flush(ctx)
	}
	return nil
}

// flush hands what the batch holds to the outbox, be it nothing but a position.
func (w *sliceWriter) flush(ctx context.Context) error {
	counts := w.batch.counts
	r := request{body: w.batch.encode(), counts: counts, position: w.position, continues: w.within}
	w.within = false
	return w.out.post(ctx, r)
}
