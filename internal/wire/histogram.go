package wire

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
)

// The first byte of an encoded histogram.
const (
	histogramFloat  = 1 << 0 // counts are floats
	histogramCustom = 1 << 1 // custom bucket bounds follow (schema -53)
	// Bits 2 and 3 carry the counter reset hint.
	histogramHintShift = 2
	histogramHintMask  = 3 << histogramHintShift
	histogramKnown     = histogramFloat | histogramCustom | histogramHintMask
)

// AppendHistogram appends an integer native histogram: flags, varint schema,
// zero threshold, uvarint zero count, uvarint count, sum, spans and bucket
// deltas of both sides, custom bounds. Floats are 8 bytes little-endian, so
// that every bit survives (a stale marker is a NaN payload in sum).
func AppendHistogram(dst []byte, h *histogram.Histogram) []byte {
	flags := byte(h.CounterResetHint) << histogramHintShift & histogramHintMask
	if h.CustomValues != nil {
		flags |= histogramCustom
	}
	dst = append(dst, flags)
	dst = binary.AppendVarint(dst, int64(h.Schema))
	dst = appendFloat(dst, h.ZeroThreshold)
	dst = binary.AppendUvarint(dst, h.ZeroCount)
	dst = binary.AppendUvarint(dst, h.Count)
	dst = appendFloat(dst, h.Sum)
	for _, side := range [2]struct {
		spans  []histogram.Span
		deltas []int64
	}{{h.PositiveSpans, h.PositiveBuckets}, {h.NegativeSpans, h.NegativeBuckets}} {
		dst = appendSpans(dst, side.spans)
		dst = binary.AppendUvarint(dst, uint64(len(side.deltas)))
		for _, d := range side.deltas {
			dst = binary.AppendVarint(dst, d)
		}
	}
	return appendCustom(dst, h.CustomValues)
}

// AppendFloatHistogram is AppendHistogram for float counts: zero count, count
// and buckets are floats, and buckets are absolute.
func AppendFloatHistogram(dst []byte, h *histogram.FloatHistogram) []byte {
	flags := byte(h.CounterResetHint)<<histogramHintShift&histogramHintMask | histogramFloat
	if h.CustomValues != nil {
		flags |= histogramCustom
	}
	dst = append(dst, flags)
	dst = binary.AppendVarint(dst, int64(h.Schema))
	dst = appendFloat(dst, h.ZeroThreshold)
	dst = appendFloat(dst, h.ZeroCount)
	dst = appendFloat(dst, h.Count)
	dst = appendFloat(dst, h.Sum)
	for _, side := range [2]struct {
		spans  []histogram.Span
		counts []float64
	}{{h.PositiveSpans, h.PositiveBuckets}, {h.NegativeSpans, h.NegativeBuckets}} {
		dst = appendSpans(dst, side.spans)
		dst = appendFloats(dst, side.counts)
	}
	return appendCustom(dst, h.CustomValues)
}

// DecodeHistogram decodes what AppendHistogram or AppendFloatHistogram wrote;
// exactly one of the two results is non-nil.
func DecodeHistogram(b []byte) (*histogram.Histogram, *histogram.FloatHistogram, error) {
	r := newReader(b)
	flags := r.U8()
	if flags&^byte(histogramKnown) != 0 {
		return nil, nil, fmt.Errorf("%w: histogram flags %#x", ErrCorrupt, flags)
	}
	schema := r.Varint()
	if schema < math.MinInt32 || schema > math.MaxInt32 {
		return nil, nil, fmt.Errorf("%w: histogram schema %d", ErrCorrupt, schema)
	}
	hint := histogram.CounterResetHint(flags & histogramHintMask >> histogramHintShift)
	if flags&histogramFloat != 0 {
		h := &histogram.FloatHistogram{CounterResetHint: hint, Schema: int32(schema)}
		h.ZeroThreshold, h.ZeroCount, h.Count, h.Sum = r.Float(), r.Float(), r.Float(), r.Float()
		h.PositiveSpans, h.PositiveBuckets = r.spans(), r.floats()
		h.NegativeSpans, h.NegativeBuckets = r.spans(), r.floats()
		h.CustomValues = r.custom(flags)
		return nil, h, r.finish("histogram")
	}
	h := &histogram.Histogram{CounterResetHint: hint, Schema: int32(schema)}
	h.ZeroThreshold, h.ZeroCount, h.Count, h.Sum = r.Float(), r.Uvarint(), r.Uvarint(), r.Float()
	h.PositiveSpans, h.PositiveBuckets = r.spans(), r.deltas()
	h.NegativeSpans, h.NegativeBuckets = r.spans(), r.deltas()
	h.CustomValues = r.custom(flags)
	return h, nil, r.finish("histogram")
}

// IsFloatHistogram tells which of its two results DecodeHistogram will give
// for an encoded histogram.
func IsFloatHistogram(b []byte) bool { return len(b) > 0 && b[0]&histogramFloat != 0 }

func appendFloat(dst []byte, v float64) []byte {
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
}

func appendFloats(dst []byte, vs []float64) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(vs)))
	for _, v := range vs {
		dst = appendFloat(dst, v)
	}
	return dst
}

func appendSpans(dst []byte, spans []histogram.Span) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(spans)))
	for _, s := range spans {
		dst = binary.AppendVarint(dst, int64(s.Offset))
		dst = binary.AppendUvarint(dst, uint64(s.Length))
	}
	return dst
}

func appendCustom(dst []byte, values []float64) []byte {
	if values == nil {
		return dst
	}
	return appendFloats(dst, values)
}

func (r *reader) spans() []histogram.Span {
	n := r.Count(2)
	if n == 0 {
		return nil
	}
	spans := make([]histogram.Span, n)
	for i := range spans {
		offset, length := r.Varint(), r.Uvarint()
		if offset < math.MinInt32 || offset > math.MaxInt32 || length > math.MaxUint32 {
			r.Fail()
			return nil
		}
		spans[i] = histogram.Span{Offset: int32(offset), Length: uint32(length)}
	}
	return spans
}

func (r *reader) deltas() []int64 {
	n := r.Count(1)
	if n == 0 {
		return nil
	}
	deltas := make([]int64, n)
	for i := range deltas {
		deltas[i] = r.Varint()
	}
	return deltas
}

func (r *reader) floats() []float64 {
	n := r.Count(8)
	if n == 0 {
		return nil
	}
	vs := make([]float64, n)
	for i := range vs {
		vs[i] = r.Float()
	}
	return vs
}

func (r *reader) custom(flags byte) []float64 {
	if flags&histogramCustom == 0 {
		return nil
	}
	vs := r.floats()
	if vs == nil {
		vs = []float64{}
	}
	return vs
}
