package promql_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// The requests that Grafana's Prometheus datasource makes, as its code makes
// them, and what it needs to read in the answers.
func TestGrafanasContract(t *testing.T) {
	s := serve(t)

	t.Run("an instant query by POST form", func(t *testing.T) {
		s.post(t, "/api/v1/query", url.Values{"query": {`up{job="api"}`}, "time": {"1700000000.000"}}).
			wants(t, `{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"api"},"value":[1700000000,"1"]}]}`)
	})
	t.Run("a range query by POST form with times and step as floats", func(t *testing.T) {
		s.post(t, "/api/v1/query_range", url.Values{"query": {"sum(up)"}, "start": {"1699999970.000"}, "end": {"1700000000.000"}, "step": {"15.000"}}).
			wants(t, `{"resultType":"matrix","result":[{"metric":{},"values":[[1699999970,"2"],[1699999985,"2"],[1700000000,"2"]]}]}`)
	})
	t.Run("the same by GET", func(t *testing.T) {
		s.get(t, "/api/v1/query_range?query=sum(up)&start=1699999985&end=1700000000&step=15").
			wants(t, `{"resultType":"matrix","result":[{"metric":{},"values":[[1699999985,"2"],[1700000000,"2"]]}]}`)
	})
	t.Run("parameters in the URL of a POST stand beside the form's", func(t *testing.T) {
		s.post(t, "/api/v1/query?time=1700000000&max_samples_processed_error_threshold=9", url.Values{"query": {`count(up)`}}).
			wants(t, `{"resultType":"vector","result":[{"metric":{},"value":[1700000000,"2"]}]}`)
	})
	t.Run("save and test asks for 1+1 in 1970, then for the build", func(t *testing.T) {
		s.post(t, "/api/v1/query", url.Values{"query": {"1+1"}, "time": {"4"}}).
			wants(t, `{"resultType":"scalar","result":[4,"2"]}`)
		build := s.get(t, "/api/v1/status/buildinfo")
		if build.code != http.StatusOK || !strings.Contains(string(build.Data), `"version":"3.`) {
			t.Errorf("build information is %s, want a version like Prometheus'", build.body)
		}
		if strings.Contains(build.body, "features") {
			t.Errorf("build information %s has features, by which Grafana takes this for a Mimir with a ruler", build.body)
		}
	})
	t.Run("the exemplar probe at start-up comes in milliseconds", func(t *testing.T) {
		s.get(t, "/api/v1/query_exemplars?query=test&start=1700000000000&end=1700003600000").wants(t, `[]`)
	})
	t.Run("exemplars by POST form", func(t *testing.T) {
		s.post(t, "/api/v1/query_exemplars", url.Values{"query": {"rate(http_requests_total[5m])"}, "start": {"1699999000"}, "end": {"1700000000"}}).
			wants(t, `[{"seriesLabels":{"__name__":"http_requests_total","job":"api"},"exemplars":[{"labels":{"trace_id":"abc"},"value":"3","timestamp":1699999940}]}]`)
	})
	t.Run("label names, by GET and by POST, with Grafana's usual limit", func(t *testing.T) {
		const want = `["__name__","job","sensor.name"]`
		s.get(t, "/api/v1/labels?limit=40000&start=1699999000&end=1700000000").wants(t, want)
		s.post(t, "/api/v1/labels", url.Values{"limit": {"40000"}, "start": {"1699999000"}, "end": {"1700000000"}}).wants(t, want)
		s.post(t, "/api/v1/labels", url.Values{"match[]": {"temperature"}}).wants(t, `["__name__","sensor.name"]`)
	})
	t.Run("label values of a plain name", func(t *testing.T) {
		s.get(t, "/api/v1/label/job/values?match%5B%5D=up&limit=40000").wants(t, `["api","web"]`)
	})
	t.Run("label values of an escaped UTF-8 name", func(t *testing.T) {
		s.get(t, "/api/v1/label/U__sensor_2e_name/values").wants(t, `["roof"]`)
	})
	t.Run("label values by POST with an empty body and with a form", func(t *testing.T) {
		s.do(t, http.MethodPost, "/api/v1/label/job/values?match%5B%5D=latency", "").wants(t, `["api"]`)
		s.post(t, "/api/v1/label/job/values?limit=10", url.Values{"match[]": {"latency"}}).wants(t, `["api"]`)
		s.do(t, http.MethodPost, "/api/v1/label/job/values", "{}", "Content-Type", "application/json").wants(t, `["api","web"]`)
	})
	t.Run("series by GET and by POST with the usual match", func(t *testing.T) {
		s.get(t, "/api/v1/series?match%5B%5D=temperature&limit=40000").wants(t, `[{"__name__":"temperature","sensor.name":"roof"}]`)
		s.post(t, "/api/v1/series", url.Values{"match[]": {`{__name__!=""}`}, "limit": {"1"}}).
			wants(t, `[{"__name__":"http_requests_total","job":"api"}]`)
	})
	t.Run("metadata", func(t *testing.T) {
		s.get(t, "/api/v1/metadata?limit=40000").
			wants(t, `{"http_requests_total":[{"type":"counter","unit":"","help":"Requests."}],"up":[{"type":"gauge","unit":"","help":"Is it up."}]}`)
	})
	t.Run("rules and alerts are empty lists", func(t *testing.T) {
		s.get(t, "/api/v1/rules").wants(t, `{"groups":[]}`)
		s.get(t, "/api/v1/alerts").wants(t, `{"alerts":[]}`)
	})
	t.Run("search streams NDJSON", func(t *testing.T) {
		for _, r := range []*reply{
			s.get(t, "/api/v1/search/metric_names?start=1699999000&end=1700000000&limit=100&search%5B%5D=reqests&sort_by=score&fuzz_threshold=80&fuzz_alg=jarowinkler&case_sensitive=false&batch_size=100&include_metadata=true&match%5B%5D=%7Bjob%3D%22api%22%7D"),
			s.post(t, "/api/v1/search/label_names", url.Values{"start": {"1699999000"}, "end": {"1700000000"}, "search[]": {"jo"}}),
			s.post(t, "/api/v1/search/label_values", url.Values{"start": {"1699999000"}, "end": {"1700000000"}, "label": {"job"}, "limit": {"1"}}),
		} {
			lines := strings.Split(strings.TrimSpace(r.body), "\n")
			if r.code != http.StatusOK || !strings.HasPrefix(r.header.Get("Content-Type"), "application/x-ndjson") || !strings.HasPrefix(lines[len(lines)-1], `{"status":"success"`) {
				t.Errorf("answer is %d %v %q, want NDJSON that ends in success", r.code, r.header, r.body)
			}
		}
		if r := s.get(t, "/api/v1/search/label_values?label=job&start=1699999000&end=1700000000&limit=1"); !strings.HasPrefix(r.body, `{"results":[{"value":"api"}]}`) || !strings.Contains(r.body, `"has_more":true`) {
			t.Errorf("one of two values is %q, want api and more", r.body)
		}
		s.get(t, "/api/v1/search/metric_names?limit=10001").refuses(t, http.StatusBadRequest, "bad_data", "10001")
	})
	t.Run("everything stands under /prometheus too, as with Mimir", func(t *testing.T) {
		s.post(t, "/prometheus/api/v1/query", url.Values{"query": {"1+1"}, "time": {"4"}}).wants(t, `{"resultType":"scalar","result":[4,"2"]}`)
		s.get(t, "/prometheus/api/v1/metadata?metric=up").wants(t, `{"up":[{"type":"gauge","unit":"","help":"Is it up."}]}`)
	})
	t.Run("a dashboard's own headers do no harm, and answers come as gzip", func(t *testing.T) {
		r := s.get(t, "/api/v1/query?query=up&time=1700000000", "X-Grafana-Org-Id", "1", "X-Dashboard-Uid", "x", "X-Panel-Id", "2", "FromAlert", "true", "Accept-Encoding", "gzip")
		if r.code != http.StatusOK || r.header.Get("Content-Encoding") != "gzip" {
			t.Errorf("answer is %d %v, want gzip", r.code, r.header)
		}
		r = s.get(t, "/api/v1/metadata", "Accept-Encoding", "gzip")
		if r.code != http.StatusOK || r.header.Get("Content-Encoding") != "gzip" {
			t.Errorf("metadata is %d %v, want gzip", r.code, r.header)
		}
	})
}
