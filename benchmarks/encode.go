package benchmarks

import (
	"encoding/binary"
	"math"

	"github.com/klauspost/compress/s2"
)

// Protocol is a version of remote write.
type Protocol string

const (
	// RemoteWrite1 is prometheus.WriteRequest: each series with its labels in full.
	RemoteWrite1 Protocol = "1.0"
	// RemoteWrite2 is io.prometheus.write.v2.Request: labels as references
	// into a table of symbols.
	RemoteWrite2 Protocol = "2.0"
)

// contentType is the request header that names the message.
func (p Protocol) contentType() string {
	if p == RemoteWrite2 {
		return "application/x-protobuf;proto=io.prometheus.write.v2.Request"
	}
	return "application/x-protobuf"
}

// versionHeader is the value of X-Prometheus-Remote-Write-Version.
func (p Protocol) versionHeader() string {
	if p == RemoteWrite2 {
		return "2.0.0"
	}
	return "0.1.0"
}

// body is one request, ready to be sent.
type body struct {
	compressed []byte
	samples    int
	rawBytes   int // before compression
}

// stream makes the requests of one range of series, round after round. The
// messages equal, byte for byte, what Prometheus' own generated code makes of the
// same content. They are written by hand because labels need to be encoded once
// only: 0.16 µs a sample, compression included (BenchmarkEncode). It is not safe
// for concurrent use.
type stream struct {
	w           *Workload
	protocol    Protocol
	first, last int
	values      *values

	// symbols is the encoded symbol table of RemoteWrite2. labels holds each
	// series' encoded labels, or references to them, one after the other;
	// labelsEnd says where each ends.
	symbols, labels []byte
	labelsEnd       []int

	raw, compressed []byte
}

// newStream encodes the labels of the series from first up to last.
func newStream(w *Workload, protocol Protocol, first, last int) *stream {
	s := &stream{w: w, protocol: protocol, first: first, last: last, values: newValues(w, first, last)}
	if protocol == RemoteWrite2 {
		s.encodeReferences()
	} else {
		s.encodeLabels()
	}
	return s
}

// next returns the request of the next round. Its bytes are valid until the
// next call.
func (s *stream) next() body {
	s.raw = append(s.raw[:0], s.symbols...)
	start := 0
	var sample [2 + 8 + binary.MaxVarintLen64]byte
	for k, end := range s.labelsEnd {
		s.appendSeries(s.labels[start:end], s.sample(sample[:0], s.first+k))
		start = end
	}
	s.values.next()
	if n := s2.MaxEncodedLen(len(s.raw)); cap(s.compressed) < n {
		s.compressed = make([]byte, n)
	}
	return body{
		compressed: s2.EncodeSnappy(s.compressed[:cap(s.compressed)], s.raw),
		samples:    s.last - s.first,
		rawBytes:   len(s.raw),
	}
}

// Field tags: number<<3 | wire type.
const (
	v1RequestSeries = 1<<3 | 2
	v1SeriesLabels  = 1<<3 | 2
	v1SeriesSamples = 2<<3 | 2
	v1LabelName     = 1<<3 | 2
	v1LabelValue    = 2<<3 | 2

	v2RequestSymbols = 4<<3 | 2
	v2RequestSeries  = 5<<3 | 2
	v2SeriesRefs     = 1<<3 | 2
	v2SeriesSamples  = 2<<3 | 2
	v2SeriesMetadata = 5<<3 | 2

	sampleValue     = 1<<3 | 1
	sampleTimestamp = 2 << 3 // a varint, wire type 0
)

// encodeLabels encodes each series' labels as RemoteWrite1 has them.
func (s *stream) encodeLabels() {
	var labels []Label
	var pair []byte
	for i := s.first; i < s.last; i++ {
		labels = s.w.Labels(labels[:0], i)
		for _, l := range labels {
			pair = appendField(pair[:0], v1LabelName, l.Name)
			pair = appendField(pair, v1LabelValue, l.Value)
			s.labels = appendField(s.labels, v1SeriesLabels, pair)
		}
		s.labelsEnd = append(s.labelsEnd, len(s.labels))
	}
}

// encodeReferences encodes the symbol table and each series' references into it
// as RemoteWrite2 has them.
func (s *stream) encodeReferences() {
	var labels []Label
	var refs []byte
	table := map[string]uint64{}
	symbol := func(text string) uint64 {
		ref, known := table[text]
		if !known {
			ref = uint64(len(table))
			table[text] = ref
			s.symbols = appendField(s.symbols, v2RequestSymbols, text)
		}
		return ref
	}
	symbol("") // the first symbol is empty by the specification
	for i := s.first; i < s.last; i++ {
		labels = s.w.Labels(labels[:0], i)
		refs = refs[:0]
		for _, l := range labels {
			refs = binary.AppendUvarint(refs, symbol(l.Name))
			refs = binary.AppendUvarint(refs, symbol(l.Value))
		}
		s.labels = appendField(s.labels, v2SeriesRefs, refs)
		s.labelsEnd = append(s.labelsEnd, len(s.labels))
	}
}

// sample appends the message of series i's sample to dst. As in all of proto3, a
// zero is not written.
func (s *stream) sample(dst []byte, i int) []byte {
	if v := s.values.at(i); v != 0 {
		dst = append(dst, sampleValue)
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
	}
	dst = append(dst, sampleTimestamp)
	return binary.AppendUvarint(dst, uint64(s.w.Timestamp(i, s.values.round)))
}

// appendSeries appends one series with one sample to the request. The sample is
// shorter than 128 bytes, so that its length takes one byte.
func (s *stream) appendSeries(labels, sample []byte) {
	requestField, sampleField := byte(v1RequestSeries), byte(v1SeriesSamples)
	size := len(labels) + 2 + len(sample)
	if s.protocol == RemoteWrite2 {
		requestField, sampleField = v2RequestSeries, v2SeriesSamples
		size += 2
	}
	s.raw = append(s.raw, requestField)
	s.raw = binary.AppendUvarint(s.raw, uint64(size))
	s.raw = append(s.raw, labels...)
	s.raw = append(s.raw, sampleField, byte(len(sample)))
	s.raw = append(s.raw, sample...)
	if s.protocol == RemoteWrite2 {
		s.raw = append(s.raw, v2SeriesMetadata, 0) // empty, but not nullable in Prometheus' own message
	}
}

func appendField[T string | []byte](dst []byte, tag byte, text T) []byte {
	dst = append(dst, tag)
	dst = binary.AppendUvarint(dst, uint64(len(text)))
	return append(dst, text...)
}
