package promql_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/suitestore"
	"github.com/quorate/quorate/internal/tenancy"
	"github.com/quorate/quorate/promql"
)

// now is the time, in seconds, at which everything in these tests is asked.
const now = 1_700_000_000

const (
	anonymous quorate.TenantID = 1
	green     quorate.TenantID = 2
)

// store is the model with faults that can be set and queriers that are counted.
type store struct {
	*suitestore.Model

	mu      sync.Mutex
	failure error         // of everything
	late    error         // of the series' iteration, after a good Select
	gate    chan struct{} // when set, selects wait for it or for their context

	opened, closed atomic.Int64
}

func (s *store) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failure = err
}

func (s *store) failLate(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.late = err
}

func (s *store) faults() (gate chan struct{}, late, failure error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gate, s.late, s.failure
}

func (s *store) Querier(ctx context.Context, tenant quorate.TenantID, mint, maxt int64) (storage.Querier, error) {
	gate, late, failure := s.faults()
	if failure != nil {
		return nil, failure
	}
	q, err := s.Model.Querier(ctx, tenant, mint, maxt)
	s.opened.Add(1)
	return &countedQuerier{q, s, late, gate}, err
}

func (s *store) ChunkQuerier(ctx context.Context, tenant quorate.TenantID, mint, maxt int64) (storage.ChunkQuerier, error) {
	if _, _, failure := s.faults(); failure != nil {
		return nil, failure
	}
	return s.Model.ChunkQuerier(ctx, tenant, mint, maxt)
}

func (s *store) ExemplarQuerier(ctx context.Context, tenant quorate.TenantID) (storage.ExemplarQuerier, error) {
	if _, _, failure := s.faults(); failure != nil {
		return nil, failure
	}
	q, err := s.Model.ExemplarQuerier(ctx, tenant)
	s.opened.Add(1)
	return &countedExemplars{q, s}, err
}

func (s *store) Metadata(ctx context.Context, tenant quorate.TenantID, family string) (map[string]metadata.Metadata, annotations.Annotations, error) {
	if _, _, failure := s.faults(); failure != nil {
		return nil, nil, failure
	}
	return s.Model.Metadata(ctx, tenant, family)
}

func (s *store) Stats(ctx context.Context, tenant quorate.TenantID, label string, limit int) (*tsdb.Stats, annotations.Annotations, error) {
	if _, _, failure := s.faults(); failure != nil {
		return nil, nil, failure
	}
	return s.Model.Stats(ctx, tenant, label, limit)
}

type countedQuerier struct {
	storage.Querier
	store *store
	late  error
	gate  chan struct{}
}

func (q *countedQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	if q.gate != nil {
		select {
		case <-q.gate:
		case <-ctx.Done():
			return storage.ErrSeriesSet(ctx.Err())
		}
	}
	set := q.Querier.Select(ctx, sorted, hints, matchers...)
	if q.late != nil {
		return lateError{set, q.late}
	}
	return set
}

func (q *countedQuerier) Close() error {
	q.store.closed.Add(1)
	return q.Querier.Close()
}

// lateError is a set that breaks after its last series.
type lateError struct {
	storage.SeriesSet
	err error
}

func (s lateError) Err() error { return s.err }

type countedExemplars struct {
	storage.ExemplarQuerier
	store *store
}

func (q *countedExemplars) Close() error {
	q.store.closed.Add(1)
	return nil
}

// tenants is a fixed list.
type tenants struct {
	list     map[string]quorate.TenantID
	failure  error
	warnings annotations.Annotations // of those that are not found
}

func (t *tenants) Tenant(_ context.Context, name string, _ quorate.Consistency) (promql.Tenant, error) {
	if id, found := t.list[name]; found {
		return promql.Tenant{ID: id, Found: true}, t.failure
	}
	return promql.Tenant{Warnings: t.warnings}, t.failure
}

// server is the API over the model, with a few series of two tenants.
type server struct {
	*httptest.Server
	api      *promql.API
	store    *store
	tenants  *tenants
	registry *prometheus.Registry
}

func serve(t *testing.T, change ...func(*promql.Config)) *server {
	t.Helper()
	s, handler := newServer(t, change...)
	s.Server = httptest.NewServer(handler)
	t.Cleanup(s.Server.Close)
	return s
}

// newServer is serve without a listener.
func newServer(t *testing.T, change ...func(*promql.Config)) (*server, http.Handler) {
	t.Helper()
	s := &server{
		store:    &store{Model: suitestore.NewModel()},
		tenants:  &tenants{list: map[string]quorate.TenantID{quorate.AnonymousTenant: anonymous, "green": green}},
		registry: prometheus.NewRegistry(),
	}
	load(t, s.store.Model)
	config := promql.Config{Queryable: s.store, Tenants: s.tenants, Registerer: s.registry, Gatherer: s.registry}
	for _, c := range change {
		c(&config)
	}
	api, err := promql.New(config)
	if err != nil {
		t.Fatal(err)
	}
	s.api = api
	mux := http.NewServeMux()
	api.Register(mux)
	t.Cleanup(func() {
		if err := api.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, mux
}

func multiTenant(c *promql.Config) { c.Tenancy = tenancy.Config{Enabled: true} }

// load gives anonymous ten minutes of a counter, an up series, a UTF-8 name, a
// native histogram and an exemplar, and green one series of its own.
func load(t *testing.T, m *suitestore.Model) {
	t.Helper()
	next := anonymous
	open := suitestore.Opener(suitestore.Config{Append: m.Append, Queryable: m, FreshTenant: func() quorate.TenantID {
		id := next
		next++
		return id
	}})
	counter := storage.AppendV2Options{
		Metadata:         metadata.Metadata{Type: model.MetricTypeCounter, Help: "Requests."},
		MetricFamilyName: "http_requests_total",
		Exemplars:        []exemplar.Exemplar{{Labels: labels.FromStrings("trace_id", "abc"), Value: 3, Ts: (now - 60) * 1000, HasTs: true}},
	}
	app := open(t).AppenderV2(t.Context())
	add := func(app storage.AppenderV2, ls labels.Labels, at int64, v float64, fh *histogram.FloatHistogram, o storage.AppendV2Options) {
		t.Helper()
		if _, err := app.Append(0, ls, 0, at*1000, v, nil, fh, o); err != nil {
			t.Fatal(err)
		}
	}
	for i := range int64(40) {
		at := now - 600 + 15*i
		for _, job := range []string{"api", "web"} {
			o := storage.AppendV2Options{}
			if i == 0 && job == "api" {
				o = counter
			}
			add(app, labels.FromStrings(labels.MetricName, "http_requests_total", "job", job), at, float64(15*i), nil, o)
			add(app, labels.FromStrings(labels.MetricName, "up", "job", job), at, 1, nil, storage.AppendV2Options{
				Metadata: metadata.Metadata{Type: model.MetricTypeGauge, Help: "Is it up."}, MetricFamilyName: "up",
			})
		}
		add(app, labels.FromStrings(labels.MetricName, "temperature", "sensor.name", "roof"), at, 20, nil, storage.AppendV2Options{})
		add(app, labels.FromStrings(labels.MetricName, "latency", "job", "api"), at, 0, &histogram.FloatHistogram{
			Schema: 0, Count: float64(4 * i), Sum: float64(i), PositiveSpans: []histogram.Span{{Offset: 0, Length: 1}}, PositiveBuckets: []float64{float64(4 * i)},
		}, storage.AppendV2Options{})
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	app = open(t).AppenderV2(t.Context())
	add(app, labels.FromStrings(labels.MetricName, "green_only", "job", "secret"), now-30, 7, nil, storage.AppendV2Options{
		Metadata: metadata.Metadata{Type: model.MetricTypeGauge, Help: "Green's."}, MetricFamilyName: "green_only",
	})
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
}

// reply is an answer of the API, read whole.
type reply struct {
	code   int
	header http.Header
	body   string

	Status    string          `json:"status"`
	Data      json.RawMessage `json:"data"`
	ErrorType string          `json:"errorType"`
	Error     string          `json:"error"`
	Warnings  []string        `json:"warnings"`
}

// get asks by GET with the parameters in the URL.
func (s *server) get(t *testing.T, path string, header ...string) *reply {
	t.Helper()
	return s.do(t, http.MethodGet, path, "", header...)
}

// post asks by POST with a form.
func (s *server) post(t *testing.T, path string, form url.Values, header ...string) *reply {
	t.Helper()
	return s.do(t, http.MethodPost, path, form.Encode(), append(header, "Content-Type", "application/x-www-form-urlencoded")...)
}

func (s *server) do(t *testing.T, method, path, body string, header ...string) *reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	r := &reply{code: resp.StatusCode, header: resp.Header, body: string(text)}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") && resp.Header.Get("Content-Encoding") == "" {
		if err := json.Unmarshal(text, r); err != nil {
			t.Fatalf("%s %s: %v in %q", method, path, err, text)
		}
	}
	return r
}

// wants fails the test unless the reply is a success with this data.
func (r *reply) wants(t *testing.T, data string) {
	t.Helper()
	if r.code != http.StatusOK || r.Status != "success" {
		t.Fatalf("answer is %d %s, want a success", r.code, r.body)
	}
	if string(r.Data) != data {
		t.Errorf("data is\n  %s\nwant\n  %s", r.Data, data)
	}
}

// refuses fails the test unless the reply is this error.
func (r *reply) refuses(t *testing.T, code int, errorType, text string) {
	t.Helper()
	if r.code != code || r.Status != "error" || r.ErrorType != errorType || !strings.Contains(r.Error, text) {
		t.Errorf("answer is %d %s, want %d with errorType %q and an error that says %q", r.code, r.body, code, errorType, text)
	}
}

func never(t *testing.T, what string, n int64) {
	t.Helper()
	if n != 0 {
		t.Errorf("%s: %d, want none", what, n)
	}
}
