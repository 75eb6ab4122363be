package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"

	"github.com/quorate/quorate/internal/testwait"
)

// Blocks of a real Prometheus are imported into a server, which must then answer
// as a Prometheus on the same blocks does; and the blocks that are exported from
// the server must make a Prometheus answer so again.
func TestImportedAndExportedBlocksAnswerEqual(t *testing.T) {
	prometheus, promtool := buildPrometheus(t)
	blocks, w := makeBlocks(t, promtool)
	before := fileStates(t, blocks)
	real := serveBlocks(t, prometheus, blocks)

	t.Run("import", func(t *testing.T) {
		s := startServer(t, "")
		summary := mustRun(t, s.dir, s.binary, "import", "--url="+s.url(""), blocks)
		t.Log(strings.TrimSpace(summary))
		if n := field(t, summary, "samples"); n < 30*blocksSteps || field(t, summary, "histograms") < 3*blocksSteps || field(t, summary, "refused") != 0 {
			t.Errorf("it says %s", summary)
		}
		compareBlocks(t, "imported", w, real.url(""), s.url(""))

		// All of it again, by an import that remembers nothing.
		again := mustRun(t, s.dir, s.binary, "import", "--url="+s.url(""), "--state=", "--batch-samples=3000", blocks)
		if field(t, again, "samples") != field(t, summary, "samples") {
			t.Errorf("the second import says %s", again)
		}
		compareBlocks(t, "imported twice", w, real.url(""), s.url(""))
		if third := mustRun(t, s.dir, s.binary, "import", "--url="+s.url(""), blocks); field(t, third, "requests") != 0 {
			t.Errorf("with the state of the first, it says %s", third)
		}

		exported := filepath.Join(t.TempDir(), "exported")
		args := []string{"export", "--url=" + s.url(""), "--from=" + stamp(w.start.Add(-time.Hour)), "--to=" + stamp(w.end.Add(time.Hour)), "--output=" + exported}
		export := mustRun(t, s.dir, s.binary, args...)
		t.Log(strings.TrimSpace(export))
		if field(t, export, "samples") != field(t, summary, "samples") || field(t, export, "histograms") != field(t, summary, "histograms") {
			t.Errorf("imported %s exported %s", summary, export)
		}
		checkBlocks(t, promtool, exported, field(t, export, "blocks"))
		back := serveBlocks(t, prometheus, exported)
		compareBlocks(t, "exported", w, real.url(""), back.url(""))
		compareBits(t, w, real.url(""), s.url(""), back.url(""))
		if again := mustRun(t, s.dir, s.binary, args...); field(t, again, "blocks") != 0 || field(t, again, "earlier") == 0 {
			t.Errorf("the second export says %s", again)
		}
	})
	t.Run("import killed and resumed", func(t *testing.T) {
		s := startServer(t, "")
		args := []string{"import", "--url=" + s.url(""), "--batch-samples=150", "--concurrency=3", blocks}
		state := filepath.Join(s.dir, "quorate-import.state")
		acknowledged := regexp.MustCompile(`"samples": [1-9]`)
		for n := range 3 {
			p := startProcess(t, "import", s.dir, s.binary, args...)
			last, _ := os.ReadFile(state)
			testwait.For(t, "the import to record progress", func() bool {
				now, err := os.ReadFile(state)
				return p.hasExited() || err == nil && acknowledged.Match(now) && !slices.Equal(now, last)
			})
			if p.hasExited() {
				t.Fatalf("import %d ended before it could be killed: the test means nothing\n%s", n, p.log(t))
			}
			p.kill(t)
		}
		t.Log(strings.TrimSpace(mustRun(t, s.dir, s.binary, args...)))
		compareBlocks(t, "imported in four runs", w, real.url(""), s.url(""))
	})
	if after := fileStates(t, blocks); !slices.Equal(before, after) {
		t.Error("the blocks were changed by the import")
	}
}

// compareBlocks asks everything of two servers.
func compareBlocks(t *testing.T, when string, w window, want, got string) {
	t.Helper()
	asked, differences, empty := 0, 0, 0
	for _, q := range blockQuestions(w) {
		asked++
		if isEmpty(ask(t, want, q.path, q.params)) {
			empty++
		}
		if problem := compare(t, q, want, got); problem != "" {
			if differences++; differences < 20 {
				t.Errorf("%s: %s %v: %s", when, q.path, q.params, problem)
			}
		}
	}
	if empty > asked/10 {
		t.Errorf("%d of %d answers are empty: they prove nothing", empty, asked)
	}
	t.Logf("%s: %d queries, %d differences", when, asked, differences)
}

// compareBits reads every sample of each server as chunks, whose floats keep
// their bits.
func compareBits(t *testing.T, w window, want string, others ...string) {
	t.Helper()
	everything := labels.MustNewMatcher(labels.MatchRegexp, labels.MetricName, ".+")
	read := func(base string) seriesSamples {
		return readSamples(t, base, prompb.ReadRequest_STREAMED_XOR_CHUNKS, w.start.UnixMilli(), w.end.UnixMilli(), everything)
	}
	expected := read(want)
	if len(expected) < 20 {
		t.Fatalf("remote read finds %d series", len(expected))
	}
	for _, other := range others {
		for _, d := range differentSamples(expected, read(other)) {
			t.Errorf("remote read of %s: %s", other, d)
		}
	}
}

// checkBlocks has promtool look at exported blocks.
func checkBlocks(t *testing.T, promtool, dir string, blocks int) {
	t.Helper()
	list := mustRun(t, dir, promtool, "tsdb", "list", dir)
	ids, err := filepath.Glob(filepath.Join(dir, "01*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(ids) != blocks || blocks < 10 {
		t.Errorf("%d directories of blocks, %d exported", len(ids), blocks)
	}
	for _, id := range ids {
		if !strings.Contains(list, filepath.Base(id)) {
			t.Errorf("promtool tsdb list lacks %s:\n%s", filepath.Base(id), list)
		}
	}
	if analysis := mustRun(t, dir, promtool, "tsdb", "analyze", dir); !strings.Contains(analysis, "Total Series: ") {
		t.Errorf("promtool tsdb analyze says\n%s", analysis)
	}
}

// field is a number in a line of name=value pairs.
func field(t *testing.T, line, name string) int {
	t.Helper()
	m := regexp.MustCompile(`(?:^|\s)` + name + `=(\d+)`).FindStringSubmatch(line)
	if m == nil {
		t.Fatalf("no %s in %q", name, line)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func stamp(at time.Time) string { return at.UTC().Format(time.RFC3339) }
