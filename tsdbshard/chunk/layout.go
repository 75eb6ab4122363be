package chunk

import (
	"fmt"
	"math"
	"math/bits"

	"github.com/prometheus/prometheus/model/histogram"
)

// chunkenc believes what a histogram chunk says of itself: it makes as many
// buckets as the spans have, however few bytes there are, and lowers the
// resolution of schemas that this project never writes, or panics. So the part
// of a chunk that says the shape of its histograms is read here first.

// layout is that part of a chunk, and where its first sample begins.
type layout struct {
	schema             int32
	positive, negative []histogram.Span
	bounds             int
	first              int64 // timestamp
}

// checkLayout checks the layout of a chunk whose header was checked.
func (c *Chunk) checkLayout() error {
	r := msbReader{src: c.Values[histogramHeaderBytes:]}
	var l layout
	if !l.read(&r) {
		return fmt.Errorf("%w: the layout of a histogram chunk of %d bytes", ErrDamaged, len(c.Values))
	}
	perBucket := uint64(1) // bits, of a first sample
	if c.Kind == FloatHistograms {
		perBucket = 64
	}
	positive, negative := buckets(l.positive), buckets(l.negative)
	if (positive+negative)*perBucket > r.left() {
		return fmt.Errorf("%w: %d buckets in a histogram chunk of %d bytes", ErrDamaged, positive+negative, len(c.Values))
	}
	if err := checkShape(l.schema, l.bounds, l.positive, l.negative, int(positive), int(negative)); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if l.first != c.MinTime {
		return fmt.Errorf("%w: histograms from %d in a chunk from %d", ErrDamaged, l.first, c.MinTime)
	}
	return nil
}

func buckets(spans []histogram.Span) (n uint64) {
	for _, s := range spans {
		n += uint64(s.Length)
	}
	return n
}

// read reads a layout as chunkenc writes it: the zero threshold, the schema,
// the spans of both signs, the bounds of custom buckets.
func (l *layout) read(r *msbReader) bool {
	if r.take(8) == math.MaxUint8 {
		r.take(64)
	}
	schema := r.varbit()
	l.schema = int32(schema)
	l.positive, l.negative = r.spans(), r.spans()
	if histogram.IsCustomBucketsSchema(l.schema) {
		n := r.varbitUint()
		if n > r.left() {
			return false
		}
		for range n {
			if r.varbitUint() == 0 {
				r.take(64)
			}
		}
		l.bounds = int(n)
	}
	l.first = r.varbit()
	return !r.bad && int64(l.schema) == schema
}

// msbReader reads bits as chunkenc packs them, the highest of a byte first. It
// is bad after a read beyond the end.
type msbReader struct {
	src []byte
	at  uint64 // bits
	bad bool
}

func (r *msbReader) left() uint64 { return uint64(len(r.src))*8 - r.at }

func (r *msbReader) take(n uint) (v uint64) {
	if uint64(n) > r.left() {
		r.bad, r.at = true, uint64(len(r.src))*8
		return 0
	}
	for n > 0 {
		in := min(n, 8-uint(r.at&7)) // bits of this byte
		b := uint64(r.src[r.at>>3]) << (r.at & 7) & 0xff >> (8 - in)
		v = v<<in | b
		r.at += uint64(in)
		n -= in
	}
	return v
}

// varbitWidths are the bits that follow so many ones and a zero.
var varbitWidths = [...]uint{0, 3, 6, 9, 12, 18, 25, 56, 64}

func (r *msbReader) varbitWidth() uint {
	ones := 0
	for ones < len(varbitWidths)-1 && r.take(1) == 1 {
		ones++
	}
	return varbitWidths[ones]
}

func (r *msbReader) varbitUint() uint64 { return r.take(r.varbitWidth()) }

func (r *msbReader) varbit() int64 {
	n := r.varbitWidth()
	v := r.take(n)
	if n > 0 && n < 64 && v > 1<<(n-1) {
		v -= 1 << n
	}
	return int64(v)
}

func (r *msbReader) spans() []histogram.Span {
	n := r.varbitUint()
	if n > r.left()/2 { // a span takes 2 bits or more
		r.bad = true
		return nil
	}
	spans := make([]histogram.Span, 0, n)
	for range n {
		length, offset := r.varbitUint(), r.varbit()
		if bits.Len64(length) > 32 || int64(int32(offset)) != offset {
			r.bad = true
			return nil
		}
		spans = append(spans, histogram.Span{Offset: int32(offset), Length: uint32(length)})
	}
	return spans
}
