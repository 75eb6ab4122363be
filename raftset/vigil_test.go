package raftset

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

func TestALostLeaderIsMissedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		timeout := c.nodes[0].host.cfg.HeartbeatTimeout
		var waits []time.Duration
		for range 15 {
			old := c.leader(t)
			c.awaitSame(t)
			c.network.isolate(old.member.Node)
			cut := time.Now()
			c.leader(t, old)
			waits = append(waits, time.Since(cut))
			c.network.heal(old.member.Node)
		}
		slices.Sort(waits)
		// Of the library alone a quarter take longer than 1.7 timeouts. It is
		// still free to run for leader out of turn, and two candidates to meet.
		if late := waits[len(waits)*3/4]; late > timeout*4/3 {
			t.Errorf("of the waits %v a quarter are over %v", waits, timeout*4/3)
		}
	})
}

func TestVotersTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		leader := c.leader(t)
		c.awaitSame(t)
		var turns []int
		for _, n := range c.nodes {
			if n == leader {
				continue
			}
			turn, votes := n.group.turnToRun()
			if !votes {
				t.Errorf("replica %v has no vote", n.member)
			}
			turns = append(turns, turn)
		}
		slices.Sort(turns)
		if !slices.Equal(turns, []int{0, 1}) {
			t.Errorf("the turns are %v", turns)
		}
		g := c.nodes[0].group
		g.roster.mu.Lock()
		g.roster.known = []generation{{servers: []server{{Member: g.local, suffrage: raft.Nonvoter}}}}
		g.roster.mu.Unlock()
		if _, votes := g.turnToRun(); votes {
			t.Error("a learner has a turn")
		}
	})
}
