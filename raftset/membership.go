package raftset

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate"
)

const (
	// changePatience is how many heartbeat timeouts a change of members may take.
	changePatience = 10
	// maxFitLag is how many entries a member may lack to be made a voter or to
	// be handed leadership. With a busy leader some are always under way.
	maxFitLag = 64
)

// memberChange is one step of a set's configuration.
type memberChange struct {
	what string
	// done tells that a configuration is as wanted.
	done func(servers []server) bool
	// check tells why the change must not be made to a configuration.
	check func(servers []server) error
	// request asks the library for the change of the configuration at index
	// prev, and of no other.
	request func(prev uint64, patience time.Duration)
}

// AddLearner makes a replica a member that is sent the log and does not vote.
// It does nothing to one that is a member already.
//
// This, Promote and RemoveMember are the leader's to do; each waits until the
// change is committed, and none is made unless the configuration that it was
// decided on is still the latest (PROTOCOL 4). Repeating a change that was made
// does nothing. Errors are of kind Unavailable and as those of Propose, or of
// kind Invalid or NotFound when the change itself cannot be.
func (g *Group) AddLearner(ctx context.Context, m Member) error {
	return g.change(ctx, memberChange{
		what: "add learner " + m.String(),
		done: func(servers []server) bool {
			s, ok := find(servers, m.Replica)
			return ok && s.Member == m
		},
		check: func(servers []server) error {
			if m.Replica == 0 {
				return quorate.Errorf(quorate.Invalid, "the learner has no ReplicaID")
			}
			for _, s := range servers {
				if s.Replica == m.Replica || s.Node == m.Node {
					return quorate.Errorf(quorate.Invalid, "%s is a member already", s.Member)
				}
			}
			return nil
		},
		request: func(prev uint64, patience time.Duration) {
			g.raft.AddNonvoter(m.serverID(), m.address(), prev, patience)
		},
	})
}

// Promote makes a learner a voter, if it has answered lately and lacks next to
// nothing of the log: from then on the set may need it for every commitment.
func (g *Group) Promote(ctx context.Context, replica quorate.ReplicaID) error {
	m, err := g.member(replica)
	if err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	return g.change(ctx, memberChange{
		what: "promote " + m.String(),
		done: func(servers []server) bool {
			s, ok := find(servers, replica)
			return ok && s.suffrage == raft.Voter
		},
		check: func(servers []server) error {
			if _, ok := find(servers, replica); !ok {
				return quorate.Errorf(quorate.NotFound, "set %d has no member %d", g.set, replica)
			}
			return g.checkFit(m)
		},
		request: func(prev uint64, patience time.Duration) {
			g.raft.AddVoter(m.serverID(), m.address(), prev, patience)
		},
	})
}

// RemoveMember takes a voter or learner out of the set. It refuses to take a
// voter out when those that are left and answer are no quorum of the rest. A leader that removes
// itself goes on until that is committed and then follows nobody; transferring
// leadership first spares the set an election.
func (g *Group) RemoveMember(ctx context.Context, replica quorate.ReplicaID) error {
	m, err := g.member(replica)
	if quorate.KindOf(err) == quorate.NotFound {
		// Gone from the latest configuration; change waits until that is
		// committed.
		m, err = Member{Replica: replica}, nil
	}
	if err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	return g.change(ctx, memberChange{
		what: "remove " + m.String(),
		done: func(servers []server) bool {
			_, ok := find(servers, replica)
			return !ok
		},
		check: func(servers []server) error {
			if s, _ := find(servers, replica); s.suffrage == raft.Voter && voters(servers) == 1 {
				return quorate.Errorf(quorate.Invalid, "%s is the last voter of set %d", s.Member, g.set)
			}
			return g.checkRest(servers, replica)
		},
		request: func(prev uint64, patience time.Duration) {
			g.raft.RemoveServer(m.serverID(), prev, patience)
		},
	})
}

// checkFit tells why a member must not be given a part that the set depends on.
func (g *Group) checkFit(m Member) error {
	lag, contact, ok := g.Lag(m.Replica)
	if since := time.Since(contact); !ok || since > g.host.cfg.HeartbeatTimeout || lag > maxFitLag {
		return quorate.Errorf(quorate.Unavailable, "set %d: %s lacks %d entries, last heard %v ago", g.set, m, lag, since)
	}
	return nil
}

// checkRest tells whether the set would still have a quorum without a member.
func (g *Group) checkRest(servers []server, without quorate.ReplicaID) error {
	left, answer := 0, 0
	for _, s := range servers {
		if s.suffrage != raft.Voter || s.Replica == without {
			continue
		}
		left++
		_, contact, ok := g.Lag(s.Replica)
		if s.Replica == g.local.Replica || ok && time.Since(contact) <= g.host.cfg.HeartbeatTimeout {
			answer++
		}
	}
	if gone, _ := find(servers, without); gone.suffrage == raft.Voter && answer < left/2+1 {
		return quorate.Errorf(quorate.Unavailable, "set %d: without replica %d only %d of %d voters answer", g.set, without, answer, left)
	}
	return nil
}

// member returns a member of the latest configuration.
func (g *Group) member(replica quorate.ReplicaID) (Member, error) {
	s, ok := find(g.roster.latest().servers, replica)
	if !ok {
		return Member{}, quorate.Errorf(quorate.NotFound, "set %d has no member %d", g.set, replica)
	}
	return s.Member, nil
}

// change makes one step. The library's future is not waited for, since it is
// left open when Raft shuts down at the wrong moment (see flights): that the
// change was taken shows in the roster, which learns of entries where they are
// stored and where they are applied.
func (g *Group) change(ctx context.Context, c memberChange) error {
	patience := changePatience * g.host.cfg.HeartbeatTimeout
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := g.takeTurn(ctx); err != nil {
		return fmt.Errorf("%s: %w", c.what, err)
	}
	defer g.endTurn()
	if err := g.makeChange(ctx, c); err != nil {
		return fmt.Errorf("%s: %w", c.what, err)
	}
	return nil
}

func (g *Group) makeChange(ctx context.Context, c memberChange) error {
	term, leader := g.Leadership()
	if !leader {
		return g.refusal()
	}
	// An earlier change, of this leader or the one before, comes first.
	base, err := g.awaitCommitted(ctx, term)
	if err != nil {
		return err
	}
	if c.done(base.servers) {
		return nil
	}
	if err := c.check(base.servers); err != nil {
		return err
	}
	deadline, _ := ctx.Deadline()
	c.request(base.index, max(time.Until(deadline), time.Millisecond))
	for {
		news := g.news.wait()
		latest, committed := g.roster.both()
		switch now, leader := g.Leadership(); {
		case latest.index == base.index:
			if !leader || now != term {
				return g.refusal()
			}
		case !c.done(latest.servers):
			return quorate.Errorf(quorate.Unavailable, "set %d: the members have changed meanwhile", g.set)
		case committed:
			return nil
		}
		// A leader that removed itself learns of the commitment after it has
		// stepped down; one that was deposed may learn of it, or of another.
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("set %d: %w: %w", g.set, ErrOutcomeUnknown, ctx.Err())
		case <-g.guard.halted:
			return g.unknown("the replica was stopped")
		}
	}
}

// awaitCommitted waits until the latest configuration is committed, while this
// replica leads in term.
func (g *Group) awaitCommitted(ctx context.Context, term uint64) (generation, error) {
	for {
		news := g.news.wait()
		latest, committed := g.roster.both()
		if now, leader := g.Leadership(); !leader || now != term {
			return generation{}, g.refusal()
		}
		if committed {
			return latest, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return generation{}, quorate.Errorf(quorate.Unavailable, "set %d: the change of members before this one is not committed: %w", g.set, ctx.Err())
		case <-g.guard.halted:
			return generation{}, g.refusal()
		}
	}
}

// takeTurn waits until no other change of members and no transfer is under way.
func (g *Group) takeTurn(ctx context.Context) error {
	select {
	case g.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return quorate.Errorf(quorate.Unavailable, "set %d: another change of members or leader is under way: %w", g.set, ctx.Err())
	case <-g.guard.halted:
		return g.refusal()
	}
}

func (g *Group) endTurn() { <-g.turn }
