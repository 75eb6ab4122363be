package dashboards

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// Files are the dashboards, one JSON file each, as Grafana imports them.
//
//go:embed *.json
var Files embed.FS

// Query is one PromQL query of a dashboard.
type Query struct {
	// File is the dashboard's file, Panel the title of the panel or the name
	// of the variable that asks.
	File, Panel string
	// Expr is the query as it stands in the file, with Grafana's variables.
	Expr string
}

// dashboard is what matters here of Grafana's format. Panels of a collapsed row
// lie inside the row.
type dashboard struct {
	Panels     []panel `json:"panels"`
	Templating struct {
		List []struct {
			Name       string `json:"name"`
			Type       string `json:"type"`
			Definition string `json:"definition"`
		} `json:"list"`
	} `json:"templating"`
}

type panel struct {
	Title   string  `json:"title"`
	Panels  []panel `json:"panels"`
	Targets []struct {
		Expr string `json:"expr"`
	} `json:"targets"`
}

// Queries returns the queries of all dashboards, in the order of the files and
// of the panels in them. Its error names the file that does not read, or the
// panel or variable that asks nothing.
func Queries() ([]Query, error) {
	names, err := fs.Glob(Files, "*.json")
	if err != nil {
		return nil, fmt.Errorf("list dashboards: %w", err)
	}
	var queries []Query
	for _, name := range names {
		data, err := Files.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read dashboard: %w", err)
		}
		var d dashboard
		if err := json.Unmarshal(data, &d); err != nil {
			return nil, fmt.Errorf("dashboard %s: %w", name, err)
		}
		found, err := d.queries(name)
		if err != nil {
			return nil, err
		}
		queries = append(queries, found...)
	}
	return queries, nil
}

// labelValues matches the one query function that variables use here; its first
// argument is a selector.
var labelValues = regexp.MustCompile(`^label_values\((.+), *\w+\)$`)

func (d *dashboard) queries(file string) ([]Query, error) {
	var queries []Query
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		m := labelValues.FindStringSubmatch(v.Definition)
		if m == nil {
			return nil, fmt.Errorf("dashboard %s: variable %s asks %q; want label_values(metric, label)", file, v.Name, v.Definition)
		}
		queries = append(queries, Query{File: file, Panel: "$" + v.Name, Expr: m[1]})
	}
	var walk func([]panel) error
	walk = func(panels []panel) error {
		for _, p := range panels {
			for _, t := range p.Targets {
				if t.Expr == "" {
					return fmt.Errorf("dashboard %s: panel %q has an empty query", file, p.Title)
				}
				queries = append(queries, Query{File: file, Panel: p.Title, Expr: t.Expr})
			}
			if err := walk(p.Panels); err != nil {
				return err
			}
		}
		return nil
	}
	return queries, walk(d.Panels)
}

// Parse parses the query, with a duration in the place of Grafana's variables
// of time. Other variables stand inside of strings, where any text parses.
func (q Query) Parse() (parser.Expr, error) {
	expr := strings.NewReplacer("$__rate_interval", "5m", "$__interval", "1m", "$__range", "1h").Replace(q.Expr)
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		return nil, fmt.Errorf("dashboard %s, %q: %s: %w", q.File, q.Panel, q.Expr, err)
	}
	return parsed, nil
}

// Metrics returns the names of all metrics that the dashboards query, sorted,
// as they stand in the text format: of a histogram those with _bucket, _sum and
// _count. Its error names the query that does not parse, or that selects by
// anything but a name.
func Metrics() ([]string, error) {
	queries, err := Queries()
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, q := range queries {
		expr, err := q.Parse()
		if err != nil {
			return nil, err
		}
		for _, matchers := range parser.ExtractSelectors(expr) {
			i := slices.IndexFunc(matchers, func(m *labels.Matcher) bool {
				return m.Name == labels.MetricName && m.Type == labels.MatchEqual
			})
			if i < 0 {
				return nil, fmt.Errorf("dashboard %s, %q: %s: a selector without a metric's name", q.File, q.Panel, q.Expr)
			}
			names[matchers[i].Value] = true
		}
	}
	return slices.Sorted(maps.Keys(names)), nil
}
