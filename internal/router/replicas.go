package router

import (
	"errors"
	"sync"

	"github.com/quorate/quorate"
)

// errNoReplica is what errors are that tell of a set without an open replica on
// this node.
var errNoReplica = errors.New("no open replica on this node")

// noReplica marks such an error.
type noReplica struct{ error }

// Unwrap returns the marked error.
func (e noReplica) Unwrap() error { return e.error }

// Is tells what it is marked as.
func (noReplica) Is(target error) bool { return target == errNoReplica }

// Replicas are the replicas of this node: open and sealed ones, and why others
// are not there. The zero value is empty.
type Replicas struct {
	mu     sync.RWMutex
	bySet  map[quorate.ReplicaSetID]*Replica
	broken map[quorate.ReplicaSetID]brokenReplica
}

type brokenReplica struct {
	reason  error
	forGood bool
}

// Add makes a replica known to the router, in place of an earlier one of its
// set. Queries that hold views of the earlier one finish on them; requests
// that find it closed try again and find the new one.
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
		return nil, retriable(noReplica{quorate.Errorf(quorate.Unavailable, "set %v has no open replica on this node", set)})
	case !b.forGood:
		return nil, retriable(noReplica{quorate.Errorf(quorate.Unavailable, "set %v is to be opened again on this node: %w", set, b.reason)})
	}
	return nil, noReplica{quorate.Errorf(quorate.Unavailable, "set %v is broken on this node: %w", set, b.reason)}
}

// All returns the replicas that are there now, sealed ones included, in no
// order.
func (rs *Replicas) All() []*Replica {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	all := make([]*Replica, 0, len(rs.bySet))
	for _, r := range rs.bySet {
		all = append(all, r)
	}
	return all
}
