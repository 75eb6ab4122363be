package remote

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/tenancy"
	"github.com/quorate/quorate/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAGoodRequestIsStoredWhole(t *testing.T) {
	stale := math.Float64frombits(0x7ff0000000000002)
	h1 := &histogram.Histogram{Schema: 1, Count: 3, Sum: 5, PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: []int64{1, 1}}
	custom := &histogram.Histogram{
		Schema: histogram.CustomBucketsSchema, Count: 3, Sum: 5,
		PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: []int64{1, 1}, CustomValues: []float64{1, 2},
	}
	up, rt := canonical("__name__", "up"), canonical("__name__", "rt", "job", "a")

	t.Run("1.0", func(t *testing.T) {
		a := &recorder{}
		series := v1Series(nil, "__name__", "rt", "empty", "", "job", "a")
		series.Histograms = []prompb.Histogram{prompb.FromIntHistogram(7, h1), prompb.FromFloatHistogram(8, h1.ToFloat(nil)), prompb.FromIntHistogram(9, custom)}
		series.Exemplars = []prompb.Exemplar{{Timestamp: 6, Value: 0.5, Labels: []prompb.Label{{Name: "z", Value: "1"}, {Name: "a", Value: "2"}}}}
		req := v1Request(v1Series([]prompb.Sample{{Timestamp: 1, Value: 2}, {Timestamp: 3, Value: stale}}, "__name__", "up"), series)
		req.Metadata = []prompb.MetricMetadata{{Type: prompb.MetricMetadata_GAUGE, MetricFamilyName: "up", Help: "Up?", Unit: ""}}
		w := post(newTestHandler(t, Config{}, a), typeV1, pack(t, req))
		require.Equal(t, http.StatusNoContent, w.Code, w.Body)
		require.Empty(t, w.Body.String())
		require.Equal(t, "//", written(w), "RW 1.0 gets no counts")
		require.Equal(t, []row{
			{kind: "float", labels: up, t: 1, value: math.Float64bits(2)},
			{kind: "float", labels: up, t: 3, value: 0x7ff0000000000002},
			{kind: "histogram", labels: rt, t: 7, encoded: string(wire.AppendHistogram(nil, h1))},
			{kind: "histogram", labels: rt, t: 8, encoded: string(wire.AppendFloatHistogram(nil, h1.ToFloat(nil)))},
			{kind: "histogram", labels: rt, t: 9, encoded: string(wire.AppendHistogram(nil, custom))},
			{kind: "exemplar", labels: rt, t: 6, value: math.Float64bits(0.5), exemplars: canonical("a", "2", "z", "1")},
		}, a.rows)
		require.Equal(t, []wire.Metadata{{Family: "up", Type: "gauge", Help: "Up?"}}, a.metadata)
	})

	t.Run("2.0", func(t *testing.T) {
		a := &recorder{}
		b := newV2()
		b.add(func(ts *writev2.TimeSeries) {
			ts.Samples = []writev2.Sample{{Timestamp: 1, Value: 2}, {Timestamp: 3, Value: stale, StartTimestamp: 1}}
			ts.Metadata = writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_GAUGE, HelpRef: b.symbols.Symbolize("Up?")}
		}, "__name__", "up")
		b.add(func(ts *writev2.TimeSeries) {
			ts.Samples = nil
			ts.Histograms = []writev2.Histogram{writev2.FromIntHistogram(5, 7, h1), writev2.FromFloatHistogram(0, 8, h1.ToFloat(nil)), writev2.FromIntHistogram(0, 9, custom)}
			ts.Exemplars = []writev2.Exemplar{{Timestamp: 6, Value: 0.5, LabelsRefs: b.refs("z", "1", "a", "2")}}
			ts.Metadata = writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_HISTOGRAM, UnitRef: b.symbols.Symbolize("seconds")}
		}, "__name__", "rt", "empty", "", "job", "a")
		w := post(newTestHandler(t, Config{}, a), typeV2, pack(t, b.request()))
		require.Equal(t, http.StatusNoContent, w.Code, w.Body)
		require.Equal(t, "2/3/1", written(w))
		require.Equal(t, []row{
			{kind: "float", labels: up, t: 1, value: math.Float64bits(2)},
			{kind: "float", labels: up, t: 3, start: 1, value: 0x7ff0000000000002},
			{kind: "histogram", labels: rt, t: 7, start: 5, encoded: string(wire.AppendHistogram(nil, h1))},
			{kind: "histogram", labels: rt, t: 8, encoded: string(wire.AppendFloatHistogram(nil, h1.ToFloat(nil)))},
			{kind: "histogram", labels: rt, t: 9, encoded: string(wire.AppendHistogram(nil, custom))},
			{kind: "exemplar", labels: rt, t: 6, value: math.Float64bits(0.5), exemplars: canonical("a", "2", "z", "1")},
		}, a.rows)
		require.Equal(t, []wire.Metadata{
			{Family: "up", Type: "gauge", Help: "Up?"}, {Family: "rt", Type: "histogram", Unit: "seconds"},
		}, a.metadata)
	})
}

func TestHeadersAreJudgedBeforeTheBody(t *testing.T) {
	corrupt := []byte("not snappy at all")
	for name, tc := range map[string]struct {
		contentType, encoding string
		code                  int
		rule                  string
	}{
		"JSON":                             {"application/json", "snappy", 415, "application/json"},
		"a picture":                        {"image/png", "snappy", 415, "image/png"},
		"an unknown message":               {protobufType + ";proto=io.prometheus.write.v3.Request", "snappy", 415, "v3"},
		"a content type that is none":      {"application/x-protobuf; proto", "snappy", 415, "Content-Type"},
		"gzip":                             {typeV1, "gzip", 415, "gzip"},
		"zstd":                             {typeV2, "zstd", 415, "zstd"},
		"identity":                         {typeV1, "identity", 415, "identity"},
		"snappy twice":                     {typeV1, "snappy, snappy", 415, "snappy"},
		"1.0 with a corrupt body":          {typeV1, "snappy", 400, "snappy"},
		"1.0 by its name":                  {protobufType + ";proto=prometheus.WriteRequest", "snappy", 400, "snappy"},
		"2.0 with a corrupt body":          {typeV2, "snappy", 400, "snappy"},
		"2.0 with a space":                 {protobufType + "; proto=io.prometheus.write.v2.Request", "Snappy", 400, "snappy"},
		"no content type, as upstream":     {"", "snappy", 400, "snappy"},
		"no content encoding, as upstream": {typeV1, "", 400, "snappy"},
		"a content type of many bytes":     {strings.Repeat("x", 9000), "snappy", 415, "..."},
		"an encoding with a control byte":  {typeV1, "a\x01b", 415, `\x01`},
	} {
		t.Run(name, func(t *testing.T) {
			body := &countingReader{Reader: bytes.NewReader(corrupt)}
			r := httptest.NewRequest(http.MethodPost, "/api/v1/write", body)
			if tc.contentType != "" {
				r.Header.Set("Content-Type", tc.contentType)
			}
			if tc.encoding != "" {
				r.Header.Set("Content-Encoding", tc.encoding)
			}
			a, w := &recorder{}, httptest.NewRecorder()
			newTestHandler(t, Config{}, a).ServeHTTP(w, r)
			require.Equal(t, tc.code, w.Code, w.Body)
			require.Contains(t, w.Body.String(), tc.rule)
			require.Less(t, w.Body.Len(), 400)
			require.Empty(t, a.tenants)
			if tc.code == 415 {
				require.Zero(t, body.reads.Load(), "the body was read")
			}
		})
	}
}

type countingReader struct {
	io.Reader
	reads atomic.Int64
}

func (r *countingReader) Read(p []byte) (int, error) {
	r.reads.Add(1)
	return r.Reader.Read(p)
}

func TestOnlyPostIsTaken(t *testing.T) {
	h := newTestHandler(t, Config{}, &recorder{})
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete, http.MethodHead} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, "/api/v1/write", nil))
		require.Equal(t, http.StatusMethodNotAllowed, w.Code)
		require.Equal(t, http.MethodPost, w.Header().Get("Allow"))
	}
}

// TestBadBodies goes through bodies that are refused as a whole.
func TestBadBodies(t *testing.T) {
	good := snappy.Encode(nil, exampleBodyV1(50))
	declaring := func(n uint64, rest ...byte) []byte { return append(binary.AppendUvarint(nil, n), rest...) }
	for name, tc := range map[string]struct {
		contentType string
		packed      []byte
		code        int
		rule        string
	}{
		"nothing":                               {typeV1, nil, 400, "no snappy block"},
		"garbage":                               {typeV1, []byte("\xff\xfe\xfd garbage \x00\x01"), 413, "decompresses"},
		"text":                                  {typeV1, []byte("up 1\n"), 400, "snappy"},
		"snappy cut short":                      {typeV1, good[:len(good)/2], 400, "snappy"},
		"snappy with a byte flipped":            {typeV1, append([]byte{good[0] ^ 1}, good[1:]...), 400, "snappy"},
		"a header that declares 4 GiB":          {typeV1, declaring(1<<32-1, 0), 413, "over the limit"},
		"a header that declares 2^60 bytes":     {typeV1, declaring(1<<60, 0), 413, "over the limit"},
		"a header of eleven bytes":              {typeV1, bytes.Repeat([]byte{0xff}, 11), 400, "length"},
		"a header just over the limit":          {typeV2, declaring(64<<20+1, 0), 413, "over the limit of 67108864"},
		"a header that no snappy can make true": {typeV2, declaring(64<<20, 0, 'x'), 400, "snappy cannot do that"},
		"protobuf garbage":                      {typeV1, snappy.Encode(nil, []byte("\xff\xff\xff\xff")), 400, "prometheus.WriteRequest"},
		"protobuf garbage in 2.0":               {typeV2, snappy.Encode(nil, []byte("\xff\xff\xff\xff")), 400, "io.prometheus.write.v2.Request"},
		"protobuf cut short":                    {typeV1, snappy.Encode(nil, exampleBodyV1(3)[:500]), 400, "byte 254 of 500"},
		"2.0 protobuf cut short":                {typeV2, snappy.Encode(nil, exampleBodyV2(3)[:300]), 400, "bad protobuf"},
		"a sample that is no message":           {typeV1, snappy.Encode(nil, []byte{0x0a, 2, 0x10, 1}), 400, "bad protobuf"},
		"a timestamp of eleven bytes":           {typeV1, snappy.Encode(nil, append([]byte{0x0a, 14, 0x12, 12, 0x10}, bytes.Repeat([]byte{0x80}, 11)...)), 400, "bad protobuf"},
		"a series after good ones":              {typeV1, snappy.Encode(nil, append(exampleBodyV1(2), 0x0a, 3, 0x12, 1, 0xff)), 400, "bad protobuf"},
		"the other version's message":           {typeV2, snappy.Encode(nil, append(exampleBodyV2(1), 0x2a, 1, 0xff)), 400, "bad protobuf"},
	} {
		t.Run(name, func(t *testing.T) {
			a := &recorder{}
			w := post(newTestHandler(t, Config{}, a), tc.contentType, tc.packed)
			require.Equal(t, tc.code, w.Code, w.Body)
			require.Contains(t, w.Body.String(), tc.rule)
			require.True(t, strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain"))
			require.Empty(t, a.tenants, "nothing is written")
			if tc.contentType == typeV2 {
				require.Equal(t, "0/0/0", written(w))
			}
		})
	}
}

// TestABadSeriesDoesNotStopTheOthers goes through series that are left out,
// each between two that are good, in both versions.
func TestABadSeriesDoesNotStopTheOthers(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	many := []string{"__name__", "m"}
	for i := range 130 {
		many = append(many, "l"+string(rune('0'+i/100))+string(rune('0'+i/10%10))+string(rune('0'+i%10)), "v")
	}
	for name, tc := range map[string]struct {
		labels []string
		rule   string
	}{
		"no labels":                         {nil, "no labels"},
		"no name":                           {[]string{"job", "a"}, "__name__ is missing or empty"},
		"an empty name":                     {[]string{"__name__", "", "job", "a"}, "__name__ is missing or empty"},
		"an empty label name":               {[]string{"", "v", "__name__", "m"}, "empty name"},
		"labels out of order":               {[]string{"__name__", "m", "z", "1", "a", "2"}, `not sorted by name: "a" comes after "z"`},
		"a label twice":                     {[]string{"__name__", "m", "a", "1", "a", "2"}, `label "a" is there twice`},
		"a label twice, apart":              {[]string{"__name__", "m", "b", "1", "a", "2", "b", "3"}, `label "b" is there twice`},
		"a label twice, once empty":         {[]string{"__name__", "m", "a", "", "a", "2"}, `label "a" is there twice`},
		"a name that is not UTF-8":          {[]string{"__name__", "m", "\xff", "1"}, `"\xff" is not valid UTF-8`},
		"a value that is not UTF-8":         {[]string{"__name__", "m", "a", "\xfe"}, `label "a" is not valid UTF-8: "\xfe"`},
		"a metric name that is not UTF-8":   {[]string{"__name__", "m\xff"}, "not valid UTF-8"},
		"a name over the limit":             {[]string{"__name__", "m", long(1025), "1"}, "1025 bytes, over the limit of 1024"},
		"a value over the limit":            {[]string{"__name__", "m", "a", long(8193)}, "8193 bytes, over the limit of 8192"},
		"too many labels":                   {many, "131 labels, over the limit of 128"},
		"a quote and a line end in a value": {[]string{"__name__", "m", "z", "\"\n", "a", ""}, `z="\"\n"`},
	} {
		check := func(t *testing.T, contentType string, packed []byte, wantWritten string) {
			t.Helper()
			a := &recorder{}
			w := post(newTestHandler(t, Config{}, a), contentType, packed)
			require.Equal(t, http.StatusBadRequest, w.Code, w.Body)
			require.Contains(t, w.Body.String(), tc.rule)
			require.Contains(t, w.Body.String(), "series {")
			require.Less(t, w.Body.Len(), 1000)
			require.Equal(t, []string{canonical("__name__", "first"), canonical("__name__", "last")}, a.storedSeries())
			require.Equal(t, wantWritten, written(w))
		}
		t.Run("1.0/"+name, func(t *testing.T) {
			check(t, typeV1, pack(t, v1Request(v1Series(oneSample, "__name__", "first"), v1Series(oneSample, tc.labels...), v1Series(oneSample, "__name__", "last"))), "//")
		})
		t.Run("2.0/"+name, func(t *testing.T) {
			check(t, typeV2, pack(t, newV2().add(nil, "__name__", "first").add(nil, tc.labels...).add(nil, "__name__", "last").request()), "2/0/0")
		})
	}
}

// TestBadShapesOfV2 goes through what only RW 2.0 can get wrong.
func TestBadShapesOfV2(t *testing.T) {
	valid := &histogram.Histogram{Count: 1, ZeroCount: 1, ZeroThreshold: 0.1}
	broken := writev2.FromIntHistogram(0, 5, &histogram.Histogram{Count: 9, ZeroCount: 1})
	for name, tc := range map[string]struct {
		change  func(*writev2.TimeSeries)
		rule    string
		written string
		refused string
	}{
		"no rows":                       {func(ts *writev2.TimeSeries) { ts.Samples = nil }, "no sample, histogram, exemplar or metadata", "2/0/0", "1"},
		"a ref outside the table":       {func(ts *writev2.TimeSeries) { ts.LabelsRefs[1] = 99 }, "labels_refs has 99, outside the symbol table of", "2/0/0", "1"},
		"an odd number of refs":         {func(ts *writev2.TimeSeries) { ts.LabelsRefs = ts.LabelsRefs[:1] }, "come in pairs", "2/0/0", "1"},
		"a help_ref outside the table":  {func(ts *writev2.TimeSeries) { ts.Metadata.HelpRef = 99 }, "help_ref is 99", "2/0/0", "1"},
		"a unit_ref outside the table":  {func(ts *writev2.TimeSeries) { ts.Metadata.UnitRef = 1 << 31 }, "unit_ref is 2147483648", "2/0/0", "1"},
		"a histogram that is not valid": {func(ts *writev2.TimeSeries) { ts.Histograms = []writev2.Histogram{broken} }, "histogram at 5: ", "3/0/0", "1"},
		"one histogram of two": {func(ts *writev2.TimeSeries) {
			ts.Histograms = []writev2.Histogram{broken, writev2.FromIntHistogram(0, 6, valid)}
		}, "histogram at 5: ", "3/1/0", "1"},
		"an unknown schema":          {func(ts *writev2.TimeSeries) { ts.Histograms = []writev2.Histogram{{Schema: 99}} }, "schema", "3/0/0", "1"},
		"nothing but bad histograms": {func(ts *writev2.TimeSeries) { ts.Samples, ts.Histograms = nil, []writev2.Histogram{broken, broken} }, "histogram at 5: ", "2/0/0", "2"},
		"a huge histogram": {func(ts *writev2.TimeSeries) {
			ts.Histograms = []writev2.Histogram{{PositiveDeltas: make([]int64, 300<<10)}}
		}, "over the limit of 262144", "3/0/0", "1"},
		"an exemplar with a label twice":         {func(ts *writev2.TimeSeries) { ts.Exemplars = []writev2.Exemplar{{LabelsRefs: []uint32{1, 1, 1, 1}}} }, "exemplar: label", "3/0/0", "1"},
		"an exemplar with refs not in table":     {func(ts *writev2.TimeSeries) { ts.Exemplars = []writev2.Exemplar{{LabelsRefs: []uint32{1, 77}}, {}} }, "exemplar: labels_refs has 77", "3/0/1", "1"},
		"metadata of a series without a name":    {func(ts *writev2.TimeSeries) { ts.Samples, ts.LabelsRefs, ts.Metadata.Type = nil, nil, 1 }, "no labels", "2/0/0", "1"},
		"three samples of refs not in the table": {func(ts *writev2.TimeSeries) { ts.Samples, ts.LabelsRefs = make([]writev2.Sample, 3), []uint32{50, 51} }, "outside", "2/0/0", "3"},
	} {
		t.Run(name, func(t *testing.T) {
			a := &recorder{}
			w := post(newTestHandler(t, Config{}, a), typeV2, pack(t, newV2().add(nil, "__name__", "first").add(tc.change, "__name__", "bad").add(nil, "__name__", "last").request()))
			require.Equal(t, http.StatusBadRequest, w.Code, w.Body)
			require.Contains(t, w.Body.String(), tc.rule)
			require.Contains(t, w.Body.String(), "the first of "+tc.refused+" rows refused")
			require.Equal(t, tc.written, written(w))
		})
	}
}

func TestBadShapesOfV1(t *testing.T) {
	tooLong := prompb.TimeSeries{Labels: []prompb.Label{{Name: "__name__", Value: "m"}}, Exemplars: []prompb.Exemplar{
		{Labels: []prompb.Label{{Name: "trace_id", Value: strings.Repeat("ü", 121)}}},
	}}
	for name, tc := range map[string]struct {
		request *prompb.WriteRequest
		rule    string
	}{
		"a series without samples":     {v1Request(v1Series(nil, "__name__", "m", "job", "a")), `series {__name__="m", job="a"}: it has no sample`},
		"a series without anything":    {v1Request(prompb.TimeSeries{}), "series {}: it has no sample"},
		"a histogram without a name":   {v1Request(prompb.TimeSeries{Histograms: []prompb.Histogram{{}}}), "no labels"},
		"metadata without a family":    {&prompb.WriteRequest{Metadata: []prompb.MetricMetadata{{Help: "x"}}}, "its name is empty"},
		"an exemplar that is too long": {v1Request(tooLong), "129 characters, over the limit of 128"},
	} {
		t.Run(name, func(t *testing.T) {
			a := &recorder{}
			w := post(newTestHandler(t, Config{}, a), typeV1, pack(t, tc.request))
			require.Equal(t, http.StatusBadRequest, w.Code, w.Body)
			require.Contains(t, w.Body.String(), tc.rule)
			require.Empty(t, a.rows)
		})
	}
}

func TestUnsortedLabelsAreSortedWhereThatIsAsked(t *testing.T) {
	a := &recorder{}
	h := newTestHandler(t, Config{Limits: LabelLimits{SortUnsorted: true}}, a)
	w := post(h, typeV1, pack(t, v1Request(v1Series(oneSample, "z", "1", "__name__", "m", "a", "2"))))
	require.Equal(t, http.StatusNoContent, w.Code, w.Body)
	require.Equal(t, []string{canonical("__name__", "m", "a", "2", "z", "1")}, a.storedSeries())
	w = post(h, typeV1, pack(t, v1Request(v1Series(oneSample, "z", "1", "__name__", "m", "z", "2"))))
	require.Equal(t, http.StatusBadRequest, w.Code)
	require.Contains(t, w.Body.String(), `label "z" is there twice`)
}

func TestExemplarsAndMetadataMayComeAlone(t *testing.T) {
	// Prometheus sends exemplars in series of their own.
	a := &recorder{}
	b := newV2()
	b.add(func(ts *writev2.TimeSeries) {
		ts.Samples, ts.Exemplars = nil, []writev2.Exemplar{{Timestamp: 5, LabelsRefs: b.refs("trace_id", "x")}}
	}, "__name__", "m_total")
	b.add(func(ts *writev2.TimeSeries) {
		ts.Samples, ts.Metadata = nil, writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_SUMMARY, HelpRef: b.symbols.Symbolize("Help.")}
	}, "__name__", "s_sum")
	w := post(newTestHandler(t, Config{}, a), typeV2, pack(t, b.request()))
	require.Equal(t, http.StatusNoContent, w.Code, w.Body)
	require.Equal(t, "0/0/1", written(w))
	require.Equal(t, []wire.Metadata{{Family: "s", Type: "summary", Help: "Help."}}, a.metadata)
}

func TestTheAppendersErrorDecidesTheStatus(t *testing.T) {
	after := &quorate.Error{Kind: quorate.Limited, Err: errors.New("over the rate"), RetryAfter: 1500 * time.Millisecond}
	for name, tc := range map[string]struct {
		err        error
		bad        bool // the request has a bad series too
		code       int
		retryAfter string
		text       string
	}{
		"stored":                           {nil, false, 204, "", ""},
		"stored but for a bad series":      {nil, true, 400, "", "no sample"},
		"refused rows":                     {quorate.Errorf(quorate.Invalid, "sample too far in the future"), false, 400, "", "too far"},
		"a limit":                          {after, false, 429, "2", "over the rate"},
		"a limit beside a bad series":      {after, true, 429, "2", "over the rate"},
		"no leader":                        {quorate.Errorf(quorate.Unavailable, "no leader"), false, 503, "1", "no leader"},
		"no leader beside a bad series":    {quorate.Errorf(quorate.Unavailable, "no leader"), true, 503, "1", "no leader"},
		"a deadline":                       {context.DeadlineExceeded, false, 503, "1", "deadline"},
		"a fault":                          {errors.New("disk on fire"), false, 500, "", "disk on fire"},
		"an error that wraps one of these": {errors.Join(quorate.Errorf(quorate.Unavailable, "set 7"), errors.New("x")), false, 503, "1", "set 7"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newV2().add(nil, "__name__", "m")
			if tc.bad {
				b.add(func(ts *writev2.TimeSeries) { ts.Samples = nil }, "__name__", "bad")
			}
			a := &recorder{err: tc.err}
			w := post(newTestHandler(t, Config{}, a), typeV2, pack(t, b.request()))
			require.Equal(t, tc.code, w.Code, w.Body)
			require.Equal(t, tc.retryAfter, w.Header().Get("Retry-After"))
			require.Contains(t, w.Body.String(), tc.text)
			require.Equal(t, "1/0/0", written(w), "counts are of what was written, whatever the status")
		})
	}
}

func TestTenants(t *testing.T) {
	body := snappy.Encode(nil, exampleBodyV1(1))
	a, known := &recorder{}, &names{}
	h, err := NewHandler(Config{Tenancy: tenancy.Config{Enabled: true}}, a, known)
	require.NoError(t, err)
	for _, name := range []string{"b", "a", "b"} {
		require.Equal(t, http.StatusNoContent, post(h, typeV1, body, "X-Scope-OrgID", name).Code)
	}
	require.Equal(t, []quorate.TenantID{1, 2, 1}, a.tenants)
	for _, header := range [][]string{nil, {"X-Scope-OrgID", "../x"}, {"X-Scope-OrgID", "a", "X-Scope-OrgID", "b"}} {
		w := post(h, typeV1, body, header...)
		require.Equal(t, http.StatusBadRequest, w.Code)
		require.Contains(t, w.Body.String(), "X-Scope-OrgID")
	}
	require.Equal(t, http.StatusBadRequest, post(h, typeV1, []byte("garbage"), "X-Scope-OrgID", "new").Code)
	require.Equal(t, http.StatusNoContent, post(h, typeV1, snappy.Encode(nil, nil), "X-Scope-OrgID", "new").Code)
	require.Len(t, known.known, 2, "a request with nothing to store creates no tenant")
	known.err = quorate.Errorf(quorate.Unavailable, "no meta leader")
	require.Equal(t, http.StatusServiceUnavailable, post(h, typeV1, body, "X-Scope-OrgID", "c").Code)
}

func TestConcurrentRequestsDoNotMix(t *testing.T) {
	a := &recorder{}
	h := newTestHandler(t, Config{}, a)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 20 {
				name := "m" + string(rune('a'+i)) + string(rune('a'+j))
				at := int64(i*100 + j)
				if j%2 == 0 {
					post(h, typeV1, pack(t, v1Request(v1Series([]prompb.Sample{{Timestamp: at, Value: float64(at)}}, "__name__", name))))
				} else {
					post(h, typeV2, pack(t, newV2().add(func(ts *writev2.TimeSeries) { ts.Samples[0] = writev2.Sample{Timestamp: at, Value: float64(at)} }, "__name__", name).request()))
				}
			}
		})
	}
	wg.Wait()
	require.Len(t, a.rows, 16*20)
	for _, r := range a.rows {
		i, j := r.t/100, r.t%100
		require.Equal(t, canonical("__name__", "m"+string(rune('a'+i))+string(rune('a'+j))), r.labels)
		require.Equal(t, math.Float64bits(float64(r.t)), r.value)
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	h := newTestHandler(t, Config{Registerer: registry}, &recorder{refused: 2})
	post(h, typeV1, pack(t, v1Request(v1Series(oneSample, "__name__", "m"), v1Series(oneSample, "job", "m"), v1Series(nil, "__name__", "n"))))
	post(h, "application/json", nil)
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP quorate_remote_write_requests_total Remote write requests answered, by protocol version and status code.
# TYPE quorate_remote_write_requests_total counter
quorate_remote_write_requests_total{code="400",version="1.0"} 1
quorate_remote_write_requests_total{code="415",version="none"} 1
# HELP quorate_remote_write_rows_total Rows of remote write requests that are stored, by kind.
# TYPE quorate_remote_write_rows_total counter
quorate_remote_write_rows_total{kind="exemplar"} 0
quorate_remote_write_rows_total{kind="float"} 1
quorate_remote_write_rows_total{kind="histogram"} 0
# HELP quorate_remote_write_refused_rows_total Rows of remote write requests that were refused for good, by reason. A series without rows counts as one.
# TYPE quorate_remote_write_refused_rows_total counter
quorate_remote_write_refused_rows_total{reason="bad_reference"} 0
quorate_remote_write_refused_rows_total{reason="empty_series"} 1
quorate_remote_write_refused_rows_total{reason="invalid_exemplar"} 0
quorate_remote_write_refused_rows_total{reason="invalid_histogram"} 0
quorate_remote_write_refused_rows_total{reason="invalid_labels"} 1
quorate_remote_write_refused_rows_total{reason="invalid_metadata"} 0
quorate_remote_write_refused_rows_total{reason="not_storable"} 2
`), "quorate_remote_write_requests_total", "quorate_remote_write_rows_total", "quorate_remote_write_refused_rows_total"))
	problems, err := testutil.GatherAndLint(registry)
	require.NoError(t, err)
	require.Empty(t, problems)
	_, err = NewHandler(Config{Registerer: registry}, &recorder{}, &names{})
	require.Error(t, err, "metrics are registered once")
}

func TestConfigIsValidated(t *testing.T) {
	_, err := NewHandler(Config{MaxRows: -1, Limits: LabelLimits{MaxLabels: -2}}, &recorder{}, &names{})
	require.ErrorContains(t, err, "MaxRows is -1")
	require.ErrorContains(t, err, "Limits.MaxLabels is -2")
	_, err = NewHandler(Config{MaxDecodedBytes: 1 << 32}, &recorder{}, &names{})
	require.ErrorContains(t, err, "below 4 GiB")
}

func TestRefusalsAreLoggedRarelyAndFaultsAlways(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(1_000_000, 0)
	a := &recorder{}
	h := newTestHandler(t, Config{
		Logger: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})), Now: func() time.Time { return now },
	}, a)
	lines := func() int { return strings.Count(out.String(), "\n") }
	for range 50 {
		post(h, "application/json", nil)
	}
	require.Equal(t, 1, lines())
	now = now.Add(logEvery)
	post(h, "application/json", nil)
	require.Equal(t, 2, lines())
	a.err = errors.New("disk on fire")
	for range 3 {
		post(h, typeV1, snappy.Encode(nil, exampleBodyV1(1)))
	}
	require.Equal(t, 5, lines())
	require.Contains(t, out.String(), "level=ERROR")
}
