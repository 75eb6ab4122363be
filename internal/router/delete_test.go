package router

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/metasvc"
)

func (r *rig) mustDelete(t testing.TB, mint, maxt int64, matchers ...*labels.Matcher) {
	t.Helper()
	if err := r.DeleteSeries(t.Context(), r.tenant, mint, maxt, matchers...); err != nil {
		t.Fatal(err)
	}
}

// deletions counts the deletions that the metadata keep for a time's bucket.
func (r *rig) deletions(ts int64) (n int) {
	for _, set := range r.client.Map().Bucket(1, ts).Sets {
		n += len(r.client.Map().DeletionsOf(set.ID))
	}
	return n
}

// The life of a bucket in which samples are deleted: before it is sealed, from
// the file, from the file and the overlay over it, and after they were merged.
func TestDeletedSamplesStayDeleted(t *testing.T) {
	r := newRig(t)
	r.keep(t)
	a, b := labels.FromStrings("__name__", "m", "s", "a"), labels.FromStrings("__name__", "m", "s", "b")
	reads := func(step string, wantA, wantB string) {
		t.Helper()
		t.Log(step)
		expect(t, r.read(t, named("m")), `{__name__="m", s="a"}:`+wantA, `{__name__="m", s="b"}:`+wantB)
	}
	onlyA := labels.MustNewMatcher(labels.MatchRegexp, "s", "a|x")
	for i := range int64(6) {
		r.mustWrite(t, metric{a, []float{{at(-3600 + i), 1}, {at(-60 + i), 1}}}, metric{b, []float{{at(-3600 + i), 1}}})
	}
	r.mustDelete(t, at(-3600), at(-3599), onlyA, named("m"))
	reads("deleted from open sets", " -3598=1 -3597=1 -3596=1 -3595=1 -60=1 -59=1 -58=1 -57=1 -56=1 -55=1", " -3600=1 -3599=1 -3598=1 -3597=1 -3596=1 -3595=1")
	r.mustWrite(t, metric{a, []float{{at(-3600), 2}}})
	reads("written again", " -3600=2 -3598=1 -3597=1 -3596=1 -3595=1 -60=1 -59=1 -58=1 -57=1 -56=1 -55=1", " -3600=1 -3599=1 -3598=1 -3597=1 -3596=1 -3595=1")
	r.seal(t, at(-3600))
	reads("sealed", " -3600=2 -3598=1 -3597=1 -3596=1 -3595=1 -60=1 -59=1 -58=1 -57=1 -56=1 -55=1", " -3600=1 -3599=1 -3598=1 -3597=1 -3596=1 -3595=1")
	r.mustDelete(t, at(-3598), at(-59), onlyA)
	reads("deleted from a file and a log", " -3600=2 -58=1 -57=1 -56=1 -55=1", " -3600=1 -3599=1 -3598=1 -3597=1 -3596=1 -3595=1")
	r.mustWrite(t, metric{a, []float{{at(-3597), 3}, {at(-3590), 3}}}, metric{b, []float{{at(-3597), 3}, {at(-3590), 3}}})
	reads("late ones over it, one in a deleted one's place", " -3600=2 -3597=3 -3590=3 -58=1 -57=1 -56=1 -55=1", " -3600=1 -3599=1 -3598=1 -3597=1 -3596=1 -3595=1 -3590=3")
	r.mustDelete(t, at(-3590), at(-3590), named("m"))
	reads("deleted from the overlay", " -3600=2 -3597=3 -58=1 -57=1 -56=1 -55=1", " -3600=1 -3599=1 -3598=1 -3597=1 -3596=1 -3595=1")
	r.seal(t, at(-3600))
	reads("merged", " -3600=2 -3597=3 -58=1 -57=1 -56=1 -55=1", " -3600=1 -3599=1 -3598=1 -3597=1 -3596=1 -3595=1")
	if n := r.deletions(at(-3600)); n != 0 {
		t.Errorf("%d deletions are kept for a file they were folded into", n)
	}
	r.mustDelete(t, math.MinInt64, math.MaxInt64, labels.MustNewMatcher(labels.MatchEqual, "s", "b"))
	expect(t, r.read(t, named("m")), `{__name__="m", s="a"}: -3600=2 -3597=3 -58=1 -57=1 -56=1 -55=1`)
}

func TestDeletedRangesMayReachOverAQuerysOwn(t *testing.T) {
	r := newRig(t)
	r.keep(t)
	m := metric{labels: labels.FromStrings("__name__", "m")}
	for i := range int64(20) {
		m.floats = append(m.floats, float{at(-3600 + i), 1})
	}
	r.mustWrite(t, m)
	r.seal(t, at(-3600))
	deleted := [][2]int64{{-3597, -3596}, {-3593, -3591}, {-3588, -3587}}
	for _, d := range deleted {
		r.mustDelete(t, at(d[0]), at(d[1]), named("m"))
	}
	for from := int64(-3602); from < -3578; from++ {
		for to := from; to < -3578; to++ {
			want := `{__name__="m"}:`
			for i := max(from, -3600); i <= min(to, -3581); i++ {
				if !slices.ContainsFunc(deleted, func(d [2]int64) bool { return d[0] <= i && i <= d[1] }) {
					want += fmt.Sprintf(" %d=1", i)
				}
			}
			hints := &storage.SelectHints{Start: at(from), End: at(to)}
			for way, got := range map[string][]string{"samples": r.readHinted(t, hints), "chunks": r.readChunks(t, hints)} {
				if got = append(got, `{__name__="m"}:`); got[0] != want {
					t.Fatalf("%s of [%d, %d] are %q, want %q", way, from, to, got[0], want)
				}
			}
		}
	}
}

func TestADeletionOfNothingBurdensNoFile(t *testing.T) {
	r := newRig(t)
	r.keep(t)
	r.mustWrite(t, metric{labels.FromStrings("__name__", "m"), []float{{at(-3600), 1}}})
	r.seal(t, at(-3600))
	r.mustDelete(t, math.MinInt64, math.MaxInt64, named("other"))
	r.mustDelete(t, at(-60), at(0), named("m")) // of another bucket
	if n := r.deletions(at(-3600)); n != 0 {
		t.Errorf("%d deletions are kept, want none", n)
	}
	for range 3 {
		r.mustDelete(t, at(-3600), at(-3500), named("m"))
	}
	if n := r.deletions(at(-3600)); n != 1 {
		t.Errorf("%d deletions are kept of one asked for three times, want one", n)
	}
	expect(t, r.read(t, named("m")))
}

func TestADeletionOnFilesReturnsWhenItIsEffective(t *testing.T) {
	r := newRig(t)
	k := r.keep(t)
	r.mustWrite(t, metric{labels.FromStrings("__name__", "m"), []float{{at(-3600), 1}, {at(0), 2}}})
	r.seal(t, at(-3600))
	k.stop("effect", true)
	done := make(chan error, 1)
	go func() { done <- r.DeleteSeries(t.Context(), r.tenant, at(-3600), at(-3600), named("m")) }()
	testwait.For(t, "the deletion in the map", func() bool { return r.deletions(at(-3600)) == 1 })
	expect(t, r.read(t, named("m")), `{__name__="m"}: 0=2`) // already
	select {
	case err := <-done:
		t.Fatalf("the deletion ended with %v while it was pending", err)
	default:
	}
	k.stop("effect", false)
	r.do(t)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := testutil.ToFloat64(r.metrics.deletions.WithLabelValues(resultOK)); got != 1 {
		t.Errorf("%v deletions are counted, want one", got)
	}
}

func TestADeletionWaitsForASealThatIsUnderWay(t *testing.T) {
	r := newRig(t)
	k := r.keep(t)
	l := labels.FromStrings("__name__", "m")
	r.mustWrite(t, metric{l, []float{{at(-3600), 1}, {at(-3599), 1}, {at(0), 2}}})
	for _, step := range []string{"of a first set", "of an overlay"} {
		k.stop("judge", true)
		r.askForSeal(t, at(-3600))
		testwait.For(t, "the seal "+step+" in the log", func() bool {
			b := r.client.Map().Bucket(1, at(-3600))
			return !slices.ContainsFunc(slices.Concat(b.Sets, b.Overlays), func(s *metasvc.ReplicaSet) bool {
				return s != nil && s.State == metasvc.ReplicaSetOpen && len(s.Reports) == 0
			})
		})
		done := make(chan error, 1)
		go func() { done <- r.DeleteSeries(t.Context(), r.tenant, at(-3600), at(-3600), named("m")) }()
		r.do(t)
		select {
		case err := <-done:
			t.Fatalf("%s: the deletion ended with %v while the seal was under way", step, err)
		case <-t.Context().Done():
		default:
		}
		k.stop("judge", false)
		r.do(t)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		expect(t, r.read(t, named("m")), `{__name__="m"}: -3599=1 0=2`)
		r.mustWrite(t, metric{l, []float{{at(-3600), 5}}}) // late, to be deleted in the next round
		expect(t, r.read(t, named("m")), `{__name__="m"}: -3600=5 -3599=1 0=2`)
	}
}

func TestADeletionOnABaseIsNotLostToTheSealOfItsOverlay(t *testing.T) {
	r := newRig(t)
	k := r.keep(t)
	l := labels.FromStrings("__name__", "m")
	r.mustWrite(t, metric{l, []float{{at(-3600), 1}, {at(-3599), 1}}})
	r.seal(t, at(-3600))
	r.mustWrite(t, metric{l, []float{{at(-3500), 2}}})
	k.stop("seal", true) // the metadata want it, and the log does not have it yet
	b := r.client.Map().Bucket(1, at(-3600))
	overlays := slices.DeleteFunc(slices.Clone(b.OverlayIDs), func(id quorate.ReplicaSetID) bool { return id == 0 })
	if err := r.client.RequestSeal(t.Context(), overlays); err != nil {
		t.Fatal(err)
	}
	testwait.For(t, "the intent to seal", func() bool { return r.client.Map().Set(overlays[0]).Sealing() != nil })
	done := make(chan error, 1)
	go func() { done <- r.DeleteSeries(t.Context(), r.tenant, at(-3600), at(-3500), named("m")) }()
	testwait.For(t, "the deletion in the overlay's log", func() bool { return !slices.Contains(r.read(t, named("m")), `{__name__="m"}: -3600=1 -3599=1 -3500=2`) })
	expect(t, r.read(t, named("m")), `{__name__="m"}: -3600=1 -3599=1`)
	k.stop("seal", false)
	r.do(t)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	expect(t, r.read(t, named("m")))
}

func TestADeletionIsInALogOnceHoweverOftenItIsTried(t *testing.T) {
	r := newRig(t)
	r.writeTimeout = 300 * time.Millisecond
	sets := r.client.Map().Bucket(1, at(0)).Sets
	there, err := r.replicas.Get(sets[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	r.replicas.Remove(sets[1].ID)
	view, err := there.View(t.Context(), nil) // brings the entries that every leader begins with
	if err != nil {
		t.Fatal(err)
	}
	view.Close()
	before := there.Group().Status().AppliedIndex
	if err := r.DeleteSeries(t.Context(), r.tenant, at(-10), at(0), named("m")); quorate.KindOf(err) != quorate.Unavailable {
		t.Fatalf("got %v, want Unavailable", err)
	}
	if got := there.Group().Status().AppliedIndex; got != before+1 {
		t.Errorf("the log of the set that is there grew by %d entries, want one", got-before)
	}
}

func TestDeletionsThatBreakARuleAreInvalid(t *testing.T) {
	r := newRig(t)
	for name, err := range map[string]error{
		"no matchers":       r.DeleteSeries(t.Context(), r.tenant, 0, 1),
		"an empty range":    r.DeleteSeries(t.Context(), r.tenant, 1, 0, named("m")),
		"too many matchers": r.DeleteSeries(t.Context(), r.tenant, 0, 1, slices.Repeat([]*labels.Matcher{named("m")}, 65)...),
	} {
		if quorate.KindOf(err) != quorate.Invalid {
			t.Errorf("%s: got %v, want Invalid", name, err)
		}
	}
	if err := r.DeleteSeries(t.Context(), 99, 0, 1, named("m")); quorate.KindOf(err) != quorate.NotFound {
		t.Errorf("for a tenant that does not exist got %v, want NotFound", err)
	}
	if err := r.CleanTombstones(t.Context(), 99); quorate.KindOf(err) != quorate.NotFound {
		t.Errorf("cleaning a tenant that does not exist got %v, want NotFound", err)
	}
}

func TestADeletionWithoutALeaderIsUnavailableAtTheDeadline(t *testing.T) {
	r := newRig(t)
	r.writeTimeout = 200 * time.Millisecond
	for _, s := range r.client.Map().Bucket(1, at(0)).Sets {
		r.replicas.Remove(s.ID)
	}
	err := r.DeleteSeries(t.Context(), r.tenant, at(-10), at(0), named("m"))
	if quorate.KindOf(err) != quorate.Unavailable {
		t.Errorf("got %v, want Unavailable", err)
	}
	if got := testutil.ToFloat64(r.metrics.deletions.WithLabelValues(resultError)); got != 1 {
		t.Errorf("%v failed deletions are counted, want one", got)
	}
}

func TestCleaningTombstonesReplacesTheFilesThatHaveAny(t *testing.T) {
	r := newRig(t)
	r.keep(t)
	var mu sync.Mutex
	var compacted []quorate.ReplicaSetID
	r.compact = func(_ context.Context, set quorate.ReplicaSetID) error {
		mu.Lock()
		defer mu.Unlock()
		compacted = append(compacted, set)
		return nil
	}
	var all []metric // series of both shards
	for _, s := range []string{"a", "b", "c", "d", "e", "f"} {
		all = append(all, metric{labels.FromStrings("__name__", "m", "s", s), []float{{at(-7200), 1}, {at(-3600), 1}, {at(0), 1}}})
	}
	r.mustWrite(t, all...)
	r.seal(t, at(-7200))
	r.seal(t, at(-3600))
	// Late samples stay, in the one shard that has them.
	r.mustWrite(t, metric{all[0].labels, []float{{at(-3500), 2}}})
	r.mustDelete(t, at(-3600), at(-3600), named("m"))
	want := r.read(t, named("m"))
	before := r.client.Map()
	if err := r.CleanTombstones(t.Context(), r.tenant); err != nil {
		t.Fatal(err)
	}
	after := r.client.Map()
	if r.deletions(at(-3600)) != 0 {
		t.Error("deletions are kept after tombstones were cleaned")
	}
	for shard := range 2 {
		if b, a := before.Bucket(1, at(-3600)), after.Bucket(1, at(-3600)); b.SetIDs[shard] == a.SetIDs[shard] || a.Overlays[shard] != nil {
			t.Errorf("shard %d has the file with what was deleted", shard)
		}
		if b, a := before.Bucket(1, at(-7200)), after.Bucket(1, at(-7200)); b.SetIDs[shard] != a.SetIDs[shard] {
			t.Errorf("shard %d was rewritten, and nothing was deleted from it", shard)
		}
	}
	open := slices.Concat(after.Bucket(1, at(0)).SetIDs, after.Bucket(1, at(3600)).SetIDs)
	slices.Sort(compacted)
	if !slices.Equal(compacted, open) {
		t.Errorf("open sets %v were compacted, want %v", compacted, open)
	}
	expect(t, r.read(t, named("m")), want...)
}
