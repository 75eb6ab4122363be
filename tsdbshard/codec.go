package tsdbshard

import (
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// This file is the only one that knows how samples are encoded: as chunkenc
// chunks of the encodings that keep start timestamps (XOR2 and the ST variants
// of the histogram encodings), every one of them exact to the bit.

const (
	// maxChunkSamples is where chunks that are written from decoded samples
	// are cut, as Prometheus does.
	maxChunkSamples = 120
	// Histogram chunks are cut by size, though not below a number of samples
	// that compresses.
	targetHistogramChunkBytes = chunkenc.TargetBytesPerHistogramChunk
	minHistogramChunkSamples  = chunkenc.MinSamplesPerHistogramChunk
	maxHistogramChunkSamples  = 4 * maxChunkSamples

	// chunkHeaderBytes is the length of the header of each of the encodings:
	// two bytes of count (and reset header), one about start timestamps.
	chunkHeaderBytes = 3
)

// sample is one decoded sample: a float, or one of the two histograms.
type sample struct {
	t, st int64
	v     float64
	h     *histogram.Histogram
	fh    *histogram.FloatHistogram
}

// encodedChunk is one chunk with the range of its timestamps, both inclusive.
type encodedChunk struct {
	mint, maxt int64
	enc        chunkenc.Encoding
	data       []byte
}

// samples returns the number of samples in the chunk.
func (c *encodedChunk) samples() int {
	n := int(c.data[0])<<8 | int(c.data[1])
	if c.enc != chunkenc.EncXOR2 {
		n &= 1<<14 - 1 // the upper two bits are the counter reset header
	}
	return n
}

// checkChunk checks what can be checked of a chunk without decoding it.
func checkChunk(enc chunkenc.Encoding, data []byte) error {
	switch enc {
	case chunkenc.EncXOR2, chunkenc.EncHistogramST, chunkenc.EncFloatHistogramST:
	default:
		return fmt.Errorf("%w: chunk encoding %d", ErrDamaged, enc)
	}
	if len(data) < chunkHeaderBytes {
		return fmt.Errorf("%w: chunk of %d bytes", ErrDamaged, len(data))
	}
	if (&encodedChunk{enc: enc, data: data}).samples() == 0 {
		return fmt.Errorf("%w: empty chunk", ErrDamaged)
	}
	return nil
}

// floatEncoder encodes runs of floats and keeps its scratch space.
type floatEncoder struct {
	chunk chunkenc.XOR2Chunk
	buf   []byte
}

// encode returns the chunk of a run; starts is nil when all are zero. The
// result is valid until the next call.
func (e *floatEncoder) encode(starts []int64, run []stagedFloat) ([]byte, error) {
	e.chunk.Reset(append(e.buf[:0], 0, 0, 0))
	app, err := e.chunk.Appender()
	if err != nil {
		return nil, err
	}
	if starts == nil {
		for _, s := range run {
			app.Append(0, s.t, s.v)
		}
	} else {
		for i, s := range run {
			app.Append(starts[i], s.t, s.v)
		}
	}
	e.buf = e.chunk.Bytes()
	return e.buf, nil
}

// openChunk is a chunk that samples are still appended to; none while chunk is nil.
type openChunk struct {
	chunk      chunkenc.Chunk
	app        chunkenc.Appender
	mint, maxt int64
}

// sealed returns the chunk as it is; more appends may change its bytes.
func (o *openChunk) sealed() encodedChunk {
	return encodedChunk{mint: o.mint, maxt: o.maxt, enc: o.chunk.Encoding(), data: o.chunk.Bytes()}
}

// append appends a sample of any kind, later than all before. When the sample
// begins a new chunk, the one before it is returned.
func (o *openChunk) append(s sample) (before encodedChunk, full bool, err error) {
	enc := chunkenc.EncXOR2
	switch {
	case s.h != nil:
		enc = chunkenc.EncHistogramST
	case s.fh != nil:
		enc = chunkenc.EncFloatHistogramST
	}
	var previous chunkenc.Appender
	if o.chunk != nil && (o.chunk.Encoding() != enc || o.isFull()) {
		before, full, previous = o.sealed(), true, o.app
		o.chunk = nil
	}
	if o.chunk == nil {
		if o.chunk, err = chunkenc.NewEmptyChunk(enc); err != nil {
			return before, full, err
		}
		if o.app, err = o.chunk.Appender(); err != nil {
			return before, full, err
		}
		o.mint = s.t
	}
	if enc == chunkenc.EncXOR2 {
		o.app.Append(s.st, s.t, s.v)
		o.maxt = s.t
		return before, full, nil
	}
	cut, err := o.appendHistogram(previous, s)
	if cut.data != nil {
		before, full = cut, true
	}
	return before, full, err
}

// appendHistogram leaves to chunkenc whether the sample fits the chunk: it may
// recode the chunk for new buckets, or begin another at a counter reset.
func (o *openChunk) appendHistogram(previous chunkenc.Appender, s sample) (before encodedChunk, err error) {
	var (
		next    chunkenc.Chunk
		recoded bool
	)
	old := o.sealed()
	if s.h != nil {
		next, recoded, o.app, err = o.app.AppendHistogram(previous, s.st, s.t, s.h, false)
	} else {
		next, recoded, o.app, err = o.app.AppendFloatHistogram(previous, s.st, s.t, s.fh, false)
	}
	if err != nil {
		return before, err
	}
	if next != nil {
		o.chunk = next
		if !recoded {
			before, o.mint = old, s.t
		}
	}
	o.maxt = s.t
	return before, nil
}

func (o *openChunk) isFull() bool {
	n := o.chunk.NumSamples()
	if o.chunk.Encoding() == chunkenc.EncXOR2 {
		return n >= maxChunkSamples
	}
	return n >= maxHistogramChunkSamples ||
		n >= minHistogramChunkSamples && len(o.chunk.Bytes()) >= targetHistogramChunkBytes
}

// encodeSamples appends the chunks of samples that are in ascending order of time.
func encodeSamples(dst []encodedChunk, samples []sample) ([]encodedChunk, error) {
	var open openChunk
	for _, s := range samples {
		before, full, err := open.append(s)
		if err != nil {
			return nil, fmt.Errorf("encode sample at %d: %w", s.t, err)
		}
		if full {
			dst = append(dst, before)
		}
	}
	if open.chunk != nil {
		dst = append(dst, open.sealed())
	}
	return dst, nil
}

// iterator walks the chunk's samples, using it again if it fits.
func (c *encodedChunk) iterator(it chunkenc.Iterator) (chunkenc.Iterator, error) {
	chunk, err := chunkenc.FromData(c.enc, c.data)
	if err != nil {
		return nil, err
	}
	return chunk.Iterator(it), nil
}

// decode appends the chunk's samples to dst, for encoding them anew.
func (c *encodedChunk) decode(dst []sample) ([]sample, error) {
	chunk, err := chunkenc.FromData(c.enc, c.data)
	if err != nil {
		return nil, err
	}
	it := chunk.Iterator(nil)
	first := true
	for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
		s := sample{st: it.AtST()}
		switch vt {
		case chunkenc.ValFloat:
			s.t, s.v = it.At()
		case chunkenc.ValHistogram:
			s.t, s.h = it.AtHistogram(nil)
			if first && opensWithReset(chunk) {
				s.h.CounterResetHint = histogram.CounterReset
			}
		case chunkenc.ValFloatHistogram:
			s.t, s.fh = it.AtFloatHistogram(nil)
			if first && opensWithReset(chunk) {
				s.fh.CounterResetHint = histogram.CounterReset
			}
		default:
			return nil, fmt.Errorf("%w: value type %v", ErrDamaged, vt)
		}
		first = false
		dst = append(dst, s)
	}
	return dst, it.Err()
}

// opensWithReset tells whether the chunk's first sample is known to be a
// counter reset. Iterators give that as "unknown", since the samples before it
// may be gone; but when samples are encoded anew it must go on beginning a
// chunk, or a reset that only its sender knew of would be read as "no reset".
func opensWithReset(c chunkenc.Chunk) bool {
	h, ok := c.(interface {
		GetCounterResetHeader() chunkenc.CounterResetHeader
	})
	return ok && h.GetCounterResetHeader() == chunkenc.CounterReset
}

var errHistogramShape = errors.New("spans and buckets of a histogram disagree")

// checkHistogram checks as much of a histogram as keeps the codec and readers
// from running out of its slices. The edges have refused what is invalid in
// any other way (histogram.Validate); a committed entry that fails here was
// written by no edge of this project.
func checkHistogram(h *histogram.Histogram) error {
	if err := checkSchema(h.Schema, len(h.CustomValues), h.PositiveSpans); err != nil {
		return err
	}
	if !spansFit(h.PositiveSpans, len(h.PositiveBuckets)) || !spansFit(h.NegativeSpans, len(h.NegativeBuckets)) {
		return errHistogramShape
	}
	return nil
}

// checkFloatHistogram is checkHistogram for float counts.
func checkFloatHistogram(h *histogram.FloatHistogram) error {
	if err := checkSchema(h.Schema, len(h.CustomValues), h.PositiveSpans); err != nil {
		return err
	}
	if !spansFit(h.PositiveSpans, len(h.PositiveBuckets)) || !spansFit(h.NegativeSpans, len(h.NegativeBuckets)) {
		return errHistogramShape
	}
	return nil
}

func checkSchema(schema int32, bounds int, positive []histogram.Span) error {
	if histogram.IsCustomBucketsSchema(schema) {
		last := int64(0)
		for _, s := range positive {
			last += int64(s.Offset) + int64(s.Length)
		}
		if last > int64(bounds)+1 || len(positive) > 0 && positive[0].Offset < 0 {
			return errHistogramShape
		}
		return nil
	}
	if !histogram.IsExponentialSchema(schema) {
		return fmt.Errorf("histogram schema %d: edges reduce to 8 and below", schema)
	}
	return nil
}

func spansFit(spans []histogram.Span, buckets int) bool {
	need := uint64(0)
	for i, s := range spans {
		if i > 0 && s.Offset < 0 {
			return false
		}
		need += uint64(s.Length)
	}
	return need == uint64(buckets)
}
