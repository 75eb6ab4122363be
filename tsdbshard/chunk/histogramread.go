package chunk

import (
	"fmt"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// open returns the chunk as chunkenc's, once its layout was checked.
func (c *Chunk) open() (chunkenc.Chunk, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	if err := c.checkLayout(); err != nil {
		return nil, err
	}
	return chunkenc.FromData(c.Kind.encoding(), c.Values)
}

// histogramIterator walks the histograms of a chunk: chunkenc's iterator, which
// it checks to be ascending and complete.
type histogramIterator struct {
	chunkenc.Iterator
	chunk Chunk
	read  int
	last  int64
	err   error
	done  bool
}

func (c *Chunk) histogramIterator(it chunkenc.Iterator) chunkenc.Iterator {
	h, ok := it.(*histogramIterator)
	if !ok {
		h = new(histogramIterator)
	}
	h.reset(c)
	return h
}

func (it *histogramIterator) reset(c *Chunk) {
	*it = histogramIterator{Iterator: it.Iterator, chunk: *c}
	chunk, err := c.open()
	if err != nil {
		it.err, it.done = err, true
		return
	}
	it.Iterator = chunk.Iterator(it.Iterator)
}

// Next moves to the next sample.
func (it *histogramIterator) Next() chunkenc.ValueType {
	if it.done {
		return chunkenc.ValNone
	}
	vt := it.Iterator.Next()
	if vt == chunkenc.ValNone {
		it.finish()
		return vt
	}
	t := it.AtT()
	if it.read > 0 && t <= it.last {
		it.err = fmt.Errorf("%w: timestamp %d of histogram %d after %d", ErrDamaged, t, it.read, it.last)
		it.done = true
		return chunkenc.ValNone
	}
	it.read++
	it.last = t
	return vt
}

func (it *histogramIterator) finish() {
	it.done = true
	if err := it.Iterator.Err(); err != nil {
		it.err = fmt.Errorf("%w: histogram %d: %w", ErrDamaged, it.read, err)
		return
	}
	if it.read != it.chunk.Rows || it.last != it.chunk.MaxTime {
		it.err = fmt.Errorf("%w: %d histograms to %d in a chunk of %d to %d", ErrDamaged, it.read, it.last, it.chunk.Rows, it.chunk.MaxTime)
	}
}

// Seek moves to the first sample at or after t, never back.
func (it *histogramIterator) Seek(t int64) chunkenc.ValueType { //nolint:govet // chunkenc.Iterator, not io.Seeker
	for it.read == 0 || it.last < t {
		if it.Next() == chunkenc.ValNone {
			return chunkenc.ValNone
		}
	}
	if it.done {
		return chunkenc.ValNone
	}
	if it.chunk.Kind == Histograms {
		return chunkenc.ValHistogram
	}
	return chunkenc.ValFloatHistogram
}

// Err returns what was wrong with the chunk.
func (it *histogramIterator) Err() error { return it.err }

// opensWithReset tells whether the chunk's first sample is known to be a
// counter reset. Iterators give that as "unknown", since the samples before it
// may be gone; but when samples are encoded anew it must go on beginning a
// chunk, or a reset that only its sender knew of would be read as "no reset".
func (c *Chunk) opensWithReset() bool {
	return chunkenc.CounterResetHeader(c.Values[0]&chunkenc.CounterResetHeaderMask) == chunkenc.CounterReset
}
