package raftset

import (
	"time"

	"github.com/hashicorp/raft"
)

const (
	// vigilTurn is the part of a heartbeat timeout by which the voters of a set
	// run for leader one after the other. It is longer than a leader's pause
	// between two heartbeats, by which their silences begin apart, so that two
	// seldom run at once and take each other's votes.
	vigilTurn = 4
	// vigilAgain is the part of a heartbeat timeout after which a follower is
	// looked at again that misses its leader already, or has just ceased to run
	// for leader.
	vigilAgain = 20
)

// vigil watches how long the followers of a host have not heard of a leader. The
// library looks only when a timer of one to two heartbeat timeouts ends, whenever
// that began, and so finds a dead leader up to three of them after its last word;
// the vigil has it look as soon as one is over. All that happens then, and what
// the library thinks a silence is, stays the library's.
//
// It looks when the first of its followers may be over the timeout, as far as it has
// heard of its leader by now: while leaders are well, that is once a timeout or so,
// and idle hosts sleep.
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
		timer := time.NewTimer(h.cfg.HeartbeatTimeout)
		defer timer.Stop()
		for {
			select {
			case <-timer.C:
				timer.Reset(max(h.missLeaders(), time.Millisecond))
			case <-v.stop:
				return
			}
		}
	}()
	return v
}

// missLeaders has all groups look for their leaders that were silent for long
// enough, and returns after how long to come again: at most a timeout, so that
// groups which open meanwhile are not late.
func (h *Host) missLeaders() (again time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now() // the timer's time may be long ago, if the process stood still
	again = h.cfg.HeartbeatTimeout
	for _, g := range h.groups {
		if g != nil {
			again = min(again, g.missLeader(now))
		}
	}
	return again
}

func (v *vigil) end() {
	close(v.stop)
	<-v.done
}

// missLeader has the library look for its leader if there was none for long
// enough, and returns after how long that may be next. It does not wait for anything.
func (g *Group) missLeader(now time.Time) (again time.Duration) {
	timeout := g.host.cfg.HeartbeatTimeout
	if g.guard.over() {
		return timeout
	}
	switch g.raft.State() {
	case raft.Follower:
	case raft.Candidate:
		return timeout / vigilAgain
	case raft.Leader, raft.Shutdown:
		return timeout // a leader that steps down counts as heard of then
	}
	heard := g.raft.LastContact()
	if heard.Before(g.opened) {
		heard = g.opened
	}
	turn, votes := g.turnToRun()
	if !votes {
		return timeout
	}
	wait := timeout + time.Duration(turn)*timeout/vigilTurn - now.Sub(heard)
	if wait >= 0 {
		return wait + 1
	}
	g.elect()
	return timeout / vigilAgain
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
