package raftset

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
)

// promised asks a replica for a promise in a leader's name.
func (n *node) promised(t *testing.T, leader Member, term uint64) promised {
	t.Helper()
	message, err := n.from(leader, askPromise).appendRequest(&raft.AppendEntriesRequest{Term: term})
	if err != nil {
		t.Fatal(err)
	}
	var p promised
	n.answer(t, leader, message, &p)
	return p
}

func (n *node) answer(t *testing.T, from Member, message []byte, response any) {
	t.Helper()
	c, err := openReply(deliver(t, n, from.Node, message))
	if err == nil {
		err = readReply(c, response)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// votes asks a replica for its vote in a candidate's name.
func (n *node) votes(t *testing.T, candidate Member, term uint64, handover bool) bool {
	t.Helper()
	var r raft.RequestVoteResponse
	n.answer(t, candidate, n.from(candidate, askVote).voteRequest(&raft.RequestVoteRequest{
		Term: term, LastLogIndex: 1000, LastLogTerm: term - 1, LeadershipTransfer: handover,
	}), &r)
	return r.Granted
}

func (n *node) preVotes(t *testing.T, candidate Member, term uint64) bool {
	t.Helper()
	var r raft.RequestPreVoteResponse
	n.answer(t, candidate, n.from(candidate, askPreVote).preVoteRequest(&raft.RequestPreVoteRequest{
		Term: term, LastLogIndex: 1000, LastLogTerm: term - 1,
	}), &r)
	return r.Granted
}

// The span that is named in the answer is kept, whatever the library would do.
func TestAPromiseIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, leader := aloneInSet(t, MemoryLogs())
		other := member(3)
		if other == leader {
			other = member(2)
		}
		tr := peers(n)
		if !tr.mayVote(other, 50, false) {
			t.Error("a replica that has just been formed keeps its vote back")
		}
		if p := n.promised(t, leader, 50); !p.Success || p.Term != 50 || p.span != 900*time.Millisecond {
			t.Fatalf("it promised %+v", p)
		}
		if p := n.promised(t, other, 49); p.Success || p.span != 0 {
			t.Errorf("it promised the leader of an earlier term %+v", p)
		}
		pauseFor(500 * time.Millisecond)
		n.promised(t, leader, 50)
		for _, wait := range []time.Duration{0, 500 * time.Millisecond, 399 * time.Millisecond} {
			pauseFor(wait)
			for _, term := range []uint64{51, 60} {
				if n.preVotes(t, other, term) || n.votes(t, other, term, false) {
					t.Errorf("%v later it votes for another in term %d", wait, term)
				}
			}
			if n.votes(t, other, 52, true) {
				t.Error("a call of a leader that it has not heard of frees it")
			}
			var vote raft.RequestVoteResponse
			if err := tr.RequestVote(other.serverID(), other.address(), &raft.RequestVoteRequest{Term: 51}, &vote); !errors.Is(err, errPromised) {
				t.Errorf("it runs against its leader: %v", err)
			}
			var pre raft.RequestPreVoteResponse
			if err := tr.RequestPreVote(other.serverID(), other.address(), &raft.RequestPreVoteRequest{Term: 51}, &pre); !errors.Is(err, errNoPreVote) {
				t.Errorf("it asks whether it should run against its leader: %v", err)
			}
			if s := n.group.Status(); s.Term != 50 {
				t.Fatalf("it is in term %d", s.Term)
			}
			if !tr.mayVote(leader, 51, false) || !tr.mayVote(other, 51, true) {
				t.Error("it does not vote for its leader, or for whom that has called")
			}
		}
		pauseFor(time.Millisecond)
		if !tr.mayVote(other, 51, false) {
			t.Error("when its promise is over it does not vote")
		}
		testwait.For(t, "the library to give its leader up", func() bool {
			return n.votes(t, other, n.group.Status().Term+1, false)
		})
	})
}

// A replica that starts does not know what it has promised; the library has
// forgotten its leader, too, and would vote at once.
func TestAPromiseOutlivesItsProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, leader := aloneInSet(t, MemoryLogs())
		n.promised(t, leader, 50)
		n.reopen(t)
		span := promiseSpan(defaultHeartbeatTimeout)
		for _, wait := range []time.Duration{0, span / 2, span - span/2 - 1} {
			pauseFor(wait)
			if n.votes(t, member(2), 51, false) || n.votes(t, member(3), 51, false) || n.preVotes(t, member(3), 51) {
				t.Errorf("it votes %v later", wait)
			}
		}
		pauseFor(1)
		if !n.votes(t, member(3), 51, false) {
			t.Error("it does not vote afterwards")
		}
	})
}

// What a leader that hands over frees voters of is told only of the candidacy
// that it has called for: in the term after its own.
func TestACandidateIsCalledForOneTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, to := aloneInSet(t, MemoryLogs())
		c := n.host.cfg.Messenger.(*port).network
		var flags []bool
		c.with(func() {
			c.drop = func(_, _ quorate.NodeID, m []byte) bool {
				if d, err := decodeAny(m); err == nil && d.envelope.kind == askVote {
					flags = append(flags, d.body.(*raft.RequestVoteRequest).LeadershipTransfer)
				}
				return true
			}
		})
		tr := peers(n)
		ask := func(term uint64, handover bool) {
			args := &raft.RequestVoteRequest{Term: term, LeadershipTransfer: handover}
			if err := tr.RequestVote(to.serverID(), to.address(), args, &raft.RequestVoteResponse{}); !errors.Is(err, errLost) {
				t.Errorf("got %v", err)
			}
			if args.LeadershipTransfer != handover {
				t.Error("the library's own request was changed")
			}
		}
		ask(8, true) // nobody has called
		tr.promise.call(7)
		ask(8, true)
		ask(8, false)
		ask(9, true)
		ask(7, true)
		want := []bool{false, true, false, false, false}
		c.with(func() {
			if len(flags) != len(want) {
				t.Fatalf("%d requests were sent", len(flags))
			}
			for i := range want {
				if flags[i] != want[i] {
					t.Errorf("request %d says that it was called: %t", i, flags[i])
				}
			}
		})
	})
}
