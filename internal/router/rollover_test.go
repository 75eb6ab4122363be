package router

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/metasvc"
)

// turnTo sets the router's clock to a time of the day on which the bucket from
// 12:00 to 13:00 is current.
func (r *rig) turnTo(clock string) {
	at, err := time.Parse("2006-01-02 15:04:05", "2026-03-02 "+clock)
	if err != nil {
		panic(err)
	}
	r.now = func() time.Time { return at }
}

// scrape returns one sample of n series, at the router's time and some seconds.
func (r *rig) scrape(n int, seconds int64) []metric {
	metrics := make([]metric, n)
	for i := range metrics {
		metrics[i] = metric{labels.FromStrings("__name__", "m", "i", fmt.Sprintf("%04d", i)), []float{{r.now().UnixMilli() + 1000*seconds, float64(i)}}}
	}
	return metrics
}

// awaitWarmed waits until as many series were made known to the next bucket.
func (r *rig) awaitWarmed(t testing.TB, n int) {
	t.Helper()
	testwait.For(t, fmt.Sprintf("%d series to be made known", n), func() bool { return int(testutil.ToFloat64(r.metrics.warmed)) >= n })
	r.warmup.mu.Lock()
	defer r.warmup.mu.Unlock()
	if got := int(testutil.ToFloat64(r.metrics.warmed)); got != n || r.warmup.series != 0 {
		t.Fatalf("%d series were made known and %d wait, want %d and none", got, r.warmup.series, n)
	}
}

func TestSeriesAreKnownToTheNextBucketBeforeItBegins(t *testing.T) {
	const n = 300
	r := newRig(t)
	r.turnTo("12:44:59") // the last quarter begins in a second
	r.mustWrite(t, r.scrape(n, 0)...)
	r.awaitWarmed(t, 0)
	known := 0
	for _, tc := range []struct {
		clock       string
		least, most int
	}{{"12:47:00", 20, 80}, {"12:51:33", 120, 180}, {"12:58:07", n, n}, {"12:59:50", n, n}} {
		r.turnTo(tc.clock)
		s := r.mustWrite(t, r.scrape(n, 0)...)
		now := known + s.parsed // labels are parsed once, when the series' instant has come
		if now < tc.least || now > tc.most {
			t.Errorf("at %s the instants of %d series have come, want %d to %d", tc.clock, now, tc.least, tc.most)
		}
		r.awaitWarmed(t, now)
		known = now
	}
	for _, set := range r.client.Map().Bucket(1, r.now().UnixMilli()+hour).Sets {
		replica, err := r.replicas.Get(set.ID)
		if err != nil {
			t.Fatal(err)
		}
		view, err := replica.View(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := view.Tenant(r.tenant).NumSeries(); got == 0 {
			t.Errorf("set %v of the next bucket knows no series", set.ID)
		}
		view.Close()
	}
	if got := r.read(t, named("m")); len(got) != n {
		t.Errorf("%d series have samples, want %d", len(got), n)
	}
	r.turnTo("13:00:05")
	if s := r.mustWrite(t, r.scrape(n, 0)...); s.parsed != 0 {
		t.Errorf("after the bucket's end the labels of %d series were parsed, want none", s.parsed)
	}
	if s := r.mustWrite(t, r.scrape(n, -20)...); s.parsed != 0 { // before the end
		t.Errorf("for late samples the labels of %d series were parsed, want none", s.parsed)
	}
	for i, line := range r.read(t, named("m")) {
		if want := fmt.Sprintf(`{__name__="m", i="%04d"}: 899=%[2]d 1020=%[2]d 1293=%[2]d 1687=%[2]d 1785=%[2]d 1790=%[2]d 1805=%[2]d`, i, i); line != want {
			t.Fatalf("read %q, want %q", line, want)
		}
	}
}

func TestLateSamplesDoNotDisplaceWhatTheNextBucketNeeds(t *testing.T) {
	r := newRig(t)
	r.turnTo("12:59:00")
	r.mustWrite(t, r.scrape(50, 0)...)
	r.awaitWarmed(t, 50)
	for round := range 3 {
		r.mustWrite(t, r.scrape(50, -3600)...) // of the bucket before, by labels
		if s := r.mustWrite(t, r.scrape(50, int64(round))...); s.parsed != 0 {
			t.Fatalf("round %d: the labels of %d current series were parsed, want none", round, s.parsed)
		}
	}
	r.turnTo("13:00:01")
	if s := r.mustWrite(t, r.scrape(50, 0)...); s.parsed != 0 {
		t.Errorf("after the bucket's end the labels of %d series were parsed, want none", s.parsed)
	}
	r.awaitWarmed(t, 50)
}

func TestSeriesThatWillNotComeAgainAreNotMadeKnown(t *testing.T) {
	r := newRig(t)
	r.turnTo("12:59:00")
	r.mustWrite(t, r.scrape(20, -3600)...) // a backfill
	ended := r.scrape(20, 0)
	for i := range ended {
		ended[i].floats[0].v = math.Float64frombits(value.StaleNaN)
	}
	r.mustWrite(t, ended...)
	r.mustWrite(t, r.scrape(1, 1)...) // goes on
	r.awaitWarmed(t, 1)
}

func TestNothingIsMadeKnownToABucketThatIsNotOpen(t *testing.T) {
	r := newRig(t)
	r.turnTo("13:59:00") // the bucket from 14:00 is not planned
	r.expectNothingWarmed(t)
}

func TestProtocol12NothingIsMadeKnownToABucketOfAnotherShardHash(t *testing.T) {
	r := newRig(t)
	r.turnTo("13:59:00")
	start := r.now().Truncate(time.Hour).UnixMilli() + hour
	r.planHashed(t, 1, quorate.TimeRange{Start: start, End: start + hour}, wire.ShardHashVersion+1)
	r.expectNothingWarmed(t)
}

// expectNothingWarmed writes new series twice, with none to be made known to the
// next bucket.
func (r *rig) expectNothingWarmed(t *testing.T) {
	t.Helper()
	if s := r.mustWrite(t, r.scrape(20, 0)...); s.parsed != 20 {
		t.Fatalf("labels were parsed %d times, want once for each of 20 new series", s.parsed)
	}
	if s := r.mustWrite(t, r.scrape(20, 1)...); s.parsed != 0 {
		t.Errorf("labels were parsed %d times, want none", s.parsed)
	}
	r.awaitWarmed(t, 0)
}

func TestANextBucketThatCannotBeReachedTroublesNoWrite(t *testing.T) {
	r := newRig(t)
	r.turnTo("12:59:00")
	var held []*Replica
	for _, set := range r.client.Map().Bucket(1, r.now().UnixMilli()+hour).Sets {
		replica, err := r.replicas.Get(set.ID)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, replica)
		r.replicas.Break(set.ID, errors.New("disk on fire"), true)
	}
	r.mustWrite(t, r.scrape(20, 0)...)
	testwait.For(t, "20 series to be given up", func() bool { return testutil.ToFloat64(r.metrics.notWarmed) == 20 })
	for _, replica := range held {
		r.replicas.Add(replica)
	}
	r.mustWrite(t, r.scrape(20, 1)...) // brings them again
	r.awaitWarmed(t, 20)
}

func TestTheWarmUpHoldsABoundedNumberOfSeries(t *testing.T) {
	r := newRig(t)
	w := newWarmup(r.Router)
	w.started = true // by nobody: what is offered stays
	series := warmSeries{tenant: 1, set: &metasvc.ReplicaSet{ID: 99, Bounds: quorate.Bounds{Version: 1}}, labels: make([]byte, 1000)}
	taken := 0
	for i := range uint64(2 * maxWarmSeries) {
		series.key, series.tenant = wire.SeriesKey{Hi: i}, quorate.TenantID(i/100)
		if w.offer(t.Context(), series) {
			taken++
		}
	}
	if taken != w.series || taken > maxWarmSeries || w.bytes > maxWarmBytes || taken < maxWarmBytes/1000-1 {
		t.Errorf("%d series of %d bytes were taken, %d are counted; want the limits kept and used", taken, w.bytes, w.series)
	}
	series.key, series.tenant = wire.SeriesKey{Hi: 1}, 0
	if before := w.series; !w.offer(t.Context(), series) || w.series != before {
		t.Error("a series that waits already is no reason to stop offering, and waits once")
	}
}

func TestAClosedRouterMakesNothingKnown(t *testing.T) {
	r := newRig(t)
	r.turnTo("12:59:00")
	r.mustWrite(t, r.scrape(5, 0)...)
	r.awaitWarmed(t, 5)
	for range 2 {
		if err := r.Router.Close(); err != nil {
			t.Fatal(err)
		}
	}
	other := metric{labels.FromStrings("__name__", "other"), []float{{r.now().UnixMilli(), 1}}}
	r.mustWrite(t, other)
	if r.warmup.series != 0 {
		t.Error("a closed router keeps series")
	}
}

// Appending 2,000 samples of known series, 10 labels each, outside of the last
// part of a bucket and inside of it, when all of them are known to the next.
func BenchmarkAppend(b *testing.B) {
	for name, clock := range map[string]string{"before the last part": "12:30:00", "in the last part": "12:59:30"} {
		b.Run(name, func(b *testing.B) {
			const n = 2000
			r := newRig(b)
			r.turnTo(clock)
			s := &sent{metrics: r.scrape(n, 0)}
			in := s.request()
			write := func() {
				if _, err := r.Append(b.Context(), r.tenant, in); err != nil {
					b.Fatal(err)
				}
			}
			write()
			if clock != "12:30:00" {
				r.awaitWarmed(b, n)
			}
			t := r.now().UnixMilli()
			b.ReportAllocs()
			for b.Loop() {
				t++
				for i := range in.Timestamps {
					in.Timestamps[i] = t
				}
				write()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/sample")
		})
	}
}

// What the warm-up adds to a request of 2,000 known series.
func BenchmarkWarmUp(b *testing.B) {
	for name, clock := range map[string]string{"before the last part": "12:30:00", "in the last part": "12:59:30", "in its middle": "12:51:00"} {
		b.Run(name, func(b *testing.B) {
			const n = 2000
			r := newRig(b)
			r.turnTo("12:59:30")
			s := &sent{metrics: r.scrape(n, 0)}
			in := s.request()
			if _, err := r.Append(b.Context(), r.tenant, in); err != nil {
				b.Fatal(err)
			}
			r.awaitWarmed(b, n)
			r.turnTo(clock)
			q := new(request)
			q.begin(r.Router, r.tenant, in)
			q.resolve()
			tenant, m, err := r.meta.TenantMap(b.Context(), r.tenant)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				q.rollover = rolloverOf(&tenant, m, q.now)
				q.warmUp(b.Context())
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/series")
		})
	}
}
