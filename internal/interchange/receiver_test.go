package interchange

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// receiver is a server that takes remote write 2.0 and keeps all it was sent.
// Its client reaches it without a network, so that tests can be in a synctest
// bubble.
type receiver struct {
	// answer, if set, answers request n (from 0) in another way; false takes it.
	answer func(n int, r *http.Request, w http.ResponseWriter) bool
	// refuse, if set, tells which samples are refused with a 400.
	refuse func(series string, t int64) bool

	mu       sync.Mutex
	requests int
	taken    map[string][]sample
	header   http.Header
	faults   []string
	sizes    []int
}

// RoundTrip implements http.RoundTripper.
func (r *receiver) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return w.Result(), nil
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.requests
	r.requests++
	r.header = req.Header.Clone()
	if r.answer != nil && r.answer(n, req, w) {
		return
	}
	if req.URL.Path != writePath || req.Header.Get("Content-Type") != writeContentType || req.Header.Get("Content-Encoding") != "snappy" {
		r.faults = append(r.faults, "request "+req.URL.String()+" "+req.Header.Get("Content-Type"))
	}
	floats, histograms, refused, err := r.take(req.Body)
	if err != nil {
		r.faults = append(r.faults, err.Error())
	}
	w.Header().Set(headerFloats, strconv.Itoa(floats))
	w.Header().Set(headerHistograms, strconv.Itoa(histograms))
	if refused != "" {
		http.Error(w, "out of bounds: "+refused, http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (r *receiver) take(body io.Reader) (floats, histograms int, refused string, err error) {
	packed, err := io.ReadAll(body)
	if err != nil {
		return 0, 0, "", err
	}
	message, err := s2.Decode(nil, packed)
	if err != nil {
		return 0, 0, "", err
	}
	var request writev2.Request
	if err := request.Unmarshal(message); err != nil {
		return 0, 0, "", err
	}
	if r.taken == nil {
		r.taken = map[string][]sample{}
	}
	size := 0
	builder := labels.NewScratchBuilder(0)
	for _, ts := range request.Timeseries {
		lset, err := ts.ToLabels(&builder, request.Symbols)
		if err != nil {
			return 0, 0, "", err
		}
		if len(ts.Samples) > 0 && len(ts.Histograms) > 0 {
			r.faults = append(r.faults, "floats and histograms in one message")
		}
		name := lset.String()
		keep := func(s sample) {
			if size++; r.refuse != nil && r.refuse(name, s.t) {
				refused = name
				return
			}
			if s.kind() == 1 {
				floats++
			} else {
				histograms++
			}
			r.taken[name] = append(r.taken[name], s)
		}
		for _, s := range ts.Samples {
			keep(sample{t: s.Timestamp, st: s.StartTimestamp, v: s.Value})
		}
		for _, h := range ts.Histograms {
			if h.IsFloatHistogram() {
				keep(sample{t: h.Timestamp, st: h.StartTimestamp, fh: h.ToFloatHistogram()})
			} else {
				keep(sample{t: h.Timestamp, st: h.StartTimestamp, h: h.ToIntHistogram()})
			}
		}
	}
	r.sizes = append(r.sizes, size)
	return floats, histograms, refused, nil
}

// contents are what was taken, with what came twice in the same way once. It
// fails when a sample overtook an older one of its series.
func (r *receiver) contents(t *testing.T) contents {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, fault := range r.faults {
		t.Errorf("the receiver found: %s", fault)
	}
	all := contents{}
	for name, samples := range r.taken {
		slices.SortStableFunc(samples, func(a, b sample) int { return int(a.t - b.t) })
		for _, s := range samples {
			all[name] = append(all[name], textOf(s))
		}
		all[name] = slices.Compact(all[name])
	}
	return all
}

// inOrder tells whether each series came in order of time.
func (r *receiver) inOrder() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, samples := range r.taken {
		if !slices.IsSortedFunc(samples, func(a, b sample) int { return int(a.t - b.t) }) {
			return false
		}
	}
	return true
}

func (r *receiver) endpoint() Endpoint {
	return Endpoint{URL: &url.URL{Scheme: "http", Host: "receiver"}, Client: &http.Client{Transport: r}}
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.requests
}
