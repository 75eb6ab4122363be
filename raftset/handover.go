package raftset

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate"
)

// handoverStuck is after how many election timeouts a handover that neither
// succeeded nor ended fails the replica.
const handoverStuck = 3

// TransferLeadership hands leadership to another voter, which must have answered
// lately and lack next to nothing of the log. Proposals wait while it is under
// way, and confirmed reads that need one: who gets leadership starts with a log
// that nobody adds to behind its back. They go on if it fails, and otherwise are
// refused with a hint at the new leader.
//
// It returns nil when the other leads. Errors are of kind Unavailable, or
// Invalid when the target is no other voter; leadership has then not moved, or
// to a third. Until the member has been told, ctx ends it; after that it is seen
// through, which takes three election timeouts at most.
func (g *Group) TransferLeadership(ctx context.Context, to quorate.ReplicaID) error {
	if err := g.takeTurn(ctx); err != nil {
		return fmt.Errorf("transfer leadership: %w", err)
	}
	defer g.endTurn()
	err := g.handOver(ctx, to)
	outcome := "done"
	if err != nil {
		outcome = "failed"
		err = fmt.Errorf("transfer leadership: %w", err)
	}
	g.host.metrics.transfers.WithLabelValues(outcome).Inc()
	return err
}

func (g *Group) handOver(ctx context.Context, to quorate.ReplicaID) error {
	term, leader := g.Leadership()
	if !leader {
		return g.refusal()
	}
	base, err := g.awaitCommitted(ctx, term)
	if err != nil {
		return err
	}
	target, ok := find(base.servers, to)
	if !ok || target.suffrage != raft.Voter || to == g.local.Replica {
		return quorate.Errorf(quorate.Invalid, "replica %d is no other voter of set %d", to, g.set)
	}
	if err := g.checkFit(target.Member); err != nil {
		return err
	}
	release, err := g.proposer.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	waiting, cancel := context.WithTimeout(ctx, g.host.cfg.HeartbeatTimeout)
	defer cancel()
	if err := g.awaitSame(waiting, term, to); err != nil {
		return err
	}
	// Its future is not waited for: it is left open when Raft shuts down before
	// it is taken up.
	g.raft.LeadershipTransferToServer(target.serverID(), target.address())
	return g.awaitSuccessor(term, target.Member)
}

// awaitSame waits until all that was proposed has been answered and the target
// has the whole log.
func (g *Group) awaitSame(ctx context.Context, term uint64, to quorate.ReplicaID) error {
	for {
		news := g.news.wait()
		if now, leader := g.Leadership(); !leader || now != term {
			return g.refusal()
		}
		lag, _, ok := g.Lag(to)
		if ok && lag == 0 && g.proposer.flights.empty() {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return quorate.Errorf(quorate.Unavailable, "set %d: replica %d does not catch up: %w", g.set, to, ctx.Err())
		case <-g.guard.halted:
			return g.refusal()
		}
	}
}

// awaitSuccessor waits until leadership has moved, or it is certain that the
// library is done with trying: until then it refuses entries, and tells so to
// futures that nobody waits for.
func (g *Group) awaitSuccessor(term uint64, target Member) error {
	timeout := g.host.cfg.HeartbeatTimeout
	begin := time.Now()
	tick := time.NewTicker(timeout / 20)
	defer tick.Stop()
	for {
		news := g.news.wait()
		took := time.Since(begin)
		if now, leader := g.Leadership(); !leader || now != term {
			switch next := g.leader(); {
			case next == target:
				return nil
			case g.guard.over():
				return g.refusal()
			case next.Replica != 0 || took > handoverStuck*timeout:
				return notLeader(g.set, next)
			}
		} else if took > timeout {
			busy, known := g.handingOver(timeout / 4)
			switch {
			case known && !busy:
				return quorate.Errorf(quorate.Unavailable, "set %d: %s did not take leadership within %v", g.set, target, took)
			case known && took > handoverStuck*timeout:
				g.guard.fail(fmt.Errorf("the library has been handing leadership over for %v and takes no entries: %w", took, ErrReopen))
				return g.refusal()
			}
		}
		select {
		case <-news:
		case <-tick.C:
		case <-g.guard.halted:
			return g.refusal()
		}
	}
}

// handingOver tells whether the library refuses entries for a handover; known is
// false when it could not be asked. hashicorp/raft#696 can leave it so for ever.
// A change of members that cannot be made, since no configuration has that index,
// is what it answers at once, either way and on a leader with a stable
// configuration.
func (g *Group) handingOver(patience time.Duration) (busy, known bool) {
	err := g.raft.AddNonvoter(g.local.serverID(), g.local.address(), math.MaxUint64, patience).Error()
	return errors.Is(err, raft.ErrLeadershipTransferInProgress), !errors.Is(err, raft.ErrEnqueueTimeout)
}
