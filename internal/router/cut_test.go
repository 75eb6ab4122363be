package router

import (
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/tsdbshard"
)

// cutAt cuts the bucket of the harness' time at a time of its own. The sets are not
// told.
func (r *rig) cutAt(t testing.TB, at int64) {
	t.Helper()
	before := metasvc.DefaultPolicy().FutureBound + metasvc.MapLease + time.Minute
	cut := r.leader.do(t, metasvc.CutBucket{Policy: 1, Now: at - before.Milliseconds() - 1, Term: 1}).(metasvc.CutBucketResult)
	if err := r.client.ConfirmMap(t.Context()); err != nil || cut.At != at {
		t.Fatalf("the cut is at %d, want %d, %v", cut.At, at, err)
	}
}

// tellCut puts the bounds of a bucket that was cut at a time into its sets' logs, and
// returns what the sets answer.
func (r *rig) tellCut(t testing.TB, at int64) (told []*tsdbshard.BoundsResult) {
	t.Helper()
	for _, set := range r.client.Map().Bucket(1, at-1).Sets {
		replica, err := r.home(set).Get(set.ID)
		if err != nil {
			t.Fatal(err)
		}
		bounds, _ := set.Intent.Bounds()
		answer, err := replica.Group().Propose(t.Context(), wire.KindBounds, tsdbshard.AppendBoundsCommand(nil, bounds))
		if err != nil {
			t.Fatal(err)
		}
		told = append(told, answer.(*tsdbshard.BoundsResult))
	}
	return told
}

// confirmCut has the metadata know what the sets were told.
func (r *rig) confirmCut(t testing.TB, at int64, told []*tsdbshard.BoundsResult) {
	t.Helper()
	for i, set := range r.client.Map().Bucket(1, at-1).Sets {
		if err := r.client.ConfirmBoundsIntent(t.Context(), set.ID, set.Intent.ID, told[i].Index, told[i].Newest); err != nil {
			t.Fatal(err)
		}
	}
}

// TestProtocol13ACutHidesNothing: a set whose leader has not heard of the cut takes samples
// past it and acknowledges them; they must show before the set is told, and after
// (PROTOCOL 13).
func TestProtocol13ACutHidesNothing(t *testing.T) {
	r := newRig(t)
	at := now.Add(5 * time.Minute).UnixMilli() // sooner than any cut by a clock that is right
	sent := []metric{
		{labels.FromStrings("__name__", "m", "i", "1"), []float{{at + 60_000, 1}}},
		{labels.FromStrings("__name__", "m", "i", "2"), []float{{at + 60_000, 2}}},
		{labels.FromStrings("__name__", "m", "i", "3"), []float{{at + 60_000, 3}}},
		{labels.FromStrings("__name__", "m", "i", "4"), []float{{at + 60_000, 4}}},
	}
	r.mustWrite(t, sent...)
	want := []string{`{__name__="m", i="1"}: 360=1`, `{__name__="m", i="2"}: 360=2`, `{__name__="m", i="3"}: 360=3`, `{__name__="m", i="4"}: 360=4`}
	check := func(when string) {
		t.Helper()
		q, err := r.Querier(t.Context(), r.tenant, at, at+hour/4)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		defer q.Close()
		if got := linesOf(t, q.Select(t.Context(), true, nil, labels.MustNewMatcher(labels.MatchEqual, "__name__", "m"))); !slices.Equal(got, want) {
			t.Errorf("%s the samples past the cut are %q, want %q", when, got, want)
		}
	}
	check("before it")
	r.cutAt(t, at)
	r.planRange(t, quorate.TimeRange{Start: at, End: at + 25*time.Minute.Milliseconds()})
	check("before the sets are told")
	r.confirmCut(t, at, r.tellCut(t, at))
	check("after the sets are told")
	r.mustDelete(t, at, at+hour/4, labels.MustNewMatcher(labels.MatchEqual, "i", "3"))
	want = slices.Delete(want, 2, 3)
	check("after a deletion")
}
