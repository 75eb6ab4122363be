package interchange

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// mostBatchBytes closes a batch whatever its number of samples: histograms can
// have hundreds of buckets, and servers bound the size of a request.
const mostBatchBytes = 8 << 20

// The tags of the fields of io.prometheus.write.v2.Request and of the messages in
// it: number<<3 | wire type.
const (
	tagRequestSymbol    = 4<<3 | 2
	tagRequestSeries    = 5<<3 | 2
	tagSeriesRefs       = 1<<3 | 2
	tagSeriesSample     = 2<<3 | 2
	tagSeriesHistogram  = 3<<3 | 2
	tagSampleValue      = 1<<3 | 1
	tagSampleTime       = 2 << 3
	tagSampleStart      = 3 << 3
	tagHistogramSum     = 3<<3 | 1
	tagHistogramZeroMax = 5<<3 | 1
)

// batch gathers series into one remote-write 2.0 request. It is used again
// after encode.
//
// The message is written here, sample by sample, and not by the generated code,
// which takes a value of -0 for the default and leaves it out.
type batch struct {
	symbols writev2.SymbolsTable
	series  []byte // the series that are complete, as fields of the request
	current []byte // the message of the series that may take more samples
	counts  counts
	// refs are the labels of the series begun last; histogram says what its
	// message takes, which is not begun while current is empty.
	refs      []uint32
	histogram bool
	scratch   []byte
}

// counts is what a batch holds, or the server has taken of it.
type counts struct{ floats, histograms int }

func (c counts) samples() int { return c.floats + c.histograms }

func newBatch() *batch { return &batch{symbols: writev2.NewSymbolTable()} }

// begin starts a series; its samples follow.
func (b *batch) begin(lset labels.Labels) {
	b.endMessage()
	b.refs = b.symbols.SymbolizeLabels(lset, b.refs)
}

// beginMessage starts a message for the series begun last. A message has floats
// or histograms, not both; a series that changes over goes on in another.
func (b *batch) beginMessage(histogram bool) {
	b.endMessage()
	b.histogram = histogram
	b.scratch = b.scratch[:0]
	for _, ref := range b.refs {
		b.scratch = binary.AppendUvarint(b.scratch, uint64(ref))
	}
	b.current = appendField(b.current, tagSeriesRefs, b.scratch)
}

// endMessage adds the message at work to the request.
func (b *batch) endMessage() {
	if len(b.current) > 0 {
		b.series = appendField(b.series, tagRequestSeries, b.current)
	}
	b.current = b.current[:0]
}

// add adds the sample that the iterator stands on to the series begun last.
func (b *batch) add(it chunkenc.Iterator, kind chunkenc.ValueType) error {
	if histogram := kind != chunkenc.ValFloat; len(b.current) == 0 || b.histogram != histogram {
		b.beginMessage(histogram)
	}
	switch kind {
	case chunkenc.ValFloat:
		t, v := it.At()
		b.addFloat(t, v, it.AtST())
		return nil
	case chunkenc.ValHistogram:
		t, h := it.AtHistogram(nil)
		return b.addHistogram(writev2.FromIntHistogram(it.AtST(), t, h))
	case chunkenc.ValFloatHistogram:
		t, h := it.AtFloatHistogram(nil)
		return b.addHistogram(writev2.FromFloatHistogram(it.AtST(), t, h))
	default:
		return fmt.Errorf("a chunk holds samples of the unknown kind %v", kind)
	}
}

func (b *batch) addFloat(t int64, v float64, start int64) {
	s := append(b.scratch[:0], tagSampleValue)
	s = binary.LittleEndian.AppendUint64(s, math.Float64bits(v))
	s = binary.AppendUvarint(append(s, tagSampleTime), uint64(t))
	if start != 0 {
		s = binary.AppendUvarint(append(s, tagSampleStart), uint64(start))
	}
	b.scratch = s
	b.current = appendField(b.current, tagSeriesSample, s)
	b.counts.floats++
}

func (b *batch) addHistogram(h writev2.Histogram) error {
	message, err := h.Marshal()
	if err != nil {
		return fmt.Errorf("encode a histogram: %w", err)
	}
	// What the generated code leaves out although it is not the default.
	for _, field := range []struct {
		tag   byte
		value float64
	}{{tagHistogramSum, h.Sum}, {tagHistogramZeroMax, h.ZeroThreshold}} {
		if field.value == 0 && math.Signbit(field.value) {
			message = binary.LittleEndian.AppendUint64(append(message, field.tag), math.Float64bits(field.value))
		}
	}
	b.current = appendField(b.current, tagSeriesHistogram, message)
	b.counts.histograms++
	return nil
}

// appendField appends a field that has a length.
func appendField[T ~string | ~[]byte](dst []byte, tag byte, value T) []byte {
	dst = binary.AppendUvarint(append(dst, tag), uint64(len(value)))
	return append(dst, value...)
}

// full tells that the batch should be sent before more is added.
func (b *batch) full(samples int) bool {
	return b.counts.samples() >= samples || len(b.series)+len(b.current) >= mostBatchBytes
}

// encode returns the batch as the body of a request and empties it.
func (b *batch) encode() []byte {
	b.endMessage()
	// Symbols come first by custom; the order of fields is free.
	message := make([]byte, 0, len(b.series)+64*len(b.symbols.Symbols()))
	for _, symbol := range b.symbols.Symbols() {
		message = appendField(message, tagRequestSymbol, symbol)
	}
	message = append(message, b.series...)
	b.symbols.Reset()
	b.series, b.counts = b.series[:0], counts{}
	return s2.EncodeSnappy(nil, message)
}
