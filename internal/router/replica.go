package router

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/raftset"
	"github.com/quorate/quorate/tsdbshard"
)

// Replica is the replica of one ReplicaSet on this node: its Raft group and
// the shard that the group's log builds.
type Replica struct {
	set   quorate.ReplicaSetID
	group *raftset.Group
	shard *tsdbshard.Shard
	meta  Meta

	// fenced is the term for which this replica, as leader, has confirmed its
	// bounds with the metadata service (PROTOCOL 6).
	fenced atomic.Uint64
}

// NewReplica joins a group and its shard into what the router writes to and
// reads from.
func NewReplica(set quorate.ReplicaSetID, group *raftset.Group, shard *tsdbshard.Shard, meta Meta) *Replica {
	return &Replica{set: set, group: group, shard: shard, meta: meta}
}

// Shard returns the replica's state machine.
func (r *Replica) Shard() *tsdbshard.Shard { return r.shard }

// Group returns the replica's Raft group.
func (r *Replica) Group() *raftset.Group { return r.group }

// Write proposes one encoded batch at this replica, which must lead, and
// returns what Apply made of it. The batch may be used again after return.
func (r *Replica) Write(ctx context.Context, batch []byte) (*wire.BatchResult, error) {
	if err := r.fence(ctx); err != nil {
		return nil, err
	}
	answer, err := r.group.Propose(ctx, wire.KindWrite, batch)
	if err != nil {
		return nil, r.classify(err)
	}
	result, ok := answer.(*wire.BatchResult)
	if !ok {
		return nil, fmt.Errorf("set %v answered a write with a %T", r.set, answer)
	}
	return result, nil
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

// View returns a pinned view of the shard that shows every write acknowledged
// before the call (PROTOCOL 24). The caller closes it.
func (r *Replica) View(ctx context.Context) (*tsdbshard.View, error) {
	if _, err := r.group.ConfirmRead(ctx); err != nil {
		return nil, r.classify(err)
	}
	// A replica that was closed since, to be opened again, has no view: the
	// one that takes its place may.
	view, err := r.shard.View()
	if err != nil {
		return nil, retriable(fmt.Errorf("set %v: %w", r.set, err))
	}
	return view, nil
}

// classify marks the failures of a group that another attempt may mend.
func (r *Replica) classify(err error) error {
	var notLeader *raftset.NotLeaderError
	err = fmt.Errorf("set %v: %w", r.set, err)
	if errors.As(err, &notLeader) || errors.Is(err, raftset.ErrOutcomeUnknown) {
		return retriable(err)
	}
	return err
}

// Replicas are the replicas of this node: open ones, and why others are not.
// The zero value is empty.
type Replicas struct {
	mu     sync.RWMutex
	bySet  map[quorate.ReplicaSetID]*Replica
	broken map[quorate.ReplicaSetID]brokenReplica
}

type brokenReplica struct {
	reason  error
	forGood bool
}

// Add makes a replica known to the router, in place of an earlier one of its set.
func (rs *Replicas) Add(r *Replica) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.bySet == nil {
		rs.bySet = make(map[quorate.ReplicaSetID]*Replica)
	}
	rs.bySet[r.set] = r
	delete(rs.broken, r.set)
}

// Break replaces a set's replica by the reason for which it is not open. When
// it is so for good, requests fail at once; else they wait, within their
// deadline, for the replica to be opened again.
func (rs *Replicas) Break(set quorate.ReplicaSetID, reason error, forGood bool) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.broken == nil {
		rs.broken = make(map[quorate.ReplicaSetID]brokenReplica)
	}
	rs.broken[set] = brokenReplica{reason: reason, forGood: forGood}
	delete(rs.bySet, set)
}

// Remove hides a set's replica from the router; requests that hold it finish.
func (rs *Replicas) Remove(set quorate.ReplicaSetID) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	delete(rs.bySet, set)
	delete(rs.broken, set)
}

// Get returns the replica of a set on this node. Its error names the set and,
// where it is known, what is wrong; it is retriable unless that is for good.
func (rs *Replicas) Get(set quorate.ReplicaSetID) (*Replica, error) {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	if r, ok := rs.bySet[set]; ok {
		return r, nil
	}
	b, ok := rs.broken[set]
	switch {
	case !ok:
		return nil, retriable(quorate.Errorf(quorate.Unavailable, "set %v has no open replica on this node", set))
	case !b.forGood:
		return nil, retriable(quorate.Errorf(quorate.Unavailable, "set %v is to be opened again on this node: %w", set, b.reason))
	}
	return nil, quorate.Errorf(quorate.Unavailable, "set %v is broken on this node: %w", set, b.reason)
}

// All returns the replicas open now, in no order.
func (rs *Replicas) All() []*Replica {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	all := make([]*Replica, 0, len(rs.bySet))
	for _, r := range rs.bySet {
		all = append(all, r)
	}
	return all
}
