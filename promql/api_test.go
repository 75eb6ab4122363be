package promql_test

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/promql"
)

func TestWhatABackendDoesNotHaveIsThereAndEmpty(t *testing.T) {
	s := serve(t)
	for path, want := range map[string]string{
		"/targets":            `{"activeTargets":[],"droppedTargets":[],"droppedTargetCounts":{}}`,
		"/targets/metadata":   `[]`,
		"/scrape_pools":       `{"scrapePools":[]}`,
		"/alertmanagers":      `{"activeAlertmanagers":[],"droppedAlertmanagers":[]}`,
		"/status/tsdb/blocks": `{"blocks":[]}`,
		"/status/walreplay":   `{"min":0,"max":0,"current":0}`,
		"/notifications":      `[]`,
	} {
		t.Run(path, func(t *testing.T) { s.get(t, "/api/v1"+path).wants(t, want) })
	}
	for _, path := range []string{"/status/config", "/status/flags", "/status/runtimeinfo", "/features", "/status/self_metrics"} {
		t.Run(path, func(t *testing.T) {
			if r := s.get(t, "/api/v1"+path); r.code != http.StatusOK || r.Status != "success" || len(r.Data) < len(`{"a":0}`) {
				t.Errorf("answer is %d %s, want a success that says something", r.code, r.body)
			}
		})
	}
	t.Run("admin", func(t *testing.T) {
		s.post(t, "/api/v1/admin/tsdb/delete_series", url.Values{"match[]": {"up"}}).refuses(t, http.StatusServiceUnavailable, "unavailable", "disabled")
	})
	t.Run("OTLP", func(t *testing.T) {
		if r := s.do(t, http.MethodPost, "/api/v1/otlp/v1/metrics", "x"); r.code != http.StatusNotFound {
			t.Errorf("answer is %d, want 404", r.code)
		}
	})
}

func TestStatusTSDBCountsTheTenantsSeries(t *testing.T) {
	s := serve(t, multiTenant)
	r := s.get(t, "/api/v1/status/tsdb?limit=1", "X-Scope-OrgID", "anonymous")
	for _, part := range []string{`"numSeries":6`, `"seriesCountByMetricName":[{"name":"`, `"labelValueCountByLabelName":[{"name":"__name__","value":4}]`} {
		if !strings.Contains(string(r.Data), part) {
			t.Errorf("status is %s, want %s in it", r.body, part)
		}
	}
	s.get(t, "/api/v1/status/tsdb", "X-Scope-OrgID", "nobody").
		wants(t, `{"headStats":{"numSeries":0,"numLabelPairs":0,"chunkCount":0,"minTime":0,"maxTime":0},"seriesCountByMetricName":[],"labelValueCountByLabelName":[],"memoryInBytesByLabelName":[],"seriesCountByLabelValuePair":[]}`)
}

func TestMetadataTakesUpstreamsParameters(t *testing.T) {
	s := serve(t)
	s.get(t, "/api/v1/metadata?metric=up&limit_per_metric=1").wants(t, `{"up":[{"type":"gauge","unit":"","help":"Is it up."}]}`)
	s.get(t, "/api/v1/metadata?limit=1").wants(t, `{"http_requests_total":[{"type":"counter","unit":"","help":"Requests."}]}`)
	s.get(t, "/api/v1/metadata?limit=0").wants(t, `{}`)
	s.get(t, "/api/v1/metadata?metric=none").wants(t, `{}`)
}

func TestBadInputIsRefusedWithTheRuleItBreaks(t *testing.T) {
	s := serve(t)
	for _, c := range []struct{ path, says string }{
		{"/query?query=up%7B", "unexpected end of input"},
		{"/query?query=", "no expression found"},
		{"/query?query=limitk(1,up)", "experimental"},
		{"/query?query=up&time=yesterday", `"yesterday"`},
		{"/query?query=up&timeout=soon", `"soon"`},
		{"/query?query=up&limit=-1", "limit"},
		{"/query?query=up&lookback_delta=x", "lookback"},
		{"/query_range?query=up&start=1&end=x&step=1", `"x"`},
		{"/query_range?query=up&start=2&end=1&step=1", "before start"},
		{"/query_range?query=up&start=1&end=2&step=0", "zero or negative"},
		{"/query_range?query=up&start=1&end=2&step=-5s", "step"},
		{"/query_range?query=up&start=1&end=100000&step=1", "11,000 points"},
		{"/query_range?query=up&start=1&end=2&step=1e300", "overflows"},
		{"/query_exemplars?query=(&start=1&end=2", "unclosed left parenthesis"},
		{"/query_exemplars?query=up&start=2&end=1", "before start"},
		{"/series", "no match[]"},
		{"/series?match%5B%5D=%7B%7D", "match[]"},
		{"/series?match%5B%5D=%7Bx%3D~%22(%22%7D", "missing closing"},
		{"/labels?match%5B%5D=%7B", "unexpected end of input"},
		{"/labels?limit=ten", "limit"},
		{"/label/%FF/values", "invalid label name"},
		{"/metadata?limit=ten", `"ten"`},
		{"/metadata?limit_per_metric=ten", `"ten"`},
		{"/status/tsdb?limit=0", "1 to 10000"},
		{"/status/tsdb?limit=10001", "1 to 10000"},
		{"/status/tsdb?limit=x", `"x"`},
		{"/format_query?query=)", "unexpected"},
	} {
		t.Run(c.path, func(t *testing.T) { s.get(t, "/api/v1"+c.path).refuses(t, http.StatusBadRequest, "bad_data", c.says) })
	}
	t.Run("a query that fails on its data is a 422", func(t *testing.T) {
		s.get(t, "/api/v1/query?query=up%2Bon()up&time=1700000000").refuses(t, http.StatusUnprocessableEntity, "execution", "many-to-many")
	})
	never(t, "queriers left open", s.store.opened.Load()-s.store.closed.Load())
}

func TestTheParserIsThatOfAServerWithoutFeatureFlags(t *testing.T) {
	s := serve(t)
	for query, refused := range map[string]string{
		"up @ 1700000000":                            "",
		"up offset -1m":                              "",
		"rate(up[1m + 4m])":                          "",
		`{"sensor.name"="roof"}`:                     "",
		"histogram_quantile(0.9, rate(latency[5m]))": "",
		"max_over_time(rate(up[1m])[5m:])":           "",
		"info(up)":                                   "not enabled",
		"sort_by_label(up, 'job')":                   "not enabled",
		"up[5m] smoothed":                            "enabled",
		"up + fill(0) up":                            "enabled",
	} {
		r := s.post(t, "/api/v1/query", url.Values{"query": {query}, "time": {"1700000000"}})
		if refused != "" {
			r.refuses(t, http.StatusBadRequest, "bad_data", refused)
		} else if r.code != http.StatusOK {
			t.Errorf("%s is answered %d %s", query, r.code, r.body)
		}
	}
}

func TestTenantsSeeTheirOwn(t *testing.T) {
	s := serve(t, multiTenant)
	const of = "X-Scope-OrgID"
	for _, c := range []struct{ path, anonymous, green, nobody string }{
		{"/query?query=count(%7B__name__!=%22%22%7D)&time=1700000000",
			`{"resultType":"vector","result":[{"metric":{},"value":[1700000000,"6"]}]}`,
			`{"resultType":"vector","result":[{"metric":{},"value":[1700000000,"1"]}]}`,
			`{"resultType":"vector","result":[]}`},
		{"/query_range?query=green_only&start=1700000000&end=1700000000&step=15", `{"resultType":"matrix","result":[]}`,
			`{"resultType":"matrix","result":[{"metric":{"__name__":"green_only","job":"secret"},"values":[[1700000000,"7"]]}]}`,
			`{"resultType":"matrix","result":[]}`},
		{"/labels", `["__name__","job","sensor.name"]`, `["__name__","job"]`, `[]`},
		{"/label/job/values", `["api","web"]`, `["secret"]`, `[]`},
		{"/series?match%5B%5D=%7Bjob=~%22secret%7Cnone%22%7D", `[]`, `[{"__name__":"green_only","job":"secret"}]`, `[]`},
		{"/metadata?metric=green_only", `{}`, `{"green_only":[{"type":"gauge","unit":"","help":"Green's."}]}`, `{}`},
		{"/query_exemplars?query=http_requests_total&start=1699999000&end=1700000000",
			`[{"seriesLabels":{"__name__":"http_requests_total","job":"api"},"exemplars":[{"labels":{"trace_id":"abc"},"value":"3","timestamp":1699999940}]}]`, `[]`, `[]`},
	} {
		t.Run(c.path, func(t *testing.T) {
			s.get(t, "/api/v1"+c.path, of, "anonymous").wants(t, c.anonymous)
			s.get(t, "/api/v1"+c.path, of, "green").wants(t, c.green)
			s.get(t, "/api/v1"+c.path, of, "nobody").wants(t, c.nobody)
		})
	}
	t.Run("search", func(t *testing.T) {
		for tenant, want := range map[string]string{"green": `{"results":[{"name":"green_only"}]}`, "nobody": `{"results":[]}`} {
			if r := s.get(t, "/api/v1/search/metric_names?start=1699999000&end=1700000000", of, tenant); !strings.HasPrefix(r.body, want) {
				t.Errorf("%s finds %q, want %s", tenant, r.body, want)
			}
		}
	})
	t.Run("a missing or bad header is a 400 on every endpoint", func(t *testing.T) {
		for _, path := range []string{"/query?query=1", "/labels", "/metadata", "/status/tsdb", "/status/buildinfo", "/rules", "/search/label_names"} {
			s.get(t, "/api/v1"+path).refuses(t, http.StatusBadRequest, "bad_data", "X-Scope-OrgID is missing")
			s.get(t, "/api/v1"+path, of, "../etc").refuses(t, http.StatusBadRequest, "bad_data", "starts with a dot")
		}
		s.do(t, http.MethodPost, "/api/v1/read", "x").refuses(t, http.StatusBadRequest, "bad_data", "X-Scope-OrgID is missing")
	})
	t.Run("a browser's preflight needs no tenant", func(t *testing.T) {
		r := s.do(t, http.MethodOptions, "/api/v1/query", "", "Origin", "https://grafana.example")
		if r.code != http.StatusNoContent || r.header.Get("Access-Control-Allow-Origin") == "" {
			t.Errorf("preflight is %d %v", r.code, r.header)
		}
	})
	t.Run("while the tenants cannot be looked up, nothing is answered", func(t *testing.T) {
		s.tenants.failure = quorate.Errorf(quorate.Unavailable, "no map yet")
		r := s.get(t, "/api/v1/query?query=up", of, "green")
		r.refuses(t, http.StatusServiceUnavailable, "unavailable", "no map yet")
		if r.header.Get("Retry-After") != "1" {
			t.Errorf("Retry-After is %q, want 1", r.header.Get("Retry-After"))
		}
	})
}

func TestOriginsThatAreNotAllowedGetNoCORSHeader(t *testing.T) {
	s := serve(t, func(c *promql.Config) { c.CORSOrigin = `https://good\.example` })
	for origin, want := range map[string]string{"https://good.example": "https://good.example", "https://bad.example": ""} {
		for _, path := range []string{"/api/v1/query?query=1", "/api/v1/metadata"} {
			if got := s.get(t, path, "Origin", origin).header.Get("Access-Control-Allow-Origin"); got != want {
				t.Errorf("%s for %s allows %q, want %q", path, origin, got, want)
			}
		}
	}
}

func TestBuildInfoNamesThePrometheusInside(t *testing.T) {
	s := serve(t, func(c *promql.Config) { c.Build = promql.Build{Version: "0.1.0", Revision: "abc"} })
	build := string(s.get(t, "/api/v1/status/buildinfo").Data)
	for _, part := range []string{`"version":"` + promql.APIVersion + `"`, `"revision":"abc"`, `"application":"Quorate"`, `"applicationVersion":"0.1.0"`} {
		if !strings.Contains(build, part) {
			t.Errorf("build information is %s, want %s in it", build, part)
		}
	}
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`github.com/prometheus/prometheus v0\.(\d)(\d\d)\.(\d+)`).FindStringSubmatch(string(mod))
	if m == nil {
		t.Fatal("go.mod names no version of prometheus")
	}
	minor, err := strconv.Atoi(m[2])
	if err != nil {
		t.Fatal(err)
	}
	if want := m[1] + "." + strconv.Itoa(minor) + "." + m[3]; promql.APIVersion != want {
		t.Errorf("APIVersion is %s, but the module required is that of Prometheus %s", promql.APIVersion, want)
	}
}

func TestRequestsAreCounted(t *testing.T) {
	s := serve(t)
	s.get(t, "/api/v1/query?query=1")
	s.get(t, "/api/v1/query?query=(")
	s.post(t, "/api/v1/label/job/values", url.Values{})
	s.get(t, "/api/v1/metadata")
	for series, want := range map[string]float64{
		`endpoint="query",code="200"`:        1,
		`endpoint="query",code="400"`:        1,
		`endpoint="label_values",code="200"`: 1,
		`endpoint="metadata",code="200"`:     1,
		`endpoint="query_range",code="200"`:  0,
	} {
		if got := s.counted(t, series); got != want {
			t.Errorf("requests with %s: %v, want %v", series, got, want)
		}
	}
	if problems, err := testutil.GatherAndLint(s.registry, "quorate_query_requests_total", "quorate_query_request_duration_seconds", "quorate_query_requests_in_flight", "quorate_query_waiting"); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}

// counted returns the requests counted under these labels.
func (s *server) counted(t *testing.T, series string) float64 {
	t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() != "quorate_query_requests_total" {
				continue
			}
			code, endpoint := m.GetLabel()[0].GetValue(), m.GetLabel()[1].GetValue()
			if fmt.Sprintf("endpoint=%q,code=%q", endpoint, code) == series {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("no requests are counted with %s", series)
	return 0
}

func TestNewNamesTheSettingThatIsNotValid(t *testing.T) {
	valid := promql.Config{Queryable: &store{}, Tenants: &tenants{}}
	for says, change := range map[string]func(*promql.Config){
		"Queryable":          func(c *promql.Config) { c.Queryable = nil },
		"Tenants":            func(c *promql.Config) { c.Tenants = nil },
		"Engine.Timeout":     func(c *promql.Config) { c.Engine.Timeout = -1 },
		"Engine.MaxSamples":  func(c *promql.Config) { c.Engine.MaxSamples = -1 },
		"Engine.Concurrency": func(c *promql.Config) { c.Engine.Concurrency = -1 },
		"Read.FrameBytes":    func(c *promql.Config) { c.Read.FrameBytes = -1 },
		`CORSOrigin "("`:     func(c *promql.Config) { c.CORSOrigin = "(" },
	} {
		config := valid
		change(&config)
		if _, err := promql.New(config); quorate.KindOf(err) != quorate.Invalid || !strings.Contains(err.Error(), says) {
			t.Errorf("error is %v, want an Invalid one that says %s", err, says)
		}
	}
	api, err := promql.New(valid)
	if err != nil {
		t.Fatal(err)
	}
	if err := api.Close(); err != nil {
		t.Error(err)
	}
}
