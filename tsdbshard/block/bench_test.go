package block

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/tsdbshard/chunk"
)

// The data of the benchmarks: targets of 200 series each, scraped every 15 s,
// one in ten of the scrapes some milliseconds late; 10 labels, about 210 bytes;
// 30 % integer counters, 10 % counters of seconds, 15 % gauges with 2 or 3
// decimals, 8 % byte gauges, 17 % constants, 17 % bucket counters that rarely
// move, 3 % full mantissas.
const (
	benchPerTarget = 200
	benchRows      = 240
)

// benchSeries is a series and its chunks, each of benchRows samples.
type benchSeries struct {
	labels    labels.Labels
	canonical []byte
	chunks    []chunk.Chunk
}

// benchData makes the series in the order in which a shard first sees them:
// target by target.
func benchData(tb testing.TB, series, chunksEach int) []*benchSeries {
	tb.Helper()
	var (
		enc  chunk.Encoder
		list []*benchSeries
	)
	values := make([]float64, benchRows)
	for target := range (series + benchPerTarget - 1) / benchPerTarget {
		chance := rand.New(rand.NewPCG(uint64(target), 3))
		times := make([][]int64, chunksEach)
		offset := testStart + int64(chance.IntN(15_000))
		for c := range times {
			for i := range benchRows {
				t := offset + int64(c*benchRows+i)*15_000
				if chance.IntN(10) == 0 {
					t += int64(chance.IntN(6))
				}
				times[c] = append(times[c], t)
			}
		}
		for i := range min(benchPerTarget, series-target*benchPerTarget) {
			s := &benchSeries{labels: benchLabels(target, i)}
			s.canonical = canonicalOf(s.labels)
			for c := range chunksEach {
				for k := range values {
					values[k] = benchValue(chance, i+target, c*benchRows+k)
				}
				e := enc.Floats(times[c], nil, values)
				e.Times, e.Values = bytes.Clone(e.Times), bytes.Clone(e.Values)
				s.chunks = append(s.chunks, e)
			}
			list = append(list, s)
		}
	}
	return list
}

func benchLabels(target, i int) labels.Labels {
	return labels.FromStrings(
		"__name__", fmt.Sprintf("http_server_requests_seconds_total_%03d", i/4),
		"cluster", "eu-west-1-production", "container", "application-server",
		"endpoint", "http-metrics", "handler", []string{"/api/v1/query", "/api/v1/query_range", "/api/v1/write", "/metrics"}[i%4],
		"instance", fmt.Sprintf("10.1.%d.%d:9090", target/250, target%250), "job", fmt.Sprintf("team-%02d/application", target%20),
		"namespace", fmt.Sprintf("team-%02d", target%20), "pod", fmt.Sprintf("application-server-%08x-%05d", uint32(target)*2654435761, target),
		"status", []string{"200", "404"}[i%2],
	)
}

func benchValue(chance *rand.Rand, i, r int) float64 {
	switch p := i % 100; {
	case p < 30:
		return float64(i*1000 + r*(i%37) + chance.IntN(20))
	case p < 40:
		return math.Round(float64(i)*1000+(float64(r)*15+chance.Float64())*1000) / 1000
	case p < 55:
		d := [2]float64{100, 1000}[i%2]
		return math.Round(chance.Float64()*100*d) / d
	case p < 63:
		return float64(chance.IntN(1<<16)) * 4096
	case p < 80:
		return float64(i % 3)
	case p < 97:
		return float64(i*10 + r/20)
	}
	return chance.Float64()
}

func sortedByLabels(list []*benchSeries) []*benchSeries {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b *benchSeries) int { return labels.Compare(a.labels, b.labels) })
	return list
}

var (
	benchDelta     = DeltaHeader{Set: 1, Hi: 10}
	benchCanonical = CanonicalHeader{Set: 1, SealIndex: 10, Range: quorate.Forever}
)

func writeBenchDelta(w io.Writer, list []*benchSeries) (Summary, error) {
	d := NewDeltaWriter(w, benchDelta)
	for _, s := range list {
		if err := d.Define(1, s.canonical); err != nil {
			return Summary{}, err
		}
	}
	for i, s := range list {
		last := s.chunks[len(s.chunks)-1]
		if err := d.Row(uint32(i), Newest{Kind: 1, Time: last.MaxTime, Bits: math.Float64bits(float64(i))}, s.chunks); err != nil {
			return Summary{}, err
		}
	}
	return d.Finish()
}

// writeBenchCanonical writes sorted series, dealt out to tenants.
func writeBenchCanonical(w io.Writer, list []*benchSeries, tenants int) (Summary, error) {
	c := NewCanonicalWriter(w, benchCanonical)
	for t := range tenants {
		for i := t; i < len(list); i += tenants {
			if err := c.Series(quorate.TenantID(1+t), list[i].canonical, list[i].chunks, nil); err != nil {
				return Summary{}, err
			}
		}
	}
	return c.Finish()
}

// onDisk puts a file where the operating system reads it.
func onDisk(tb testing.TB, write func(w io.Writer) (Summary, error)) (*os.File, Summary) {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "block")
	f, err := os.Create(path)
	require.NoError(tb, err)
	s, err := write(f)
	require.NoError(tb, err)
	return f, s
}

func bytesOfKinds(f *file, kinds ...pageKind) (n int64) {
	for _, k := range kinds {
		for i := range f.dir.sections[k].pages {
			n += int64(f.dir.sections[k].pages[i].length)
		}
	}
	return n
}

func BenchmarkDeltaWrite(b *testing.B) {
	list := benchData(b, 20_000, 1)
	samples := float64(len(list) * benchRows)
	b.ReportAllocs()
	var s Summary
	for b.Loop() {
		var err error
		s, err = writeBenchDelta(io.Discard, list)
		require.NoError(b, err)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/samples, "ns/sample")
	b.ReportMetric(float64(s.Bytes)/samples, "B/sample")
}

func BenchmarkCanonicalWrite(b *testing.B) {
	list := sortedByLabels(benchData(b, 10_000, 4))
	samples := float64(len(list) * 4 * benchRows)
	b.ReportAllocs()
	var s Summary
	for b.Loop() {
		var err error
		s, err = writeBenchCanonical(io.Discard, list, 1)
		require.NoError(b, err)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/samples, "ns/sample")
	b.ReportMetric(float64(s.Bytes)/samples, "B/sample")
}

// BenchmarkSizes tells what a block's bytes are spent on; it measures no time.
func BenchmarkSizes(b *testing.B) {
	data := benchData(b, 20_000, 1)
	day := benchData(b, 2_000, 24)
	for _, tc := range []struct {
		name  string
		write func(w io.Writer) (Summary, error)
	}{
		{"delta", func(w io.Writer) (Summary, error) { return writeBenchDelta(w, data) }},
		{"canonical", func(w io.Writer) (Summary, error) { return writeBenchCanonical(w, sortedByLabels(data), 1) }},
		{"canonical, a day", func(w io.Writer) (Summary, error) { return writeBenchCanonical(w, sortedByLabels(day), 1) }},
		{"canonical, 1000 tenants", func(w io.Writer) (Summary, error) { return writeBenchCanonical(w, sortedByLabels(data), 1000) }},
	} {
		b.Run(tc.name, func(b *testing.B) {
			f, s := onDisk(b, tc.write)
			dir, err := openDirectory(f, int64(s.Bytes))
			require.NoError(b, err)
			o := &file{f: f, dir: dir}
			per := func(kinds ...pageKind) float64 { return float64(bytesOfKinds(o, kinds...)) / float64(s.Samples) }
			b.ReportMetric(float64(s.Bytes)/float64(s.Samples), "B/sample")
			b.ReportMetric(per(pageSamples), "samples/sample")
			b.ReportMetric(per(pageShapes), "shapes/sample")
			b.ReportMetric(per(pageNewest), "newest/sample")
			index := bytesOfKinds(o, pageDefinitions, pageSeries, pageNames, pageValues, pagePostings)
			b.ReportMetric(float64(index)/float64(s.Series), "index-B/series")
			for k := range dir.sections {
				n := bytesOfKinds(o, pageKind(k))
				if n > 0 {
					b.Logf("%-12v %5d pages %10d bytes", pageKind(k), len(dir.sections[k].pages), n)
				}
			}
			for b.Loop() {
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	small, large := benchData(b, 200, 1), benchData(b, 20_000, 1)
	many := sortedByLabels(large)
	for _, tc := range []struct {
		name  string
		write func(w io.Writer) (Summary, error)
		open  func(f *os.File) error
	}{
		{"delta, 200 series", func(w io.Writer) (Summary, error) { return writeBenchDelta(w, small) }, nil},
		{"delta, 20000 series", func(w io.Writer) (Summary, error) { return writeBenchDelta(w, large) }, nil},
		{"canonical, 20000 series", func(w io.Writer) (Summary, error) { return writeBenchCanonical(w, many, 1) }, nil},
		{"canonical, 1000 tenants", func(w io.Writer) (Summary, error) { return writeBenchCanonical(w, many, 1000) }, nil},
	} {
		b.Run(tc.name, func(b *testing.B) {
			f, s := onDisk(b, tc.write)
			b.ReportAllocs()
			var keep []*file
			for b.Loop() {
				o, err := openFile(f, nil)
				require.NoError(b, err)
				keep = append(keep[:0], o)
			}
			b.ReportMetric(float64(heldBy(func() any {
				var all []*file
				for range 100 {
					o, err := openFile(f, nil)
					require.NoError(b, err)
					all = append(all, o)
				}
				return all
			}))/100, "B-held")
			b.ReportMetric(float64(keep[0].MemoryBytes()), "B-counted")
			b.ReportMetric(float64(keep[0].dir.pages), "pages")
			b.ReportMetric(float64(s.Bytes), "B-file")
		})
	}
}

// heldBy returns how many bytes of heap what is made takes.
func heldBy(make func() any) int64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	made := make()
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(made)
	return int64(after.HeapAlloc) - int64(before.HeapAlloc)
}

func BenchmarkDeltaRandomChunks(b *testing.B) {
	f, s := onDisk(b, func(w io.Writer) (Summary, error) { return writeBenchDelta(w, benchData(b, 20_000, 1)) })
	for name, cache := range map[string]*Cache{"no cache": nil, "cache": NewCache(64 << 20)} {
		b.Run(name, func(b *testing.B) {
			d, err := OpenDelta(f, benchDelta, WithCache(cache))
			require.NoError(b, err)
			chance := rand.New(rand.NewPCG(1, 1))
			var chunks []chunk.Chunk
			b.ReportAllocs()
			for b.Loop() {
				chunks, err = d.AppendChunks(chunks[:0], uint32(chance.IntN(int(s.Series))), math.MinInt64, math.MaxInt64)
				if err != nil || len(chunks) != 1 {
					b.Fatal(len(chunks), err)
				}
			}
		})
	}
}

func BenchmarkDeltaRows(b *testing.B) {
	f, s := onDisk(b, func(w io.Writer) (Summary, error) { return writeBenchDelta(w, benchData(b, 20_000, 1)) })
	d, err := OpenDelta(f, benchDelta)
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		rows := d.Rows()
		for rows.Next() {
		}
		require.NoError(b, rows.Err())
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(s.Series), "ns/row")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(s.Samples), "ns/sample")
}

func BenchmarkDeltaDefinitionsAndNewest(b *testing.B) {
	f, s := onDisk(b, func(w io.Writer) (Summary, error) { return writeBenchDelta(w, benchData(b, 20_000, 1)) })
	d, err := OpenDelta(f, benchDelta)
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		require.NoError(b, d.Definitions(func(uint32, quorate.TenantID, []byte) error { return nil }))
		require.NoError(b, d.Newest(func(uint32, Newest) error { return nil }))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(s.Series), "ns/series")
}

func BenchmarkSelect(b *testing.B) {
	wide := sortedByLabels(benchData(b, 20_000, 1))
	day := sortedByLabels(benchData(b, 2_000, 24))
	end := int64(testStart + 24*benchRows*15_000)
	for _, tc := range []struct {
		name       string
		list       []*benchSeries
		mint, maxt int64
		matcher    *labels.Matcher
		cached     bool
	}{
		{"all of 20000 series", wide, math.MinInt64, math.MaxInt64, labels.MustNewMatcher(labels.MatchRegexp, "__name__", "http.*"), false},
		{"all of 2000 series, a day", day, math.MinInt64, math.MaxInt64, labels.MustNewMatcher(labels.MatchRegexp, "__name__", "http.*"), false},
		{"last hour of 2000 series, a day", day, end - 3_600_000, end, labels.MustNewMatcher(labels.MatchRegexp, "__name__", "http.*"), false},
		{"one metric", wide, math.MinInt64, math.MaxInt64, labels.MustNewMatcher(labels.MatchEqual, "__name__", "http_server_requests_seconds_total_007"), false},
		{"one metric, cached", wide, math.MinInt64, math.MaxInt64, labels.MustNewMatcher(labels.MatchEqual, "__name__", "http_server_requests_seconds_total_007"), true},
		{"one target", wide, math.MinInt64, math.MaxInt64, labels.MustNewMatcher(labels.MatchEqual, "instance", "10.1.0.7:9090"), false},
		{"one target, cached", wide, math.MinInt64, math.MaxInt64, labels.MustNewMatcher(labels.MatchEqual, "instance", "10.1.0.7:9090"), true},
	} {
		b.Run(tc.name, func(b *testing.B) {
			f, _ := onDisk(b, func(w io.Writer) (Summary, error) { return writeBenchCanonical(w, tc.list, 1) })
			var cache *Cache
			if tc.cached {
				cache = NewCache(64 << 20)
			}
			c, err := OpenCanonical(f, benchCanonical, WithCache(cache))
			require.NoError(b, err)
			b.ReportAllocs()
			series, samples := 0, 0
			for b.Loop() {
				series, samples = selectCount(b, c.Tenant(1), tc.mint, tc.maxt, tc.matcher)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(samples), "ns/sample")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(series), "ns/series")
		})
	}
}

func selectCount(tb testing.TB, r tsdb.BlockReader, mint, maxt int64, matcher *labels.Matcher) (series, samples int) {
	tb.Helper()
	q, err := tsdb.NewBlockQuerier(r, mint, maxt)
	require.NoError(tb, err)
	set := q.Select(context.Background(), true, nil, matcher)
	var it chunkenc.Iterator
	for set.Next() {
		it = set.At().Iterator(it)
		for it.Next() != chunkenc.ValNone {
			samples++
		}
		series++
	}
	require.NoError(tb, set.Err())
	require.NoError(tb, q.Close())
	return series, samples
}

func BenchmarkSeriesLabels(b *testing.B) {
	list := sortedByLabels(benchData(b, 20_000, 1))
	f, s := onDisk(b, func(w io.Writer) (Summary, error) { return writeBenchCanonical(w, list, 1) })
	c, err := OpenCanonical(f, benchCanonical)
	require.NoError(b, err)
	var builder labels.ScratchBuilder
	b.ReportAllocs()
	for b.Loop() {
		index, err := c.Tenant(1).Index()
		require.NoError(b, err)
		p, err := index.Postings(context.Background(), "", "")
		require.NoError(b, err)
		for p.Next() {
			if err := index.Series(p.At(), &builder, nil); err != nil {
				b.Fatal(err)
			}
			_ = builder.Labels()
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(s.Series), "ns/series")
}

func BenchmarkVerify(b *testing.B) {
	list := sortedByLabels(benchData(b, 10_000, 2))
	f, s := onDisk(b, func(w io.Writer) (Summary, error) { return writeBenchCanonical(w, list, 1) })
	for b.Loop() {
		_, err := Verify(b.Context(), f, int64(s.Bytes))
		require.NoError(b, err)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(s.Samples), "ns/sample")
}
