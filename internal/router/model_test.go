package router

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"golang.org/x/sync/errgroup"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/metasvc"
)

// modelTenant is a tenant's samples as the protocol describes them: of each
// series and time the first that came and was not deleted since.
type modelTenant struct {
	id     quorate.TenantID
	oldest int64 // its retention, which hides what is before
	series map[string]map[int64]float64
}

const modelSeries = 6

func modelLabels(i int) labels.Labels {
	return labels.FromStrings("__name__", "m", "i", fmt.Sprint(i))
}

func (m *modelTenant) write(l labels.Labels, f float) {
	s := m.series[l.String()]
	if s == nil {
		s = map[int64]float64{}
		m.series[l.String()] = s
	}
	if _, there := s[f.t]; !there && f.t >= m.oldest {
		s[f.t] = f.v
	}
}

func (m *modelTenant) delete(mint, maxt int64, matcher *labels.Matcher) {
	for i := range modelSeries {
		if matcher.Matches(fmt.Sprint(i)) {
			maps.DeleteFunc(m.series[modelLabels(i).String()], func(t int64, _ float64) bool { return mint <= t && t <= maxt })
		}
	}
}

func (m *modelTenant) read(mint, maxt int64) (lines []string) {
	for i := range modelSeries {
		l := modelLabels(i).String()
		line := l + ":"
		for _, t := range slices.Sorted(maps.Keys(m.series[l])) {
			if mint <= t && t <= maxt {
				line += fmt.Sprintf(" %d=%v", (t-now.UnixMilli())/1000, m.series[l][t])
			}
		}
		if line != l+":" {
			lines = append(lines, line)
		}
	}
	return lines
}

// modelRun is a rig and what it should hold.
type modelRun struct {
	*rig
	*keeper
	rng     *rand.Rand
	tenants []*modelTenant
	value   float64 // of the next sample, so that each is told apart
	history []string
}

// Random writes, late ones too, deletions, seals, flushes and cleanings of two
// tenants, one with a retention of its own, read after each of them.
func TestTheRouterReadsAsTheModelDoes(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { runModel(t, newRig(t), seed) })
		t.Run(fmt.Sprint("on other nodes, seed ", seed), func(t *testing.T) { runModel(t, newRigOf(t, 2), seed) })
	}
}

func runModel(t *testing.T, r *rig, seed uint64) {
	t.Helper()
	k := r.keep(t)
	second := r.leader.do(t, metasvc.CreateTenant{Name: "other", Policy: 1}).(metasvc.TenantResult).Tenant
	testwait.For(t, "the tenant", func() bool { _, found := r.client.TenantName(second); return found })
	if err := r.client.SetTenantRetention(t.Context(), second, 75*time.Minute); err != nil {
		t.Fatal(err)
	}
	run := &modelRun{rig: r, keeper: k, rng: rand.New(rand.NewPCG(seed, 1)), tenants: []*modelTenant{
		{id: r.tenant, oldest: at(-7 * 86400), series: map[string]map[int64]float64{}},
		{id: second, oldest: at(-75 * 60), series: map[string]map[int64]float64{}},
	}}
	for range 120 {
		run.step(t)
		run.compare(t)
	}
}

func (r *modelRun) step(t *testing.T) {
	t.Helper()
	tenant := r.tenants[r.rng.IntN(len(r.tenants))]
	r.Router.now = func() time.Time { return now }
	switch n := r.rng.IntN(20); {
	case n < 12:
		r.randomWrite(t, tenant)
	case n < 15:
		r.randomDelete(t, tenant)
	case n < 18: // goes on while the next steps are done
		r.note("seal of a bucket")
		bucket := []int64{at(-7200), at(-3600)}[r.rng.IntN(2)]
		if m := r.client.Map().Bucket(1, bucket); m != nil {
			r.askForOpenSets(t, m)
		}
	case n < 19:
		r.note("cleaning of tenant %v", tenant.id)
		if err := r.CleanTombstones(t.Context(), tenant.id); err != nil {
			t.Fatalf("%v\n%q", err, r.history)
		}
	default:
		r.note("flushes")
		for _, replica := range r.allReplicas() {
			if g := replica.Group(); g != nil {
				// One that is swapped for its file just now is flushed no more.
				_ = g.Flush(t.Context())
			}
		}
	}
}

func (r *modelRun) note(format string, args ...any) {
	r.history = append(r.history, fmt.Sprintf(format, args...))
}

// askForOpenSets asks for the seal of whatever is open in a bucket, and returns it.
func (r *modelRun) askForOpenSets(t *testing.T, b *metasvc.Bucket) (open []quorate.ReplicaSetID) {
	t.Helper()
	for _, set := range slices.Concat(b.Sets, b.Overlays) {
		if set != nil && set.Writable() {
			open = append(open, set.ID)
		}
	}
	if err := r.client.RequestSeal(t.Context(), open); err != nil {
		t.Fatalf("%v\n%q", err, r.history)
	}
	return open
}

func (r *modelRun) randomTime() int64 {
	if r.rng.IntN(3) == 0 {
		return at(-r.rng.Int64N(1800)) // of the current bucket
	}
	return at(-r.rng.Int64N(900) * 10) // of any
}

func (r *modelRun) randomWrite(t *testing.T, tenant *modelTenant) {
	t.Helper()
	s := &sent{}
	for range 1 + r.rng.IntN(3) {
		m := metric{labels: modelLabels(r.rng.IntN(modelSeries))}
		for range 1 + r.rng.IntN(4) {
			r.value++
			m.floats = append(m.floats, float{r.randomTime(), r.value})
		}
		s.metrics = append(s.metrics, m)
	}
	r.note("write of tenant %v: %v", tenant.id, s.metrics)
	// Rows that were refused are those that the model passes over as well.
	if _, err := r.Append(t.Context(), tenant.id, s.request()); err != nil && quorate.KindOf(err) != quorate.Invalid {
		t.Fatalf("%v\n%q", err, r.history)
	}
	for _, m := range s.metrics {
		for _, f := range m.floats {
			tenant.write(m.labels, f)
		}
	}
}

func (r *modelRun) randomDelete(t *testing.T, tenant *modelTenant) {
	t.Helper()
	mint := r.randomTime()
	maxt := mint + r.rng.Int64N(2400_000)
	matcher := labels.MustNewMatcher(labels.MatchRegexp, "i", fmt.Sprintf("%d|%d", r.rng.IntN(modelSeries), r.rng.IntN(modelSeries)))
	r.note("deletion of tenant %v: [%d, %d] of %v", tenant.id, (mint-now.UnixMilli())/1000, (maxt-now.UnixMilli())/1000, matcher)
	if err := r.DeleteSeries(t.Context(), tenant.id, mint, maxt, matcher); err != nil {
		t.Fatalf("%v\n%q", err, r.history)
	}
	tenant.delete(mint, maxt, matcher)
}

// compare reads all tenants whole, and a part of one by each way of reading.
func (r *modelRun) compare(t *testing.T) {
	t.Helper()
	for _, tenant := range r.tenants {
		mint, maxt := at(-9000), at(0)
		if r.rng.IntN(2) == 0 {
			mint = r.randomTime()
			maxt = mint + r.rng.Int64N(3600_000)
		}
		want := tenant.read(max(mint, tenant.oldest), maxt)
		for way, read := range map[string]func(context.Context, quorate.TenantID, int64, int64) (storage.SeriesSet, func() error, error){
			"samples": r.samples, "chunks": r.chunks,
		} {
			set, done, err := read(t.Context(), tenant.id, mint, maxt)
			if err != nil {
				t.Fatalf("%v\n%q", err, r.history)
			}
			// Of a chunk that reaches into the range, no sample need lie in it.
			got := slices.DeleteFunc(linesOf(t, set), func(line string) bool { return strings.HasSuffix(line, ":") })
			if err := done(); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%s of tenant %v in [%d, %d] are\n%q\nwant\n%q\nand now\n%q\nafter\n%q", way, tenant.id, (mint-now.UnixMilli())/1000, (maxt-now.UnixMilli())/1000,
					got, want, r.readAs(t, tenant.id), r.history)
			}
		}
	}
}

func (r *modelRun) readAs(t testing.TB, tenant quorate.TenantID) []string {
	t.Helper()
	set, done, err := r.samples(t.Context(), tenant, at(-9000), at(0))
	if err != nil {
		t.Fatal(err)
	}
	lines := linesOf(t, set)
	if err := done(); err != nil {
		t.Fatal(err)
	}
	return lines
}

func (r *modelRun) samples(ctx context.Context, tenant quorate.TenantID, mint, maxt int64) (storage.SeriesSet, func() error, error) {
	q, err := r.Querier(ctx, tenant, mint, maxt)
	if err != nil {
		return nil, nil, err
	}
	return q.Select(ctx, true, nil, named("m")), q.Close, nil
}

func (r *modelRun) chunks(ctx context.Context, tenant quorate.TenantID, mint, maxt int64) (storage.SeriesSet, func() error, error) {
	q, err := r.ChunkQuerier(ctx, tenant, mint, maxt)
	if err != nil {
		return nil, nil, err
	}
	return storage.NewSeriesSetFromChunkSeriesSet(q.Select(ctx, true, nil, named("m"))), q.Close, nil
}

// Writers, a deleter and readers at once, while buckets are sealed over and
// over: nothing acknowledged is ever missing, and nothing deleted ever shows.
func TestNothingIsLostWhileSetsAreReplaced(t *testing.T) {
	r := newRig(t)
	r.keep(t)
	ctx, stop := context.WithCancel(t.Context())
	var acknowledged atomic.Int64
	// Each worker owns a series and calls its step with rising numbers.
	var workers errgroup.Group
	work := func(series int, step func(l labels.Labels, n int64) (want int, err error)) {
		workers.Go(func() error {
			l := modelLabels(series)
			for n := int64(0); ctx.Err() == nil; n++ {
				want, err := step(l, n)
				if err != nil {
					return err
				}
				acknowledged.Add(1)
				got, err := r.count(t.Context(), l)
				if err != nil {
					return err
				}
				if got != want {
					return fmt.Errorf("series %d: %d samples are read, want %d", series, got, want)
				}
			}
			return nil
		})
	}
	write := func(l labels.Labels, n int64) (int, error) {
		_, err := r.Append(t.Context(), r.tenant, (&sent{metrics: []metric{{l, []float{{at(-3600) + n, float64(n)}}}}}).request())
		return int(n + 1), err
	}
	for series := range 3 {
		work(series, write)
	}
	work(99, func(l labels.Labels, n int64) (int, error) {
		if _, err := write(l, n); err != nil {
			return 0, err
		}
		return 0, r.DeleteSeries(t.Context(), r.tenant, at(-7200), at(0), labels.MustNewMatcher(labels.MatchEqual, "i", "99"))
	})
	for sealed := 0; sealed < 16; {
		seen := acknowledged.Load()
		testwait.For(t, "10 more steps", func() bool { return acknowledged.Load() > seen+10 })
		asked := (&modelRun{rig: r}).askForOpenSets(t, r.client.Map().Bucket(1, at(-3600)))
		testwait.For(t, "the sets to be sealed", func() bool {
			return !slices.ContainsFunc(asked, func(id quorate.ReplicaSetID) bool {
				set := r.client.Map().Set(id)
				return set != nil && set.State == metasvc.ReplicaSetOpen
			})
		})
		sealed += len(asked)
	}
	stop()
	if err := workers.Wait(); err != nil {
		t.Fatal(err)
	}
}

// count returns how many samples a series has.
func (r *rig) count(ctx context.Context, l labels.Labels) (n int, err error) {
	q, err := r.Querier(ctx, r.tenant, at(-7200), at(0))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	set := q.Select(ctx, true, nil, labels.MustNewMatcher(labels.MatchEqual, "i", l.Get("i")))
	for set.Next() {
		it := set.At().Iterator(nil)
		for it.Next() != 0 {
			n++
		}
		if it.Err() != nil {
			return 0, it.Err()
		}
	}
	return n, set.Err()
}
