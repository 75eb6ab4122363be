package raftset

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
)

// The groups below have three voters, so that leadership can be lost, entries
// overwritten and snapshots installed. Their network is in memory.

type node struct {
	host   *Host
	group  *Group
	ledger *ledger
	member Member
}

type cluster struct {
	network *network
	nodes   []*node
}

// newCluster starts a set of three voters; each adjusts the configuration of
// its host.
func newCluster(t testing.TB, adjust ...func(*node, *HostConfig)) *cluster {
	t.Helper()
	c := &cluster{network: newNetwork(t)}
	members := []Member{member(1), member(2), member(3)}
	for _, m := range members {
		n := c.addNode(t, m, adjust...)
		gen := Genesis{Set: testSet, Replica: m.Replica, Voters: members, Payload: []byte("genesis")}
		if err := n.host.Form(t.Context(), gen); err != nil {
			t.Fatal(err)
		}
		n.open(t)
	}
	return c
}

// addNode makes a node on which no replica is yet.
func (c *cluster) addNode(t testing.TB, m Member, adjust ...func(*node, *HostConfig)) *node {
	t.Helper()
	n := &node{member: m}
	cfg := HostConfig{Dir: t.TempDir(), Node: m.Node, Messenger: c.network.port(m.Node)}
	for _, a := range adjust {
		a(n, &cfg)
	}
	n.host = newHost(t, cfg)
	c.network.attach(m.Node, n.host)
	c.nodes = append(c.nodes, n)
	return n
}

func (n *node) open(t testing.TB) {
	t.Helper()
	n.ledger = &ledger{}
	g, err := n.host.Open(t.Context(), testSet, n.member.Replica, n.ledger)
	if err != nil {
		t.Fatal(err)
	}
	n.group = g
}

func (n *node) reopen(t testing.TB) {
	t.Helper()
	closeGroup(t, n.group)
	n.open(t)
}

// leader waits for a leader among the nodes that are not left out.
func (c *cluster) leader(t testing.TB, without ...*node) (leader *node) {
	t.Helper()
	testwait.Until(t, "a leader", func() error {
		err := errors.New("nobody leads")
		for _, n := range c.nodes {
			if slices.Contains(without, n) {
				continue
			}
			if _, err = n.group.ConfirmRead(t.Context()); err == nil {
				leader = n
				return nil
			}
		}
		return err
	})
	return leader
}

func (c *cluster) awaitSame(t testing.TB, want ...string) {
	t.Helper()
	want = append([]string{"genesis"}, want...)
	for _, n := range c.nodes {
		testwait.For(t, "replica "+n.member.Replica.String()+" to catch up", func() bool {
			return slices.Equal(n.ledger.all(), want)
		})
	}
}

func TestReplicasApplyTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		leader := c.leader(t)
		lines := proposeAll(t, leader.group, "x", 20)
		c.awaitSame(t, lines...)
		for _, n := range c.nodes {
			if n == leader {
				continue
			}
			_, err := n.group.Propose(t.Context(), testKind, []byte("y"))
			var notLeader *NotLeaderError
			if !errors.As(err, &notLeader) || notLeader.Leader != leader.member || notLeader.Set != testSet {
				t.Errorf("replica %s answers %v, want a hint at %s", n.member, err, leader.member)
			}
			if quorate.KindOf(err) != quorate.Unavailable {
				t.Errorf("the kind of %v is %v", err, quorate.KindOf(err))
			}
			if _, err := n.group.ConfirmRead(t.Context()); !errors.As(err, &notLeader) {
				t.Errorf("replica %s confirms a read: %v", n.member, err)
			}
		}
	})
}

// What was in flight when leadership is lost has an unknown outcome; what the
// lost leader had stored alone is overwritten, its low-water mark with it.
func TestLosingLeadershipLeavesOutcomesUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		old := c.leader(t)
		lines := proposeAll(t, old.group, "x", 3)
		c.network.isolate(old.member.Node)
		const lost = 6
		answers := make(chan error, lost)
		for range lost {
			go func() {
				_, err := old.group.Propose(t.Context(), testKind, []byte("lost"))
				answers <- err
			}()
		}
		for range lost {
			var notLeader *NotLeaderError
			if err := <-answers; !errors.Is(err, ErrOutcomeUnknown) && !errors.As(err, &notLeader) {
				t.Errorf("a proposal in flight got %v", err)
			}
		}
		if n := len(old.group.proposer.flights.slots); n != 0 {
			t.Errorf("%d entries still count as in flight", n)
		}
		next := c.leader(t, old)
		lines = append(lines, proposeAll(t, next.group, "y", 3)...)
		stored, err := old.group.log.LastIndex()
		if err != nil {
			t.Fatal(err)
		}
		testwait.For(t, "the mark to rise over the lost entries", func() bool {
			level, err := readWaterLevel(old.group.low.path, testSet, old.member.Replica)
			return err == nil && level.index == stored
		})
		c.network.heal(old.member.Node)
		c.awaitSame(t, lines...)
		old.reopen(t)
		c.awaitSame(t, lines...)
	})
}

// keepNoTrail has flushes delete all of the log but its last entry. raft-wal
// still reads what it has deleted from the segment at its end.
func keepNoTrail(_ *node, cfg *HostConfig) {
	cfg.TrailingBytes, cfg.LogStore = 1, MemoryLogs()
}

func TestAReplicaThatWasAwayInstallsTheManifest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, keepNoTrail)
		leader := c.leader(t)
		away := c.nodes[0]
		if away == leader {
			away = c.nodes[1]
		}
		lines := proposeAll(t, leader.group, "x", 3)
		c.awaitSame(t, lines...)
		c.network.isolate(away.member.Node)
		lines = append(lines, proposeAll(t, leader.group, "y", 10)...)
		if err := leader.group.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.network.heal(away.member.Node)
		c.awaitSame(t, lines...)
		if !away.group.log.IsMonotonic() {
			t.Error("the library is not told that the log takes no gaps")
		}
		if m := away.group.Status().ManifestIndex; m == genesisIndex {
			t.Error("it caught up without the manifest; the test shows nothing")
		}
		lines = append(lines, proposeAll(t, c.leader(t).group, "z", 3)...)
		c.awaitSame(t, lines...)
		away.reopen(t)
		c.awaitSame(t, lines...)
	})
}
