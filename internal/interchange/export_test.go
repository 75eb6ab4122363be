package interchange

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

// reader is a server that Prometheus' own handler of remote read answers for,
// from blocks. Its client reaches it without a network.
type reader struct {
	handler http.Handler
	// answer, if set, answers request n (from 0) in another way; false does not.
	answer func(n int, r *http.Request, w http.ResponseWriter) bool

	mu       sync.Mutex
	requests int
	header   http.Header
}

// RoundTrip implements http.RoundTripper.
func (r *reader) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	r.mu.Lock()
	n := r.requests
	r.requests++
	r.header = req.Header.Clone()
	r.mu.Unlock()
	w := httptest.NewRecorder()
	if r.answer == nil || !r.answer(n, req, w) {
		r.handler.ServeHTTP(w, req)
	}
	return w.Result(), nil
}

func (r *reader) endpoint() Endpoint {
	return Endpoint{URL: &url.URL{Scheme: "http", Host: "reader"}, Client: &http.Client{Transport: r}}
}

// blockStorage reads blocks.
type blockStorage struct {
	storage.SampleAndChunkQueryable
	blocks []*tsdb.Block
}

func (s blockStorage) ChunkQuerier(mint, maxt int64) (storage.ChunkQuerier, error) {
	var all []storage.ChunkQuerier
	for _, b := range s.blocks {
		q, err := tsdb.NewBlockChunkQuerier(b, mint, maxt)
		if err != nil {
			return nil, err
		}
		all = append(all, q)
	}
	return storage.NewMergeChunkQuerier(all, nil, storage.NewCompactingChunkSeriesMerger(storage.ChainedSeriesMerge)), nil
}

// serveBlocks serves blocks by remote read.
func serveBlocks(t testing.TB, dirs []string) *reader {
	t.Helper()
	var s blockStorage
	for _, dir := range dirs {
		b, err := tsdb.OpenBlock(nil, dir, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		s.blocks = append(s.blocks, b)
	}
	// Frames so small that most series take several.
	return &reader{handler: remote.NewReadHandler(slog.New(slog.DiscardHandler), nil, s, func() config.Config { return config.Config{} }, 1e9, 4, 700)}
}

func exportAll(t *testing.T, cfg ExportConfig) ExportReport {
	t.Helper()
	report, err := Export(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// blocksIn lists the blocks in a directory in order of time.
func blocksIn(t *testing.T, dir string) (dirs []string, metas []tsdb.BlockMeta) {
	t.Helper()
	blocks, err := findBlocks([]string{dir}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks {
		dirs, metas = append(dirs, b.dir), append(metas, b.meta)
	}
	return dirs, metas
}

func TestExportWritesEverySampleExactly(t *testing.T) {
	_, source := threeBlocks(t)
	for _, span := range []time.Duration{0, 24 * time.Hour, 9*time.Hour + 17*time.Minute} {
		r := serveBlocks(t, source)
		dir := filepath.Join(t.TempDir(), "out", "put")
		from, to := noon-5*hour+minute, noon+7*hour-1
		report := exportAll(t, ExportConfig{Endpoint: r.endpoint(), From: from, To: to, BlockSpan: span, Dir: dir})
		got, metas := blocksIn(t, dir)
		// A chunk that a block's border cuts says less of resets.
		want := readBlocks(t, from, to-1, source)
		wantEqual(t, unhinted(readBlocks(t, math.MinInt64, math.MaxInt64, got)), unhinted(want))
		if report.Blocks != len(got) || report.Samples != uint64(want.samples()) || report.Histograms == 0 || report.Bytes == 0 || report.Series == 0 || report.Retries != 0 {
			t.Errorf("span %s: the report is %+v; want %d blocks, %d samples", span, report, len(got), want.samples())
		}
		if span == 0 {
			span = 2 * time.Hour
		}
		for _, m := range metas {
			ms := span.Milliseconds()
			if m.MinTime/ms != (m.MaxTime-1)/ms || m.MinTime != from && m.MinTime%ms != 0 || m.MaxTime != to && m.MaxTime%ms != 0 {
				t.Errorf("span %s: a block covers [%d, %d)", span, m.MinTime, m.MaxTime)
			}
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*spool*")); len(left) != 0 {
			t.Errorf("span %s: left behind: %q", span, left)
		}
	}
}

// A whole block comes back whole, with its hints.
func TestExportChangesNothingWhereNothingIsCut(t *testing.T) {
	dir := t.TempDir()
	start := sliceStart(noon)
	source := []string{writeBlock(t, dir, start, start+day, everyKind())}
	r := serveBlocks(t, source)
	out := t.TempDir()
	exportAll(t, ExportConfig{Endpoint: r.endpoint(), From: start, To: start + day, BlockSpan: 24 * time.Hour, Dir: out})
	got, _ := blocksIn(t, out)
	wantEqual(t, readBlocks(t, math.MinInt64, math.MaxInt64, got), readBlocks(t, math.MinInt64, math.MaxInt64, source))
}

func TestExportSelectsAndNamesTheTenant(t *testing.T) {
	_, source := threeBlocks(t)
	r := serveBlocks(t, source)
	e := r.endpoint()
	e.Tenant = "pear"
	dir := t.TempDir()
	exportAll(t, ExportConfig{Endpoint: e, From: noon, To: noon + 6*hour, Match: `{job=~"x|y"}`, BlockSpan: 6 * time.Hour, Dir: dir})
	got, _ := blocksIn(t, dir)
	want := readBlocks(t, noon, noon+6*hour-1, source, labels.MustNewMatcher(labels.MatchEqual, "job", "x"))
	wantEqual(t, readBlocks(t, math.MinInt64, math.MaxInt64, got), want)
	if r.header.Get("X-Scope-OrgID") != "pear" {
		t.Errorf("the headers are %v", r.header)
	}
}

func TestExportGoesOnAfterAnInterruption(t *testing.T) {
	_, source := threeBlocks(t)
	from, to := noon-4*hour, noon+8*hour // 6 windows
	want := unhinted(readBlocks(t, from, to-1, source))
	for _, at := range []int{0, 1, 3, 5} {
		r := serveBlocks(t, source)
		cfg := ExportConfig{Endpoint: r.endpoint(), From: from, To: to, Dir: t.TempDir()}
		r.answer = failing(at, http.StatusForbidden)
		report, err := Export(t.Context(), cfg)
		if status := (*StatusError)(nil); !errors.As(err, &status) || report.Blocks != at {
			t.Fatalf("failing from request %d: %v, %+v", at, err, report)
		}
		// What a kill in the middle of a block leaves.
		cut := filepath.Join(cfg.Dir, "01ARZ3NDEKTSV4RRFFQ69G5FAV"+unfinishedSuffix)
		if err := os.MkdirAll(filepath.Join(cut, "chunks"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(cfg.Dir, spoolFile), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		r.answer = nil
		report = exportAll(t, cfg)
		if report.Earlier != at || report.Blocks != 6-at || r.requests != 7 {
			t.Errorf("failing from request %d: %d requests, then %+v", at, r.requests, report)
		}
		got, _ := blocksIn(t, cfg.Dir)
		wantEqual(t, unhinted(readBlocks(t, math.MinInt64, math.MaxInt64, got)), want)
		if _, err := os.Stat(cut); err == nil {
			t.Error("the partial block is still there")
		}
	}
}

// The state is one of two files' worth of truth: blocks and it may differ by one
// after a kill, and by more after a user.
func TestExportMakesStateAndBlocksAgree(t *testing.T) {
	_, source := threeBlocks(t)
	r := serveBlocks(t, source)
	cfg := ExportConfig{Endpoint: r.endpoint(), From: noon - 2*hour, To: noon + 4*hour, Dir: t.TempDir()}
	exportAll(t, cfg)
	blocks, _ := blocksIn(t, cfg.Dir)
	want := readBlocks(t, math.MinInt64, math.MaxInt64, blocks)

	// The block was written and not noted.
	state := newExportState(&ExportConfig{Endpoint: cfg.Endpoint, From: cfg.From, To: cfg.To, Match: everything, BlockSpan: 2 * time.Hour})
	state.Windows[noon-2*hour] = filepath.Base(blocks[0])
	if err := state.save(cfg.Dir); err != nil {
		t.Fatal(err)
	}
	if report := exportAll(t, cfg); report.Blocks != 0 || report.Earlier != 3 {
		t.Errorf("with blocks that are not noted: %+v", report)
	}
	// A block that is noted is gone.
	if err := os.RemoveAll(blocks[1]); err != nil {
		t.Fatal(err)
	}
	if report := exportAll(t, cfg); report.Blocks != 1 || report.Earlier != 2 {
		t.Errorf("with a block gone: %+v", report)
	}
	blocks, _ = blocksIn(t, cfg.Dir)
	wantEqual(t, readBlocks(t, math.MinInt64, math.MaxInt64, blocks), want)
}

func TestExportPassesOverTimesWithoutSamples(t *testing.T) {
	_, source := threeBlocks(t)
	r := serveBlocks(t, source)
	cfg := ExportConfig{Endpoint: r.endpoint(), From: noon - 30*day, To: noon - 29*day, BlockSpan: 6 * time.Hour, Dir: t.TempDir()}
	windows := len(windowsOf(cfg.From, cfg.To, 6*hour))
	if report := exportAll(t, cfg); report.Blocks != 0 || report.Empty != windows {
		t.Errorf("the report is %+v, want %d empty windows", report, windows)
	}
	if report := exportAll(t, cfg); report.Earlier != windows || r.requests != windows {
		t.Errorf("asked again: %+v", report)
	}
}

// cutting serves a stream that breaks off after some bytes, as a server does that
// dies or runs into an error.
func cutting(r *reader, req *http.Request, w http.ResponseWriter, bytes int, tail string) {
	whole := httptest.NewRecorder()
	r.handler.ServeHTTP(whole, req)
	w.Header().Set("Content-Type", whole.Header().Get("Content-Type"))
	_, _ = w.Write(whole.Body.Bytes()[:min(bytes, whole.Body.Len())])
	_, _ = io.WriteString(w, tail)
}

func TestExportReadsABrokenStreamAgain(t *testing.T) {
	_, source := threeBlocks(t)
	want := readBlocks(t, noon, noon+2*hour-1, source)
	for name, c := range map[string]struct {
		bytes int
		tail  string
	}{
		"in a frame":              {1000, ""},
		"in a frame's length":     {0, "\xff"},
		"behind a frame's length": {0, "\x05"},
		"behind a checksum":       {0, "\x05abcd"},
		"by an error's text":      {1 << 20, "set 7 is not available\n"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				r := serveBlocks(t, source)
				r.answer = func(n int, req *http.Request, w http.ResponseWriter) bool {
					switch n {
					case 0, 1:
						cutting(r, req, w, c.bytes, c.tail)
					case 2:
						http.Error(w, "later", http.StatusServiceUnavailable)
					default:
						return false
					}
					return true
				}
				report := exportAll(t, ExportConfig{Endpoint: r.endpoint(), From: noon, To: noon + 2*hour, Dir: dir})
				if report.Retries != 3 {
					t.Errorf("the report is %+v", report)
				}
			})
			got, _ := blocksIn(t, dir)
			wantEqual(t, unhinted(readBlocks(t, math.MinInt64, math.MaxInt64, got)), unhinted(want))
		})
	}
}

// stream is an answer made of series.
func stream(t *testing.T, w http.ResponseWriter, all ...*prompb.ChunkedSeries) {
	t.Helper()
	w.Header().Set("Content-Type", "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse")
	out := remote.NewChunkedWriter(w, w.(http.Flusher))
	for _, s := range all {
		frame, err := (&prompb.ChunkedReadResponse{ChunkedSeries: []*prompb.ChunkedSeries{s}}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write(frame); err != nil {
			t.Fatal(err)
		}
	}
}

func chunked(t *testing.T, name string, parts ...[]sample) *prompb.ChunkedSeries {
	t.Helper()
	s := &prompb.ChunkedSeries{Labels: []prompb.Label{{Name: labels.MetricName, Value: name}}}
	for _, samples := range parts {
		for _, c := range encode(t, samples) {
			s.Chunks = append(s.Chunks, prompb.Chunk{
				MinTimeMs: c.MinTime, MaxTimeMs: c.MaxTime, Type: prompb.Chunk_Encoding(c.Chunk.Encoding()), Data: c.Chunk.Bytes(),
			})
		}
	}
	return s
}

// A server may send chunks that overlap, of parts that it keeps apart. A block
// may not.
func TestExportJoinsChunksThatOverlap(t *testing.T) {
	v := func(i int) float64 { return float64(i) }
	r := &reader{handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		stream(t, w, chunked(t, "a", floats(noon+minute, 2*minute, 30, v), floats(noon, 2*minute, 30, v)),
			chunked(t, "a", floats(noon+10*minute, minute, 5, v)), chunked(t, "b", floats(noon-hour, minute, 300, v)))
	})}
	dir := t.TempDir()
	report := exportAll(t, ExportConfig{Endpoint: r.endpoint(), From: noon, To: noon + 2*hour, Dir: dir})
	dirs, _ := blocksIn(t, dir)
	got := readBlocks(t, math.MinInt64, math.MaxInt64, dirs)
	if a, b := got[`{__name__="a"}`], got[`{__name__="b"}`]; len(a) != 60 || len(b) != 120 || !slices.IsSorted(a) {
		t.Errorf("%d and %d samples; want 60 and, cut to the window, 120", len(a), len(b))
	}
	if report.Samples != 180 {
		t.Errorf("the report is %+v", report)
	}
	b, err := tsdb.OpenBlock(nil, dirs[0], nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	q, err := tsdb.NewBlockChunkQuerier(b, math.MinInt64, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	for set := q.Select(t.Context(), true, nil, labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, "a")); set.Next(); {
		var all []chunks.Meta
		for it := set.At().Iterator(nil); it.Next(); {
			all = append(all, it.At())
		}
		if !disjoint(all) {
			t.Error("chunks of the block overlap")
		}
	}
}

// A server's own chunks may be short. Those of a block should not be.
func TestExportJoinsShortChunks(t *testing.T) {
	bits := odd()
	samples := floats(noon, 15_000, 480, func(i int) float64 { return bits[i%len(bits)] })
	for i := range samples[200:] {
		samples[200+i].st = noon - 1
	}
	var parts [][]sample
	for part := range slices.Chunk(samples, 16) {
		parts = append(parts, part)
	}
	hist := everyKind()[4] // its chunks stay as they are
	r := &reader{handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		stream(t, w, chunked(t, "a", parts...), chunked(t, "b", hist.samples[:200]))
	})}
	dir := t.TempDir()
	exportAll(t, ExportConfig{Endpoint: r.endpoint(), From: noon - day, To: noon + day, BlockSpan: 1000 * time.Hour, Dir: dir})
	dirs, metas := blocksIn(t, dir)
	got := readBlocks(t, math.MinInt64, math.MaxInt64, dirs)
	var want []string
	for _, s := range samples {
		want = append(want, textOf(s))
	}
	wantEqual(t, contents{"a": got[`{__name__="a"}`]}, contents{"a": want})
	if histograms := uint64(len(encode(t, hist.samples[:200]))); metas[0].Stats.NumChunks > histograms+6 {
		t.Errorf("the block has %d chunks, %d of them of histograms", metas[0].Stats.NumChunks, histograms)
	}
}

func TestExportNamesWhatIsWrongWithTheServer(t *testing.T) {
	one := func(i int) float64 { return float64(i) }
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter)
		says   string
	}{
		"not found":   {func(w http.ResponseWriter) { http.Error(w, "what?", http.StatusNotFound) }, "without /api/v1/..."},
		"bad request": {func(w http.ResponseWriter) { http.Error(w, "no such matcher", http.StatusBadRequest) }, "no such matcher"},
		"no stream":   {func(w http.ResponseWriter) { w.Header().Set("Content-Type", "application/x-protobuf") }, "not with a stream"},
		"disorder": {func(w http.ResponseWriter) {
			stream(t, w, chunked(t, "b", floats(noon, 1, 1, one)), chunked(t, "a", floats(noon, 1, 1, one)))
		}, "not the order of labels"},
		"unknown encoding": {func(w http.ResponseWriter) { stream(t, w, &prompb.ChunkedSeries{Chunks: []prompb.Chunk{{Type: 99}}}) }, "invalid chunk encoding"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &reader{handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { c.answer(w) })}
			dir := t.TempDir()
			_, err := Export(t.Context(), ExportConfig{Endpoint: r.endpoint(), From: noon, To: noon + hour, Dir: dir})
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "http://reader") {
				t.Errorf("the error is %v, want %q", err, c.says)
			}
			if r.requests != 1 {
				t.Errorf("it was asked %d times", r.requests)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func TestExportGivesUpOnAStalledStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := Endpoint{URL: &url.URL{Scheme: "http", Host: "reader"}, Client: &http.Client{Transport: stalled{}}}
		_, err := Export(t.Context(), ExportConfig{Endpoint: e, From: noon, To: noon + hour, Dir: t.TempDir(), Patience: time.Minute})
		if err == nil || !strings.Contains(err.Error(), "has sent nothing") {
			t.Errorf("the error is %v", err)
		}
	})
}

// stalled is a server that never answers.
type stalled struct{}

func (stalled) RoundTrip(req *http.Request) (*http.Response, error) {
	<-req.Context().Done()
	return nil, req.Context().Err()
}

func TestExportStopsWhenItIsTold(t *testing.T) {
	_, source := threeBlocks(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := serveBlocks(t, source)
	r.answer = func(n int, _ *http.Request, _ http.ResponseWriter) bool {
		if n == 2 {
			cancel()
		}
		return false
	}
	if _, err := Export(ctx, ExportConfig{Endpoint: r.endpoint(), From: noon, To: noon + 12*hour, Dir: t.TempDir()}); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
}

func TestExportRefusesWhatItCannotWrite(t *testing.T) {
	_, source := threeBlocks(t)
	r := serveBlocks(t, source)
	used := t.TempDir()
	good := ExportConfig{Endpoint: r.endpoint(), From: noon, To: noon + hour, Dir: used}
	exportAll(t, good)
	asked := r.requests
	for name, c := range map[string]struct {
		change func(*ExportConfig)
		says   string
	}{
		"no directory":      {func(c *ExportConfig) { c.Dir = "" }, "no output directory"},
		"a foreign one":     {func(c *ExportConfig) { c.Dir = filepath.Dir(source[0]) }, "no export of ours"},
		"another selection": {func(c *ExportConfig) { c.Match = "up" }, "another directory"},
		"another tenant":    {func(c *ExportConfig) { c.Endpoint.Tenant = "plum" }, "another directory"},
		"another range":     {func(c *ExportConfig) { c.To++ }, "another directory"},
		"an empty range":    {func(c *ExportConfig) { c.To = c.From }, "is empty"},
		"a tiny span":       {func(c *ExportConfig) { c.BlockSpan = time.Second }, "at least a minute"},
		"a bad selector":    {func(c *ExportConfig) { c.Match = "{" }, `selector "{"`},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			c.change(&cfg)
			if _, err := Export(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %q", err, c.says)
			}
			if r.requests != asked {
				t.Error("the server was asked")
			}
		})
	}
}

func TestWindowsStartAtMultiplesOfTheirSpan(t *testing.T) {
	for _, c := range []struct {
		from, to, span int64
		want           []window
	}{
		{0, 10, 5, []window{{0, 5}, {5, 10}}},
		{3, 12, 5, []window{{3, 5}, {5, 10}, {10, 12}}},
		{6, 7, 5, []window{{6, 7}}},
		{-7, 3, 5, []window{{-7, -5}, {-5, 0}, {0, 3}}},
		{5, 5, 5, nil},
	} {
		if got := windowsOf(c.from, c.to, c.span); !slices.Equal(got, c.want) {
			t.Errorf("[%d, %d) by %d: %v, want %v", c.from, c.to, c.span, got, c.want)
		}
	}
}

func FuzzExportState(f *testing.F) {
	f.Add([]byte(`{"version":1,"url":"http://x","match":"up","from":1,"to":2,"span_ms":3,"windows":{"0":"01ARZ3NDEKTSV4RRFFQ69G5FAV","5":""}}`))
	f.Add([]byte(`{"version":1,"windows":{"0":"../x"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := decodeExportState(data)
		if err != nil {
			return
		}
		s.Windows[7] = ""
		for _, id := range s.Windows {
			if strings.ContainsAny(id, "/.") {
				t.Errorf("%q names another place", id)
			}
		}
	})
}

// FuzzStream reads arbitrary bytes as an answer.
func FuzzStream(f *testing.F) {
	w := httptest.NewRecorder()
	chunk := chunkenc.NewXORChunk()
	frame, err := (&prompb.ChunkedReadResponse{ChunkedSeries: []*prompb.ChunkedSeries{{
		Labels: []prompb.Label{{Name: "a", Value: "b"}}, Chunks: []prompb.Chunk{{Type: prompb.Chunk_XOR, Data: chunk.Bytes()}},
	}}}).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	if _, err := remote.NewChunkedWriter(w, w).Write(frame); err != nil {
		f.Fatal(err)
	}
	f.Add(w.Body.Bytes())
	f.Add([]byte("\x05abcd"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := &reader{handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", streamedType)
			_, _ = io.Copy(w, bytes.NewReader(data))
		})}
		e := r.endpoint()
		s, err := createSpool(filepath.Join(t.TempDir(), "spool"), 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := s.remove(); err != nil {
				t.Error(err)
			}
		}()
		err = streamSeries(t.Context(), &e, e.Client, 0, 1, nil, s.add)
		if len(data) == 0 && err != nil {
			t.Errorf("an empty stream: %v", err)
		}
		_ = fmt.Sprint(err)
	})
}
