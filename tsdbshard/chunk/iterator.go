package chunk

import (
	"bytes"
	"fmt"
	"slices"
	"sort"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// decoded is a chunk of floats, decoded. Its buffers are used again.
type decoded struct {
	times, starts []int64 // starts is empty when all are 0
	values        []float64
	decoder       valueDecoder
	// timesColumn is what times were decoded from. Chunks of one scrape, one
	// after the other, have the same; then it is compared, not decoded. It is
	// a copy, since what it was read from may be used again.
	timesColumn []byte
}

func (d *decoded) decode(c *Chunk) error {
	if err := c.Check(); err != nil {
		return err
	}
	if err := d.decodeTimes(c); err != nil {
		d.times = d.times[:0] // what is in it is no longer timesColumn
		return err
	}
	d.starts = d.starts[:0]
	var err error
	if len(c.Starts) > 0 {
		if d.starts, err = readTimes(d.starts, c.Starts, c.Rows, "column of start timestamps"); err != nil {
			return err
		}
	}
	d.values, err = d.decoder.append(d.values[:0], c.Values, c.Rows)
	return err
}

func (d *decoded) decodeTimes(c *Chunk) (err error) {
	if n := len(d.times); n == c.Rows && d.times[0] == c.MinTime && d.times[n-1] == c.MaxTime && bytes.Equal(d.timesColumn, c.Times) {
		return nil
	}
	if d.times, err = readTimes(d.times[:0], c.Times, c.Rows, "column of timestamps"); err != nil {
		return err
	}
	d.timesColumn = append(d.timesColumn[:0], c.Times...)
	return checkAscending(d.times, c.MinTime, c.MaxTime)
}

// DecodeFloats appends the timestamps and values of a Floats chunk. The error
// wraps ErrDamaged.
func (c *Chunk) DecodeFloats(times []int64, values []float64) ([]int64, []float64, error) {
	if err := c.Check(); err != nil {
		return nil, nil, err
	}
	if c.Kind != Floats {
		return nil, nil, fmt.Errorf("%w: floats of a chunk of kind %d", ErrDamaged, c.Kind)
	}
	from := len(times)
	times = slices.Grow(times, 2*c.Rows) // what is too much is scratch space
	times, err := readTimes(times, c.Times, c.Rows, "column of timestamps")
	if err != nil {
		return nil, nil, err
	}
	if err := checkAscending(times[from:], c.MinTime, c.MaxTime); err != nil {
		return nil, nil, err
	}
	d := valueDecoder{numbers: times[len(times):]}
	if values, err = d.append(values, c.Values, c.Rows); err != nil {
		return nil, nil, err
	}
	return times, values, nil
}

// floatIterator walks the floats of a chunk.
type floatIterator struct {
	decoded
	at  int
	end int // rows, 0 after an error
	err error
}

func (c *Chunk) floatIterator(it chunkenc.Iterator) chunkenc.Iterator {
	f, ok := it.(*floatIterator)
	if !ok {
		f = new(floatIterator)
	}
	f.at, f.end = -1, c.Rows
	if f.err = f.decode(c); f.err != nil {
		f.end = 0
	}
	return f
}

// Next moves to the next sample.
func (it *floatIterator) Next() chunkenc.ValueType {
	if it.at+1 >= it.end {
		it.at = it.end
		return chunkenc.ValNone
	}
	it.at++
	return chunkenc.ValFloat
}

// Seek moves to the first sample at or after t, never back.
func (it *floatIterator) Seek(t int64) chunkenc.ValueType { //nolint:govet // chunkenc.Iterator, not io.Seeker
	it.at = max(it.at, 0)
	if it.at < it.end && it.times[it.at] < t {
		rest := it.times[it.at+1 : it.end]
		it.at += 1 + sort.Search(len(rest), func(i int) bool { return rest[i] >= t })
	}
	if it.at >= it.end {
		return chunkenc.ValNone
	}
	return chunkenc.ValFloat
}

// At returns the current sample.
func (it *floatIterator) At() (int64, float64) { return it.times[it.at], it.values[it.at] }

// AtT returns the current timestamp.
func (it *floatIterator) AtT() int64 { return it.times[it.at] }

// AtST returns the current start timestamp.
func (it *floatIterator) AtST() int64 {
	if len(it.starts) == 0 {
		return 0
	}
	return it.starts[it.at]
}

// Err returns what was wrong with the chunk.
func (it *floatIterator) Err() error { return it.err }

// AtHistogram is never called: Next returns floats only.
func (*floatIterator) AtHistogram(*histogram.Histogram) (int64, *histogram.Histogram) { return 0, nil }

// AtFloatHistogram is never called: Next returns floats only.
func (*floatIterator) AtFloatHistogram(*histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	return 0, nil
}
