package raftset

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
)

// The groups below have three voters, so that leadership can be lost, entries
// overwritten and snapshots installed. Their network is in memory.

type network struct {
	mu    sync.Mutex
	peers map[raft.ServerAddress]*peer
}

type peer struct {
	*raft.InmemTransport
	network *network
}

func (p *peer) confirmQuorum(context.Context, uint64) error { return nil }

func (n *network) join(local Member) transport {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, t := raft.NewInmemTransport(local.address())
	p := &peer{InmemTransport: t, network: n}
	n.peers[local.address()] = p
	n.connectLocked(p)
	return p
}

func (n *network) connectLocked(p *peer) {
	for address, other := range n.peers {
		if other != p {
			p.Connect(address, other.InmemTransport)
			other.Connect(p.LocalAddr(), p.InmemTransport)
		}
	}
}

func (n *network) isolate(m Member) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.peers[m.address()].DisconnectAll()
	for address, other := range n.peers {
		if address != m.address() {
			other.Disconnect(m.address())
		}
	}
}

func (n *network) heal(m Member) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.connectLocked(n.peers[m.address()])
}

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

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{network: &network{peers: make(map[raft.ServerAddress]*peer)}}
	members := []Member{member(1), member(2), member(3)}
	for _, m := range members {
		h := newHost(t, HostConfig{Dir: t.TempDir(), newTransport: c.network.join})
		gen := Genesis{Set: testSet, Replica: m.Replica, Voters: members, Payload: []byte("genesis")}
		if err := h.Form(t.Context(), gen); err != nil {
			t.Fatal(err)
		}
		n := &node{host: h, member: m}
		c.nodes = append(c.nodes, n)
		n.open(t)
	}
	return c
}

func (n *node) open(t *testing.T) {
	t.Helper()
	n.ledger = &ledger{}
	g, err := n.host.Open(t.Context(), testSet, n.member.Replica, n.ledger)
	if err != nil {
		t.Fatal(err)
	}
	n.group = g
}

func (n *node) reopen(t *testing.T) {
	t.Helper()
	closeGroup(t, n.group)
	n.open(t)
}

// leader waits for a leader among the nodes that are not left out.
func (c *cluster) leader(t *testing.T, without ...*node) (leader *node) {
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

func (c *cluster) awaitSame(t *testing.T, want ...string) {
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
		c.network.isolate(old.member)
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
		c.network.heal(old.member)
		c.awaitSame(t, lines...)
		old.reopen(t)
		c.awaitSame(t, lines...)
	})
}

func TestAReplicaThatWasAwayInstallsTheManifest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		leader := c.leader(t)
		away := c.nodes[0]
		if away == leader {
			away = c.nodes[1]
		}
		lines := proposeAll(t, leader.group, "x", 3)
		c.awaitSame(t, lines...)
		c.network.isolate(away.member)
		lines = append(lines, proposeAll(t, leader.group, "y", 10)...)
		if err := leader.group.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.network.heal(away.member)
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
