package interchange

import (
	"fmt"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// Selection says which samples are carried. The zero value is all of them.
type Selection struct {
	// From and To bound the samples' timestamps (ms), From included, To not;
	// 0 leaves that side open.
	From, To int64
	// Match are series selectors as PromQL writes them; a series is carried if
	// one of them matches. None carries all.
	Match []string
}

// parse checks the selection and returns the selectors' matchers.
func (s *Selection) parse() ([][]*labels.Matcher, error) {
	if s.From != 0 && s.To != 0 && s.From >= s.To {
		return nil, fmt.Errorf("the range from %s to %s is empty", formatTime(s.From), formatTime(s.To))
	}
	all := make([][]*labels.Matcher, len(s.Match))
	for i, text := range s.Match {
		matchers, err := parser.NewParser(parser.Options{}).ParseMetricSelector(text)
		if err != nil {
			return nil, fmt.Errorf("selector %q: %w", text, err)
		}
		all[i] = matchers
	}
	return all, nil
}

// clip cuts the closed range [mint, maxt] to the selection's.
func (s *Selection) clip(mint, maxt int64) (int64, int64) {
	if s.From != 0 {
		mint = max(mint, s.From)
	}
	if s.To != 0 {
		maxt = min(maxt, s.To-1)
	}
	return mint, maxt
}
