package promql_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/quorate/quorate/internal/suitestore"
	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/promql"
)

func TestAQueryOpensOneQuerierHoweverManySelectorsItHas(t *testing.T) {
	s := serve(t)
	const many = `sum(up) + sum(up) + sum(rate(http_requests_total[5m])) + count(latency) + max_over_time(sum(up)[5m:1m])`
	r := s.post(t, "/api/v1/query", url.Values{"query": {many}, "time": {"1700000000"}})
	if r.code != http.StatusOK {
		t.Fatal(r.body)
	}
	if opened, closed := s.store.opened.Load(), s.store.closed.Load(); opened != 1 || closed != 1 {
		t.Errorf("the query opened %d queriers and closed %d, want one", opened, closed)
	}
	s.get(t, "/api/v1/query_exemplars?query=up&start=1&end=2")
	if opened, closed := s.store.opened.Load(), s.store.closed.Load(); opened != 2 || closed != 2 {
		t.Errorf("with one for exemplars, %d are opened and %d closed, want two", opened, closed)
	}
}

func TestConcurrentSelectsShareOneView(t *testing.T) {
	s := &store{Model: suitestore.NewModel()}
	load(t, s.Model)
	q, err := promql.ForTenant(s, anonymous).Querier(0, now*1000)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			set := q.Select(t.Context(), true, nil, labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, "up"))
			n := 0
			for set.Next() {
				n++
			}
			if set.Err() != nil || n != 2 {
				t.Errorf("select finds %d series, %v; want 2", n, set.Err())
			}
		})
	}
	wg.Wait()
	if err := q.Close(); err != nil {
		t.Error(err)
	}
	if err := q.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
	if opened, closed := s.opened.Load(), s.closed.Load(); opened != 1 || closed != 1 {
		t.Errorf("opened %d, closed %d; want one", opened, closed)
	}
}

func TestAClosedQuerierOpensNothing(t *testing.T) {
	s := &store{Model: suitestore.NewModel()}
	q, err := promql.ForTenant(s, anonymous).Querier(0, now*1000)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if set := q.Select(t.Context(), false, nil); set.Next() || set.Err() == nil {
		t.Error("a select after Close finds something, or no error")
	}
	if _, _, err := q.LabelNames(t.Context(), nil); err == nil {
		t.Error("label names after Close are no error")
	}
	never(t, "queriers opened after Close", s.opened.Load())
}

func TestOnlySoManyQueriesRunAtOnceAndTheRestWait(t *testing.T) {
	const running, waiting = 2, 3
	s := serve(t, func(c *promql.Config) { c.Engine.Concurrency = running })
	gate := make(chan struct{})
	s.store.gate = gate
	var wg sync.WaitGroup
	for range running + waiting {
		wg.Go(func() {
			if r := s.get(t, "/api/v1/query?query=up&time=1700000000"); r.code != http.StatusOK {
				t.Errorf("answer is %d %s", r.code, r.body)
			}
		})
	}
	testwait.For(t, "the queries that wait", func() bool { return gauge(t, s, "quorate_query_waiting") == waiting })
	if n := s.store.opened.Load(); n != running {
		t.Errorf("%d queries run, want %d", n, running)
	}
	close(gate)
	wg.Wait()
	if n := gauge(t, s, "quorate_query_waiting"); n != 0 {
		t.Errorf("%v queries wait in the end", n)
	}
}

func TestAClientThatLeavesGivesItsTurnBack(t *testing.T) {
	s := serve(t, func(c *promql.Config) { c.Engine.Concurrency = 1 })
	gate := make(chan struct{})
	s.store.gate = gate
	var wg sync.WaitGroup
	for range 2 { // one runs, one waits
		wg.Go(func() {
			req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/api/v1/query?query=up&time=1700000000", nil)
			req.RequestURI = ""
			if resp, err := s.Client().Do(req); err == nil {
				resp.Body.Close()
				t.Error("a request whose connection was cut is answered")
			}
		})
	}
	testwait.For(t, "one query to wait", func() bool { return gauge(t, s, "quorate_query_waiting") == 1 })
	s.CloseClientConnections()
	wg.Wait()
	testwait.For(t, "both to end", func() bool {
		return gauge(t, s, "quorate_query_waiting") == 0 && gauge(t, s, "quorate_query_requests_in_flight") == 0
	})
	close(gate)
	if r := s.get(t, "/api/v1/query?query=up&time=1700000000"); r.code != http.StatusOK {
		t.Errorf("the next query is answered %d %s", r.code, r.body)
	}
}

func gauge(t *testing.T, s *server, name string) float64 {
	t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}
