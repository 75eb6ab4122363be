package tsdbshard

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/tsdbshard/block"
	"github.com/quorate/quorate/tsdbshard/chunk"
)

// The stream that a logical checksum is of; docs/format/checksum.md has it.
const (
	checksumMagic = "QLC\x01"

	recordEnd      = 0
	recordSeries   = 1
	recordMetadata = 2

	sampleEnd                 = 0
	sampleFloat               = 1
	sampleHistogram           = 2
	sampleFloatHistogram      = 3
	sampleStaleHistogram      = 4
	sampleStaleFloatHistogram = 5

	// checksumBufferBytes is how much of the stream is hashed at once.
	checksumBufferBytes = 64 << 10
)

// Checksum returns the logical checksum of PROTOCOL 14: the SHA-256 of the
// decoded stream that docs/format/checksum.md describes. Replicas that applied
// the same log have the same one, whenever they flushed, and so has the
// canonical block that one of them writes.
func Checksum(ctx context.Context, src Sources) ([sha256.Size]byte, error) {
	h := newLogicalHash()
	if err := src.walk(ctx, h); err != nil {
		return [sha256.Size]byte{}, err
	}
	return h.sum(), nil
}

// ChecksumView is Checksum over what a view shows of a set that is open, by
// which replicas are compared while they run: those at one applied index have
// the same. It returns the number of samples as well.
func ChecksumView(ctx context.Context, v *View) (sum [sha256.Size]byte, samples uint64, err error) {
	h := newLogicalHash()
	src := Sources{View: v}
	if err := src.walkAsItIs(ctx, h); err != nil {
		return sum, 0, err
	}
	return h.sum(), h.samples, nil
}

// logicalHash hashes series and metadata that come in canonical order.
type logicalHash struct {
	sha hash.Hash
	buf []byte
	// Of what came so far.
	records, samples uint64
}

var _ logicalSink = (*logicalHash)(nil)

func newLogicalHash() *logicalHash {
	return &logicalHash{sha: sha256.New(), buf: append(make([]byte, 0, 2*checksumBufferBytes), checksumMagic...)}
}

// flush hashes what is gathered, if it is enough.
func (h *logicalHash) flush() {
	if len(h.buf) >= checksumBufferBytes {
		h.sha.Write(h.buf)
		h.buf = h.buf[:0]
	}
}

// series adds a series, which has samples or exemplars.
func (h *logicalHash) series(s *logicalSeries) error {
	h.records++
	h.samples += uint64(len(s.samples))
	h.buf = binary.AppendUvarint(append(h.buf, recordSeries), uint64(s.tenant))
	h.buf = cursor.AppendBytes(h.buf, s.labels)
	for i := range s.samples {
		h.buf = appendLogicalSample(h.buf, &s.samples[i])
		h.flush()
	}
	h.buf = binary.AppendUvarint(append(h.buf, sampleEnd), uint64(len(s.exemplars)))
	for i := range s.exemplars {
		e := &s.exemplars[i]
		h.buf = binary.AppendVarint(h.buf, e.T)
		h.buf = binary.LittleEndian.AppendUint64(h.buf, e.Bits)
		h.buf = cursor.AppendBytes(h.buf, e.Labels)
		h.flush()
	}
	return nil
}

// metadata adds what is known of a metric family.
func (h *logicalHash) metadata(tenant quorate.TenantID, m wire.Metadata) error {
	h.records++
	h.buf = binary.AppendUvarint(append(h.buf, recordMetadata), uint64(tenant))
	for _, s := range [...]string{m.Family, m.Type, m.Unit, m.Help} {
		h.buf = cursor.AppendBytes(h.buf, s)
	}
	h.flush()
	return nil
}

func (h *logicalHash) sum() (sum [sha256.Size]byte) {
	h.buf = binary.AppendUvarint(append(h.buf, recordEnd), h.records)
	h.buf = binary.AppendUvarint(h.buf, h.samples)
	h.sha.Write(h.buf)
	h.buf = h.buf[:0]
	h.sha.Sum(sum[:0])
	return sum
}

func appendLogicalSample(dst []byte, s *sample) []byte {
	kind := byte(sampleFloat)
	switch {
	case s.H != nil && value.IsStaleNaN(s.H.Sum):
		kind = sampleStaleHistogram
	case s.H != nil:
		kind = sampleHistogram
	case s.FH != nil && value.IsStaleNaN(s.FH.Sum):
		kind = sampleStaleFloatHistogram
	case s.FH != nil:
		kind = sampleFloatHistogram
	}
	dst = binary.AppendVarint(append(dst, kind), s.T)
	dst = binary.AppendVarint(dst, s.ST)
	switch kind {
	case sampleFloat:
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(s.V))
	case sampleHistogram:
		return appendLogicalHistogram(dst, s.H)
	case sampleFloatHistogram:
		return appendLogicalFloatHistogram(dst, s.FH)
	}
	return dst // of a stale histogram nothing else is kept
}

// appendLogicalHistogram appends what a histogram says, however its chunk lays
// it out: buckets by index without the empty ones, which a chunk fills in as
// its other histograms need them; and of the counter reset hint whether it is a
// gauge, since the rest is what a chunk knows of the sample before.
func appendLogicalHistogram(dst []byte, h *histogram.Histogram) []byte {
	dst = appendLogicalHead(dst, h.CounterResetHint, h.Schema, h.ZeroThreshold, h.Sum, h.CustomValues)
	dst = binary.AppendUvarint(dst, h.ZeroCount)
	dst = binary.AppendUvarint(dst, h.Count)
	for _, side := range [...]struct {
		spans  []histogram.Span
		deltas []int64
	}{{h.PositiveSpans, h.PositiveBuckets}, {h.NegativeSpans, h.NegativeBuckets}} {
		count := int64(0)
		dst = appendBuckets(dst, side.spans, func(dst []byte, i int, index int64) []byte {
			if count += side.deltas[i]; count == 0 {
				return dst
			}
			return binary.AppendVarint(binary.AppendVarint(append(dst, 1), index), count)
		})
	}
	return dst
}

// appendLogicalFloatHistogram is appendLogicalHistogram for float histograms.
func appendLogicalFloatHistogram(dst []byte, h *histogram.FloatHistogram) []byte {
	dst = appendLogicalHead(dst, h.CounterResetHint, h.Schema, h.ZeroThreshold, h.Sum, h.CustomValues)
	dst = appendFloatBits(dst, h.ZeroCount)
	dst = appendFloatBits(dst, h.Count)
	for _, side := range [...]struct {
		spans  []histogram.Span
		counts []float64
	}{{h.PositiveSpans, h.PositiveBuckets}, {h.NegativeSpans, h.NegativeBuckets}} {
		dst = appendBuckets(dst, side.spans, func(dst []byte, i int, index int64) []byte {
			if side.counts[i] == 0 {
				return dst
			}
			return appendFloatBits(binary.AppendVarint(append(dst, 1), index), side.counts[i])
		})
	}
	return dst
}

func appendLogicalHead(dst []byte, hint histogram.CounterResetHint, schema int32, zeroThreshold, sum float64, custom []float64) []byte {
	gauge := byte(0)
	if hint == histogram.GaugeType {
		gauge = 1
	}
	dst = binary.AppendVarint(append(dst, gauge), int64(schema))
	dst = appendFloatBits(dst, zeroThreshold)
	dst = appendFloatBits(dst, sum)
	dst = binary.AppendUvarint(dst, uint64(len(custom)))
	for _, v := range custom {
		dst = appendFloatBits(dst, v)
	}
	return dst
}

func appendFloatBits(dst []byte, v float64) []byte {
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
}

// appendBuckets appends the buckets of one side, i counting them, and a 0.
func appendBuckets(dst []byte, spans []histogram.Span, add func(dst []byte, i int, index int64) []byte) []byte {
	i, index := 0, int64(0)
	for _, span := range spans {
		index += int64(span.Offset)
		for range span.Length {
			dst = add(dst, i, index)
			i++
			index++
		}
	}
	return append(dst, 0)
}

// checksumOf returns the logical checksum of a canonical block.
func checksumOf(ctx context.Context, c *block.Canonical) (sum [sha256.Size]byte, err error) {
	h := newLogicalHash()
	s := logicalSeries{}
	var dec chunk.Decoder
	cursor := c.Series()
	for n := 0; cursor.Next(); n++ {
		if n%checkContextEvery == 0 && ctx.Err() != nil {
			return sum, ctx.Err()
		}
		s.tenant, s.labels, s.exemplars = cursor.Tenant(), cursor.Labels(), cursor.Exemplars()
		s.samples = s.samples[:0]
		for _, c := range cursor.Chunks() {
			if s.samples, err = dec.AppendTo(s.samples, &c); err != nil {
				return sum, err
			}
		}
		if err := h.series(&s); err != nil {
			return sum, err
		}
	}
	if err := cursor.Err(); err != nil {
		return sum, err
	}
	if err := c.MetadataAll(h.metadata); err != nil {
		return sum, err
	}
	return h.sum(), nil
}
