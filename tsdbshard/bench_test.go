package tsdbshard

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

const (
	benchSeries  = 100_000
	benchPerWire = 2_000 // samples of one entry
)

// benchLabels are ten labels of about 210 bytes.
func benchLabels(i int) []byte {
	return canonical(
		"__name__", fmt.Sprintf("http_requests_total_%03d", i%200),
		"cluster", "eu-central-1-production",
		"container", fmt.Sprintf("server-%02d", i%20),
		"endpoint", "metrics",
		"instance", fmt.Sprintf("10.12.%d.%d:9090", i/250%250, i%250),
		"job", fmt.Sprintf("kubernetes-pods-%d", i%10),
		"method", []string{"GET", "POST", "PUT"}[i%3],
		"namespace", fmt.Sprintf("team-%02d", i%50),
		"pod", fmt.Sprintf("server-%02d-7d9c6b5f4-%06d", i%20, i),
		"status", fmt.Sprint(200+i%5),
	)
}

// benchValues moves the series of a scrape on: counters, gauges with two
// decimals, constants, rarely moving counters.
func benchValues(rng *rand.Rand, values []float64) {
	for i := range values {
		switch i % 10 {
		case 0, 1, 2, 3:
			values[i] += float64(rng.IntN(300))
		case 4, 5:
			values[i] = math.Round((values[i]+rng.NormFloat64())*100) / 100
		case 6, 7:
			values[i] = float64(i % 7)
		default:
			if rng.IntN(20) == 0 {
				values[i]++
			}
		}
	}
}

// definitionEntries define the bench series without samples.
func definitionEntries(series int) []quorate.LogEntry {
	var entries []quorate.LogEntry
	var enc wire.Encoder
	for from := 0; from < series; from += benchPerWire {
		var b wire.Batch
		b.Reset(1, 1)
		for i := from; i < min(from+benchPerWire, series); i++ {
			b.Definitions = append(b.Definitions, benchLabels(i))
		}
		entries = append(entries, quorate.LogEntry{Index: uint64(2 + len(entries)), Data: enc.Append(nil, wire.KindWrite, b.Append(nil))})
	}
	return entries
}

// scrapeEntries are rounds of one sample for each series, by refs.
func scrapeEntries(series, rounds int, index uint64) []quorate.LogEntry {
	rng := rand.New(rand.NewPCG(1, 2))
	values := make([]float64, series)
	var entries []quorate.LogEntry
	var enc wire.Encoder
	for round := range rounds {
		benchValues(rng, values)
		for from := 0; from < series; from += benchPerWire {
			var b wire.Batch
			b.Reset(1, 1)
			for i := from; i < min(from+benchPerWire, series); i++ {
				b.Series = append(b.Series, wire.ByRef(wire.SeriesRef(i)))
				b.Timestamps = append(b.Timestamps, int64(1+round)*15_000)
				b.Values = append(b.Values, values[i])
			}
			entries = append(entries, quorate.LogEntry{Index: index + uint64(len(entries)), Data: enc.Append(nil, wire.KindWrite, b.Append(nil))})
		}
	}
	return entries
}

// cpuTime is the processor time that the process has used, with that of the
// collector: what a figure is worth on a machine that has other things to do.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchShard(b *testing.B, dir string) *Shard {
	b.Helper()
	s, err := New(Config{Dir: dir, Set: testSet})
	require.NoError(b, err)
	require.NoError(b, s.Open(context.Background(), GenesisPayload(openRange(0, math.MaxInt64)), 1))
	return s
}

func applyAll(b *testing.B, s *Shard, entries []quorate.LogEntry) {
	b.Helper()
	for i := range entries {
		if _, err := s.ApplyBatch(entries[i : i+1]); err != nil {
			b.Fatal(err)
		}
	}
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkApplyRefs applies scrapes of known series, decoding included:
// without readers, and with a new view for each scrape, so that every row is
// saved once a scrape.
func BenchmarkApplyRefs(b *testing.B) {
	b.Run("no view", func(b *testing.B) { benchmarkApplyRefs(b, func(*Shard) func() { return func() {} }) })
	b.Run("a view a scrape", func(b *testing.B) { benchmarkApplyRefs(b, func(s *Shard) func() { return viewOf(b, s).Close }) })
}

func benchmarkApplyRefs(b *testing.B, pin func(*Shard) (unpin func())) {
	const rounds, perRound = 100, benchSeries / benchPerWire
	defs := definitionEntries(benchSeries)
	entries := scrapeEntries(benchSeries, rounds, uint64(2+len(defs)))
	samples, reported, cpu := 0, false, time.Duration(0)
	for b.Loop() {
		b.StopTimer()
		before := heapInUse()
		s := benchShard(b, b.TempDir())
		applyAll(b, s, defs)
		created := heapInUse()
		started := cpuTime(b)
		b.StartTimer()
		for round := range rounds {
			unpin := pin(s)
			applyAll(b, s, entries[round*perRound:(round+1)*perRound])
			unpin()
		}
		samples += benchSeries * rounds
		cpu += cpuTime(b) - started
		b.StopTimer()
		if !reported {
			reported = true
			b.ReportMetric(float64(created-before)/benchSeries, "B/series-created")
			b.ReportMetric(float64(heapInUse()-before)/benchSeries, "B/series-after")
		}
		require.NoError(b, s.Close())
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(samples), "ns/sample")
	b.ReportMetric(float64(cpu.Nanoseconds())/float64(samples), "cpu-ns/sample")
}

// BenchmarkApplyNewSeries applies definitions, each with a first sample.
func BenchmarkApplyNewSeries(b *testing.B) {
	var entries []quorate.LogEntry
	var enc wire.Encoder
	for from := 0; from < benchSeries; from += benchPerWire {
		batch := batchOf(1, 1)
		for i := from; i < from+benchPerWire; i++ {
			batch.float(benchLabels(i), 15_000, float64(i))
		}
		entries = append(entries, quorate.LogEntry{Index: uint64(2 + len(entries)), Data: enc.Append(nil, wire.KindWrite, batch.Append(nil))})
	}
	n, cpu := 0, time.Duration(0)
	for b.Loop() {
		b.StopTimer()
		before := heapInUse()
		s := benchShard(b, b.TempDir())
		started := cpuTime(b)
		b.StartTimer()
		applyAll(b, s, entries)
		cpu += cpuTime(b) - started
		b.StopTimer()
		if n == 0 {
			b.ReportMetric(float64(heapInUse()-before)/benchSeries, "B/series")
		}
		n += benchSeries
		require.NoError(b, s.Close())
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/series")
	b.ReportMetric(float64(cpu.Nanoseconds())/float64(n), "cpu-ns/series")
}

// BenchmarkMemory reports what a series takes, without a flush, and how much of
// that MemcacheBytes counts.
func BenchmarkMemory(b *testing.B) {
	for _, rounds := range []int{0, 1, 4, 16, 100, 240} {
		b.Run(fmt.Sprintf("%d samples", rounds), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				defs := definitionEntries(benchSeries)
				entries := scrapeEntries(benchSeries, rounds, uint64(2+len(defs)))
				before := heapInUse()
				s := benchShard(b, b.TempDir())
				applyAll(b, s, defs)
				applyAll(b, s, entries)
				b.ReportMetric(float64(heapInUse()-before)/benchSeries, "B/series")
				b.ReportMetric(float64(s.MemcacheBytes())/benchSeries, "counted-B/series")
				require.NoError(b, s.Close())
				runtime.KeepAlive(entries)
				runtime.KeepAlive(defs)
				b.StartTimer()
			}
		})
	}
}

// BenchmarkFlushAndOpen writes a block of 20k series and 120 rounds and
// opens a shard from it.
func BenchmarkFlushAndOpen(b *testing.B) {
	const series, rounds = 20_000, 120
	defs := definitionEntries(series)
	entries := scrapeEntries(series, rounds, uint64(2+len(defs)))
	last := entries[len(entries)-1].Index
	flush := func(b *testing.B) (dir string, payload []byte, bytes uint64) {
		b.Helper()
		b.StopTimer()
		dir = b.TempDir()
		s := benchShard(b, dir)
		applyAll(b, s, defs)
		applyAll(b, s, entries)
		f, err := s.Freeze()
		require.NoError(b, err)
		b.StartTimer()
		payload, err = f.Persist(context.Background(), last)
		require.NoError(b, err)
		b.StopTimer()
		bytes = f.(*frozenState).file.entry.bytes
		f.Published()
		require.NoError(b, s.Close())
		b.StartTimer()
		return dir, payload, bytes
	}
	b.Run("flush", func(b *testing.B) {
		n := 0
		var bytes uint64
		for b.Loop() {
			_, _, bytes = flush(b)
			n += series * rounds
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/sample")
		b.ReportMetric(float64(bytes)/(series*rounds), "B/sample")
	})
	b.Run("open", func(b *testing.B) {
		dir, payload, _ := flush(b)
		n := 0
		for b.Loop() {
			s, err := New(Config{Dir: dir, Set: testSet})
			require.NoError(b, err)
			require.NoError(b, s.Open(context.Background(), payload, last))
			require.NoError(b, s.Close())
			n += series
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/series")
	})
}

// BenchmarkSelect reads 1,000 of 20k series whole, from memory and from a file.
func BenchmarkSelect(b *testing.B) {
	const series, rounds = 20_000, 120
	defs := definitionEntries(series)
	entries := scrapeEntries(series, rounds, uint64(2+len(defs)))
	s := benchShard(b, b.TempDir())
	applyAll(b, s, defs)
	applyAll(b, s, entries)
	run := func(b *testing.B) {
		v := viewOf(b, s)
		defer v.Close()
		m := labels.MustNewMatcher(labels.MatchRegexp, "__name__", "http_requests_total_00.*")
		samples := 0
		for b.Loop() {
			q, err := tsdb.NewBlockQuerier(v.Tenant(1), 0, math.MaxInt64)
			require.NoError(b, err)
			set := q.Select(context.Background(), true, nil, m)
			var it chunkenc.Iterator
			for set.Next() {
				it = set.At().Iterator(it)
				for it.Next() != chunkenc.ValNone {
					samples++
				}
			}
			require.NoError(b, set.Err())
			require.NoError(b, q.Close())
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(samples), "ns/sample")
	}
	b.Run("memcache", run)
	f, err := s.Freeze()
	require.NoError(b, err)
	_, err = f.Persist(context.Background(), entries[len(entries)-1].Index)
	require.NoError(b, err)
	f.Published()
	b.Run("file", run)
}

// BenchmarkRestart opens a shard of a million series and ten million samples in
// blocks and replays a scrape of each: what a node does before it is ready.
func BenchmarkRestart(b *testing.B) {
	const series, rounds = 1_000_000, 10
	dir := b.TempDir()
	s := benchShard(b, dir)
	defs := definitionEntries(series)
	applyAll(b, s, defs)
	entries := scrapeEntries(series, rounds+1, uint64(2+len(defs)))
	entries, tail := entries[:rounds*series/benchPerWire], entries[rounds*series/benchPerWire:]
	applyAll(b, s, entries)
	last := entries[len(entries)-1].Index
	f, err := s.Freeze()
	require.NoError(b, err)
	payload, err := f.Persist(context.Background(), last)
	require.NoError(b, err)
	f.Published()
	require.NoError(b, s.Close())
	var opened, replayed time.Duration
	n := 0
	for b.Loop() {
		started := time.Now()
		s, err := New(Config{Dir: dir, Set: testSet})
		require.NoError(b, err)
		require.NoError(b, s.Open(context.Background(), payload, last))
		opened += time.Since(started)
		started = time.Now()
		applyAll(b, s, tail)
		replayed += time.Since(started)
		require.NoError(b, s.Close())
		n++
	}
	b.ReportMetric(float64(opened.Nanoseconds())/float64(n*series), "ns/series-open")
	b.ReportMetric(float64(n*series)/replayed.Seconds()/1e6, "M-samples/s-replay")
}

// BenchmarkSeal computes the logical checksum of 20k series x 120 from one
// block, writes the canonical block and reads it back.
func BenchmarkSeal(b *testing.B) {
	const series, rounds = 20_000, 120
	dir := b.TempDir()
	s := benchShard(b, dir)
	defs := definitionEntries(series)
	entries := scrapeEntries(series, rounds, uint64(2+len(defs)))
	applyAll(b, s, defs)
	applyAll(b, s, entries)
	f, err := s.Freeze()
	require.NoError(b, err)
	_, err = f.Persist(context.Background(), entries[len(entries)-1].Index)
	require.NoError(b, err)
	f.Published()
	var enc wire.Encoder
	index := entries[len(entries)-1].Index + 1
	applyAll(b, s, []quorate.LogEntry{{Index: index, Data: enc.Append(nil, wire.KindSeal, AppendSealCommand(nil, &wire.Seal{}))}})
	v := viewOf(b, s)
	defer v.Close()
	b.Run("checksum", func(b *testing.B) {
		n := 0
		for b.Loop() {
			_, err := Checksum(context.Background(), Sources{View: v})
			require.NoError(b, err)
			n += series * rounds
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/sample")
	})
	b.Run("canonical block", func(b *testing.B) {
		n, bytes := 0, uint64(0)
		for b.Loop() {
			file, err := WriteCanonical(context.Background(), Sources{View: v}, Config{Dir: dir, Set: testSet}, index)
			require.NoError(b, err)
			n, bytes = n+series*rounds, file.Bytes
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/sample")
		b.ReportMetric(float64(bytes)/(series*rounds), "B/sample")
	})
}

// BenchmarkFreezeAndPublish measures how long readers and Apply wait for a flush
// of 100k series.
func BenchmarkFreezeAndPublish(b *testing.B) {
	s := benchShard(b, b.TempDir())
	defs := definitionEntries(benchSeries)
	applyAll(b, s, defs)
	index := uint64(2 + len(defs))
	var freeze, publish time.Duration
	n := 0
	for b.Loop() {
		b.StopTimer()
		entries := scrapeEntries(benchSeries, 4, index)
		applyAll(b, s, entries)
		index += uint64(len(entries))
		b.StartTimer()
		started := time.Now()
		f, err := s.Freeze()
		freeze += time.Since(started)
		require.NoError(b, err)
		_, err = f.Persist(context.Background(), index-1)
		require.NoError(b, err)
		started = time.Now()
		f.Published()
		publish += time.Since(started)
		n++
	}
	b.ReportMetric(float64(freeze.Microseconds())/float64(n), "µs/freeze")
	b.ReportMetric(float64(publish.Microseconds())/float64(n), "µs/publish")
}
