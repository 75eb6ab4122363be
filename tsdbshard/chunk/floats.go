package chunk

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// Encoder encodes runs of floats and keeps its scratch space. It is not safe
// for concurrent use.
type Encoder struct {
	times, starts, values []byte
}

// Floats encodes 1 to MaxRows floats, ascending in time; starts is nil when
// all start timestamps are 0. The chunk's bytes are valid until the next call.
func (e *Encoder) Floats(times, starts []int64, values []float64) Chunk {
	n := len(times)
	c := Chunk{Kind: Floats, Rows: n, MinTime: times[0], MaxTime: times[n-1]}
	e.times = appendInts(e.times[:0], times)
	c.Times = e.times
	if starts != nil {
		e.starts = appendInts(e.starts[:0], starts)
		c.Starts = e.starts
	}
	e.values = e.values[:0]
	for _, v := range values {
		e.values = binary.LittleEndian.AppendUint64(e.values, math.Float64bits(v))
	}
	c.Values = e.values
	return c
}

func appendInts(dst []byte, ints []int64) []byte {
	for _, v := range ints {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(v))
	}
	return dst
}

// decoded is a chunk of floats, decoded.
type decoded struct {
	times, starts []int64 // starts is empty when all are 0
	values        []float64
}

func (d *decoded) decode(c *Chunk) error {
	d.times, d.starts, d.values = d.times[:0], d.starts[:0], d.values[:0]
	if err := c.Check(); err != nil {
		return err
	}
	if len(c.Times) != 8*c.Rows || len(c.Values) != 8*c.Rows || len(c.Starts) != 0 && len(c.Starts) != 8*c.Rows {
		return fmt.Errorf("%w: columns of %d, %d and %d bytes for %d rows", ErrDamaged, len(c.Times), len(c.Starts), len(c.Values), c.Rows)
	}
	for i := range c.Rows {
		d.times = append(d.times, int64(binary.LittleEndian.Uint64(c.Times[8*i:])))
		d.values = append(d.values, math.Float64frombits(binary.LittleEndian.Uint64(c.Values[8*i:])))
		if len(c.Starts) > 0 {
			d.starts = append(d.starts, int64(binary.LittleEndian.Uint64(c.Starts[8*i:])))
		}
	}
	return nil
}

func (c *Chunk) appendFloats(dst []Sample) ([]Sample, error) {
	var d decoded
	if err := d.decode(c); err != nil {
		return nil, err
	}
	for i, t := range d.times {
		s := Sample{T: t, V: d.values[i]}
		if len(d.starts) > 0 {
			s.ST = d.starts[i]
		}
		dst = append(dst, s)
	}
	return dst, nil
}

// floatIterator walks the floats of a chunk.
type floatIterator struct {
	decoded
	at  int
	err error
}

func (c *Chunk) floatIterator(it chunkenc.Iterator) chunkenc.Iterator {
	f, ok := it.(*floatIterator)
	if !ok {
		f = new(floatIterator)
	}
	f.at = -1
	f.err = f.decode(c)
	if f.err != nil {
		f.times = f.times[:0]
	}
	return f
}

// Next moves to the next sample.
func (it *floatIterator) Next() chunkenc.ValueType {
	if it.at+1 >= len(it.times) {
		it.at = len(it.times)
		return chunkenc.ValNone
	}
	it.at++
	return chunkenc.ValFloat
}

// Seek moves to the first sample at or after t, never back.
func (it *floatIterator) Seek(t int64) chunkenc.ValueType { //nolint:govet // chunkenc.Iterator, not io.Seeker
	it.at = max(it.at, 0)
	for it.at < len(it.times) && it.times[it.at] < t {
		it.at++
	}
	if it.at >= len(it.times) {
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
