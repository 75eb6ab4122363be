package router

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
)

// askedMeta is a Meta that notes which sets' bounds were asked for, and may know
// nothing of them.
type askedMeta struct {
	Meta
	mu     sync.Mutex
	asked  map[quorate.ReplicaSetID]int
	silent bool
}

func (m *askedMeta) ConfirmBounds(ctx context.Context, set quorate.ReplicaSetID) (quorate.BoundsVersion, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked[set]++
	if m.silent {
		return 0, quorate.Errorf(quorate.Unavailable, "no leader")
	}
	return m.Meta.ConfirmBounds(ctx, set)
}

func (m *askedMeta) times(set quorate.ReplicaSetID) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked[set]
}

func (m *askedMeta) setSilent(silent bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.silent = silent
}

// handOver has another node lead a set.
func (r *replicatedRig) handOver(set quorate.ReplicaSetID) {
	r.t.Helper()
	from := r.leaderOf(set)
	to := r.nodes[0]
	if to == from {
		to = r.nodes[1]
	}
	member, _ := r.client.Map().Set(set).MemberOn(to)
	testwait.Until(r.t, "the lead to be handed over", func() error {
		return r.groups[from][set].TransferLeadership(r.t.Context(), member.Replica)
	})
	testwait.For(r.t, "the other to lead", func() bool { return r.leaderOf(set) == to })
}

// Whoever leads again after another has led asks again, since the bounds may have
// changed meanwhile. Without an answer it writes nothing; the other set's leader,
// which has one, goes on.
func TestProtocol6ALeaderConfirmsItsBoundsOnceATermBeforeItWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReplicatedRig(t)
		meta := &askedMeta{Meta: r.meta, asked: map[quorate.ReplicaSetID]int{}}
		for _, replica := range r.allReplicas() {
			replica.meta = meta
		}
		moves, stays := r.sets[0], r.sets[1]
		for term := range 3 {
			if term > 0 {
				r.handOver(moves)
			}
			for range 3 {
				if err := r.writeBy(r.Router, manySeries(20, r.start)...); err != nil {
					t.Fatal(err)
				}
			}
			if asked, other := meta.times(moves), meta.times(stays); asked != term+1 || other != 1 {
				t.Errorf("under leader %d the bounds were asked for %d times, the other set's %d times", term+1, asked, other)
			}
		}
		r.handOver(moves)
		meta.setSilent(true)
		r.writeTimeout = time.Second
		late := &sent{metrics: manySeries(20, r.start+1)}
		result, err := r.Append(t.Context(), r.tenant, late.request())
		if quorate.KindOf(err) != quorate.Unavailable || result.Floats == 0 || result.Floats == 20 {
			t.Errorf("got %+v, %v; want the rows of one set stored and Unavailable for the other's", result, err)
		}
		if n, _, err := r.countBy(r.Router, quorate.ConsistencyDefault); n != 20+result.Floats || err != nil {
			t.Errorf("%d samples are read, %v; want 20 and the %d that were acknowledged", n, err, result.Floats)
		}
		meta.setSilent(false)
		if err := r.writeBy(r.Router, late.metrics...); err != nil {
			t.Error(err)
		}
	})
}

// appends writes in the background.
func (r *rig) appends(t testing.TB, all ...metric) chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := r.Append(t.Context(), r.tenant, (&sent{metrics: all}).request())
		done <- err
	}()
	return done
}

// awaitTries waits until a write that is under way was tried a few times in vain.
func (r *rig) awaitTries(t testing.TB, done chan error) {
	t.Helper()
	enough := testutil.ToFloat64(r.metrics.retries) + 4
	testwait.For(t, "a few tries", func() bool {
		select {
		case err := <-done:
			t.Fatalf("the write ended with %v", err)
		default:
		}
		return testutil.ToFloat64(r.metrics.retries) > enough
	})
}

// A leader that has not heard of its bucket's cut waits for it in its log.
func TestProtocol6ALeaderBehindTheConfirmedBoundsWritesNothing(t *testing.T) {
	r := newRig(t)
	cut := at(300)
	r.cutAt(t, cut)
	applied := r.appliedIn(t, cut-1)
	done := r.appends(t, manySeries(4, at(-5))...)
	r.awaitTries(t, done)
	if got := r.appliedIn(t, cut-1); got != applied {
		t.Errorf("tries that must fail went through the log: index %d, was %d", got, applied)
	}
	r.confirmCut(t, cut, r.tellCut(t, cut))
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	expect(t, r.read(t, named("m")),
		`{__name__="m", i="0000"}: -5=0`, `{__name__="m", i="0001"}: -5=1`, `{__name__="m", i="0002"}: -5=2`, `{__name__="m", i="0003"}: -5=3`)
}

// What the map says of a set's bounds is behind its log: the set refuses what was
// routed by it, and the router waits for a newer map.
func TestProtocol5AWriteRoutedByOldBoundsIsRoutedAgain(t *testing.T) {
	r := newRig(t)
	r.mustWrite(t, manySeries(4, at(-10))...) // by which the leaders confirm their bounds
	cut := at(300)
	r.cutAt(t, cut)
	told := r.tellCut(t, cut)
	done := r.appends(t, manySeries(4, at(-5))...)
	r.awaitTries(t, done)
	r.confirmCut(t, cut, told)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	expect(t, r.read(t, named("m")),
		`{__name__="m", i="0000"}: -10=0 -5=0`, `{__name__="m", i="0001"}: -10=1 -5=1`, `{__name__="m", i="0002"}: -10=2 -5=2`, `{__name__="m", i="0003"}: -10=3 -5=3`)
}
