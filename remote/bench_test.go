package remote

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// exampleLabels are the 10 labels, about 210 bytes, of series i of a scrape.
func exampleLabels(i int) []nameValue {
	return []nameValue{
		{"__name__", fmt.Sprintf("http_request_duration_seconds_%d_bucket", i/100)}, {"cluster", "eu-west-1"}, {"handler", "/api/v1/query_range"},
		{"instance", fmt.Sprintf("10.0.%d.34:9090", i/500)}, {"job", "prometheus"}, {"le", fmt.Sprint(float64(i%100) / 4)}, {"method", "GET"},
		{"namespace", "monitoring"}, {"pod", fmt.Sprintf("prometheus-k8s-%d", i/500)}, {"status", "200"},
	}
}

const exampleTime = 1_770_000_000_000

func exampleValue(i int) float64 { return float64(i*7) + float64(i%3)/4 }

// exampleBodyV1 is what Prometheus sends for n series with one sample each.
func exampleBodyV1(n int) []byte {
	var req prompb.WriteRequest
	for i := range n {
		ts := prompb.TimeSeries{Samples: []prompb.Sample{{Timestamp: exampleTime, Value: exampleValue(i)}}}
		for _, l := range exampleLabels(i) {
			ts.Labels = append(ts.Labels, prompb.Label{Name: l.name, Value: l.value})
		}
		req.Timeseries = append(req.Timeseries, ts)
	}
	body, err := req.Marshal()
	if err != nil {
		panic(err)
	}
	return body
}

// exampleBodyV2 is the same in RW 2.0, with metadata and start timestamps.
func exampleBodyV2(n int) []byte {
	symbols := writev2.NewSymbolTable()
	var req writev2.Request
	for i := range n {
		ts := writev2.TimeSeries{
			Samples:  []writev2.Sample{{Timestamp: exampleTime, Value: exampleValue(i), StartTimestamp: exampleTime - 3_600_000}},
			Metadata: writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_HISTOGRAM, HelpRef: symbols.Symbolize("Time that requests took."), UnitRef: symbols.Symbolize("seconds")},
		}
		for _, l := range exampleLabels(i) {
			ts.LabelsRefs = append(ts.LabelsRefs, symbols.Symbolize(l.name), symbols.Symbolize(l.value))
		}
		req.Timeseries = append(req.Timeseries, ts)
	}
	req.Symbols = symbols.Symbols()
	body, err := req.Marshal()
	if err != nil {
		panic(err)
	}
	return body
}

const benchSeries = 2000

func benchParse(b *testing.B, v version, body []byte) {
	b.Helper()
	q := testRequest(newHasher())
	b.ReportAllocs()
	cpu := cpuTime()
	for b.Loop() {
		q.reset(v, body, 1<<20)
		if err := q.parse(); err != nil || len(q.Series) != benchSeries {
			b.Fatal(err, len(q.Series))
		}
	}
	perSample(b, len(body), cpu)
}

// perSample reports what a sample costs. A benchmark of several seconds on a
// busy machine is better read by its CPU time.
func perSample(b *testing.B, bytes int, cpu time.Duration) {
	b.Helper()
	b.ReportMetric(float64((cpuTime()-cpu).Nanoseconds())/float64(b.N)/benchSeries, "cpu-ns/sample")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchSeries, "ns/sample")
	b.ReportMetric(float64(bytes)/benchSeries, "B/sample")
}

// cpuTime is the CPU time of this process.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkParseV1(b *testing.B) { benchParse(b, version1, exampleBodyV1(benchSeries)) }
func BenchmarkParseV2(b *testing.B) { benchParse(b, version2, exampleBodyV2(benchSeries)) }

func BenchmarkCanonicalLabels(b *testing.B) {
	q := testRequest(newHasher())
	if err := parseBody(q, version1, exampleBodyV1(benchSeries)); err != nil {
		b.Fatal(err)
	}
	var dst []byte
	b.ReportAllocs()
	cpu := cpuTime()
	for b.Loop() {
		for i := range q.Series {
			var err error
			if dst, err = q.CanonicalLabels(dst[:0], i); err != nil {
				b.Fatal(err)
			}
		}
	}
	perSample(b, len(dst)*benchSeries, cpu)
}

// countingAppender stores nothing and knows every series.
type countingAppender struct{}

func (countingAppender) Append(_ context.Context, _ quorate.TenantID, req *wire.WriteRequest) (wire.WriteResult, error) {
	return wire.WriteResult{Floats: len(req.Timestamps), Histograms: len(req.Histograms), Exemplars: len(req.Exemplars)}, nil
}

type oneTenant struct{}

func (oneTenant) EnsureTenant(context.Context, string) (quorate.TenantID, error) { return 1, nil }

func benchHandler(b *testing.B, contentType string, body []byte) {
	b.Helper()
	h, err := NewHandler(Config{}, countingAppender{}, oneTenant{})
	if err != nil {
		b.Fatal(err)
	}
	packed := snappy.Encode(nil, body)
	b.ReportAllocs()
	cpu := cpuTime()
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, "/api/v1/write", bytes.NewReader(packed))
		r.Header.Set("Content-Type", contentType)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusNoContent {
			b.Fatal(w.Code, w.Body)
		}
	}
	perSample(b, len(packed), cpu)
}

func BenchmarkHandlerV1(b *testing.B) { benchHandler(b, protobufType, exampleBodyV1(benchSeries)) }

func BenchmarkHandlerV2(b *testing.B) {
	benchHandler(b, protobufType+";proto=io.prometheus.write.v2.Request", exampleBodyV2(benchSeries))
}
