package router

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/tsdbshard"
)

func TestSealedSamplesReadBackAndLateOnesGoToAnOverlay(t *testing.T) {
	r := newRig(t)
	r.keep(t)
	l := labels.FromStrings("__name__", "m")
	other := labels.FromStrings("__name__", "m", "other", "1")
	r.mustWrite(t, metric{l, []float{{at(-3600), 1}, {at(-3500), 2}, {at(-10), 3}}})
	r.seal(t, at(-3600))
	expect(t, r.read(t, named("m")), `{__name__="m"}: -3600=1 -3500=2 -10=3`)
	// At a time of the base, and between its own.
	r.mustWrite(t, metric{l, []float{{at(-3600), 9}, {at(-3550), 4}}}, metric{other, []float{{at(-3600), 5}}})
	want := []string{`{__name__="m"}: -3600=1 -3550=4 -3500=2 -10=3`, `{__name__="m", other="1"}: -3600=5`}
	expect(t, r.read(t, named("m")), want...)
	r.seal(t, at(-3600))
	expect(t, r.read(t, named("m")), want...)
	r.mustWrite(t, metric{other, []float{{at(-3590), 6}}}) // over the merged one
	expect(t, r.read(t, named("m")), want[0], fmt.Sprint(want[1], " -3590=6"))
}

func TestLateSeriesAreKnownByRefInTheirOverlay(t *testing.T) {
	r := newRig(t)
	r.keep(t)
	l := labels.FromStrings("__name__", "m")
	r.mustWrite(t, metric{l, []float{{at(-3600), 1}, {at(0), 1}}})
	r.seal(t, at(-3600))
	for i, want := range []int{1, 0, 0} {
		s := r.mustWrite(t, metric{l, []float{{at(-3500 + int64(i)), float64(i)}, {at(1 + int64(i)), 1}}})
		if s.parsed != want {
			t.Errorf("late write %d: labels were parsed %d times, want %d", i, s.parsed, want)
		}
	}
}

// layersOf counts the sets that have samples of a time's bucket.
func (r *rig) layersOf(ts int64) (n int) {
	b := r.client.Map().Bucket(1, ts)
	for shard := range b.Sets {
		n++
		if _, over := b.Readable(shard); over != nil {
			n++
		}
	}
	return n
}

func TestAWriteWaitsForASealThatIsUnderWay(t *testing.T) {
	r := newRig(t)
	k := r.keep(t)
	l := labels.FromStrings("__name__", "m")
	r.mustWrite(t, metric{l, []float{{at(-3600), 1}}})
	k.stop("judge", true)
	r.askForSeal(t, at(-3600))
	testwait.For(t, "the shards to be sealed in their logs", func() bool {
		return !slices.ContainsFunc(r.client.Map().Bucket(1, at(-3600)).Sets, func(s *metasvc.ReplicaSet) bool { return len(s.Reports) == 0 })
	})
	applied := r.appliedIn(t, at(-3600))
	done := make(chan error, 1)
	go func() {
		_, err := r.Append(t.Context(), r.tenant, (&sent{metrics: []metric{{l, []float{{at(-3500), 2}, {at(0), 3}}}}}).request())
		done <- err
	}()
	testwait.For(t, "a few tries", func() bool { return testutil.ToFloat64(r.metrics.retries) > 4 })
	select {
	case err := <-done:
		t.Fatalf("the write ended with %v while the seal was under way", err)
	default:
	}
	expect(t, r.read(t, named("m")), `{__name__="m"}: -3600=1 0=3`) // the other bucket's is stored
	if got := r.appliedIn(t, at(-3600)); got != applied {
		t.Errorf("tries that must fail went through the log: index %d, was %d", got, applied)
	}
	k.stop("judge", false)
	r.do(t) // shows the keeper another map
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	expect(t, r.read(t, named("m")), `{__name__="m"}: -3600=1 -3500=2 0=3`)
}

// do commits a command that changes nothing but the map's version.
func (r *rig) do(t testing.TB) {
	t.Helper()
	r.leader.do(t, metasvc.CreateTenant{Name: fmt.Sprint("t", r.client.Map().Version), Policy: 1})
}

// appliedIn adds up the applied indexes of a bucket's shards.
func (r *rig) appliedIn(t testing.TB, ts int64) (sum uint64) {
	t.Helper()
	for _, set := range r.client.Map().Bucket(1, ts).Sets {
		replica, err := r.replicas.Get(set.ID)
		if err != nil {
			t.Fatal(err)
		}
		sum += replica.Group().Status().AppliedIndex
	}
	return sum
}

func TestAWriteGivesUpOnASealAtItsDeadline(t *testing.T) {
	r := newRig(t)
	k := r.keep(t)
	k.stop("judge", true)
	r.askForSeal(t, at(-3600))
	testwait.For(t, "the shards to be sealed in their logs", func() bool {
		return !slices.ContainsFunc(r.client.Map().Bucket(1, at(-3600)).Sets, func(s *metasvc.ReplicaSet) bool { return len(s.Reports) == 0 })
	})
	r.writeTimeout = 300 * time.Millisecond
	result, _, err := r.write(t, metric{labels.FromStrings("__name__", "m"), []float{{at(-3600), 1}, {at(0), 2}}})
	if quorate.KindOf(err) != quorate.Unavailable || result.Floats != 1 {
		t.Errorf("got %+v, %v; want the current row stored and Unavailable", result, err)
	}
}

func TestAnOverlayOverTheBudgetFailsOnlyItsOwnRows(t *testing.T) {
	r := newRig(t, func(c *metasvc.ClientConfig) { c.MaxOverlays = 1 })
	r.keep(t)
	var both []metric // series of both shards
	for i := range 20 {
		both = append(both, metric{labels.FromStrings("__name__", "m", "i", fmt.Sprintf("%02d", i)), []float{{at(-3600), 1}, {at(-10), 2}}})
	}
	r.seal(t, at(-3600))
	result, _, err := r.write(t, both...)
	var e *quorate.Error
	if !errors.As(err, &e) || e.Kind != quorate.Unavailable || e.RetryAfter <= 0 || !strings.Contains(err.Error(), "overlays") {
		t.Fatalf("got %v, want Unavailable for the budget, with a time to retry after", err)
	}
	late := result.Floats - len(both)
	if late <= 0 || late >= len(both) {
		t.Errorf("%d rows are stored; want the %d current ones and the late ones of one shard", result.Floats, len(both))
	}
	if got := len(r.read(t, named("m"))); got != len(both) {
		t.Errorf("%d series are read, want %d", got, len(both))
	}
}

func TestAQueryThatWasBegunFinishesOnWhatWasReplaced(t *testing.T) {
	r := newRig(t)
	r.keep(t)
	l := labels.FromStrings("__name__", "m")
	r.mustWrite(t, metric{l, []float{{at(-3600), 1}}})
	old, err := r.Querier(t.Context(), r.tenant, at(-7200), at(0))
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	r.seal(t, at(-3600))
	older, err := r.Querier(t.Context(), r.tenant, at(-7200), at(0))
	if err != nil {
		t.Fatal(err)
	}
	defer older.Close()
	r.mustWrite(t, metric{l, []float{{at(-3500), 2}}})
	r.seal(t, at(-3600))
	testwait.For(t, "the replaced set to be gone", func() bool { return r.layersOf(at(-3600)) == 2 && len(r.client.Map().Sets()) == 8 })
	for name, q := range map[string]storage.Querier{"of the open set": old, "of the first file": older} {
		set := q.Select(t.Context(), true, nil, named("m"))
		if !set.Next() || set.Err() != nil {
			t.Fatalf("a view %s shows nothing: %v", name, set.Err())
		}
		it := set.At().Iterator(nil)
		if it.Next() != chunkenc.ValFloat || it.AtT() != at(-3600) || it.Next() != chunkenc.ValNone || it.Err() != nil {
			t.Errorf("a view %s does not show the one sample it was taken with", name)
		}
	}
	expect(t, r.read(t, named("m")), `{__name__="m"}: -3600=1 -3500=2`)
}

func TestADeletionOnASetWhoseFileIsNotThereYetIsWaitedFor(t *testing.T) {
	r := newRig(t)
	k := r.keep(t)
	l := labels.FromStrings("__name__", "m")
	r.mustWrite(t, metric{l, []float{{at(-3600), 1}, {at(-3500), 2}}})
	k.stop("swap", true)
	r.askForSeal(t, at(-3600))
	testwait.For(t, "the bucket to be sealed in the map", func() bool {
		return !slices.ContainsFunc(r.client.Map().Bucket(1, at(-3600)).Sets, func(s *metasvc.ReplicaSet) bool { return s.State != metasvc.ReplicaSetSealed })
	})
	expect(t, r.read(t, named("m")), `{__name__="m"}: -3600=1 -3500=2`)
	if err := r.DeleteSeries(t.Context(), r.tenant, at(-3600), at(-3600), named("m")); err != nil {
		t.Fatal(err)
	}
	r.queryTimeout = 100 * time.Millisecond
	if _, err := r.Querier(t.Context(), r.tenant, at(-7200), at(0)); quorate.KindOf(err) != quorate.Unavailable {
		t.Errorf("a query of deleted samples got %v before the file was there, want Unavailable", err)
	}
	k.stop("swap", false)
	r.do(t)
	r.queryTimeout = testwait.Deadline
	expect(t, r.read(t, named("m")), `{__name__="m"}: -3500=2`)
}

func TestProtocol15ABucketThatIsBeingDroppedIsNeitherReadNorWritten(t *testing.T) {
	r := newRig(t)
	l := labels.FromStrings("__name__", "m")
	r.mustWrite(t, metric{l, []float{{at(-7100), 1}, {at(-1900), 2}, {at(0), 3}}})
	policy := metasvc.DefaultPolicy()
	policy.Span, policy.LateWindow, policy.Retention = time.Hour, time.Hour, 80*time.Minute // the first bucket ended 90 minutes ago
	r.leader.do(t, metasvc.AlterPolicy{ID: 1, Term: 1, Policy: policy})
	r.leader.do(t, metasvc.BeginDrop{Bucket: r.client.Map().Bucket(1, at(-7100)).ID, Term: 1, Now: now.UnixMilli()})
	testwait.For(t, "the drop in the map", func() bool { return r.client.Map().Policy(1).Horizon != metasvc.NoHorizon })
	policy.Retention = 30 * 24 * time.Hour // never brings it back
	r.leader.do(t, metasvc.AlterPolicy{ID: 1, Term: 1, Policy: policy})
	testwait.For(t, "the longer retention in the map", func() bool { return r.client.Map().Policy(1).Retention == policy.Retention })
	expect(t, r.read(t, named("m")), `{__name__="m"}: -1900=2 0=3`)
	result, _, err := r.write(t, metric{l, []float{{at(-7000), 4}, {at(1), 5}}})
	if quorate.KindOf(err) != quorate.Invalid || result.Floats != 1 || result.Refused != 1 {
		t.Errorf("got %+v, %v; want the dropped bucket's row refused and the other stored", result, err)
	}
}

func TestProtocol13ATenantsOwnRetentionHidesSamplesAndRefusesThem(t *testing.T) {
	r := newRig(t)
	r.keep(t)
	l := labels.FromStrings("__name__", "m")
	r.mustWrite(t, metric{l, []float{{at(-7200), 1}, {at(-3601), 2}, {at(-3600), 3}, {at(0), 4}}})
	if err := r.client.SetTenantRetention(t.Context(), r.tenant, time.Hour); err != nil {
		t.Fatal(err)
	}
	want := `{__name__="m"}: -3600=3 0=4`
	for _, sealed := range []bool{false, true} {
		if sealed {
			r.seal(t, at(-3600))
		}
		expect(t, r.read(t, named("m")), want)
		expect(t, r.readHinted(t, &storage.SelectHints{Start: at(-7200), End: at(0), DisableTrimming: true}), want)
		expect(t, r.readHinted(t, &storage.SelectHints{Start: at(-7200), End: at(-3601)}))
		expect(t, r.readChunks(t, nil), want)
		expect(t, r.readChunks(t, &storage.SelectHints{Start: at(-7200), End: at(0), DisableTrimming: true}), want)
		expect(t, r.readChunks(t, &storage.SelectHints{Start: at(-7200), End: at(-3601)}))
	}
	result, _, err := r.write(t, metric{l, []float{{at(-3601), 9}, {at(-3599), 5}}})
	if quorate.KindOf(err) != quorate.Invalid || !strings.Contains(err.Error(), "tenant's retention of 1h") || result.Floats != 1 || result.Refused != 1 {
		t.Errorf("got %+v, %v; want the row before the tenant's retention refused, the other stored", result, err)
	}
	if err := r.client.SetTenantRetention(t.Context(), r.tenant, 0); err != nil {
		t.Fatal(err)
	}
	// The seal left out what was hidden then; the first bucket was not sealed.
	expect(t, r.read(t, named("m")), `{__name__="m"}: -7200=1 -3600=3 -3599=5 0=4`)
}

// readHinted is read with hints, over all time.
func (r *rig) readHinted(t testing.TB, hints *storage.SelectHints) []string {
	t.Helper()
	q, err := r.Querier(t.Context(), r.tenant, math.MinInt64, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	return linesOf(t, q.Select(t.Context(), true, hints, named("m")))
}

// readChunks is readHinted by chunks.
func (r *rig) readChunks(t testing.TB, hints *storage.SelectHints) []string {
	t.Helper()
	q, err := r.ChunkQuerier(t.Context(), r.tenant, math.MinInt64, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	return linesOf(t, storage.NewSeriesSetFromChunkSeriesSet(q.Select(t.Context(), true, hints, named("m"))))
}

// unconfirmedMeta is a Meta whose map lease has run out.
type unconfirmedMeta struct{ Meta }

func (unconfirmedMeta) MapCurrent() bool { return false }

func TestProtocol9AnswersOfAnUnconfirmedMapSaySo(t *testing.T) {
	r := newRig(t)
	r.mustWrite(t, metric{labels.FromStrings("__name__", "m"), []float{{at(0), 1}}})
	warns := func() map[string]bool {
		q, err := r.Querier(t.Context(), r.tenant, at(-10), at(0))
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		c, err := r.ChunkQuerier(t.Context(), r.tenant, at(-10), at(0))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		set, chunks := q.Select(t.Context(), true, nil, named("m")), c.Select(t.Context(), true, nil, named("m"))
		for set.Next() || chunks.Next() {
			continue
		}
		_, names, _ := q.LabelNames(t.Context(), nil)
		_, values, _ := q.LabelValues(t.Context(), "__name__", nil)
		is := func(all map[string]error) bool {
			for text := range all {
				if strings.HasPrefix(text, "map_unconfirmed: ") {
					return true
				}
			}
			return false
		}
		return map[string]bool{"samples": is(set.Warnings()), "chunks": is(chunks.Warnings()), "names": is(names), "values": is(values)}
	}
	testwait.For(t, "the map lease", r.client.MapCurrent)
	for what, warned := range warns() {
		if warned {
			t.Errorf("an answer of %s warns of a map that is current", what)
		}
	}
	r.meta = unconfirmedMeta{r.meta}
	for what, warned := range warns() {
		if !warned {
			t.Errorf("an answer of %s says nothing of a map that is unconfirmed", what)
		}
	}
}

func TestExemplarsAndMetadataOfBothLayers(t *testing.T) {
	r := newRig(t)
	r.keep(t)
	add := func(ts int64, help string, exemplars ...wire.RequestExemplar) {
		t.Helper()
		s := &sent{metrics: []metric{{labels.FromStrings("__name__", "m"), []float{{ts, 1}}}}}
		in := s.request()
		in.Exemplars = exemplars
		in.Series[0].ExemplarEnd = uint32(len(exemplars))
		in.Metadata = []wire.Metadata{{Family: "m", Type: "counter", Help: help}}
		if _, err := r.Append(t.Context(), r.tenant, in); err != nil {
			t.Fatal(err)
		}
	}
	add(at(-3600), "a", wire.RequestExemplar{Timestamp: at(-3600), Value: 1}, wire.RequestExemplar{Timestamp: at(-3400), Value: 3})
	r.seal(t, at(-3600))
	add(at(-3599), "b", wire.RequestExemplar{Timestamp: at(-3500), Value: 2}, wire.RequestExemplar{Timestamp: at(-3400), Value: 3})
	q, err := r.ExemplarQuerier(t.Context(), r.tenant)
	if err != nil {
		t.Fatal(err)
	}
	got, err := q.Select(at(-3600), at(0), []*labels.Matcher{named("m")})
	if err != nil || len(got) != 1 || len(got[0].Exemplars) != 3 {
		t.Fatalf("exemplars are %+v, %v; want three of one series", got, err)
	}
	for i, want := range []float64{1, 2, 3} {
		if got[0].Exemplars[i].Value != want {
			t.Errorf("exemplar %d is %+v, want them in order of time", i, got[0].Exemplars[i])
		}
	}
	if md, _, err := r.Metadata(t.Context(), r.tenant, "m"); err != nil || md["m"].Help != "b" {
		t.Errorf("metadata is %+v, %v; want the newest", md, err)
	}
	if stats, _, err := r.Stats(t.Context(), r.tenant, "__name__", 10); err != nil || stats.NumSeries > 1 {
		t.Errorf("stats are %+v, %v", stats, err)
	}
}

func TestASealedReplicaTakesNothingAndNeedsNoGroup(t *testing.T) {
	r := newRig(t)
	r.keep(t)
	r.mustWrite(t, metric{labels.FromStrings("__name__", "m"), []float{{at(-3600), 1}}})
	r.seal(t, at(-3600))
	for _, set := range r.client.Map().Bucket(1, at(-3600)).Sets {
		replica, err := r.replicas.Get(set.ID)
		if err != nil {
			t.Fatal(err)
		}
		if replica.Group() != nil || replica.Shard() != nil || replica.Sealed() == nil || replica.Set() != set.ID {
			t.Errorf("the replica of sealed set %v still has a group", set.ID)
		}
		if result, err := replica.Write(t.Context(), nil); err != nil || result.Status != wire.BatchSealed {
			t.Errorf("a write got %+v, %v; want it refused as sealed", result, err)
		}
		if result, err := replica.Delete(t.Context(), nil); err != nil || !result.Sealed {
			t.Errorf("a deletion got %+v, %v; want it refused as sealed", result, err)
		}
		if err := replica.Sealed().Close(); err != nil {
			t.Fatal(err)
		}
		_, err = replica.View(t.Context(), nil)
		if !isRetriable(err) || !errors.Is(err, tsdbshard.ErrNotOpen) {
			t.Errorf("a view of a closed file got %v, want a retriable error", err)
		}
	}
}

// lateMeta shows an older map for the first few looks.
type lateMeta struct {
	Meta
	old   *metasvc.Map
	looks int
}

func (m *lateMeta) TenantMap(ctx context.Context, id quorate.TenantID) (metasvc.Tenant, *metasvc.Map, error) {
	t, current, err := m.Meta.TenantMap(ctx, id)
	if m.looks--; m.looks >= 0 {
		return t, m.old, err
	}
	return t, current, err
}

func TestAQueryOfASetThatIsGoneIsRoutedAgainByANewerMap(t *testing.T) {
	r := newRig(t)
	r.keep(t)
	l := labels.FromStrings("__name__", "m")
	r.mustWrite(t, metric{l, []float{{at(-3600), 1}}})
	r.seal(t, at(-3600))
	r.mustWrite(t, metric{l, []float{{at(-3500), 2}}})
	old := r.client.Map()
	r.seal(t, at(-3600))
	testwait.For(t, "the replaced set to be gone", func() bool {
		return !slices.ContainsFunc(old.Bucket(1, at(-3600)).Sets, func(s *metasvc.ReplicaSet) bool {
			_, err := r.replicas.Get(s.ID)
			return err == nil && r.client.Map().Set(s.ID) == nil
		}) && len(r.client.Map().Sets()) == 8
	})
	r.meta = &lateMeta{Meta: r.meta, old: old, looks: 2}
	expect(t, r.read(t, named("m")), `{__name__="m"}: -3600=1 -3500=2`)
}
