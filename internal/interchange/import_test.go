package interchange

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/tombstones"
)

// threeBlocks writes everyKind as a data directory: a block of a day and a half,
// and two of the rest.
func threeBlocks(t *testing.T) (dir string, blocks []string) {
	t.Helper()
	dir = t.TempDir()
	all := everyKind()
	return dir, []string{
		writeBlock(t, dir, noon-day, noon+hour, all),
		writeBlock(t, dir, noon+hour, noon+6*hour, all),
		writeBlock(t, dir, noon+6*hour, noon+3*day, all),
	}
}

func importAll(t *testing.T, cfg ImportConfig) ImportReport {
	t.Helper()
	report, err := Import(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestImportCarriesEverySampleExactly(t *testing.T) {
	dir, blocks := threeBlocks(t)
	want := readBlocks(t, math.MinInt64, math.MaxInt64, blocks)
	before := tree(t, dir)
	for _, c := range []struct{ batch, concurrency int }{{0, 0}, {1, 1}, {7, 4}, {130, 3}, {100_000, 8}} {
		r := &receiver{}
		report := importAll(t, ImportConfig{Endpoint: r.endpoint(), Paths: []string{dir}, BatchSamples: c.batch, Concurrency: c.concurrency})
		wantEqual(t, r.contents(t), want)
		if !r.inOrder() {
			t.Errorf("%+v: a sample overtook an older one of its series", c)
		}
		histograms := 0
		for _, samples := range want {
			for _, s := range samples {
				if strings.Contains(s, "hint") {
					histograms++
				}
			}
		}
		if report.Samples != uint64(want.samples()) || report.Histograms != uint64(histograms) || report.Series != uint64(len(want)) || report.Refused != 0 || report.Retries != 0 {
			t.Errorf("%+v: the report is %+v; want %d samples, %d histograms, %d series", c, report, want.samples(), histograms, len(want))
		}
		if report.Requests != uint64(r.requests) || report.Bytes == 0 || len(report.Blocks) != 3 {
			t.Errorf("%+v: the report is %+v; %d requests came", c, report, r.requests)
		}
		for _, size := range r.sizes {
			if batch := c.batch; batch > 0 && size > 2*batch {
				t.Errorf("%+v: a request has %d samples", c, size)
			}
		}
	}
	if after := tree(t, dir); !slices.Equal(before, after) {
		t.Errorf("the import changed the directory:\n%q\n%q", before, after)
	}
}

func TestImportLeavesOutWhatWasDeleted(t *testing.T) {
	dir, blocks := threeBlocks(t)
	b, err := tsdb.OpenBlock(nil, blocks[1], nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(t.Context(), noon+2*hour, noon+3*hour, labels.MustNewMatcher(labels.MatchRegexp, labels.MetricName, "[a-f].*")); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(blocks[1], tombstones.TombstonesFilename)); err != nil {
		t.Fatal(err)
	}
	// Behind a gap it is not known whether a counter was reset.
	r := &receiver{}
	importAll(t, ImportConfig{Endpoint: r.endpoint(), Paths: []string{dir}})
	wantEqual(t, unhinted(r.contents(t)), unhinted(readBlocks(t, math.MinInt64, math.MaxInt64, blocks)))
}

func TestImportCarriesWhatIsSelected(t *testing.T) {
	dir, blocks := threeBlocks(t)
	from, to := noon-2*hour, noon+7*hour
	r := &receiver{}
	report := importAll(t, ImportConfig{
		Endpoint: r.endpoint(), Paths: []string{dir},
		Selection: Selection{From: from, To: to, Match: []string{`{__name__=~"a_.*|b_odd"}`, `{job="x"}`, `d_native`}},
	})
	want := readBlocks(t, from, to-1, blocks, labels.MustNewMatcher(labels.MatchRegexp, labels.MetricName, "a_.*|b_odd|d_native"))
	if len(want) != 3 {
		t.Fatalf("%d series are selected", len(want))
	}
	wantEqual(t, r.contents(t), want)
	if report.Blocks[0].Series != 3 && report.Blocks[1].Series != 3 {
		t.Errorf("the report is %+v", report)
	}
}

func TestImportTakesSingleBlocks(t *testing.T) {
	_, blocks := threeBlocks(t)
	r := &receiver{}
	report := importAll(t, ImportConfig{Endpoint: r.endpoint(), Paths: []string{blocks[2], blocks[1], blocks[2]}})
	wantEqual(t, r.contents(t), readBlocks(t, math.MinInt64, math.MaxInt64, blocks[1:]))
	if len(report.Blocks) != 2 || report.Blocks[0].Dir != blocks[1] {
		t.Errorf("the blocks are %+v", report.Blocks)
	}
}

func TestImportSendsTenantAndPassword(t *testing.T) {
	_, blocks := threeBlocks(t)
	for header, want := range map[string]string{"": "X-Scope-OrgID", "X-Team": "X-Team"} {
		r := &receiver{}
		e := r.endpoint()
		e.URL.Path = "/prefix"
		r.answer = func(_ int, req *http.Request, w http.ResponseWriter) bool {
			req.URL.Path = strings.TrimPrefix(req.URL.Path, "/prefix")
			return false
		}
		e.Tenant, e.TenantHeader = "pear", header
		importAll(t, ImportConfig{Endpoint: e, Paths: blocks[1:2]})
		if got := r.header.Get(want); got != "pear" {
			t.Errorf("header %s is %q", want, got)
		}
		r.contents(t)
	}
}

func TestImportSaysWhatItWouldDo(t *testing.T) {
	dir, blocks := threeBlocks(t)
	r := &receiver{}
	state := filepath.Join(t.TempDir(), "state")
	report := importAll(t, ImportConfig{Endpoint: r.endpoint(), Paths: []string{dir}, StateFile: state, DryRun: true, Selection: Selection{From: noon + hour}})
	if r.requests != 0 {
		t.Errorf("%d requests were sent", r.requests)
	}
	if _, err := os.Stat(state); err == nil {
		t.Error("a state was written")
	}
	if len(report.Blocks) != 3 || !report.Blocks[0].Done || report.Blocks[0].Samples != 0 {
		t.Fatalf("the blocks are %+v", report.Blocks)
	}
	for i, b := range report.Blocks[1:] {
		if b.Dir != blocks[i+1] || b.Samples != uint64(readBlocks(t, math.MinInt64, math.MaxInt64, []string{b.Dir}).samples()) || b.Series == 0 || b.Done {
			t.Errorf("block %d is %+v", i+1, b)
		}
	}
}

// failing answers requests from the given one on with a code.
func failing(from, code int) func(int, *http.Request, http.ResponseWriter) bool {
	return func(n int, _ *http.Request, w http.ResponseWriter) bool {
		if n >= from {
			http.Error(w, "no more", code)
		}
		return n >= from
	}
}

// An import that was interrupted anywhere goes on, and in the end everything is
// there; what was acknowledged is not sent again but for little.
func TestImportGoesOnAfterAnInterruption(t *testing.T) {
	dir, blocks := threeBlocks(t)
	want := readBlocks(t, math.MinInt64, math.MaxInt64, blocks)
	const batch, concurrency = 60, 3
	whole := &receiver{}
	importAll(t, ImportConfig{Endpoint: whole.endpoint(), Paths: []string{dir}, BatchSamples: batch, Concurrency: concurrency})
	for from := 0; from < whole.requests; from += 3 {
		r := &receiver{answer: failing(from, http.StatusForbidden)}
		cfg := ImportConfig{
			Endpoint: r.endpoint(), Paths: []string{dir}, BatchSamples: batch, Concurrency: concurrency, StateFile: filepath.Join(t.TempDir(), "state"),
		}
		_, err := Import(t.Context(), cfg)
		if status := (*StatusError)(nil); !errors.As(err, &status) || status.Code != http.StatusForbidden {
			t.Fatalf("failing from request %d: %v", from, err)
		}
		first := min(r.requests, from)
		r.answer = nil
		importAll(t, cfg)
		wantEqual(t, r.contents(t), want)
		if again := first + r.requests - first - whole.requests; again > 3*concurrency {
			t.Errorf("failing from request %d: %d requests instead of %d", from, r.requests, whole.requests)
		}
		done := r.count()
		report := importAll(t, cfg)
		if r.requests != done || report.Samples != 0 || !report.Blocks[2].Done || report.Blocks[2].Earlier == 0 {
			t.Errorf("a third run sent %d requests: %+v", r.requests-done, report)
		}
	}
}

func TestImportGoesOnAfterACancel(t *testing.T) {
	dir, blocks := threeBlocks(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := &receiver{answer: func(n int, _ *http.Request, _ http.ResponseWriter) bool {
		if n == 9 {
			cancel()
		}
		return false
	}}
	cfg := ImportConfig{Endpoint: r.endpoint(), Paths: []string{dir}, BatchSamples: 100, StateFile: filepath.Join(t.TempDir(), "state")}
	report, err := Import(ctx, cfg)
	if !errors.Is(err, context.Canceled) || report.Samples == 0 {
		t.Fatalf("after a cancel: %v, %+v", err, report)
	}
	importAll(t, cfg)
	wantEqual(t, r.contents(t), readBlocks(t, math.MinInt64, math.MaxInt64, blocks))
}

// Other servers, tenants and selections are other imports.
func TestImportRemembersForWhomItWas(t *testing.T) {
	_, blocks := threeBlocks(t)
	r := &receiver{}
	cfg := ImportConfig{Endpoint: r.endpoint(), Paths: blocks[1:2], StateFile: filepath.Join(t.TempDir(), "state")}
	importAll(t, cfg)
	for name, change := range map[string]func(c *ImportConfig){
		"another server":    func(c *ImportConfig) { c.Endpoint.URL.Host = "other" },
		"another tenant":    func(c *ImportConfig) { c.Endpoint.Tenant = "plum" },
		"another range":     func(c *ImportConfig) { c.Selection.From = noon },
		"another selection": func(c *ImportConfig) { c.Selection.Match = []string{"a_counter"} },
	} {
		other := cfg
		other.Endpoint = r.endpoint()
		change(&other)
		if report := importAll(t, other); report.Samples == 0 {
			t.Errorf("%s: nothing was sent", name)
		}
	}
	cfg.Endpoint.URL.Path = "/" // the same
	if report := importAll(t, cfg); report.Samples != 0 {
		t.Error("the first import was forgotten")
	}
}

func TestImportWaitsAsItIsTold(t *testing.T) {
	_, blocks := threeBlocks(t)
	want := readBlocks(t, math.MinInt64, math.MaxInt64, blocks[1:2])
	for name, c := range map[string]struct {
		code        int
		after       string
		least, most time.Duration
	}{
		"503 with seconds":    {http.StatusServiceUnavailable, "7", 7 * time.Second, 7 * time.Second},
		"429 with seconds":    {http.StatusTooManyRequests, "20", 20 * time.Second, 20 * time.Second},
		"503 with a date":     {http.StatusServiceUnavailable, "date", 30 * time.Second, 31 * time.Second},
		"503 without":         {http.StatusServiceUnavailable, "", firstPause / 2, firstPause},
		"500":                 {http.StatusInternalServerError, "", firstPause / 2, firstPause},
		"429 with nonsense":   {http.StatusTooManyRequests, "soon", firstPause / 2, firstPause},
		"503 with far future": {http.StatusServiceUnavailable, "99999", mostRetryAfter, mostRetryAfter},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &receiver{}
				r.answer = func(n int, _ *http.Request, w http.ResponseWriter) bool {
					if n != 2 {
						return false
					}
					after := c.after
					if after == "date" {
						after = time.Now().Add(31 * time.Second).UTC().Format(http.TimeFormat)
					}
					w.Header().Set("Retry-After", after)
					http.Error(w, "later", c.code)
					return true
				}
				start := time.Now()
				report := importAll(t, ImportConfig{Endpoint: r.endpoint(), Paths: blocks[1:2], BatchSamples: 50, Concurrency: 1})
				if took := time.Since(start); took < c.least || took > c.most {
					t.Errorf("it waited %s, want %s to %s", took, c.least, c.most)
				}
				if report.Retries != 1 {
					t.Errorf("%d retries", report.Retries)
				}
				wantEqual(t, r.contents(t), want)
			})
		})
	}
}

func TestImportGivesUpOnAServerThatStaysAway(t *testing.T) {
	_, blocks := threeBlocks(t)
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{answer: failing(3, http.StatusServiceUnavailable)}
		start := time.Now()
		_, err := Import(t.Context(), ImportConfig{Endpoint: r.endpoint(), Paths: blocks[1:2], BatchSamples: 50, Patience: 2 * time.Minute})
		if took := time.Since(start); took < time.Minute || took > 2*time.Minute {
			t.Errorf("it gave up after %s", took)
		}
		if err == nil || !strings.Contains(err.Error(), "gave up") || !strings.Contains(err.Error(), "no more") {
			t.Errorf("the error is %v", err)
		}
	})
}

func TestImportStopsAtARefusal(t *testing.T) {
	_, blocks := threeBlocks(t)
	r := &receiver{refuse: func(series string, _ int64) bool { return strings.Contains(series, "d_native") }}
	report, err := Import(t.Context(), ImportConfig{Endpoint: r.endpoint(), Paths: blocks[1:2], BatchSamples: 100})
	if err == nil || !strings.Contains(err.Error(), "out of bounds: {__name__=\"d_native\"}") || !strings.Contains(err.Error(), filepath.Base(blocks[1])) ||
		!strings.Contains(err.Error(), "--continue-on-error") {
		t.Errorf("the error is %v", err)
	}
	if report.Refused == 0 || report.Samples == 0 {
		t.Errorf("the report is %+v", report)
	}
}

func TestImportPassesOverRefusalsIfToldSo(t *testing.T) {
	dir, blocks := threeBlocks(t)
	r := &receiver{refuse: func(series string, _ int64) bool { return strings.Contains(series, "d_native") }}
	cfg := ImportConfig{Endpoint: r.endpoint(), Paths: []string{dir}, BatchSamples: 10, ContinueOnError: true, StateFile: filepath.Join(t.TempDir(), "state")}
	report := importAll(t, cfg)
	want := readBlocks(t, math.MinInt64, math.MaxInt64, blocks)
	refused := len(want[`{__name__="d_native"}`])
	delete(want, `{__name__="d_native"}`)
	wantEqual(t, r.contents(t), want)
	if report.Refused != uint64(refused) || report.Samples != uint64(want.samples()) || len(report.Refusals) != refusalsListed {
		t.Errorf("%d refused, %d written, %d listed; want %d, %d, %d", report.Refused, report.Samples, len(report.Refusals), refused, want.samples(), refusalsListed)
	}
	if again := importAll(t, cfg); again.Requests != 0 {
		t.Error("what was refused is sent again")
	}
}

func TestImportNamesWhatIsWrongWithTheServer(t *testing.T) {
	_, blocks := threeBlocks(t)
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter)
		says   string
	}{
		"not found":       {func(w http.ResponseWriter) { http.Error(w, "what?", http.StatusNotFound) }, "without /api/v1/..."},
		"no login":        {func(w http.ResponseWriter) { http.Error(w, "who?", http.StatusUnauthorized) }, "USER:PASSWORD"},
		"too large":       {func(w http.ResponseWriter) { http.Error(w, "big", http.StatusRequestEntityTooLarge) }, "--batch-samples"},
		"version 1 alone": {func(w http.ResponseWriter) { http.Error(w, "v1", http.StatusUnsupportedMediaType) }, "remote write 2.0"},
		"no counts":       {func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) }, "does not speak remote write 2.0"},
		"wrong counts": {func(w http.ResponseWriter) {
			w.Header().Set(headerFloats, "1")
			w.WriteHeader(http.StatusOK)
		}, "says that it wrote"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &receiver{answer: func(_ int, _ *http.Request, w http.ResponseWriter) bool {
				c.answer(w)
				return true
			}}
			_, err := Import(t.Context(), ImportConfig{Endpoint: r.endpoint(), Paths: blocks[1:2]})
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "http://receiver") {
				t.Errorf("the error is %v, want %q", err, c.says)
			}
		})
	}
}

func TestImportSaysWhatItLeavesOut(t *testing.T) {
	dir, blocks := threeBlocks(t)
	for _, name := range []string{"wal", "chunks_head", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "lost+found", "01ARZ3NDEKTSV4RRFFQ69G5FAW.tmp-for-creation"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	// The third block says that it was compacted from the second.
	path := filepath.Join(blocks[2], metaFile)
	meta, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	parent := `"compaction": {"parents": [{"ulid": "` + filepath.Base(blocks[1]) + `", "minTime": 1, "maxTime": 2}],`
	if err := os.WriteFile(path, bytes.Replace(meta, []byte(`"compaction": {`), []byte(parent), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	r := &receiver{}
	report := importAll(t, ImportConfig{Endpoint: r.endpoint(), Paths: []string{dir}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for _, want := range []string{"the head is not read", "01ARZ3NDEKTSV4RRFFQ69G5FAV", filepath.Base(blocks[1])} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("nothing is said of %s:\n%s", want, &log)
		}
	}
	if len(report.Blocks) != 2 {
		t.Errorf("the blocks are %+v", report.Blocks)
	}
}

func TestImportRefusesWhatItCannotRead(t *testing.T) {
	dir, blocks := threeBlocks(t)
	r := &receiver{}
	for name, c := range map[string]struct {
		change func(*ImportConfig)
		says   string
	}{
		"no path":            {func(c *ImportConfig) { c.Paths = nil }, "no path"},
		"no such path":       {func(c *ImportConfig) { c.Paths = []string{dir + "x"} }, "no such file"},
		"no blocks":          {func(c *ImportConfig) { c.Paths = []string{t.TempDir()} }, "neither a TSDB block nor"},
		"no URL":             {func(c *ImportConfig) { c.Endpoint.URL = nil }, "want http://HOST:PORT"},
		"a bad selector":     {func(c *ImportConfig) { c.Selection.Match = []string{"{"} }, `selector "{"`},
		"an empty range":     {func(c *ImportConfig) { c.Selection.From, c.Selection.To = noon, noon }, "is empty"},
		"a negative batch":   {func(c *ImportConfig) { c.BatchSamples = -1 }, "negative"},
		"a state of nobody":  {func(c *ImportConfig) { c.StateFile = filepath.Join(blocks[0], "index") }, "state file"},
		"an unwritable path": {func(c *ImportConfig) { c.StateFile = filepath.Join(dir, "nowhere", "state") }, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := ImportConfig{Endpoint: r.endpoint(), Paths: []string{dir}}
			c.change(&cfg)
			if _, err := Import(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %q", err, c.says)
			}
			if r.count() != 0 {
				t.Error("something was sent")
			}
		})
	}
}

func TestProgressEndsAtAll(t *testing.T) {
	dir, _ := threeBlocks(t)
	r := &receiver{}
	var done, total uint64
	importAll(t, ImportConfig{
		Endpoint: r.endpoint(), Paths: []string{dir}, BatchSamples: 50, Selection: Selection{Match: []string{`a_counter`}},
		Progress: func(d, all uint64) {
			if d < done || d > all {
				t.Errorf("%d of %d after %d of %d", d, all, done, total)
			}
			done, total = d, all
		},
	})
	if done != total || total == 0 {
		t.Errorf("it ends with %d of %d", done, total)
	}
}

func FuzzImportState(f *testing.F) {
	s := &importState{Version: importStateVersion}
	r := s.record(&Endpoint{URL: (&receiver{}).endpoint().URL, Tenant: "pear"}, &Selection{From: 1, Match: []string{"up"}})
	r.Blocks["01ARZ3NDEKTSV4RRFFQ69G5FAV"] = blockState{Slice: 3 * sliceSpan, Series: 17, Samples: 400}
	r.Blocks["01ARZ3NDEKTSV4RRFFQ69G5FAW"] = blockState{Done: true, Samples: 9}
	data, err := s.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"version":1,"imports":[null]}`))
	f.Add([]byte(`{"version":1,"imports":[{"blocks":{"x":{}}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := decodeImportState(data)
		if err != nil {
			return
		}
		s.record(&Endpoint{URL: (&receiver{}).endpoint().URL}, &Selection{}).Blocks["01ARZ3NDEKTSV4RRFFQ69G5FAV"] = blockState{}
		data, err = s.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeImportState(data); err != nil {
			t.Errorf("%s: %v", data, err)
		}
	})
}
