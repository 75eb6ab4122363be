package dashboards

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestEveryQueryParsesAndKeepsToTheInstanceChosen(t *testing.T) {
	queries, err := Queries()
	if err != nil {
		t.Fatal(err)
	}
	if len(queries) < 50 {
		t.Fatalf("%d queries found, want those of every panel", len(queries))
	}
	for _, q := range queries {
		if _, err := q.Parse(); err != nil {
			t.Error(err)
		}
		if !strings.HasPrefix(q.Panel, "$") && !strings.Contains(q.Expr, `instance=~"$instance"`) {
			t.Errorf("%s, %q: %s does not select by $instance", q.File, q.Panel, q.Expr)
		}
	}
}

// TestEveryMetricIsDefinedSomewhere finds a metric that was renamed without
// starting a server: each of ours stands in a string of some package.
func TestEveryMetricIsDefinedSomewhere(t *testing.T) {
	names, err := Metrics()
	if err != nil {
		t.Fatal(err)
	}
	defined := definedMetrics(t, "..")
	for _, name := range names {
		if !strings.HasPrefix(name, "quorate_") {
			continue // of a library: Go's, the process', Prometheus' engine's
		}
		family := name
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			family = strings.TrimSuffix(family, suffix)
		}
		if !defined[name] && !defined[family] {
			t.Errorf("no package defines %s; rename it in the dashboard too", name)
		}
	}
}

func definedMetrics(t *testing.T, root string) map[string]bool {
	t.Helper()
	defined := map[string]bool{}
	literal := regexp.MustCompile(`"(quorate_[a-z0-9_]+)"`)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range literal.FindAllSubmatch(text, -1) {
			defined[string(m[1])] = true
		}
		return err
	})
	if err != nil || len(defined) == 0 {
		t.Fatalf("%d metrics found, %v", len(defined), err)
	}
	return defined
}

func TestPanelsHaveTheirOwnIdAndPlaceAndSayWhatTheyShow(t *testing.T) {
	names, err := fs.Glob(Files, "*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		data, err := Files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var d struct {
			UID, Title string
			Panels     []struct {
				ID                       int
				Type, Title, Description string
				GridPos                  struct{ H, W, X, Y int }
			}
		}
		if err := json.Unmarshal(data, &d); err != nil {
			t.Fatal(err)
		}
		if d.UID == "" || d.Title == "" {
			t.Errorf("%s has no uid or title", name)
		}
		ids, taken := map[int]string{}, map[[2]int]string{}
		for _, p := range d.Panels {
			if other, twice := ids[p.ID]; twice {
				t.Errorf("%s: %q and %q have one id", name, p.Title, other)
			}
			ids[p.ID] = p.Title
			if p.Type != "row" && p.Description == "" {
				t.Errorf("%s: %q has no description", name, p.Title)
			}
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					if other, twice := taken[[2]int{x, y}]; twice || x >= 24 {
						t.Fatalf("%s: %q lies over %q or beyond the edge", name, p.Title, other)
					}
					taken[[2]int{x, y}] = p.Title
				}
			}
		}
	}
}

func TestAQueryThatCannotBeCheckedIsAnError(t *testing.T) {
	if _, err := (Query{Expr: "sum(rate(x[$__rate_interval])"}).Parse(); err == nil {
		t.Error("an open parenthesis parses")
	}
	for _, text := range []string{
		`{"panels":[{"title":"p","targets":[{"expr":""}]}]}`,
		`{"panels":[{"type":"row","panels":[{"title":"p","targets":[{"expr":""}]}]}]}`,
		`{"templating":{"list":[{"name":"v","type":"query","definition":"query_result(up)"}]}}`,
	} {
		var d dashboard
		if err := json.Unmarshal([]byte(text), &d); err != nil {
			t.Fatal(err)
		}
		if _, err := d.queries("f.json"); err == nil {
			t.Errorf("%s is accepted", text)
		}
	}
}
