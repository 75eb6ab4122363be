package e2e

import (
	"bytes"
	"encoding/binary"
	"math"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// request is a write request as a client makes it; the zero value of a field
// stands for what a good client sends.
type request struct {
	body        []byte
	contentType string
	encoding    string
	tenants     []string
	method      string
}

const (
	noHeader  = "-" // the header is left out
	protobuf2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
)

func (r request) post(t *testing.T, s *server) (status int, text string) {
	t.Helper()
	method := r.method
	if method == "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(t.Context(), method, s.url("/api/v1/write"), bytes.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []struct{ name, value, usual string }{
		{"Content-Type", r.contentType, "application/x-protobuf"},
		{"Content-Encoding", r.encoding, "snappy"},
	} {
		switch h.value {
		case noHeader:
		case "":
			req.Header.Set(h.name, h.usual)
		default:
			req.Header.Set(h.name, h.value)
		}
	}
	if r.tenants == nil {
		r.tenants = []string{"pear"}
	}
	for _, tenant := range r.tenants {
		req.Header.Add("X-Scope-OrgID", tenant)
	}
	resp, body := do(t, req)
	return resp, strings.TrimSpace(string(body))
}

// sample1 is a series of remote write 1.0 with one sample at a time; labels
// come as name, value, name, value.
func sample1(at time.Time, labels ...string) prompb.TimeSeries {
	ts := prompb.TimeSeries{Samples: []prompb.Sample{{Timestamp: at.UnixMilli(), Value: 1}}}
	for i := 0; i+1 < len(labels); i += 2 {
		ts.Labels = append(ts.Labels, prompb.Label{Name: labels[i], Value: labels[i+1]})
	}
	return ts
}

func write1(t *testing.T, series ...prompb.TimeSeries) []byte {
	t.Helper()
	body, err := (&prompb.WriteRequest{Timeseries: series}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return snappy.Encode(nil, body)
}

func write2(t *testing.T, symbols []string, series ...writev2.TimeSeries) []byte {
	t.Helper()
	body, err := (&writev2.Request{Symbols: symbols, Timeseries: series}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return snappy.Encode(nil, body)
}

// declares is a snappy body whose header promises a size.
func declares(size uint64) []byte {
	return append(binary.AppendUvarint(nil, size), "not that much"...)
}

func TestBadWritesAreToldWhatIsWrong(t *testing.T) {
	s := startServer(t, "multi_tenancy: {enabled: true}\n")
	now := time.Now()
	good := func(name string) prompb.TimeSeries { return sample1(now, "__name__", name) }
	long := strings.Repeat("x", 10_000)
	one2 := []writev2.Sample{{Timestamp: now.UnixMilli(), Value: 1}}

	for name, c := range map[string]struct {
		request request
		status  int
		says    []string // words of the answer
		written string   // a series of the request that is good, and must be there
	}{
		"garbage":                         {request{body: []byte("\xff\xfe garbage")}, 400, []string{"snappy"}, ""},
		"no body":                         {request{body: nil}, 400, []string{"snappy"}, ""},
		"garbage in good snappy":          {request{body: snappy.Encode(nil, []byte("garbage, not protobuf"))}, 400, nil, ""},
		"truncated snappy":                {request{body: write1(t, good("truncated"))[:20]}, 400, []string{"snappy"}, ""},
		"4 GiB declared":                  {request{body: declares(1<<32 - 1)}, 413, []string{"4294967295"}, ""},
		"more than 64 bits declared":      {request{body: []byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")}, 400, []string{"snappy"}, ""},
		"65 MiB declared":                 {request{body: declares(65 << 20)}, 413, []string{"67108864"}, ""},
		"33 MiB on the wire":              {request{body: make([]byte, 33<<20)}, 413, []string{"33554432"}, ""},
		"JSON":                            {request{body: []byte(`{}`), contentType: "application/json"}, 415, []string{"application/json"}, ""},
		"an unknown message":              {request{body: []byte("x"), contentType: "application/x-protobuf;proto=a.B"}, 415, []string{"a.B"}, ""},
		"gzip":                            {request{body: []byte("x"), encoding: "gzip"}, 415, []string{"gzip"}, ""},
		"a wrong type with a broken body": {request{body: declares(1 << 40), contentType: "text/plain"}, 415, []string{"text/plain"}, ""},
		"GET":                             {request{method: http.MethodGet}, 405, nil, ""},

		"invalid UTF-8 in a value":  {request{body: write1(t, sample1(now, "__name__", "m", "a", "\xff"), good("beside_utf8"))}, 400, []string{"UTF-8"}, "beside_utf8"},
		"invalid UTF-8 in a name":   {request{body: write1(t, sample1(now, "__name__", "m", "\xff", "a"), good("beside_utf8_name"))}, 400, []string{"UTF-8"}, "beside_utf8_name"},
		"a label twice":             {request{body: write1(t, sample1(now, "__name__", "m", "a", "1", "a", "2"), good("beside_twice"))}, 400, []string{`"a"`}, "beside_twice"},
		"unsorted labels":           {request{body: write1(t, sample1(now, "b", "1", "__name__", "m"), good("beside_unsorted"))}, 400, []string{"sorted", `"b"`}, "beside_unsorted"},
		"an empty label name":       {request{body: write1(t, sample1(now, "", "x", "__name__", "m"), good("beside_empty"))}, 400, []string{"empty"}, "beside_empty"},
		"no labels":                 {request{body: write1(t, sample1(now), good("beside_unlabelled"))}, 400, []string{"label"}, "beside_unlabelled"},
		"no metric name":            {request{body: write1(t, sample1(now, "a", "b"), good("beside_nameless"))}, 400, []string{"__name__"}, "beside_nameless"},
		"a long label value":        {request{body: write1(t, sample1(now, "__name__", "m", "a", long), good("beside_long"))}, 400, []string{"8192"}, "beside_long"},
		"a sample far ahead":        {request{body: write1(t, sample1(now.Add(time.Hour), "__name__", "m"), good("beside_future"))}, 400, []string{"m"}, "beside_future"},
		"a sample at the very last": {request{body: write1(t, sample1(time.UnixMilli(math.MaxInt64), "__name__", "m"), good("beside_max"))}, 400, []string{"m"}, "beside_max"},
		"a sample past retention":   {request{body: write1(t, sample1(now.Add(-40*24*time.Hour), "__name__", "m"), good("beside_old"))}, 400, []string{"m"}, "beside_old"},
		"a sample before time":      {request{body: write1(t, sample1(time.UnixMilli(math.MinInt64), "__name__", "m"), good("beside_min"))}, 400, []string{"m"}, "beside_min"},
		"a symbol that is not there": {request{contentType: protobuf2, body: write2(t, []string{"", "__name__", "beside_symbol"},
			writev2.TimeSeries{LabelsRefs: []uint32{1, 99}, Samples: one2}, writev2.TimeSeries{LabelsRefs: []uint32{1, 2}, Samples: one2})}, 400, []string{"99"}, ""},
		"labels without a value": {request{contentType: protobuf2, body: write2(t, []string{"", "__name__", "m"},
			writev2.TimeSeries{LabelsRefs: []uint32{1}, Samples: one2})}, 400, nil, ""},
		"a series without samples": {request{contentType: protobuf2, body: write2(t, []string{"", "__name__", "m"},
			writev2.TimeSeries{LabelsRefs: []uint32{1, 2}})}, 400, nil, ""},

		"no tenant":               {request{body: write1(t, good("m")), tenants: []string{}}, 400, []string{"X-Scope-OrgID"}, ""},
		"two tenants":             {request{body: write1(t, good("m")), tenants: []string{"a", "b"}}, 400, []string{"X-Scope-OrgID"}, ""},
		"a path as a tenant":      {request{body: write1(t, good("m")), tenants: []string{"../../etc"}}, 400, []string{"../../etc"}, ""},
		"an escaped path":         {request{body: write1(t, good("m")), tenants: []string{"%2e%2e%2fetc"}}, 400, []string{"%2e"}, ""},
		"a reserved tenant":       {request{body: write1(t, good("m")), tenants: []string{"__system"}}, 400, []string{"__"}, ""},
		"a long tenant":           {request{body: write1(t, good("m")), tenants: []string{strings.Repeat("a", 151)}}, 400, []string{"150"}, ""},
		"tenants joined by a bar": {request{body: write1(t, good("m")), tenants: []string{"a|b"}}, 400, []string{"|"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			status, text := c.request.post(t, s)
			if status != c.status {
				t.Errorf("status %d, want %d: %.300s", status, c.status, text)
			}
			for _, word := range c.says {
				if !strings.Contains(text, word) {
					t.Errorf("the answer does not name %q: %.300s", word, text)
				}
			}
			if c.written != "" && !s.has(t, c.written, now) {
				t.Errorf("the good series %s of the same request was not written", c.written)
			}
		})
	}
	if s.hasExited() {
		t.Error("the server is gone")
	}
}

// has tells whether tenant pear has a series with a sample at a time.
func (s *server) has(t *testing.T, name string, at time.Time) bool {
	t.Helper()
	status, body := s.ask(t, "/api/v1/query", params("query", name, "time", seconds(at)))
	return status == http.StatusOK && strings.Contains(body, `"__name__":"`+name+`"`)
}

// ask sends a query for tenant pear.
func (s *server) ask(t *testing.T, path string, params url.Values) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url(path)+"?"+params.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Scope-OrgID", "pear")
	resp, text := do(t, req)
	return resp, string(text)
}

func TestWhatIsOnlyUnusualIsWritten(t *testing.T) {
	s := startServer(t, "multi_tenancy: {enabled: true}\n")
	now := time.Now()
	for name, c := range map[string]struct {
		series      prompb.TimeSeries
		contentType string
	}{
		"empty_value": {sample1(now, "__name__", "empty_value", "a", ""), ""},
		"utf8":        {sample1(now, "__name__", "utf8", "größe.cm", "ö"), ""},
		"ahead":       {sample1(now.Add(5*time.Minute), "__name__", "ahead"), ""},
		"yesterday":   {sample1(now.Add(-24*time.Hour), "__name__", "yesterday"), ""},
		// Prometheus takes a missing type for remote write 1.0, and so do we.
		"untyped": {sample1(now, "__name__", "untyped"), noHeader},
	} {
		t.Run(name, func(t *testing.T) {
			if status, text := (request{body: write1(t, c.series), contentType: c.contentType}).post(t, s); status/100 != 2 {
				t.Fatalf("status %d: %s", status, text)
			}
			if !s.has(t, name, time.UnixMilli(c.series.Samples[0].Timestamp)) {
				t.Error("it was not written")
			}
		})
	}
}

func TestBadQueriesAreToldWhatIsWrong(t *testing.T) {
	s := startServer(t, "multi_tenancy: {enabled: true}\n")
	instant, ranged := "/api/v1/query", "/api/v1/query_range"
	for name, c := range map[string]struct {
		path   string
		params url.Values
		says   string
	}{
		"PromQL that ends early":     {instant, params("query", "sum("), "parse error"},
		"a function that is unknown": {instant, params("query", "frob(up)"), "frob"},
		"no query":                   {instant, params(), "query"},
		"a bad time":                 {instant, params("query", "up", "time", "yesterday"), "yesterday"},
		"a bad timeout":              {instant, params("query", "up", "timeout", "soon"), "soon"},
		"a bad start":                {ranged, params("query", "up", "start", "x", "end", "2", "step", "1"), `\"x\"`},
		"an end before the start":    {ranged, params("query", "up", "start", "2", "end", "1", "step", "1"), "end"},
		"a step of zero":             {ranged, params("query", "up", "start", "1", "end", "2", "step", "0"), "step"},
		"a negative step":            {ranged, params("query", "up", "start", "1", "end", "2", "step", "-1"), "step"},
		"too many points":            {ranged, params("query", "up", "start", "0", "end", "100000", "step", "1"), "11,000"},
		"series without a selector":  {"/api/v1/series", params(), "match[]"},
		"a bad selector":             {"/api/v1/series", params("match[]", "{"), "parse error"},
		"an empty selector":          {"/api/v1/labels", params("match[]", "{}"), "match"},
		"a bad limit":                {"/api/v1/labels", params("limit", "-1"), "limit"},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := s.ask(t, c.path, c.params)
			if status != http.StatusBadRequest || !strings.Contains(body, c.says) {
				t.Errorf("status %d, want 400 and a mention of %q: %.300s", status, c.says, body)
			}
		})
	}
}

// Bodies that promise much and hold little must not cost what they promise.
func TestPromisesCostNoMemory(t *testing.T) {
	s := startServer(t, "multi_tenancy: {enabled: true}\n")
	before := s.residentBytes(t)
	var sending sync.WaitGroup
	for range 100 {
		sending.Go(func() {
			for _, size := range []uint64{1<<32 - 1, 60 << 20} {
				if status, text := (request{body: declares(size)}).post(t, s); status < 400 {
					t.Errorf("%d bytes promised: %d %s", size, status, text)
				}
			}
		})
	}
	sending.Wait()
	after := s.residentBytes(t)
	t.Logf("resident before %d MiB, after 100 bodies of 4 GiB and 100 of 60 MiB promised %d MiB", before>>20, after>>20)
	if grown := after - before; grown > 700<<20 {
		t.Errorf("the server grew by %d MiB; its bound for requests under way is 512 MiB", grown>>20)
	}
}
