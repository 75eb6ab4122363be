package interchange

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/model/labels"
)

const (
	benchSeries  = 1000
	benchSamples = 960 // of a series: four hours of one every 15 s
)

// benchBlock writes a block of counters.
func benchBlock(b *testing.B) string {
	b.Helper()
	all := make([]series, benchSeries)
	for i := range all {
		all[i] = series{
			labels:  labels.FromStrings(labels.MetricName, "http_requests_total", "instance", fmt.Sprintf("10.0.0.%d:9100", i%200), "path", fmt.Sprintf("/api/%d", i)),
			samples: floats(noon, 15_000, benchSamples, func(k int) float64 { return float64(k * (i + 1) % 1_000_003) }),
		}
	}
	return writeBlock(b, b.TempDir(), noon, noon+4*hour, all)
}

// sink is a server that takes everything and looks at no more of it than it
// must to say how much it was.
type sink struct{}

func (sink) RoundTrip(req *http.Request) (*http.Response, error) {
	packed, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	message, err := s2.Decode(nil, packed)
	if err != nil {
		return nil, err
	}
	n := 0
	fields(message, func(tag byte, series []byte) {
		if tag == tagRequestSeries {
			fields(series, func(tag byte, _ []byte) {
				if tag == tagSeriesSample {
					n++
				}
			})
		}
	})
	w := httptest.NewRecorder()
	w.Header().Set(headerFloats, strconv.Itoa(n))
	w.WriteHeader(http.StatusNoContent)
	return w.Result(), nil
}

func fields(message []byte, each func(tag byte, value []byte)) {
	for len(message) > 0 {
		size, n := binary.Uvarint(message[1:])
		each(message[0], message[1+n:][:size])
		message = message[1+n+int(size):]
	}
}

// BenchmarkImport reads a block, encodes it and hands it to a server that costs
// almost nothing: 270 ns a sample on a machine with two busy cores.
func BenchmarkImport(b *testing.B) {
	block := benchBlock(b)
	e := Endpoint{URL: &url.URL{Scheme: "http", Host: "sink"}, Client: &http.Client{Transport: sink{}}}
	b.ReportAllocs()
	for b.Loop() {
		report, err := Import(b.Context(), ImportConfig{Endpoint: e, Paths: []string{block}})
		if err != nil || report.Samples != benchSeries*benchSamples {
			b.Fatalf("%+v: %v", report, err)
		}
	}
	perSample(b)
}

// BenchmarkExport reads a stream made of a block, in the same process, and writes
// it as a block: 160 ns a sample.
func BenchmarkExport(b *testing.B) {
	r := serveBlocks(b, []string{benchBlock(b)})
	dir := b.TempDir()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		report, err := Export(b.Context(), ExportConfig{
			Endpoint: r.endpoint(), From: noon, To: noon + 4*hour, BlockSpan: 4 * time.Hour, Dir: filepath.Join(dir, strconv.Itoa(i)),
		})
		if err != nil || report.Samples != benchSeries*benchSamples {
			b.Fatalf("%+v: %v", report, err)
		}
	}
	perSample(b)
}

func perSample(b *testing.B) {
	b.Helper()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(benchSeries*benchSamples), "ns/sample")
}
