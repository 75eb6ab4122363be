package chunk

import (
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

const (
	// Histogram chunks are cut by size, though not below a number of samples
	// that compresses.
	targetHistogramBytes = chunkenc.TargetBytesPerHistogramChunk
	minHistogramRows     = chunkenc.MinSamplesPerHistogramChunk
	maxHistogramRows     = 480

	// histogramHeaderBytes is the length of a chunkenc header: two bytes of
	// count and reset header, one about start timestamps.
	histogramHeaderBytes = 3
)

// histogramRows reads the count in a chunkenc header, whose upper two bits are
// the counter reset header.
func histogramRows(data []byte) int { return (int(data[0])<<8 | int(data[1])) & (1<<14 - 1) }

func (k Kind) encoding() chunkenc.Encoding {
	if k == Histograms {
		return chunkenc.EncHistogramST
	}
	return chunkenc.EncFloatHistogramST
}

// Open is a chunk of histograms that samples are still appended to. The zero
// value is ready to use.
type Open struct {
	kind       Kind
	chunk      chunkenc.Chunk // nil while there is no sample
	app        chunkenc.Appender
	mint, maxt int64
}

// Empty tells whether the chunk has no sample.
func (o *Open) Empty() bool { return o.chunk == nil }

// Len returns the bytes that the chunk takes.
func (o *Open) Len() int {
	if o.chunk == nil {
		return 0
	}
	return len(o.chunk.Bytes())
}

// MaxTime returns the newest timestamp of a chunk that is not empty.
func (o *Open) MaxTime() int64 { return o.maxt }

// Chunk returns the chunk as it is, which must not be empty; more appends may
// change its bytes.
func (o *Open) Chunk() Chunk {
	return Chunk{Kind: o.kind, Rows: o.chunk.NumSamples(), MinTime: o.mint, MaxTime: o.maxt, Values: o.chunk.Bytes()}
}

// Append appends a histogram, later than all before. When it begins a new
// chunk, the one before it is returned and full is set; its bytes are valid
// for ever.
func (o *Open) Append(s Sample) (before Chunk, full bool, err error) {
	kind := Histograms
	if s.H == nil {
		kind = FloatHistograms
	}
	var previous chunkenc.Appender
	if o.chunk != nil && (o.kind != kind || o.isFull()) {
		before, full, previous = o.Chunk(), true, o.app
		o.chunk = nil
	}
	if o.chunk == nil {
		o.kind = kind
		if o.chunk, err = chunkenc.NewEmptyChunk(kind.encoding()); err != nil {
			return before, full, err
		}
		if o.app, err = o.chunk.Appender(); err != nil {
			return before, full, err
		}
		o.mint = s.T
	}
	cut, err := o.append(previous, s)
	if cut.Rows > 0 {
		before, full = cut, true
	}
	return before, full, err
}

// append leaves to chunkenc whether the sample fits the chunk: it may recode
// the chunk for new buckets, or begin another at a counter reset.
func (o *Open) append(previous chunkenc.Appender, s Sample) (before Chunk, err error) {
	var (
		next    chunkenc.Chunk
		recoded bool
	)
	old := o.Chunk()
	if s.H != nil {
		next, recoded, o.app, err = o.app.AppendHistogram(previous, s.ST, s.T, s.H, false)
	} else {
		next, recoded, o.app, err = o.app.AppendFloatHistogram(previous, s.ST, s.T, s.FH, false)
	}
	if err != nil {
		return before, fmt.Errorf("encode histogram at %d: %w", s.T, err)
	}
	if next != nil {
		o.chunk = next
		if !recoded {
			before, o.mint = old, s.T
		}
	}
	o.maxt = s.T
	return before, nil
}

func (o *Open) isFull() bool {
	n := o.chunk.NumSamples()
	return n >= maxHistogramRows || n >= minHistogramRows && len(o.chunk.Bytes()) >= targetHistogramBytes
}

var errHistogramShape = errors.New("spans and buckets of a histogram disagree")

// CheckHistogram checks as much of a sample's histogram as keeps the codec and
// readers from running out of its slices. The edges have refused what is
// invalid in any other way (histogram.Validate).
func CheckHistogram(s *Sample) error {
	if s.H != nil {
		return checkShape(s.H.Schema, len(s.H.CustomValues), s.H.PositiveSpans, s.H.NegativeSpans, len(s.H.PositiveBuckets), len(s.H.NegativeBuckets))
	}
	return checkShape(s.FH.Schema, len(s.FH.CustomValues), s.FH.PositiveSpans, s.FH.NegativeSpans, len(s.FH.PositiveBuckets), len(s.FH.NegativeBuckets))
}

func checkShape(schema int32, bounds int, positive, negative []histogram.Span, positiveBuckets, negativeBuckets int) error {
	if err := checkSchema(schema, bounds, positive); err != nil {
		return err
	}
	if !spansFit(positive, positiveBuckets) || !spansFit(negative, negativeBuckets) {
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
