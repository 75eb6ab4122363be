package raftset

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
)

func (c *cluster) other(not ...*node) *node {
	for _, n := range c.nodes {
		free := true
		for _, m := range not {
			free = free && n != m
		}
		if free {
			return n
		}
	}
	return nil
}

// Leadership moves while everybody writes; nothing that was acknowledged is
// lost, and nobody waits for ever.
func TestLeadershipIsHandedOverUnderWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		leader := c.leader(t)
		target := c.other(leader)
		propose(t, leader.group, "x")
		awaitCaughtUp(t, leader, target.member)
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		const writers = 8
		var acknowledged atomic.Int64
		done := make(chan error, writers)
		for range writers {
			go func() {
				for ctx.Err() == nil {
					g := leader.group
					if _, leads := target.group.Leadership(); leads {
						g = target.group
					}
					_, err := g.Propose(t.Context(), testKind, []byte("w"))
					// Time stands still while anybody is busy.
					pause := time.NewTimer(time.Millisecond)
					<-pause.C
					var notLeader *NotLeaderError
					switch {
					case err == nil:
						acknowledged.Add(1)
					case errors.As(err, &notLeader):
					case !errors.Is(err, ErrOutcomeUnknown):
						done <- err
						return
					}
				}
				done <- nil
			}()
		}
		begin := time.Now()
		if err := leader.group.TransferLeadership(t.Context(), target.member.Replica); err != nil {
			t.Fatal(err)
		}
		t.Logf("the transfer took %v", time.Since(begin))
		if _, leads := target.group.Leadership(); !leads {
			t.Error("the target does not lead")
		}
		testwait.For(t, "writes at the new leader", func() bool { return acknowledged.Load() > 100 })
		cancel()
		for range writers {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		propose(t, target.group, "last")
		for _, n := range c.nodes {
			testwait.For(t, "everybody to have all", func() bool {
				lines := n.ledger.all()
				return lines[len(lines)-1] == "last"
			})
			// An unknown outcome may have taken effect as well.
			if got := int64(len(n.ledger.all())) - 3; got < acknowledged.Load() {
				t.Errorf("replica %s has %d of %d acknowledged writes", n.member, got, acknowledged.Load())
			}
		}
	})
}

// A member that cannot be reached is not handed leadership; one that is lost
// half-way leaves it where it was, and proposals go on.
func TestAHandoverThatFailsLeavesTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		leader := c.leader(t)
		target := c.other(leader)
		propose(t, leader.group, "x")
		awaitCaughtUp(t, leader, target.member)
		c.network.with(func() {
			c.network.drop = func(_, _ quorate.NodeID, message []byte) bool { return messageKind(message[1]) == askElection }
		})
		waiting := make(chan error, 1)
		begin := time.Now()
		go func() {
			testwait.For(t, "the handover to begin", func() bool { return len(leader.group.proposer.gate) == 1 })
			_, err := leader.group.Propose(t.Context(), testKind, []byte("held"))
			waiting <- err
		}()
		err := leader.group.TransferLeadership(t.Context(), target.member.Replica)
		took := time.Since(begin)
		if quorate.KindOf(err) != quorate.Unavailable {
			t.Errorf("got %v", err)
		}
		if took > 3*defaultHeartbeatTimeout {
			t.Errorf("it took %v", took)
		}
		if err := <-waiting; err != nil {
			t.Errorf("a proposal that had to wait got %v", err)
		}
		propose(t, leader.group, "y")

		c.network.isolate(target.member.Node)
		pause := time.NewTimer(2 * defaultHeartbeatTimeout)
		<-pause.C
		if err := leader.group.TransferLeadership(t.Context(), target.member.Replica); quorate.KindOf(err) != quorate.Unavailable {
			t.Errorf("a handover to who does not answer: %v", err)
		}
		propose(t, leader.group, "z")
	})
}

// stuckTransport never gets a handover told, nor told that it cannot be.
type stuckTransport struct {
	*peerTransport
	release chan struct{}
}

func (s stuckTransport) TimeoutNow(raft.ServerID, raft.ServerAddress, *raft.TimeoutNowRequest, *raft.TimeoutNowResponse) error {
	<-s.release
	return errLost
}

// The library can be left handing over for ever (hashicorp/raft#696), taking no
// entries. The replica fails then, so that it is opened anew and others lead.
func TestAHandoverThatIsStuckFailsTheReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		c := newCluster(t, func(_ *node, cfg *HostConfig) {
			cfg.newTransport = func(g *Group) transport { return stuckTransport{newPeerTransport(g).(*peerTransport), release} }
		})
		leader := c.leader(t)
		target := c.other(leader)
		propose(t, leader.group, "x")
		awaitCaughtUp(t, leader, target.member)
		begin := time.Now()
		err := leader.group.TransferLeadership(t.Context(), target.member.Replica)
		if !errors.Is(err, ErrBroken) {
			t.Errorf("got %v", err)
		}
		close(release)
		<-leader.group.Failed()
		if took := time.Since(begin); took < handoverStuck*defaultHeartbeatTimeout || took > 5*defaultHeartbeatTimeout {
			t.Errorf("the replica failed after %v", took)
		}
		if !errors.Is(leader.group.Status().Broken, ErrReopen) {
			t.Errorf("Broken is %v", leader.group.Status().Broken)
		}
		next := c.leader(t, leader)
		propose(t, next.group, "y")
		leader.reopen(t)
		c.awaitSame(t, "x", "y")
	})
}

// "Run for leader" counts in its own term only, however late it arrives, and
// only for a voter that follows.
func TestACallToRunForLeaderIsOfItsTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		leader := c.leader(t)
		target := c.other(leader)
		propose(t, leader.group, "x")
		awaitCaughtUp(t, leader, target.member)
		term, _ := leader.group.Leadership()
		e := envelope{kind: askElection, set: testSet, to: target.member.Replica, from: leader.member.Replica}
		for _, stale := range []uint64{term - 1, term + 1, 0} {
			wantVerdict(t, target, leader.member.Node, e.electionRequest(stale), refusedStale)
		}
		e.to = leader.member.Replica
		e.from = target.member.Replica
		wantVerdict(t, leader, target.member.Node, e.electionRequest(term), refusedStale)
		if now, leads := leader.group.Leadership(); !leads || now != term {
			t.Errorf("the leader of term %d is in term %d (leads: %t)", term, now, leads)
		}
		e.to, e.from = target.member.Replica, leader.member.Replica
		wantVerdict(t, target, leader.member.Node, e.electionRequest(term), answered)
		testwait.For(t, "the called one to lead", func() bool { _, leads := target.group.Leadership(); return leads })
	})
}

// deliver hands a message to a node and waits for what it answers.
func deliver(t testing.TB, n *node, from quorate.NodeID, message []byte) []byte {
	t.Helper()
	answers := make(chan []byte, 2)
	n.host.Deliver(from, message, func(a []byte) { answers <- a })
	answer := <-answers
	if len(answers) != 0 {
		t.Error("the message was answered twice")
	}
	return answer
}

func wantVerdict(t testing.TB, n *node, from quorate.NodeID, message []byte, want verdict, what ...string) {
	t.Helper()
	answer := deliver(t, n, from, message)
	if got := verdict(answer[1]); got != want {
		_, err := openReply(answer)
		t.Errorf("%s: the verdict is %q (%v), want %q", what, got, err, want)
	}
}

// pauseFor lets virtual time pass.
func pauseFor(d time.Duration) { <-time.NewTimer(d).C }
