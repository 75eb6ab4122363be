package raftset

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate"
)

// Group is one open replica. Its methods may be called by many goroutines.
type Group struct {
	host      *Host
	set       quorate.ReplicaSetID
	local     Member
	logger    *slog.Logger
	guard     *guard
	manifests *manifestStore
	low       *lowWater
	log       *guardedLog
	transport transport
	machine   *machine
	proposer  *proposer
	raft      *raft.Raft
	news      *notice // of leadership, members, progress and applied entries
	roster    *roster
	progress  *progress
	opened    time.Time
	openedIn  uint64 // the term that the replica was in then

	// turn has room for the one change of members or of leader that is under way.
	turn      chan struct{}
	cancel    context.CancelFunc // ends machine.lifetime
	flushing  chan struct{}      // room for the one flush that may run; stop keeps it
	closing   chan struct{}
	closeOnce sync.Once
	closeErr  error
	stopped   chan struct{} // closed by the supervisor, last
	failed    chan struct{}
}

// State is what a replica does in its group.
type State string

// The states of a replica.
const (
	StateFollower  State = "follower"
	StateCandidate State = "candidate"
	StateLeader    State = "leader"
	// StateStopped is that of a replica which is closed or broken.
	StateStopped State = "stopped"
)

// Status describes a replica at one moment. Its fields are read one after the
// other and may be of slightly different moments.
type Status struct {
	Set     quorate.ReplicaSetID
	Replica quorate.ReplicaID
	State   State
	Term    uint64
	// Leader leads in Term as far as this replica knows; its Replica is 0 when
	// none is known.
	Leader Member
	// AppliedIndex is that of the last entry the state machine has applied.
	AppliedIndex uint64
	CommitIndex  uint64
	// FirstIndex and LastIndex bound the log; both are 0 when it is empty.
	FirstIndex, LastIndex uint64
	ManifestIndex         uint64
	// LogBytes is the size of the commands in the log past the manifest: what a
	// restart has to replay.
	LogBytes int64
	// Broken is why the replica was stopped; nil while it is not broken.
	Broken error
}

// Set returns the ReplicaSet of the group.
func (g *Group) Set() quorate.ReplicaSetID { return g.set }

// Replica returns the replica's ID.
func (g *Group) Replica() quorate.ReplicaID { return g.local.Replica }

// Leadership returns the replica's term and whether it leads in it. A replica
// that failed or stops does not, whatever the library's state says: its main
// loop may set that once more after a shutdown.
func (g *Group) Leadership() (term uint64, leader bool) {
	if g.guard.over() {
		return g.raft.CurrentTerm(), false
	}
	// A node never leads twice in one term, so that a term seen before and
	// after the state is the state's own.
	for {
		term = g.raft.CurrentTerm()
		leader = g.raft.State() == raft.Leader
		if g.raft.CurrentTerm() == term {
			return term, leader
		}
	}
}

// leadership is Leadership for goroutines that may run before the group's
// start is through.
func (g *Group) leadership() (term uint64, leader bool) {
	if !g.guard.running.Load() {
		return 0, false
	}
	return g.Leadership()
}

// Failed is closed once a failure has stopped the replica. Status().Broken then
// has the reason. The group is to be closed; whether its replica is opened
// again is the caller's choice.
func (g *Group) Failed() <-chan struct{} { return g.failed }

// Status describes the replica.
func (g *Group) Status() Status {
	s := Status{
		Set:           g.set,
		Replica:       g.local.Replica,
		Term:          g.raft.CurrentTerm(),
		Leader:        g.leader(),
		AppliedIndex:  g.machine.index.Load(),
		CommitIndex:   g.raft.CommitIndex(),
		ManifestIndex: g.manifests.current().index,
		LogBytes:      g.log.bytes.Load() - g.machine.flushed.Load(),
		Broken:        g.guard.err(),
		State:         StateStopped,
	}
	if !g.guard.over() {
		s.State = stateOf(g.raft.State())
	}
	// A closed log has no bounds to tell; zero says so.
	if first, err := g.log.FirstIndex(); err == nil {
		s.FirstIndex = first
	}
	if last, err := g.log.LastIndex(); err == nil {
		s.LastIndex = last
	}
	return s
}

func stateOf(s raft.RaftState) State {
	switch s {
	case raft.Follower:
		return StateFollower
	case raft.Candidate:
		return StateCandidate
	case raft.Leader:
		return StateLeader
	case raft.Shutdown:
	}
	return StateStopped
}

func (g *Group) leader() Member {
	_, id := g.raft.LeaderWithID()
	if id == "" {
		return Member{}
	}
	m, err := ParseMember(string(id))
	if err != nil {
		// Every configuration was checked when it was stored.
		return Member{}
	}
	return m
}

// refusal is why this replica takes no proposals and confirms no reads.
func (g *Group) refusal() error {
	if err := g.guard.err(); err != nil {
		return g.broken(err)
	}
	select {
	case <-g.closing:
		return fmt.Errorf("set %d: %w", g.set, ErrStopped)
	default:
		return notLeader(g.set, g.leader())
	}
}

func (g *Group) broken(cause error) error {
	return fmt.Errorf("set %d: %w: %w", g.set, ErrBroken, cause)
}

// unknown is the error of a proposal that may or may not take effect.
func (g *Group) unknown(why string) error {
	if err := g.guard.err(); err != nil {
		return fmt.Errorf("set %d: %w: %w", g.set, ErrOutcomeUnknown, err)
	}
	return fmt.Errorf("set %d: %w: %s while it was in flight", g.set, ErrOutcomeUnknown, why)
}

// Flush freezes the state machine, persists it, publishes the manifest and
// deletes the log up to it. With nothing new it does nothing and returns nil.
// One flush runs at a time; others wait. When ctx ends, Flush returns and the
// flush goes on.
func (g *Group) Flush(ctx context.Context) error {
	select {
	case g.flushing <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("set %d: flush: %w", g.set, ctx.Err())
	case <-g.guard.halted:
		return g.refusal()
	}
	done := make(chan error, 1)
	// The goroutine is stop's to wait for: it holds the slot until it ends.
	go func() {
		defer func() { <-g.flushing }()
		done <- g.flush()
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("set %d: flush: %w", g.set, ctx.Err())
	}
}

// Rewrite is a Flush that takes place even when nothing was applied since the
// last one: for a state machine that was asked to write its files anew. The
// manifest's index rises with every publication but the first of two at the
// same entry, so an entry that changes nothing is committed first; only the
// leader can, and others refuse as Propose does.
func (g *Group) Rewrite(ctx context.Context) error {
	if g.machine.index.Load() <= g.manifests.current().index {
		if _, err := g.proposer.propose(ctx, kindFence, nil); err != nil {
			return fmt.Errorf("rewrite: %w", err)
		}
	}
	return g.Flush(ctx)
}

func (g *Group) flush() error {
	flushes := g.host.metrics.flushes
	switch err := g.raft.Snapshot().Error(); {
	case err == nil:
		flushes.WithLabelValues("published").Inc()
		return nil
	case errors.Is(err, raft.ErrNothingNewToSnapshot):
		flushes.WithLabelValues("empty").Inc()
		return nil
	case errors.Is(err, raft.ErrRaftShutdown):
		return g.refusal()
	default:
		flushes.WithLabelValues("failed").Inc()
		return fmt.Errorf("set %d: flush: %w", g.set, err)
	}
}

// supervise waits for what ends the replica, and stops it.
func (g *Group) supervise() {
	defer close(g.stopped)
	leadership := g.raft.LeaderCh()
	// Entries that are no commands end a replay too, and the state machine does
	// not see them.
	replay := time.NewTicker(replayPoll)
	defer replay.Stop()
	for {
		select {
		case <-replay.C:
			g.machine.catchUp.applied(g.raft.AppliedIndex())
			select {
			case <-g.Replayed():
				replay.Stop()
			default:
			}
		case <-leadership:
			// Only an ended term loses flights, and a term does not come back.
			if term, leader := g.Leadership(); leader {
				g.proposer.lose(g.proposer.flights.others(term))
			} else {
				g.proposer.lose(g.proposer.flights.others(0))
			}
			g.news.tell()
		case <-g.guard.failing:
			err := g.guard.err()
			g.logger.Error("replica failed and is stopped", "err", err)
			g.host.metrics.broken.Inc()
			g.stop(g.broken(err))
			close(g.failed)
			return
		case <-g.closing:
			g.stop(fmt.Errorf("set %d: %w", g.set, ErrStopped))
			return
		}
	}
}

// stop ends Raft and closes the replica's files, in this order: nothing new
// comes in, nothing leaves for the peers, Raft's goroutines end, and only then
// do the files close under them.
func (g *Group) stop(reason error) {
	g.proposer.close(reason)
	g.cancel()
	if err := g.transport.Close(); err != nil {
		g.logger.Warn("closing the transport failed", "err", err)
	}
	shutdown := g.raft.Shutdown()
	g.guard.halt()
	// The library's shutdown has no error of its own.
	_ = shutdown.Error()
	<-g.proposer.done
	g.flushing <- struct{}{}
	g.proposer.lose(g.proposer.flights.others(0))
	g.closeFiles()
}

// closeFiles closes the log and then says in the mark that it was closed in
// order, if it was. The mark comes last: raft-wal may still be at work on the
// next segment until its Close returns.
func (g *Group) closeFiles() {
	g.host.tide.forget(g.low)
	last, err := g.log.LastIndex()
	if err = errors.Join(err, g.log.Close()); err != nil {
		g.logger.Warn("closing the log failed", "err", err)
		return
	}
	if g.guard.err() != nil {
		return
	}
	if err := g.low.save(max(last, g.manifests.current().index), true); err != nil {
		// The next start takes this stop for a crash, and looks closer.
		g.logger.Warn("low-water mark was not saved", "err", err)
	}
}

// Close stops the replica, if a failure has not yet, and closes the state
// machine. Proposals in flight end with ErrOutcomeUnknown. It is idempotent.
func (g *Group) Close() error {
	g.closeOnce.Do(func() {
		close(g.closing)
		<-g.stopped
		if err := g.machine.sm.Close(); err != nil {
			g.closeErr = fmt.Errorf("set %d: close the state machine: %w", g.set, err)
		}
		select {
		case <-g.failed:
			g.host.metrics.broken.Dec()
		default:
		}
		g.host.forget(g)
	})
	return g.closeErr
}
