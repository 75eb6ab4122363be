package raftset

import (
	"context"
	"encoding/binary"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
)

// Each scenario below is one in which a rule of the lease keeps a leader from
// confirming a read that misses an acknowledged write. Each is run as things are
// and with that rule switched off, which has to show.

// greedy takes a lease to last much longer than was promised.
type greedy struct{ *peerTransport }

func (g greedy) confirmQuorum(ctx context.Context, term uint64) error {
	ago := time.Now().Add(-10 * time.Second)
	if g.lease.covers(term, g.group.roster.latest().servers, g.group.local.Replica, ago) {
		return nil
	}
	return g.peerTransport.confirmQuorum(ctx, term)
}

// faithless forgets what it has promised before every vote.
type faithless struct{ *peerTransport }

func (f faithless) forget() { f.promise.make(Member{}, time.Time{}) }

func (f faithless) receive(in inbound) error {
	f.forget()
	return f.peerTransport.receive(in)
}

func (f faithless) RequestVote(id raft.ServerID, a raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	f.forget()
	return f.peerTransport.RequestVote(id, a, args, resp)
}

func (f faithless) RequestPreVote(id raft.ServerID, a raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	f.forget()
	return f.peerTransport.RequestPreVote(id, a, args, resp)
}

// clinging takes its lease back when a handover failed.
type clinging struct{ *peerTransport }

func (c clinging) TimeoutNow(id raft.ServerID, a raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	err := c.peerTransport.TimeoutNow(id, a, args, resp)
	c.lease.mu.Lock()
	defer c.lease.mu.Unlock()
	c.lease.revoked = false
	return err
}

// obedient runs for leader whenever it is called, as the library does.
type obedient struct{ *peerTransport }

func (o obedient) receive(in inbound) error {
	if in.kind == askElection {
		in.body = &cursor.Cursor{B: binary.AppendUvarint(nil, o.group.raft.CurrentTerm())}
	}
	return o.peerTransport.receive(in)
}

// over puts a mutant over the transport of each group; nil leaves it as it is.
func over[T transport](wrap func(*peerTransport) T) func(*Group) transport {
	return func(g *Group) transport { return wrap(newPeerTransport(g).(*peerTransport)) }
}

type scenario struct {
	// stale runs the scenario and returns what a leader that others have passed
	// says to a read.
	stale func(*testing.T, func(*Group) transport) error
	// without is the transport that lacks the rule.
	without func(*Group) transport
}

func leaseScenarios() map[string]scenario {
	return map[string]scenario{
		"a lease ends with its promises": {
			cutOffForLong, over(func(t *peerTransport) greedy { return greedy{t} }),
		},
		"a voter that starts keeps its promise": {
			voterRestarts, over(func(t *peerTransport) faithless { return faithless{t} }),
		},
		"a call to run ends the lease for good": {
			callComesLate, over(func(t *peerTransport) clinging { return clinging{t} }),
		},
		"a call to run is of its term": {
			callOutlivesItsTerm, over(func(t *peerTransport) obedient { return obedient{t} }),
		},
	}
}

func TestProtocol24NoLeaseOutlivesItsLeader(t *testing.T) {
	for name, s := range leaseScenarios() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				err := s.stale(t, nil)
				if err == nil {
					t.Fatal("it confirmed a read that misses an acknowledged write")
				}
				if quorate.KindOf(err) != quorate.Unavailable {
					t.Errorf("the kind of %v is %v", err, quorate.KindOf(err))
				}
			})
		})
	}
}

// The test above can fail: without each one of the rules it would.
func TestWithoutARuleALeaseShowsAStaleRead(t *testing.T) {
	for name, s := range leaseScenarios() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if err := s.stale(t, s.without); err != nil {
					t.Fatalf("the mutant refuses too (%v): the scenario shows nothing", err)
				}
			})
		})
	}
}

func newLeaseCluster(t *testing.T, transport func(*Group) transport, timeouts ...time.Duration) *cluster {
	t.Helper()
	return newCluster(t, leased(), func(n *node, cfg *HostConfig) {
		cfg.newTransport = transport
		if len(timeouts) > 0 {
			cfg.HeartbeatTimeout = timeouts[n.member.Replica-1]
		}
	})
}

// passed writes at a new leader, and reads at one that still believes in itself.
func passed(t *testing.T, old, next *node) error {
	t.Helper()
	propose(t, next.group, "y")
	if _, leads := old.group.Leadership(); !leads {
		t.Fatal("the old leader has noticed; the test shows nothing")
	}
	_, err := old.group.ConfirmRead(t.Context())
	if err == nil && slices.Contains(old.ledger.all(), "y") {
		t.Fatal("the old leader has the new one's write; the test shows nothing")
	}
	return err
}

// cutOffForLong cuts a leader off that believes in itself for longer than the
// others do. It stands for a process that stands still, too: one that goes on has
// the same clock behind it.
func cutOffForLong(t *testing.T, transport func(*Group) transport) error {
	c := newLeaseCluster(t, transport, 4*time.Second, time.Second, time.Second)
	old := c.nodes[0]
	c.lead(t, old)
	propose(t, old.group, "x")
	awaitLease(t, old)
	c.network.isolate(old.member.Node)
	return passed(t, old, c.leader(t, old))
}

// voterRestarts has a leader hold its lease by one voter's word alone, which then
// starts anew. The third voter is in a hurry to lead.
func voterRestarts(t *testing.T, transport func(*Group) transport) error {
	c := newLeaseCluster(t, transport, 2*time.Second, time.Second, 50*time.Millisecond)
	old, voter, hasty := c.nodes[0], c.nodes[1], c.nodes[2]
	c.lead(t, old)
	propose(t, old.group, "x")
	c.awaitSame(t, "x")
	c.network.with(func() {
		c.network.cut[[2]quorate.NodeID{old.member.Node, hasty.member.Node}] = true
		c.network.cut[[2]quorate.NodeID{hasty.member.Node, old.member.Node}] = true
	})
	pauseFor(time.Second) // in which the third asks in vain
	awaitLease(t, old)
	c.network.isolate(old.member.Node)
	voter.reopen(t)
	return passed(t, old, c.leader(t, old))
}

// holdCall has a leader hand over to a node that is not told. It returns what was
// on its way.
func holdCall(t *testing.T, c *cluster, leader, to *node) (call []byte) {
	t.Helper()
	c.network.with(func() {
		c.network.drop = func(_, node quorate.NodeID, message []byte) bool {
			if messageKind(message[1]) != askElection || node != to.member.Node {
				return false
			}
			call = slices.Clone(message)
			return true
		}
	})
	awaitCaughtUp(t, leader, to.member)
	if err := leader.group.TransferLeadership(t.Context(), to.member.Replica); err == nil {
		t.Fatal("leadership was handed over to a node that was not told")
	}
	c.network.with(func() { c.network.drop = nil })
	if call == nil {
		t.Fatal("nothing was on its way")
	}
	return call
}

// callComesLate has a leader go on after a handover that failed, and the call to
// run arrive when nobody thinks of it any more.
func callComesLate(t *testing.T, transport func(*Group) transport) error {
	c := newLeaseCluster(t, transport)
	old := c.leader(t)
	next := c.other(old)
	propose(t, old.group, "x")
	call := holdCall(t, c, old, next)
	propose(t, old.group, "x2")
	c.awaitSame(t, "x", "x2")
	pauseFor(time.Second)
	c.network.isolate(old.member.Node)
	wantVerdict(t, next, old.member.Node, call, answered)
	return passed(t, old, c.leader(t, old))
}

// callOutlivesItsTerm has the call arrive when a third leads. As things are
// nothing comes of it, so that the third is passed when its lease is over.
func callOutlivesItsTerm(t *testing.T, transport func(*Group) transport) error {
	c := newLeaseCluster(t, transport)
	first := c.leader(t)
	next := c.other(first)
	old := c.other(first, next)
	propose(t, first.group, "x")
	call := holdCall(t, c, first, next)
	c.lead(t, old)
	propose(t, old.group, "x2")
	c.awaitSame(t, "x", "x2")
	awaitLease(t, old)
	c.network.isolate(old.member.Node)
	want := refusedStale
	if transport != nil {
		want = answered
	}
	wantVerdict(t, next, first.member.Node, call, want)
	if transport == nil {
		// Alone as it is, it leads nevertheless as long as its lease lasts.
		confirm(t, old)
		propose(t, c.leader(t, old).group, "y")
		_, err := old.group.ConfirmRead(t.Context())
		return err
	}
	return passed(t, old, c.leader(t, old))
}

// Promises are over before the library would listen to a candidate: a leader's
// death is as long as without them.
func TestPromisesDelayNoElection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var took [2]time.Duration
		const deaths = 10
		for lease, on := range []bool{false, true} {
			counter := &refusals{}
			c := newCluster(t, func(_ *node, cfg *HostConfig) {
				cfg.ReadLease = on
				cfg.newTransport = over(func(t *peerTransport) watched { return watched{t, counter} })
			})
			for range deaths {
				old := c.leader(t)
				pauseFor(3 * time.Second)
				c.network.isolate(old.member.Node)
				begin := time.Now()
				next := c.leader(t, old)
				took[lease] += time.Since(begin)
				c.network.heal(old.member.Node)
				propose(t, next.group, "x")
			}
			if n := counter.n.Load(); n != 0 {
				t.Errorf("%d candidates met a promise where the library had no leader any more", n)
			}
			for _, n := range c.nodes {
				closeGroup(t, n.group)
			}
		}
		t.Logf("a leader's death took %v without promises and %v with them", took[0]/deaths, took[1]/deaths)
	})
}

// refusals counts what only a promise refuses.
type refusals struct{ n atomic.Int64 }

type watched struct {
	*peerTransport
	count *refusals
}

func (w watched) receive(in inbound) error {
	if in.kind == askVote || in.kind == askPreVote {
		if _, leader := w.group.raft.LeaderWithID(); leader == "" && w.promise.forbids(in.sender, time.Now()) {
			w.count.n.Add(1)
		}
	}
	return w.peerTransport.receive(in)
}
