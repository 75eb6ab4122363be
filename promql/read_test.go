package promql_test

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	commonconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/promql"
)

func readQuery(t *testing.T, matchers ...*labels.Matcher) *prompb.Query {
	t.Helper()
	q, err := remote.ToQuery((now-600)*1000, now*1000, matchers, nil)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func anything() *labels.Matcher {
	return labels.MustNewMatcher(labels.MatchRegexp, labels.MetricName, ".+")
}

// contents prints a set, so that two can be compared.
func contents(t *testing.T, set storage.SeriesSet) string {
	t.Helper()
	var b strings.Builder
	for set.Next() {
		samples, err := storage.ExpandSamplesWithoutReplacingNaNs(set.At().Iterator(nil), func(_, at int64, f float64, h *histogram.Histogram, fh *histogram.FloatHistogram) chunks.Sample {
			b.WriteString(set.At().Labels().String())
			b.WriteString(model.Time(at).String() + " ")
			if h != nil || fh != nil {
				if fh == nil {
					fh = h.ToFloat(nil)
				}
				fh.CounterResetHint = histogram.UnknownCounterReset // the sampled type does not carry the chunks' hints
				b.WriteString(fh.String() + "\n")
			} else {
				b.WriteString(model.SampleValue(f).String() + "\n")
			}
			return nil
		})
		if err != nil || len(samples) == 0 {
			t.Fatalf("%d samples, %v", len(samples), err)
		}
	}
	if set.Err() != nil {
		t.Fatal(set.Err())
	}
	return b.String()
}

func TestRemoteReadGivesTheSameInBothResponseTypes(t *testing.T) {
	s := serve(t)
	q, err := s.store.Model.Querier(t.Context(), anonymous, (now-600)*1000, now*1000)
	if err != nil {
		t.Fatal(err)
	}
	want := contents(t, q.Select(t.Context(), true, nil, anything()))

	t.Run("streamed, with Prometheus' own client", func(t *testing.T) {
		u, err := url.Parse(s.URL + "/api/v1/read")
		if err != nil {
			t.Fatal(err)
		}
		client, err := remote.NewReadClient("test", &remote.ClientConfig{URL: &commonconfig.URL{URL: u}, Timeout: model.Duration(time.Minute), ChunkedReadLimit: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		set, err := client.Read(t.Context(), readQuery(t, anything()), true)
		if err != nil {
			t.Fatal(err)
		}
		if got := contents(t, set); got != want {
			t.Errorf("streamed:\n%s\nwant:\n%s", got, want)
		}
	})
	t.Run("sampled", func(t *testing.T) {
		code, _, body := s.read(t, &prompb.ReadRequest{Queries: []*prompb.Query{readQuery(t, anything())}})
		if code != http.StatusOK {
			t.Fatalf("answer is %d %s", code, body)
		}
		decoded, err := snappy.Decode(nil, body)
		if err != nil {
			t.Fatal(err)
		}
		var answer prompb.ReadResponse
		if err := answer.Unmarshal(decoded); err != nil {
			t.Fatal(err)
		}
		if got := contents(t, remote.FromQueryResult(true, answer.Results[0])); got != want {
			t.Errorf("sampled:\n%s\nwant:\n%s", got, want)
		}
	})
	t.Run("a tenant that does not exist has nothing", func(t *testing.T) {
		m := serve(t, multiTenant)
		for _, types := range [][]prompb.ReadRequest_ResponseType{nil, {prompb.ReadRequest_STREAMED_XOR_CHUNKS}} {
			code, _, body := m.read(t, &prompb.ReadRequest{Queries: []*prompb.Query{readQuery(t, anything())}, AcceptedResponseTypes: types}, "X-Scope-OrgID", "nobody")
			if code != http.StatusOK || len(body) > 10 {
				t.Errorf("answer is %d %q, want an empty one", code, body)
			}
		}
	})
}

func TestRemoteReadsErrorsHaveTheStatusOfTheirKind(t *testing.T) {
	s := serve(t, func(c *promql.Config) { c.Read.Samples = 100 })
	t.Run("over the limit of samples", func(t *testing.T) {
		if code, _, body := s.read(t, &prompb.ReadRequest{Queries: []*prompb.Query{readQuery(t, anything())}}); code != http.StatusBadRequest {
			t.Errorf("answer is %d %s, want 400", code, body)
		}
	})
	for _, c := range []struct {
		err  error
		code int
	}{
		{quorate.Errorf(quorate.Unavailable, "no leader"), http.StatusServiceUnavailable},
		{quorate.Errorf(quorate.Limited, "enough"), http.StatusTooManyRequests},
		{io.ErrUnexpectedEOF, http.StatusInternalServerError},
	} {
		s.store.fail(c.err)
		for _, types := range [][]prompb.ReadRequest_ResponseType{nil, {prompb.ReadRequest_STREAMED_XOR_CHUNKS}} {
			code, header, body := s.read(t, &prompb.ReadRequest{Queries: []*prompb.Query{readQuery(t, anything())}, AcceptedResponseTypes: types})
			if code != c.code || !strings.Contains(string(body), c.err.Error()) {
				t.Errorf("answer is %d %s, want %d with %v", code, body, c.code, c.err)
			}
			if passes := header.Get("Retry-After") != ""; passes != (c.code != http.StatusInternalServerError) {
				t.Errorf("Retry-After of %v is %q", c.err, header.Get("Retry-After"))
			}
		}
	}
}

func TestRemoteReadRefusesGarbage(t *testing.T) {
	s := serve(t)
	badRegexp := &prompb.Query{Matchers: []*prompb.LabelMatcher{{Type: prompb.LabelMatcher_RE, Name: "a", Value: "("}}}
	for _, c := range []struct {
		name, body string
		code       int
	}{
		{"nothing", "", http.StatusBadRequest},
		{"no snappy", "garbage", http.StatusBadRequest},
		{"a header that declares 4 GiB", "\xff\xff\xff\xff\x0f", http.StatusRequestEntityTooLarge},
		{"a header that declares more than fits", "\xff\xff\xff\xff\xff\x0f", http.StatusBadRequest},
		{"a header that declares 1 GiB", "\x80\x80\x80\x80\x04abc", http.StatusRequestEntityTooLarge},
		{"a body over the limit", strings.Repeat("x", 1<<20+1), http.StatusRequestEntityTooLarge},
		{"no protobuf", string(snappy.Encode(nil, []byte("garbage"))), http.StatusBadRequest},
		{"a regular expression that does not parse", string(snappy.Encode(nil, marshal(t, &prompb.ReadRequest{Queries: []*prompb.Query{badRegexp}}))), http.StatusBadRequest},
		{"a response type from the future", string(snappy.Encode(nil, marshal(t, &prompb.ReadRequest{AcceptedResponseTypes: []prompb.ReadRequest_ResponseType{9}}))), http.StatusBadRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			if r := s.do(t, http.MethodPost, "/api/v1/read", c.body); r.code != c.code {
				t.Errorf("answer is %d %s, want %d", r.code, r.body, c.code)
			}
		})
	}
}

func marshal(t *testing.T, req *prompb.ReadRequest) []byte {
	t.Helper()
	b, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (s *server) read(t *testing.T, req *prompb.ReadRequest, header ...string) (int, http.Header, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/api/v1/read", bytes.NewReader(snappy.Encode(nil, marshal(t, req))))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, body
}
