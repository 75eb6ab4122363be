package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// metrics returns what the server exposes, by name.
func (s *server) metrics(ctx context.Context) (map[string]*dto.MetricFamily, error) {
	text, err := s.call(ctx, http.MethodGet, s.http+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("metrics of %s: %w", s.name, err)
	}
	return families, nil
}

// sum adds up the metrics of a family, or those of them with a label of a
// value: values, and of histograms the number of observations.
func sum(family *dto.MetricFamily, value string) (total float64) {
	for _, m := range family.GetMetric() {
		counted := value == ""
		for _, label := range m.GetLabel() {
			counted = counted || label.GetValue() == value
		}
		if counted {
			total += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return total
}
