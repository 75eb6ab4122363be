package remote

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/quorate/quorate/internal/wire"
)

// testRequest makes a request as the Handler's pool does.
func testRequest(h *hasher) *request {
	c := Config{}.withDefaults()
	return &request{hasher: h, limits: c.Limits, maxHistogramBytes: c.MaxHistogramBytes}
}

// parseBody walks a body with the walker under test, metadata included.
func parseBody(q *request, v version, body []byte) error {
	q.reset(v, body, 1<<20)
	if err := q.parse(); err != nil {
		return err
	}
	newMetadataCache(time.Hour, 1<<20).selectNew(time.Unix(1, 0), 1, q)
	return nil
}

var someNames = []string{"__name__", "instance", "job", "le", "ort", "Ähm", "z"}

// anyLabelPairs draws labels that are good most of the time.
func anyLabelPairs(t *rapid.T) []nameValue {
	names := rapid.SliceOfNDistinct(rapid.SampledFrom(someNames[1:]), 0, 4, rapid.ID[string]).Draw(t, "names")
	names = append(names, "__name__")
	slices.Sort(names)
	var pairs []nameValue
	for _, n := range names {
		pairs = append(pairs, nameValue{n, rapid.OneOf(rapid.StringN(1, 6, 40), rapid.StringN(200, 200, -1), rapid.Just("")).Draw(t, "value")})
	}
	switch rapid.IntRange(0, 20).Draw(t, "fault") {
	case 0:
		slices.Reverse(pairs)
	case 1:
		pairs = append(pairs, pairs[0])
	case 2:
		pairs = pairs[1:]
	case 3:
		pairs[0].name = ""
	case 4:
		pairs[0].value = "\xff"
	case 5:
		pairs = nil
	}
	return pairs
}

var anyFloat = rapid.OneOf(rapid.Float64(), rapid.Map(rapid.Uint64(), math.Float64frombits), rapid.Just(math.Float64frombits(0x7ff0000000000002)))

// anyHistogram draws histograms that are valid most of the time.
func anyHistogram(t *rapid.T) writev2.Histogram {
	at, start := rapid.Int64().Draw(t, "t"), rapid.Int64().Draw(t, "start")
	buckets := rapid.SliceOfN(rapid.Int64Range(0, 5), 1, 5).Draw(t, "buckets")
	h := &histogram.Histogram{
		Schema: rapid.SampledFrom([]int32{0, 3, 8, 9, 20, -4, 53, -9}).Draw(t, "schema"), ZeroCount: 1, ZeroThreshold: 0.01, Count: 1,
		Sum: anyFloat.Draw(t, "sum"), CounterResetHint: histogram.CounterResetHint(rapid.ByteRange(0, 4).Draw(t, "hint")),
		PositiveSpans: []histogram.Span{{Offset: rapid.Int32Range(-10, 10).Draw(t, "offset"), Length: uint32(len(buckets))}},
	}
	previous := int64(0)
	for _, b := range buckets {
		h.PositiveBuckets = append(h.PositiveBuckets, b-previous)
		h.Count += uint64(b)
		previous = b
	}
	switch rapid.IntRange(0, 8).Draw(t, "shape") {
	case 0:
		h.Count++ // invalid, unless sum is not a number
	case 1:
		h.Schema, h.ZeroCount, h.ZeroThreshold, h.Count = histogram.CustomBucketsSchema, 0, 0, h.Count-1
		h.PositiveSpans[0].Offset = 0
		for i := range buckets {
			h.CustomValues = append(h.CustomValues, float64(i))
		}
	case 2:
		h.NegativeSpans, h.NegativeBuckets = h.PositiveSpans, h.PositiveBuckets
	case 3:
		h.PositiveSpans[0].Length++
	}
	if rapid.Bool().Draw(t, "float") {
		return writev2.FromFloatHistogram(start, at, h.ToFloat(nil))
	}
	return writev2.FromIntHistogram(start, at, h)
}

var anyBodyV1 = rapid.Custom(func(t *rapid.T) []byte {
	var req prompb.WriteRequest
	labels := func(pairs []nameValue) (ls []prompb.Label) {
		for _, p := range pairs {
			ls = append(ls, prompb.Label{Name: p.name, Value: p.value})
		}
		return ls
	}
	for range rapid.IntRange(0, 5).Draw(t, "series") {
		ts := prompb.TimeSeries{Labels: labels(anyLabelPairs(t))}
		for range rapid.IntRange(0, 3).Draw(t, "samples") {
			ts.Samples = append(ts.Samples, prompb.Sample{Timestamp: rapid.Int64().Draw(t, "t"), Value: anyFloat.Draw(t, "v")})
		}
		for range rapid.IntRange(0, 2).Draw(t, "exemplars") {
			ts.Exemplars = append(ts.Exemplars, prompb.Exemplar{Labels: labels(anyLabelPairs(t)), Timestamp: rapid.Int64().Draw(t, "t"), Value: anyFloat.Draw(t, "v")})
		}
		for range rapid.IntRange(0, 2).Draw(t, "histograms") {
			h := anyHistogram(t)
			h.StartTimestamp = 0
			data, err := h.Marshal()
			require.NoError(t, err)
			var v1 prompb.Histogram
			require.NoError(t, v1.Unmarshal(data))
			ts.Histograms = append(ts.Histograms, v1)
		}
		req.Timeseries = append(req.Timeseries, ts)
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "metadata") {
		req.Metadata = append(req.Metadata, prompb.MetricMetadata{
			Type: prompb.MetricMetadata_MetricType(rapid.Int32Range(0, 9).Draw(t, "type")), MetricFamilyName: rapid.SampledFrom([]string{"up", "", "\xff", "go_info"}).Draw(t, "family"),
			Help: rapid.String().Draw(t, "help") + string(rune('a'+i)), Unit: rapid.SampledFrom([]string{"", "s", "\xff"}).Draw(t, "unit"),
		})
	}
	body, err := req.Marshal()
	require.NoError(t, err)
	return body
})

var anyBodyV2 = rapid.Custom(func(t *rapid.T) []byte {
	symbols := writev2.NewSymbolTable()
	refs := func(pairs []nameValue) (refs []uint32) {
		for _, p := range pairs {
			refs = append(refs, symbols.Symbolize(p.name), symbols.Symbolize(p.value))
		}
		switch rapid.IntRange(0, 20).Draw(t, "ref fault") {
		case 0:
			refs = append(refs, 1)
		case 1:
			refs = append(refs, 1<<30, 0)
		}
		return refs
	}
	var req writev2.Request
	for range rapid.IntRange(0, 5).Draw(t, "series") {
		ts := writev2.TimeSeries{LabelsRefs: refs(anyLabelPairs(t))}
		for range rapid.IntRange(0, 3).Draw(t, "samples") {
			ts.Samples = append(ts.Samples, writev2.Sample{
				Timestamp: rapid.Int64().Draw(t, "t"), Value: anyFloat.Draw(t, "v"),
				StartTimestamp: rapid.OneOf(rapid.Just(int64(0)), rapid.Int64()).Draw(t, "start"),
			})
		}
		for range rapid.IntRange(0, 2).Draw(t, "exemplars") {
			ts.Exemplars = append(ts.Exemplars, writev2.Exemplar{LabelsRefs: refs(anyLabelPairs(t)), Timestamp: rapid.Int64().Draw(t, "t"), Value: anyFloat.Draw(t, "v")})
		}
		for range rapid.IntRange(0, 2).Draw(t, "histograms") {
			ts.Histograms = append(ts.Histograms, anyHistogram(t))
		}
		if rapid.Bool().Draw(t, "metadata") {
			ts.Metadata = writev2.Metadata{
				Type: writev2.Metadata_MetricType(rapid.Int32Range(0, 9).Draw(t, "type")), HelpRef: symbols.Symbolize("help"),
				UnitRef: rapid.Uint32Range(0, 12).Draw(t, "unit"),
			}
		}
		req.Timeseries = append(req.Timeseries, ts)
	}
	req.Symbols = symbols.Symbols()
	body, err := req.Marshal()
	require.NoError(t, err)
	return body
})

// shuffle reorders the fields of a message at one level, keeping the order of
// those with the same number: the same message to protobuf.
func shuffle(t *rapid.T, message []byte) []byte {
	byNumber := map[int32][]byte{}
	var order []int32
	for rest := message; len(rest) > 0; {
		f, _, n := nextField(rest)
		require.NotZero(t, n)
		if _, seen := byNumber[f.number]; !seen {
			order = append(order, f.number)
		}
		byNumber[f.number] = append(byNumber[f.number], rest[:n]...)
		rest = rest[n:]
	}
	var out []byte
	for _, n := range rapid.Permutation(order).Draw(t, "order") {
		out = append(out, byNumber[n]...)
	}
	return out
}

// requireSame compares the walker with the model on a body that the generated
// code takes, and tells keys apart.
func requireSame(t require.TestingT, q *request, v version, body []byte, want expected, keys map[wire.SeriesKey]string) {
	require.NoError(t, parseBody(q, v, body))
	got, found, err := observed(&q.WriteRequest)
	require.NoError(t, err)
	require.Equal(t, want.rows, got.rows)
	require.Equal(t, want.refused, got.refused || q.refusals.parsed() > 0, "refused: %s", q.refusals.first)
	require.Equal(t, q.refusals.parsed() > 0, q.refusals.first != "")
	if v == version1 {
		require.ElementsMatch(t, want.metadata, got.metadata)
	}
	// One key stands for one label set, over all bodies of this process.
	for key, labels := range found {
		if known, again := keys[key]; again {
			require.Equal(t, known, labels, "one key for two label sets")
		}
		keys[key] = labels
	}
}

func TestWalkerOfV1ReadsWhatTheGeneratedCodeReads(t *testing.T) {
	q, keys := testRequest(newHasher()), map[wire.SeriesKey]string{}
	rapid.Check(t, func(t *rapid.T) {
		body := anyBodyV1.Draw(t, "body")
		if rapid.Bool().Draw(t, "shuffled") {
			body = shuffle(t, body)
		}
		want, err := referenceV1(body)
		require.NoError(t, err)
		requireSame(t, q, version1, body, want, keys)
	})
}

func TestWalkerOfV2ReadsWhatTheGeneratedCodeReads(t *testing.T) {
	q, keys := testRequest(newHasher()), map[wire.SeriesKey]string{}
	rapid.Check(t, func(t *rapid.T) {
		body := anyBodyV2.Draw(t, "body")
		if rapid.Bool().Draw(t, "shuffled") {
			body = shuffle(t, body)
		}
		want, err := referenceV2(body)
		require.NoError(t, err)
		requireSame(t, q, version2, body, want, keys)
	})
}

// lengthDelimited makes a length-delimited field of number and content.
func lengthDelimited(number byte, content ...byte) []byte {
	return append(binary.AppendUvarint([]byte{number<<3 | wireBytes}, uint64(len(content))), content...)
}

func labelV1(name, value string) []byte {
	return lengthDelimited(v1SeriesLabels, append(lengthDelimited(v1LabelName, []byte(name)...), lengthDelimited(v1LabelValue, []byte(value)...)...)...)
}

func TestLabelsThatLieApartGiveTheKeyOfThoseThatStandTogether(t *testing.T) {
	name, a, b := labelV1("__name__", "m"), labelV1("a", strings.Repeat("x", 300)), labelV1("b", "1")
	sample := lengthDelimited(v1SeriesSamples, 0x10, 1)
	unknown := []byte{15 << 3, 1}
	q := testRequest(newHasher())
	var keys []wire.SeriesKey
	for _, parts := range [][][]byte{
		{name, a, b, sample}, {name, sample, a, b}, {sample, name, a, unknown, b}, {name, unknown, a, sample, b, sample}, {name, b, a, sample},
	} {
		require.NoError(t, parseBody(q, version1, lengthDelimited(v1RequestSeries, slices.Concat(parts...)...)))
		require.Len(t, q.Series, 1)
		keys = append(keys, q.Series[0].Key)
	}
	require.Equal(t, keys[0], keys[1])
	require.Equal(t, keys[0], keys[2])
	require.Equal(t, keys[0], keys[3])
	require.NotEqual(t, keys[0], keys[4], "another order is another key")
}

func TestKeysTellVersionsAndProcessesApart(t *testing.T) {
	key := func(h *hasher, v version, body []byte) wire.SeriesKey {
		q := testRequest(h)
		require.NoError(t, parseBody(q, v, body))
		return q.Series[0].Key
	}
	one, two := newHasher(), newHasher()
	require.NotEqual(t, key(one, version1, exampleBodyV1(1)), key(one, version2, exampleBodyV2(1)))
	require.NotEqual(t, key(one, version1, exampleBodyV1(1)), key(two, version1, exampleBodyV1(1)))
	require.NotEqual(t, key(one, version2, exampleBodyV2(1)), key(two, version2, exampleBodyV2(1)))
}

func TestSymbolsMayMoveWithoutChangingAKey(t *testing.T) {
	// The same series in two requests with other symbols before it.
	q, h := testRequest(newHasher()), wire.SeriesKey{}
	for i := range 300 {
		b := newV2()
		for j := range i {
			b.symbols.Symbolize(strings.Repeat("s", j+1))
		}
		b.add(nil, "__name__", "m", "job", "a")
		body, err := b.request().Marshal()
		require.NoError(t, err)
		require.NoError(t, parseBody(q, version2, body))
		if i > 0 {
			require.Equal(t, h, q.Series[0].Key, "after %d symbols", i)
		}
		h = q.Series[0].Key
	}
}

func FuzzWriteV1(f *testing.F) {
	fuzzWalker(f, version1, referenceV1, [][]byte{
		exampleBodyV1(3), {}, {0x0a, 0}, {0x0a, 4, 0x12, 2, 0x10, 1}, {0x1a, 4, 0x12, 2, 'u', 'p'},
		{0x0b, 0x0c, 0x10, 1}, // an unknown group
		{0x0a, 18, 0x0a, 6, 0x0a, 1, 'a', 0x12, 1, 'b', 0x12, 0, 0x0a, 6, 0x0a, 1, 'c', 0x12, 1, 'd'}, // labels apart
	})
}

func FuzzWriteV2(f *testing.F) {
	fuzzWalker(f, version2, referenceV2, [][]byte{
		exampleBodyV2(3), {}, {0x22, 0, 0x2a, 0}, {0x22, 1, 'a', 0x2a, 6, 8, 0, 8, 0, 0x12, 0}, {0x2a, 2, 0x12, 0, 0x22, 1, 'a'},
	})
}

// fuzzWalker holds a walker to the generated code: what that takes, the walker
// takes with the same rows. No input makes it panic, or hold more rows than
// bytes.
func fuzzWalker(f *testing.F, v version, reference func([]byte) (expected, error), seeds [][]byte) {
	f.Helper()
	for _, s := range seeds {
		f.Add(s)
	}
	hasher := newHasher()
	f.Fuzz(func(t *testing.T, body []byte) {
		q := testRequest(hasher)
		want, err := reference(body)
		if err == nil && (v == version1 || !readsPastPacked(body)) {
			requireSame(t, q, v, body, want, map[wire.SeriesKey]string{})
			return
		}
		if parseBody(q, v, body) != nil {
			return
		}
		if _, _, err := observed(&q.WriteRequest); err != nil {
			t.Fatal(err)
		}
		if rows := len(q.Timestamps) + len(q.Histograms) + len(q.Exemplars) + len(q.Series); rows > len(body) {
			t.Fatalf("%d rows of %d bytes", rows, len(body))
		}
	})
}

// readsPastPacked tells whether a labels_refs field ends inside a varint. The
// generated code then reads on in the field behind it, which no protobuf
// library does; such bodies are refused here.
func readsPastPacked(body []byte) bool {
	for _, series := range fieldsOf(body, v2RequestSeries) {
		for _, message := range append(fieldsOf(series, v2SeriesExemplars), series) {
			for _, packed := range fieldsOf(message, v2SeriesLabelsRefs) {
				if n := len(packed); n > 0 && packed[n-1] >= 0x80 {
					return true
				}
			}
		}
	}
	return false
}

// fieldsOf returns a message's fields of one number.
func fieldsOf(message []byte, number int32) [][]byte {
	var fields [][]byte
	for len(message) > 0 {
		f, _, n := nextField(message)
		if n == 0 {
			break
		}
		if f.number == number && f.wire == wireBytes {
			fields = append(fields, f.bytes)
		}
		message = message[n:]
	}
	return fields
}
