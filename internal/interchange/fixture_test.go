package interchange

import (
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noon is a time in the middle of a slice.
const noon = int64(20_000*24+12) * 3600_000

const (
	minute = int64(60_000)
	hour   = 60 * minute
	day    = 24 * hour
)

// sample is one sample of a fixture: a float unless it has a histogram.
type sample struct {
	t, st int64
	v     float64
	h     *histogram.Histogram
	fh    *histogram.FloatHistogram
}

func (s sample) kind() chunkenc.ValueType {
	switch {
	case s.h != nil:
		return chunkenc.ValHistogram
	case s.fh != nil:
		return chunkenc.ValFloatHistogram
	}
	return chunkenc.ValFloat
}

type series struct {
	labels  labels.Labels
	samples []sample
}

// floats are n samples from start on.
func floats(start, step int64, n int, v func(i int) float64) []sample {
	s := make([]sample, n)
	for i := range s {
		s[i] = sample{t: start + int64(i)*step, v: v(i)}
	}
	return s
}

// odd are floats that a careless copy would change.
func odd() []float64 {
	return []float64{
		math.Float64frombits(value.StaleNaN), math.Float64frombits(value.NormalNaN), math.Float64frombits(0x7ff8dead0000beef),
		math.Float64frombits(0xfff0000000000001), math.Inf(1), math.Inf(-1), math.Copysign(0, -1), 0,
		math.SmallestNonzeroFloat64, math.MaxFloat64, 1.0 / 3, 1 << 53,
	}
}

// everyKind are series with all that a block can hold, over three days.
func everyKind() []series {
	name := func(n string, more ...string) labels.Labels {
		return labels.FromStrings(append([]string{labels.MetricName, n}, more...)...)
	}
	bits := odd()
	stale := math.Float64frombits(value.StaleNaN)
	integer := func(i int) *histogram.Histogram {
		return &histogram.Histogram{
			Schema: 3, ZeroThreshold: 1e-128, ZeroCount: uint64(i), Count: uint64(10 + 6*i), Sum: float64(i) * 1.1,
			PositiveSpans: []histogram.Span{{Offset: -2, Length: 2}, {Offset: 5, Length: 1}}, PositiveBuckets: []int64{int64(3 + i), 1, -2},
			NegativeSpans: []histogram.Span{{Offset: 1, Length: 1}}, NegativeBuckets: []int64{int64(i + 1)},
		}
	}
	custom := func(i int) *histogram.Histogram {
		return &histogram.Histogram{
			Schema: histogram.CustomBucketsSchema, Count: uint64(4 + 3*i), Sum: float64(i),
			PositiveSpans: []histogram.Span{{Offset: 0, Length: 3}}, PositiveBuckets: []int64{int64(1 + i), 0, 0}, CustomValues: []float64{0.1, 1, 10},
		}
	}
	all := []series{
		{name("a_counter", "job", "x"), floats(noon-day, 3*minute, 1100, func(i int) float64 { return float64(i) * 1.5 })},
		{name("b_odd"), floats(noon, minute, 5*len(bits), func(i int) float64 { return bits[i%len(bits)] })},
		{name("c_started"), floats(noon, minute, 90, func(i int) float64 { return float64(i) })},
		{name("größe", "maß.einheit", "ö"), floats(noon, hour, 3, func(i int) float64 { return float64(i) })},
	}
	for i := range all[2].samples {
		all[2].samples[i].st = noon - int64(1+i/30)*minute
	}
	hist := series{labels: name("d_native")}
	gauge := series{labels: name("e_gauge_histogram")}
	float := series{labels: name("f_float_histogram")}
	nhcb := series{labels: name("g_custom_buckets")}
	mixed := series{labels: name("h_mixed")}
	// A sum of -0, as of observations of -0 alone.
	gauge.samples = append(gauge.samples, sample{t: noon - 7*hour, h: &histogram.Histogram{
		CounterResetHint: histogram.GaugeType, Schema: 3, Sum: math.Copysign(0, -1), Count: 1, ZeroCount: 1, ZeroThreshold: 1e-128,
	}})
	for i := range 300 {
		t := noon - 6*hour + int64(i)*5*minute
		h := integer(i % 100) // starts anew twice
		hist.samples = append(hist.samples, sample{t: t, h: h, st: noon - day})
		g := integer((i * 7) % 13)
		g.CounterResetHint = histogram.GaugeType
		gauge.samples = append(gauge.samples, sample{t: t, h: g})
		f := integer(i).ToFloat(nil)
		f.Count += 0.5
		float.samples = append(float.samples, sample{t: t, fh: f})
		nhcb.samples = append(nhcb.samples, sample{t: t, h: custom(i)})
		m := sample{t: t, v: float64(i)}
		if i%40 >= 20 {
			m = sample{t: t, h: integer(i)}
		}
		mixed.samples = append(mixed.samples, m)
		if i%50 == 49 {
			hist.samples = append(hist.samples, sample{t: t + minute, h: &histogram.Histogram{Sum: stale}})
			float.samples = append(float.samples, sample{t: t + minute, fh: &histogram.FloatHistogram{Sum: stale}})
		}
	}
	return append(all, hist, gauge, float, nhcb, mixed)
}

// encode cuts samples into chunks as the head would.
func encode(t testing.TB, samples []sample) []chunks.Meta {
	t.Helper()
	var all []chunks.Meta
	var app chunkenc.Appender
	started := func(i int) bool {
		return i == 0 || all[len(all)-1].Chunk.NumSamples() >= 120 || samples[i].kind() != samples[i-1].kind()
	}
	for i, s := range samples {
		var prev chunkenc.Appender
		if started(i) {
			if i > 0 && samples[i-1].kind() == s.kind() {
				prev = app
			}
			hasStart := slices.ContainsFunc(samples, func(s sample) bool { return s.st != 0 })
			c, err := s.kind().NewChunk(hasStart, hasStart)
			if err != nil {
				t.Fatal(err)
			}
			if app, err = c.Appender(); err != nil {
				t.Fatal(err)
			}
			all = append(all, chunks.Meta{MinTime: s.t, Chunk: c})
		}
		last := &all[len(all)-1]
		var cut chunkenc.Chunk
		var recoded bool
		var err error
		switch s.kind() {
		case chunkenc.ValHistogram:
			cut, recoded, app, err = app.AppendHistogram(prev, s.st, s.t, s.h.Copy(), false)
		case chunkenc.ValFloatHistogram:
			cut, recoded, app, err = app.AppendFloatHistogram(prev, s.st, s.t, s.fh.Copy(), false)
		default:
			app.Append(s.st, s.t, s.v)
		}
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case cut != nil && recoded:
			last.Chunk = cut
		case cut != nil:
			all = append(all, chunks.Meta{MinTime: s.t, Chunk: cut})
		}
		all[len(all)-1].MaxTime = s.t
	}
	return all
}

// writeBlock writes a block of the half-open range from all samples that lie in
// it, and returns its directory.
func writeBlock(t testing.TB, dir string, mint, maxt int64, all []series) string {
	t.Helper()
	s, err := createSpool(filepath.Join(t.TempDir(), "spool"), mint, maxt-1)
	if err != nil {
		t.Fatal(err)
	}
	sorted := slices.Clone(all)
	slices.SortFunc(sorted, func(a, b series) int { return labels.Compare(a.labels, b.labels) })
	for _, one := range sorted {
		var in []sample
		for _, s := range one.samples {
			if s.t >= mint && s.t < maxt {
				in = append(in, s)
			}
		}
		if len(in) == 0 {
			continue
		}
		if err := s.add(one.labels, encode(t, in)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.finish(); err != nil {
		t.Fatal(err)
	}
	c, err := tsdb.NewLeveledCompactor(t.Context(), nil, slog.New(slog.DiscardHandler), []int64{maxt - mint}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := c.Write(dir, s, mint, maxt, nil)
	if err != nil || len(ids) != 1 {
		t.Fatalf("wrote blocks %v: %v", ids, err)
	}
	if err := s.remove(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, ids[0].String())
}

// contents are the samples of series as texts that are equal only if every bit is.
type contents map[string][]string

func (c contents) samples() (n int) {
	for _, s := range c {
		n += len(s)
	}
	return n
}

func textOf(s sample) string {
	switch {
	case s.h != nil:
		h := *s.h
		sum := math.Float64bits(h.Sum)
		return fmt.Sprintf("%d (%d) %x hint %d %s", s.t, s.st, sum, h.CounterResetHint, detail(h.Schema, h.ZeroThreshold, h.ZeroCount, h.Count,
			h.PositiveSpans, h.PositiveBuckets, h.NegativeSpans, h.NegativeBuckets, h.CustomValues))
	case s.fh != nil:
		h := *s.fh
		sum := math.Float64bits(h.Sum)
		return fmt.Sprintf("%d (%d) %x float hint %d %s", s.t, s.st, sum, h.CounterResetHint, detail(h.Schema, h.ZeroThreshold, h.ZeroCount, h.Count,
			h.PositiveSpans, h.PositiveBuckets, h.NegativeSpans, h.NegativeBuckets, h.CustomValues))
	}
	return fmt.Sprintf("%d (%d) %016x", s.t, s.st, math.Float64bits(s.v))
}

// unhinted leaves out what histograms say of counter resets.
func unhinted(all contents) contents {
	hint := regexp.MustCompile(`hint \d`)
	for _, samples := range all {
		for i := range samples {
			samples[i] = hint.ReplaceAllString(samples[i], "")
		}
	}
	return all
}

// detail prints nil and empty alike.
func detail(parts ...any) string { return strings.ReplaceAll(fmt.Sprint(parts...), "<nil>", "[]") }

func sampleAt(it chunkenc.Iterator, kind chunkenc.ValueType) sample {
	s := sample{st: it.AtST()}
	switch kind {
	case chunkenc.ValHistogram:
		s.t, s.h = it.AtHistogram(nil)
	case chunkenc.ValFloatHistogram:
		s.t, s.fh = it.AtFloatHistogram(nil)
	default:
		s.t, s.v = it.At()
	}
	return s
}

// readBlocks reads blocks by Prometheus' own querier.
func readBlocks(t *testing.T, mint, maxt int64, dirs []string, matchers ...*labels.Matcher) contents {
	t.Helper()
	all := contents{}
	if len(matchers) == 0 {
		matchers = []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, labels.MetricName, ".+")}
	}
	for _, dir := range dirs {
		b, err := tsdb.OpenBlock(nil, dir, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		q, err := tsdb.NewBlockQuerier(b, mint, maxt)
		if err != nil {
			t.Fatal(err)
		}
		set := q.Select(t.Context(), true, nil, matchers...)
		for set.Next() {
			it := set.At().Iterator(nil)
			name := set.At().Labels().String()
			for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
				all[name] = append(all[name], textOf(sampleAt(it, kind)))
			}
			if err := it.Err(); err != nil {
				t.Fatal(err)
			}
		}
		if err := set.Err(); err != nil {
			t.Fatal(err)
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// wantEqual compares contents and names the first few differences.
func wantEqual(t *testing.T, got, want contents) {
	t.Helper()
	differences := 0
	for name, samples := range want {
		if slices.Equal(got[name], samples) {
			continue
		}
		for i, s := range samples {
			if i >= len(got[name]) || got[name][i] != s {
				t.Errorf("%s: %d samples, want %d; sample %d is\n%q, want\n%q", name, len(got[name]), len(samples), i, got[name][min(i, len(got[name])):][:min(1, len(got[name])-min(i, len(got[name])))], s)
				break
			}
		}
		if len(got[name]) > len(samples) {
			t.Errorf("%s: %d samples, want %d", name, len(got[name]), len(samples))
		}
		if differences++; differences > 3 {
			t.FailNow()
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s is too much", name)
		}
	}
}

// tree is a directory's files with their sizes and times.
func tree(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			all = append(all, fmt.Sprint(path, info.Size(), info.Mode(), info.ModTime()))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
