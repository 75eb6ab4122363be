package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// do sends a request and returns the answer's status and body.
func do(t *testing.T, req *http.Request) (status int, body []byte) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err = io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("read the answer of %s: %v", req.URL, err)
	}
	return resp.StatusCode, body
}

// get fetches base+path?params; without params base or path may have their own.
func get(t *testing.T, base, path string, params url.Values) (status int, body []byte) {
	t.Helper()
	target := base + path
	if len(params) > 0 {
		target += "?" + params.Encode()
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	return do(t, req)
}

// answer is the envelope of Prometheus' API.
type answer struct {
	Status   string   `json:"status"`
	Data     any      `json:"data"`
	Error    string   `json:"error"`
	Warnings []string `json:"warnings"`
	Infos    []string `json:"infos"`
}

// ask fetches and parses an answer of Prometheus' API. Numbers keep their text.
func ask(t *testing.T, base, path string, params url.Values) answer {
	t.Helper()
	status, body := get(t, base, path, params)
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var a answer
	if err := decoder.Decode(&a); err != nil {
		t.Fatalf("%s%s?%s: %d, no JSON: %v\n%.500s", base, path, params.Encode(), status, err, body)
	}
	return a
}

// metricValues fetches and parses what a server exposes about itself: the sum
// over the series of each float metric.
func metricValues(t *testing.T, base string) (map[string]float64, error) {
	t.Helper()
	status, body := get(t, base, "/metrics", nil)
	if status != http.StatusOK {
		return nil, fmt.Errorf("%s/metrics answers %d", base, status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("parse %s/metrics: %w", base, err)
	}
	values := map[string]float64{}
	for name, family := range families {
		for _, m := range family.GetMetric() {
			values[name] += floatOf(m)
		}
	}
	return values, nil
}

func floatOf(m *dto.Metric) float64 {
	switch {
	case m.Counter != nil:
		return m.GetCounter().GetValue()
	case m.Gauge != nil:
		return m.GetGauge().GetValue()
	case m.Histogram != nil:
		return float64(m.GetHistogram().GetSampleCount())
	case m.Summary != nil:
		return float64(m.GetSummary().GetSampleCount())
	}
	return m.GetUntyped().GetValue()
}

// params makes query parameters of pairs.
func params(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return v
}

func firstLine(text []byte) string {
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}
