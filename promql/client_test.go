package promql_test

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
)

// Prometheus' own Go client is what promtool and many tools are made of.
func TestPrometheusOwnClientUnderstandsEveryAnswer(t *testing.T) {
	s := serve(t)
	conn, err := api.NewClient(api.Config{Address: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	client, ctx := promv1.NewAPI(conn), t.Context()
	end := time.Unix(now, 0)
	start := end.Add(-time.Minute)

	value, warnings, err := client.Query(ctx, `sum(up)`, end)
	if v, ok := value.(model.Vector); err != nil || !ok || len(warnings) > 0 || len(v) != 1 || v[0].Value != 2 {
		t.Errorf("query: %v, %v, %v", value, warnings, err)
	}
	value, _, err = client.QueryRange(ctx, `latency`, promv1.Range{Start: start, End: end, Step: 15 * time.Second})
	if m, ok := value.(model.Matrix); err != nil || !ok || len(m) != 1 || len(m[0].Histograms) != 5 {
		t.Errorf("range query of a native histogram: %v, %v", value, err)
	}
	series, _, err := client.Series(ctx, []string{"up"}, start, end)
	if err != nil || len(series) != 2 {
		t.Errorf("series: %v, %v", series, err)
	}
	names, _, err := client.LabelNames(ctx, []string{"temperature"}, start, end)
	if err != nil || len(names) != 2 {
		t.Errorf("label names: %v, %v", names, err)
	}
	values, _, err := client.LabelValues(ctx, "sensor.name", nil, start, end)
	if err != nil || len(values) != 1 || values[0] != "roof" {
		t.Errorf("label values: %v, %v", values, err)
	}
	exemplars, err := client.QueryExemplars(ctx, "http_requests_total", start, end)
	if err != nil || len(exemplars) != 1 {
		t.Errorf("exemplars: %v, %v", exemplars, err)
	}
	families, err := client.Metadata(ctx, "up", "")
	if err != nil || families["up"][0].Type != promv1.MetricTypeGauge {
		t.Errorf("metadata: %v, %v", families, err)
	}
	stats, err := client.TSDB(ctx)
	if err != nil || stats.HeadStats.NumSeries != 6 {
		t.Errorf("status: %v, %v", stats, err)
	}
	for what, call := range map[string]func() error{
		"alerts":        func() error { _, err := client.Alerts(ctx); return err },
		"alertmanagers": func() error { _, err := client.AlertManagers(ctx); return err },
		"build":         func() error { _, err := client.Buildinfo(ctx); return err },
		"config":        func() error { _, err := client.Config(ctx); return err },
		"flags":         func() error { _, err := client.Flags(ctx); return err },
		"rules":         func() error { _, err := client.Rules(ctx, nil); return err },
		"runtime":       func() error { _, err := client.Runtimeinfo(ctx); return err },
		"targets":       func() error { _, err := client.Targets(ctx); return err },
		"WAL replay":    func() error { _, err := client.WalReplay(ctx); return err },
		"target metadata": func() error {
			_, err := client.TargetsMetadata(ctx, "", "", "")
			return err
		},
	} {
		if err := call(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}
