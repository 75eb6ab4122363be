package e2e

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

const (
	killWriters = 8
	// minRoundSamples is what must be acknowledged between two kills, so that
	// a server that refuses everything does not pass.
	minRoundSamples = 20 * seriesPerWriter
)

// Thresholds so small that a load of seconds flushes, truncates the log and
// rotates its segments many times.
const killSettings = `
multi_tenancy: {enabled: true}
flush: {max_memcache_bytes: 256KiB, max_age: 5s}
raft: {segment_bytes: 256KiB}
log: {level: warn}
`

// readBack is what a check found in the server.
type readBack struct {
	samples, lost, invented int
	problems                []string
}

// problem notes what is wrong, up to as much as a person wants to read.
func (r *readBack) problem(format string, args ...any) {
	const enough = 20
	if len(r.problems) < enough {
		r.problems = append(r.problems, fmt.Sprintf(format, args...))
	}
}

// report fails the test with what was found wrong.
func (r *readBack) report(t *testing.T) {
	t.Helper()
	for _, p := range r.problems {
		t.Error(p)
	}
}

// In the middle of a write load the server is killed, again and again. After
// each restart every acknowledged sample must be there once with its value, and
// nothing must be there that was never sent.
func TestKillNineLosesNothing(t *testing.T) {
	s := startServer(t, killSettings)
	random := rand.New(rand.NewPCG(uint64(os.Getpid()), 1))
	// The load starts in the bucket before the current one.
	start := time.Now().Truncate(24 * time.Hour).Add(-20 * time.Minute)
	if time.Since(start) < 4*time.Hour { // the load's time must not run into the future
		start = start.Add(-12 * time.Hour)
	}
	l := newLoad(s.url("/api/v1/write"), killWriters, start, "pear", "plum")

	rounds := killRounds(t)
	var slowest time.Duration
	var found readBack
	idle, restarts := 0, 0
	for round := range rounds {
		before, _, _ := l.count()
		l.during(t, func() {
			let(t, 300*time.Millisecond+time.Duration(random.Int64N(int64(time.Second))))
			if l.inFlight.Load() == 0 {
				idle++
			}
			s.kill(t)
		})
		after, _, _ := l.count()
		if after-before < minRoundSamples {
			t.Errorf("round %d: %d samples were acknowledged before the kill, want at least %d for a meaningful test", round, after-before, minRoundSamples)
		}
		if round%4 == 3 { // a restart that is itself cut short
			s.start(t)
			let(t, time.Duration(random.Int64N(int64(200*time.Millisecond))))
			s.kill(t)
		}
		began := time.Now()
		s.start(t)
		s.waitReady(t, s.url("/-/ready"))
		slowest = max(slowest, time.Since(began))
		restarts++
		found = l.check(t, s.url(""))
		found.report(t)
		if t.Failed() {
			break
		}
	}
	flushes := flushFiles(t, s.dir)
	ackedSamples, unknownSamples, resent := l.count()
	t.Logf("%d rounds of kill -9: %d samples acknowledged, %d of unknown outcome, %d requests sent again, %d samples read back, lost %d, invented %d; %d flush files; slowest restart to ready %v",
		restarts, ackedSamples, unknownSamples, resent, found.samples, found.lost, found.invented, flushes, slowest.Round(time.Millisecond))
	switch {
	case flushes == 0:
		t.Error("nothing was flushed, so that only the log was tested")
	case idle > rounds/2:
		t.Errorf("no request was under way in %d of %d kills", idle, rounds)
	case rounds >= 10 && unknownSamples == 0:
		t.Error("no request was cut off by a kill")
	}
}

const usualKillRounds = 20

func killRounds(t *testing.T) int {
	t.Helper()
	text := os.Getenv("QUORATE_E2E_ROUNDS")
	if text == "" {
		return usualKillRounds
	}
	rounds, err := strconv.Atoi(text)
	if err != nil || rounds < 1 {
		t.Fatalf("QUORATE_E2E_ROUNDS is %q, not a positive number", text)
	}
	return rounds
}

// check reads all that the server holds, tenant by tenant, and compares it with
// what the writers know.
func (l *load) check(t *testing.T, base string) readBack {
	t.Helper()
	var total readBack
	tenants := map[string][]*writer{}
	last := int64(0)
	for _, w := range l.writers {
		tenants[w.tenant] = append(tenants[w.tenant], w)
		last = max(last, w.time(len(w.outcomes)))
	}
	everything := labels.MustNewMatcher(labels.MatchRegexp, labels.MetricName, ".+")
	for tenant, writers := range tenants {
		seen := map[*writer][][]bool{} // by series and tick
		for _, w := range writers {
			seen[w] = make([][]bool, seriesPerWriter)
		}
		set := remoteRead(t, base, tenant, prompb.ReadRequest_STREAMED_XOR_CHUNKS, l.writers[0].start-1, last, everything)
		var it chunkenc.Iterator
		for set.Next() {
			name := set.At().Labels().Get("series")
			number, series, err := parseSeriesName(name)
			i := slices.IndexFunc(writers, func(w *writer) bool { return w.number == number })
			if err != nil || i < 0 || series >= seriesPerWriter || writers[i].seriesName(series) != name {
				total.invented++
				total.problem("tenant %s: the series %v was never sent", tenant, set.At().Labels())
				continue
			}
			w := writers[i]
			it = set.At().Iterator(it)
			ticks, err := w.checkSeries(series, it, &total)
			if err != nil {
				total.problem("tenant %s, series %s: %v", tenant, name, err)
			}
			seen[w][series] = ticks
		}
		if err := set.Err(); err != nil {
			t.Fatalf("read tenant %s: %v", tenant, err)
		}
		for w, series := range seen {
			if lost, example := w.lost(series); lost > 0 {
				total.lost += lost
				total.problem("tenant %s: %d acknowledged samples of writer %d are gone, for example %s", tenant, lost, w.number, example)
			}
		}
	}
	return total
}

// checkSeries goes over the samples of one series and returns which ticks they
// are; an error is about the first that should not be as it is.
func (w *writer) checkSeries(series int, it chunkenc.Iterator, total *readBack) (ticks []bool, err error) {
	ticks = make([]bool, len(w.outcomes))
	wrong := func(format string, args ...any) {
		total.invented++
		if err == nil {
			err = fmt.Errorf(format, args...)
		}
	}
	for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
		total.samples++
		if kind != chunkenc.ValFloat {
			wrong("a sample of type %v", kind)
			continue
		}
		ts, v := it.At()
		tick := int((ts - w.start) / tickMillis)
		switch {
		case ts < w.start || (ts-w.start)%tickMillis != 0 || tick >= len(ticks):
			wrong("a sample at %d, which was never sent", ts)
		case ticks[tick]:
			wrong("the sample of tick %d comes twice", tick)
		case v != w.value(series, tick):
			wrong("tick %d has the value %s, want %s", tick, formatValue(v), formatValue(w.value(series, tick)))
		default:
			ticks[tick] = true
		}
	}
	if it.Err() != nil {
		return ticks, it.Err()
	}
	return ticks, err
}

// lost counts the acknowledged samples that were not seen.
func (w *writer) lost(seen [][]bool) (count int, example string) {
	for series, ticks := range seen {
		for tick, o := range w.outcomes {
			if o == acked && (tick >= len(ticks) || !ticks[tick]) {
				count++
				example = fmt.Sprintf("tick %d of series %s", tick, w.seriesName(series))
			}
		}
	}
	return count, example
}

// flushFiles counts the files to which shards were flushed.
func flushFiles(t *testing.T, dir string) int {
	t.Helper()
	count := 0
	err := filepath.WalkDir(filepath.Join(dir, "data"), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(d.Name(), ".qdelta") {
			count++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return count
}
