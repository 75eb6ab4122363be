package benchmarks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// sumMetrics adds up all series of the named metrics in the text format. A name
// that is not there is an error: it would read as a log without bytes.
func sumMetrics(text []byte, names []string) (float64, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return 0, fmt.Errorf("parse metrics: %w", err)
	}
	sum := 0.0
	for _, name := range names {
		family := families[name]
		if family == nil {
			return 0, fmt.Errorf("the server exposes no metric %q", name)
		}
		for _, m := range family.GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetUntyped().GetValue() + m.GetHistogram().GetSampleSum()
		}
	}
	return sum, nil
}

// instantValue reads the one value of an instant query's answer; no result is 0.
func instantValue(answer []byte) (int64, error) {
	var a struct {
		Data struct {
			Result []struct {
				Value [2]any `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		return 0, fmt.Errorf("parse the answer: %w", err)
	}
	switch len(a.Data.Result) {
	case 0:
		return 0, nil
	case 1:
		text, _ := a.Data.Result[0].Value[1].(string)
		value, err := strconv.ParseFloat(text, 64)
		return int64(value), err
	}
	return 0, fmt.Errorf("%d results, want one", len(a.Data.Result))
}
