package router

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/raftset"
	"github.com/quorate/quorate/tsdbshard"
)

// Replica is the replica of one ReplicaSet on this node. It is open, and then
// a Raft group and the shard that the group's log builds; or it is sealed, and
// then the set's canonical file, without Raft.
type Replica struct {
	set   quorate.ReplicaSetID
	group *raftset.Group
	shard *tsdbshard.Shard
	meta  Meta

	// sealed stands in place of the three above.
	sealed *tsdbshard.Sealed

	// admit is asked before anything is proposed; nil admits all.
	admit func() error

	// fenced is the term for which this replica, as leader, has confirmed its
	// bounds with the metadata service (PROTOCOL 6).
	fenced atomic.Uint64
}

// View is a pinned state of one set: what a query reads. It holds files and
// memory until it is closed.
type View interface {
	// Tenant returns what the view shows of one tenant; a tenant that never
	// wrote to the set is empty.
	Tenant(id quorate.TenantID) tsdbshard.TenantReader
	// TenantIn is Tenant for a reader that asks for no sample outside the
	// closed range [mint, maxt] (ms), which may not be there.
	TenantIn(id quorate.TenantID, mint, maxt int64) tsdbshard.TenantReader
	// Close lets go of the state. A second Close does nothing.
	Close()
}

var (
	_ View = (*tsdbshard.View)(nil)
	_ View = (*tsdbshard.SealedView)(nil)
)

// NewReplica joins a group and its shard into what the router writes to and
// reads from.
func NewReplica(set quorate.ReplicaSetID, group *raftset.Group, shard *tsdbshard.Shard, meta Meta) *Replica {
	return &Replica{set: set, group: group, shard: shard, meta: meta}
}

// AdmitBy has writes and deletions refused while this replica leads and a
// function returns why, before they are proposed: where the disk is full. It comes
// before the replica is added to Replicas.
func (r *Replica) AdmitBy(admit func() error) { r.admit = admit }

// NewSealedReplica makes the canonical file of a sealed set into what the
// router reads from. It takes no writes.
func NewSealedReplica(set quorate.ReplicaSetID, sealed *tsdbshard.Sealed) *Replica {
	return &Replica{set: set, sealed: sealed}
}

// Set returns the ReplicaSet of the replica.
func (r *Replica) Set() quorate.ReplicaSetID { return r.set }

// id returns the number of an open replica, 0 of a sealed one.
func (r *Replica) id() quorate.ReplicaID {
	if r.group == nil {
		return 0
	}
	return r.group.Replica()
}

// Shard returns an open replica's state machine, nil of a sealed one.
func (r *Replica) Shard() *tsdbshard.Shard { return r.shard }

// Group returns an open replica's Raft group, nil of a sealed one.
func (r *Replica) Group() *raftset.Group { return r.group }

// Sealed returns a sealed replica's file, nil of an open one.
func (r *Replica) Sealed() *tsdbshard.Sealed { return r.sealed }

// Write proposes one encoded batch at this replica, which must lead, and
// returns what Apply made of it. The batch may be used again after return.
func (r *Replica) Write(ctx context.Context, batch []byte) (*wire.BatchResult, error) {
	if r.takesNothing() {
		return &wire.BatchResult{Status: wire.BatchSealed}, nil
	}
	return propose[*wire.BatchResult](ctx, r, wire.KindWrite, batch)
}

// Delete proposes one encoded wire.Deletion at this replica, which must lead,
// and returns what Apply made of it.
func (r *Replica) Delete(ctx context.Context, deletion []byte) (*tsdbshard.DeleteResult, error) {
	if r.takesNothing() {
		return &tsdbshard.DeleteResult{Sealed: true}, nil
	}
	return propose[*tsdbshard.DeleteResult](ctx, r, wire.KindDelete, deletion)
}

// takesNothing tells that the set is sealed, as far as this replica knows.
// What is sealed stays so (PROTOCOL 14), so there is no need to have the log
// say it again: while the seal is not recorded in the metadata, writers try
// over and over, and each try would be an entry.
func (r *Replica) takesNothing() bool {
	if r.sealed != nil {
		return true
	}
	_, sealed := r.shard.Sealed()
	return sealed
}

// propose has one command of a kind committed, applied, and answered by an A.
func propose[A any](ctx context.Context, r *Replica, kind wire.Kind, command []byte) (answer A, err error) {
	if _, leads := r.group.Leadership(); leads && r.admit != nil {
		if err := r.admit(); err != nil {
			return answer, err
		}
	}
	if err := r.fence(ctx); err != nil {
		return answer, err
	}
	got, err := r.group.Propose(ctx, kind, command)
	if err != nil {
		return answer, r.classify(err)
	}
	answer, ok := got.(A)
	if !ok {
		return answer, fmt.Errorf("set %v answered a command of kind %d with a %T", r.set, kind, got)
	}
	return answer, nil
}

// fence makes a leader confirm its bounds version with the metadata service
// once per term, before its first write: a leader that was away while its
// bucket was cut must not accept samples beyond the cut (PROTOCOL 6).
func (r *Replica) fence(ctx context.Context) error {
	term, leads := r.group.Leadership()
	if !leads || r.fenced.Load() == term {
		return nil // Propose says what is wrong where this replica does not lead
	}
	confirmed, err := r.meta.ConfirmBounds(ctx, r.set)
	if err != nil {
		return retriable(quorate.Errorf(quorate.Unavailable, "set %v: confirm bounds for term %d: %w", r.set, term, err))
	}
	if own := r.shard.Bounds().Version; own < confirmed {
		return retriable(quorate.Errorf(quorate.Unavailable, "set %v: bounds version %d is behind the confirmed version %d", r.set, own, confirmed))
	}
	r.fenced.Store(term)
	return nil
}

// View returns a pinned view of the set that shows every write acknowledged
// before the call (PROTOCOL 24). A sealed set needs no leader for that: it is
// exact wherever it is read, under the deletions that the metadata keep for it
// (PROTOCOL 19), which an open set has in its log. The caller closes the view.
func (r *Replica) View(ctx context.Context, deletions []wire.NumberedDeletion) (View, error) {
	view, _, err := r.pin(ctx, pinConfirmed, deletions)
	return view, err
}

// pin takes a view of the replica. Its error is retriable where the replica may
// soon be fit for it, or another one of the set is.
func (r *Replica) pin(ctx context.Context, mode pinMode, deletions []wire.NumberedDeletion) (view View, behind lag, err error) {
	if r.sealed != nil {
		sealed, err := r.sealed.View(deletions)
		if err != nil {
			return nil, behind, r.replaced(err)
		}
		return sealed, behind, nil
	}
	switch mode {
	case pinFile:
		return nil, behind, retriable(quorate.Errorf(quorate.Unavailable, "the sealed file of set %v is not open on this node yet", r.set))
	case pinSealed:
		if _, sealed := r.shard.Sealed(); !sealed {
			return nil, behind, retriable(quorate.Errorf(quorate.Unavailable, "the replica of set %v on this node has not reached its seal yet", r.set))
		}
	case pinStale:
		behind = r.lag()
	case pinConfirmed:
		if _, err := r.group.ConfirmRead(ctx); err != nil {
			return nil, behind, r.classify(err)
		}
	}
	open, err := r.shard.View()
	if err != nil {
		return nil, behind, r.replaced(err)
	}
	return open, behind, nil
}

// lag tells how far the replica is behind its leader, as far as it knows.
func (r *Replica) lag() lag {
	s := r.group.Status()
	newest := max(s.CommitIndex, s.LastIndex)
	return lag{stale: true, known: s.Leader.Replica != 0, entries: newest - min(newest, s.AppliedIndex)}
}

// replaced marks the error of a replica that was closed since it was asked
// for, to be opened again or to give way to the sealed file: it has no view,
// and the one that takes its place may. Damage is not mended by asking again.
func (r *Replica) replaced(err error) error {
	err = fmt.Errorf("set %v: %w", r.set, err)
	if errors.Is(err, tsdbshard.ErrNotOpen) {
		return retriable(err)
	}
	return err
}

// classify marks the failures of a group that another attempt may mend. A
// group that is closed was swapped for the sealed file, or will be opened
// again; one that broke is taken out of Replicas by whoever opened it.
func (r *Replica) classify(err error) error {
	var notLeader *raftset.NotLeaderError
	err = fmt.Errorf("set %v: %w", r.set, err)
	if errors.As(err, &notLeader) || errors.Is(err, raftset.ErrOutcomeUnknown) || errors.Is(err, raftset.ErrStopped) {
		return retriable(err)
	}
	return err
}
