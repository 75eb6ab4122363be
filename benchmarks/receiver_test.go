package benchmarks_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// receiver is a dumb remote-write server: it decodes with Prometheus' own
// message types, keeps every sample, and fails when told so.
type receiver struct {
	t *testing.T
	*httptest.Server

	mu       sync.Mutex
	samples  map[string][]prompb.Sample // by labels, in order of arrival
	requests []*http.Request
	bodies   [][]byte
	// refuse answers a request by its number from 0, before anything is kept;
	// nil takes all.
	refuse func(n int) (status int)
	// forget keeps the count in the answer but not the samples.
	forget bool
	// miscount is added to the written samples of remote write 2.0.
	miscount int
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{t: t, samples: map[string][]prompb.Sample{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/write", r.write)
	mux.HandleFunc("GET /api/v1/query", r.query)
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "# TYPE log_bytes_total counter\nlog_bytes_total{set=\"1\"} %d\nlog_bytes_total{set=\"2\"} %d\n", 3*r.count(), r.count())
	})
	mux.HandleFunc("GET /profile", func(w http.ResponseWriter, req *http.Request) {
		fmt.Fprintf(w, "a profile of %s s", req.URL.Query().Get("seconds"))
	})
	r.Server = httptest.NewServer(mux)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, s := range r.samples {
		n += len(s)
	}
	return n
}

func (r *receiver) write(w http.ResponseWriter, req *http.Request) {
	compressed, err := io.ReadAll(req.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	raw, err := snappy.Decode(nil, compressed)
	if err != nil {
		r.t.Errorf("body is not snappy: %v", err)
	}
	var series []prompb.TimeSeries
	if strings.Contains(req.Header.Get("Content-Type"), "write.v2") {
		series = decodeV2(r.t, raw)
	} else {
		series = decodeV1(r.t, raw)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.requests)
	r.requests = append(r.requests, req)
	r.bodies = append(r.bodies, raw)
	if r.refuse != nil {
		if status := r.refuse(n); status != 0 {
			http.Error(w, "no such luck", status)
			return
		}
	}
	if !r.forget {
		for _, s := range series {
			key := labelsKey(s.Labels)
			r.samples[key] = append(r.samples[key], s.Samples...)
		}
	}
	w.Header().Set("X-Prometheus-Remote-Write-Samples-Written", strconv.Itoa(len(series)+r.miscount))
	w.WriteHeader(http.StatusNoContent)
}

// countQuery is the form of the queries that count a metric's samples.
var countQuery = regexp.MustCompile(`^sum\(count_over_time\((\w+){cluster="loadgen-eu-west-1-7"}\[\d+ms\]\)\)$`)

func (r *receiver) query(w http.ResponseWriter, req *http.Request) {
	m := countQuery.FindStringSubmatch(req.URL.Query().Get("query"))
	if m == nil {
		http.Error(w, "unexpected query", http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for labels, samples := range r.samples {
		if strings.HasPrefix(labels, `__name__="`+m[1]+`",`) {
			n += len(samples)
		}
	}
	fmt.Fprintf(w, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[0,"%d"]}]}}`, n)
}

// decodeV1 also checks that Prometheus' own encoder makes the same bytes.
func decodeV1(t *testing.T, raw []byte) []prompb.TimeSeries {
	t.Helper()
	var m prompb.WriteRequest
	if err := m.Unmarshal(raw); err != nil {
		t.Errorf("body is no prometheus.WriteRequest: %v", err)
	}
	again, err := m.Marshal()
	if err != nil || !slices.Equal(again, raw) {
		t.Errorf("Prometheus encodes the request otherwise (%v)", err)
	}
	return m.Timeseries
}

func decodeV2(t *testing.T, raw []byte) []prompb.TimeSeries {
	t.Helper()
	var m writev2.Request
	if err := m.Unmarshal(raw); err != nil {
		t.Errorf("body is no io.prometheus.write.v2.Request: %v", err)
	}
	again, err := m.Marshal()
	if err != nil || !slices.Equal(again, raw) {
		t.Errorf("Prometheus encodes the request otherwise (%v)", err)
	}
	if len(m.Symbols) == 0 || m.Symbols[0] != "" {
		t.Errorf("the first symbol is not empty: %q", m.Symbols)
	}
	var series []prompb.TimeSeries
	for _, s := range m.Timeseries {
		var plain prompb.TimeSeries
		for k := 0; k+1 < len(s.LabelsRefs); k += 2 {
			plain.Labels = append(plain.Labels, prompb.Label{Name: m.Symbols[s.LabelsRefs[k]], Value: m.Symbols[s.LabelsRefs[k+1]]})
		}
		for _, sample := range s.Samples {
			plain.Samples = append(plain.Samples, prompb.Sample{Value: sample.Value, Timestamp: sample.Timestamp})
		}
		series = append(series, plain)
	}
	return series
}

func labelsKey(labels []prompb.Label) string {
	var b strings.Builder
	for _, l := range labels {
		fmt.Fprintf(&b, "%s=%q,", l.Name, l.Value)
	}
	return b.String()
}
