package raftset

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
)

// join brings a new replica of the set up on a node, from a member's seed.
func (n *node) join(t testing.TB, seed []byte) {
	t.Helper()
	if err := n.host.Join(t.Context(), testSet, n.member.Replica, seed); err != nil {
		t.Fatal(err)
	}
	n.open(t)
}

func awaitCaughtUp(t testing.TB, leader *node, m Member) {
	t.Helper()
	testwait.Until(t, m.String()+" to catch up", func() error {
		lag, contact, ok := leader.group.Lag(m.Replica)
		if !ok || lag != 0 || contact.IsZero() {
			return fmt.Errorf("it lacks %d entries (%t)", lag, ok)
		}
		return nil
	})
}

// The way of a replica's replacement: seed, learner, voter, and the old one out.
func TestAMemberIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		leader := c.leader(t)
		lines := proposeAll(t, leader.group, "x", 5)
		c.awaitSame(t, lines...)
		if err := leader.group.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, proposeAll(t, leader.group, "y", 5)...)

		leaving := c.nodes[0]
		if leaving == leader {
			leaving = c.nodes[1]
		}
		seed := leader.group.Seed()
		info, err := ParseSeed(seed)
		if err != nil || info.Set != testSet || info.Index != leader.group.Status().ManifestIndex || len(decodeLines(info.Payload)) != 6 {
			t.Fatalf("the seed holds %+v, %v", info, err)
		}
		newcomer := c.addNode(t, member(4))
		newcomer.join(t, seed)
		if s := newcomer.group.Status(); s.State != StateFollower || s.AppliedIndex != info.Index {
			t.Errorf("the newcomer starts as %+v", s)
		}
		ctx := t.Context()
		for range 2 {
			if err := leader.group.AddLearner(ctx, newcomer.member); err != nil {
				t.Fatal(err)
			}
		}
		if got := leader.group.Configuration(); len(got.Voters) != 3 || !slices.Equal(got.Learners, []Member{newcomer.member}) {
			t.Errorf("with the learner the members are %+v", got)
		}
		awaitCaughtUp(t, leader, newcomer.member)
		for range 2 {
			if err := leader.group.Promote(ctx, newcomer.member.Replica); err != nil {
				t.Fatal(err)
			}
		}
		before := leader.group.Configuration().Index
		for range 2 {
			if err := leader.group.RemoveMember(ctx, leaving.member.Replica); err != nil {
				t.Fatal(err)
			}
		}
		got := leader.group.Configuration()
		if slices.Contains(got.Voters, leaving.member) || !slices.Contains(got.Voters, newcomer.member) || len(got.Voters) != 3 {
			t.Errorf("in the end the voters are %v", got.Voters)
		}
		if got.Index <= before {
			t.Errorf("the configuration's index went from %d to %d", before, got.Index)
		}
		closeGroup(t, leaving.group)
		c.nodes = slices.DeleteFunc(c.nodes, func(n *node) bool { return n == leaving })
		lines = append(lines, proposeAll(t, leader.group, "z", 5)...)
		c.awaitSame(t, lines...)

		// It is a voter like any other: with the leader gone, the set needs it.
		closeGroup(t, leader.group)
		next := c.leader(t, leader)
		propose(t, next.group, "after")
		newcomer.reopen(t)
		leader.open(t)
		c.awaitSame(t, append(lines, "after")...)
		if got := newcomer.group.Configuration(); len(got.Voters) != 3 || got.Index == 0 {
			t.Errorf("after a restart the newcomer knows %+v", got)
		}
	})
}

func TestALeaderRemovesItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		leader := c.leader(t)
		if err := leader.group.RemoveMember(t.Context(), leader.member.Replica); err != nil {
			t.Fatal(err)
		}
		next := c.leader(t, leader)
		propose(t, next.group, "x")
		if got := next.group.Configuration(); len(got.Voters) != 2 {
			t.Errorf("the voters are %v", got.Voters)
		}
		if _, err := leader.group.ConfirmRead(t.Context()); err == nil {
			t.Error("the removed leader confirms a read")
		}
		leader.reopen(t) // one that was removed still opens
	})
}

func TestChangesThatCannotBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		leader := c.leader(t)
		other := c.nodes[0]
		if other == leader {
			other = c.nodes[1]
		}
		ctx := t.Context()
		for name, tc := range map[string]struct {
			err  error
			kind quorate.ErrorKind
		}{
			"a learner without an ID": {leader.group.AddLearner(ctx, Member{Node: member(9).Node}), quorate.Invalid},
			"a node twice":            {leader.group.AddLearner(ctx, Member{Node: other.member.Node, Replica: 9}), quorate.Invalid},
			"a replica twice":         {leader.group.AddLearner(ctx, Member{Node: member(9).Node, Replica: 1}), quorate.Invalid},
			"promote nobody":          {leader.group.Promote(ctx, 9), quorate.NotFound},
			"add at a follower":       {other.group.AddLearner(ctx, member(9)), quorate.Unavailable},
			"hand over to itself":     {leader.group.TransferLeadership(ctx, leader.member.Replica), quorate.Invalid},
			"hand over to nobody":     {leader.group.TransferLeadership(ctx, 9), quorate.Invalid},
			"hand over by a follower": {other.group.TransferLeadership(ctx, leader.member.Replica), quorate.Unavailable},
		} {
			if tc.err == nil || quorate.KindOf(tc.err) != tc.kind {
				t.Errorf("%s: got %v, want kind %v", name, tc.err, tc.kind)
			}
		}
		if err := leader.group.RemoveMember(ctx, 9); err != nil {
			t.Errorf("removing who is not there: %v", err)
		}
		if got := leader.group.Configuration(); got.Index != genesisIndex || len(got.Voters) != 3 || len(got.Learners) != 0 {
			t.Errorf("the members are %+v", got)
		}
	})
	_, g, _ := start(t, HostConfig{Dir: t.TempDir()})
	if err := g.RemoveMember(t.Context(), testReplica); quorate.KindOf(err) != quorate.Invalid {
		t.Errorf("removing the last voter: %v", err)
	}
}

// A change that its leader cannot commit has an unknown outcome; the successor
// decides which members there are, and everybody agrees in the end.
func TestAChangeIsLostWithItsLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		old := c.leader(t)
		propose(t, old.group, "x")
		c.network.isolate(old.member.Node)
		err := old.group.AddLearner(t.Context(), member(9))
		if !errors.Is(err, ErrOutcomeUnknown) && quorate.KindOf(err) != quorate.Unavailable {
			t.Errorf("got %v", err)
		}
		if got := old.group.Configuration(); len(got.Learners) != 1 {
			t.Fatalf("the lost leader's log has %+v; the test shows nothing", got)
		}
		next := c.leader(t, old)
		propose(t, next.group, "y")
		c.network.heal(old.member.Node)
		c.awaitSame(t, "x", "y")
		for _, n := range c.nodes {
			if got := n.group.Configuration(); got.Index != genesisIndex || len(got.Learners) != 0 {
				t.Errorf("replica %s still knows %+v", n.member, got)
			}
		}
		if err := next.group.RemoveMember(t.Context(), old.member.Replica); err != nil {
			t.Error(err)
		}
	})
}

// Only one of two changes that were decided on the same configuration is made.
func TestProtocol4AChangeIsMadeToTheConfigurationItWasDecidedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		leader := c.leader(t)
		g := leader.group
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		err := g.change(ctx, memberChange{
			what: "a change that another overtakes",
			done: func(servers []server) bool { _, ok := find(servers, 9); return ok },
			check: func([]server) error {
				// Past this point base is what was decided on.
				return g.raft.AddNonvoter(member(8).serverID(), member(8).address(), 0, 0).Error()
			},
			request: func(prev uint64, _ time.Duration) {
				if err := g.raft.AddNonvoter(member(9).serverID(), member(9).address(), prev, 0).Error(); err == nil {
					t.Error("the library made the change to another configuration")
				}
			},
		})
		if quorate.KindOf(err) != quorate.Unavailable || errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("got %v", err)
		}
	})
}

// A change that would leave the set without a quorum is not made.
func TestTheSetKeepsAQuorum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		leader := c.leader(t)
		propose(t, leader.group, "x")
		dead := c.other(leader)
		alive := c.other(leader, dead)
		awaitCaughtUp(t, leader, alive.member)
		if err := leader.group.AddLearner(t.Context(), member(9)); err != nil {
			t.Fatal(err)
		}
		if err := leader.group.Promote(t.Context(), 9); quorate.KindOf(err) != quorate.Unavailable {
			t.Errorf("a learner that was never heard became a voter: %v", err)
		}
		closeGroup(t, dead.group)
		pause := time.NewTimer(2 * defaultHeartbeatTimeout)
		<-pause.C
		if err := leader.group.RemoveMember(t.Context(), alive.member.Replica); quorate.KindOf(err) != quorate.Unavailable {
			t.Errorf("removing one of the two that live: %v", err)
		}
		for _, replica := range []quorate.ReplicaID{dead.member.Replica, 9} {
			if err := leader.group.RemoveMember(t.Context(), replica); err != nil {
				t.Errorf("removing replica %d, which does not answer: %v", replica, err)
			}
		}
		propose(t, leader.group, "y")
		dead.open(t)
	})
}
