package raftset

import (
	"time"

	"github.com/hashicorp/raft"
)

const (
	// vigilLooks is how many times in a heartbeat timeout followers are looked at.
	vigilLooks = 20
	// vigilTurn is the part of a heartbeat timeout by which the voters of a set
	// run for leader one after the other. It is longer than a leader's pause
	// between two heartbeats, by which their silences begin apart, so that two
	// seldom run at once and take each other's votes.
	vigilTurn = 4
)

// vigil watches how long the followers of a host have not heard of a leader. The
// library looks only when a timer of one to two heartbeat timeouts ends, whenever
// that began, and so finds a dead leader up to three of them after its last word;
// the vigil has it look as soon as one is over. All that happens then, and what
// the library thinks a silence is, stays the library's.
//
// A voter that is not yet missing the leader refuses to vote for another, so that
// the last one of a majority to notice is elected: with three voters, one and a
// quarter heartbeat timeouts after the leader's last word.
type vigil struct {
	stop chan struct{}
	done chan struct{}
}

func (h *Host) keepVigil() *vigil {
	v := &vigil{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(v.done)
		tick := time.NewTicker(h.cfg.HeartbeatTimeout / vigilLooks)
		defer tick.Stop()
		for {
			select {
			case now := <-tick.C:
				h.mu.Lock()
				for _, g := range h.groups {
					if g != nil {
						g.missLeader(now)
					}
				}
				h.mu.Unlock()
			case <-v.stop:
				return
			}
		}
	}()
	return v
}

func (v *vigil) end() {
	close(v.stop)
	<-v.done
}

// missLeader has the library look for its leader if there was none for long
// enough. It does not wait for anything.
func (g *Group) missLeader(now time.Time) {
	if g.guard.over() || g.raft.State() != raft.Follower {
		return
	}
	heard := g.raft.LastContact()
	if heard.Before(g.opened) {
		heard = g.opened
	}
	timeout := g.host.cfg.HeartbeatTimeout
	silence := now.Sub(heard)
	if silence <= timeout {
		return
	}
	if turn, votes := g.turnToRun(); votes && silence > timeout+time.Duration(turn)*timeout/vigilTurn {
		g.elect()
	}
}

// turnToRun is this replica's place among the voters of its set, without the one
// that led last; votes is false when it is none of them.
func (g *Group) turnToRun() (turn int, votes bool) {
	_, last := g.raft.LeaderWithID()
	for _, s := range g.roster.latest().servers {
		switch {
		case s.suffrage != raft.Voter || s.serverID() == last:
		case s.Replica == g.local.Replica:
			return turn, true
		default:
			turn++
		}
	}
	return 0, false
}
