package metasvc

import (
	"context"
	"fmt"

	"github.com/quorate/quorate"
)

// Follow takes in what a watch of another node's state machine gave: the way in
// which a node without a replica of the metadata has all of it. Batches come in
// order, each from where the one before led; one that leads nowhere new is
// ignored. The state machine is then not a replica: it has
// no log, and Freeze of it is nobody's snapshot. A batch that cannot be true is
// refused whole with an error that wraps ErrCorrupt: ask for the whole again.
//
// A state machine that has followed becomes a replica by Open or Restore.
func (m *StateMachine) Follow(b Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	if b.To < m.state.index || b.To == m.state.index && !b.Whole {
		return nil
	}
	s := m.state
	if b.Whole {
		s = newState()
		s.last = m.state.last // numbers are never given out again
	}
	if err := s.checkBatch(b); err != nil {
		return err
	}
	for _, c := range b.Changes {
		s.take(c, b.Whole)
	}
	s.index = b.To
	if b.Whole {
		s.forgotten = b.To
		m.log = changeLog{limit: m.log.limit, from: b.To}
	} else {
		m.log.add(b.Changes)
	}
	m.state = s
	if len(b.Changes) > 0 || b.Whole {
		m.changedLocked(b.To)
	}
	m.wakeLocked()
	return nil
}

// checkBatch checks what a batch would make of the tables as far as whoever
// walks them relies on it: buckets name sets that are there. A batch of several
// entries may have a bucket more than once, and what it was on the way may name
// sets that are gone at the end: only the last of each counts.
func (s *state) checkBatch(b Batch) error {
	sets := make(map[quorate.ReplicaSetID]*ReplicaSet)
	buckets := make(map[quorate.BucketID]*BucketRecord)
	last := uint64(0)
	for _, c := range b.Changes {
		if c.Index < last || c.Index > b.To {
			return fmt.Errorf("%w: a change at index %d after one at %d, in a batch to %d", ErrCorrupt, c.Index, last, b.To)
		}
		last = c.Index
		if c.Kind == KindReplicaSet {
			set, _ := c.Record.(*ReplicaSet)
			sets[quorate.ReplicaSetID(c.ID)] = set
		}
		if c.Kind == KindBucket {
			bucket, _ := c.Record.(*BucketRecord)
			buckets[quorate.BucketID(c.ID)] = bucket
		}
	}
	for _, bucket := range byKey(buckets) {
		if bucket == nil || bucket.State == BucketDropping {
			continue
		}
		if err := s.checkBucketOf(bucket, sets); err != nil {
			return err
		}
	}
	return nil
}

// checkBucketOf checks that a bucket names sets of its own, among those that a
// batch brings and, where it does not, those that are there.
func (s *state) checkBucketOf(bucket *BucketRecord, sets map[quorate.ReplicaSetID]*ReplicaSet) error {
	if len(bucket.SetIDs) != len(bucket.OverlayIDs) {
		return fmt.Errorf("%w: bucket %d has %d sets and %d overlays", ErrCorrupt, bucket.ID, len(bucket.SetIDs), len(bucket.OverlayIDs))
	}
	for shard := range bucket.SetIDs {
		for _, id := range []quorate.ReplicaSetID{bucket.SetIDs[shard], bucket.OverlayIDs[shard]} {
			set, changed := sets[id]
			if !changed {
				set = s.sets[id]
			}
			if set == nil && (id != 0 || id == bucket.SetIDs[shard]) || set != nil && (set.Bucket != bucket.ID || set.Shard != shard) {
				return fmt.Errorf("%w: bucket %d shard %d names set %d, which is not that shard", ErrCorrupt, bucket.ID, shard, id)
			}
		}
	}
	return nil
}

// take takes one change in. The counters, which a watch does not tell, follow
// from the numbers it shows.
func (s *state) take(c Change, whole bool) {
	s.index = c.Index
	if c.Removed {
		s.takeRemoval(c, whole)
		return
	}
	switch r := c.Record.(type) {
	case *Cluster:
		s.cluster = r
		for _, m := range r.Meta {
			s.sawReplica(m)
		}
		if r.MetaJoining != nil {
			s.sawReplica(*r.MetaJoining)
		}
	case *Node:
		s.nodes[r.ID] = r
		s.last.node = max(s.last.node, r.Number)
	case *Tenant:
		s.tenants[r.ID] = r
		s.tenantByName[r.Name] = r
		s.last.tenant = max(s.last.tenant, uint64(r.ID))
	case *Policy:
		s.policies[r.ID] = r
		s.last.policy = max(s.last.policy, uint64(r.ID))
	case *BucketRecord:
		s.indexBucket(r)
		s.last.bucket = max(s.last.bucket, uint64(r.ID))
	case *ReplicaSet:
		s.sets[r.ID] = r
		s.sawSet(r)
	case *DeletionRecord:
		s.deletions[r.ID] = r
		s.last.deletion = max(s.last.deletion, r.ID)
	}
}

func (s *state) sawReplica(m Member) { s.last.replica = max(s.last.replica, uint64(m.Replica)) }

func (s *state) sawSet(set *ReplicaSet) {
	s.last.set = max(s.last.set, uint64(set.ID))
	add, remove, _ := set.memberChange()
	for _, list := range [][]Member{set.Members, set.Left, {add, remove}} {
		for _, m := range list {
			s.sawReplica(m)
		}
	}
	for _, id := range set.intentIDs() {
		s.last.intent = max(s.last.intent, uint64(id))
	}
	for _, r := range set.Reports {
		s.last.intent = max(s.last.intent, r.Intent)
	}
}

// takeRemoval takes out what was removed. What a whole batch says was removed is
// not there, and is not remembered either.
func (s *state) takeRemoval(c Change, whole bool) {
	switch c.Kind {
	case KindTenant:
		if t := s.tenants[quorate.TenantID(c.ID)]; t != nil && s.tenantByName[t.Name] == t {
			delete(s.tenantByName, t.Name)
		}
		delete(s.tenants, quorate.TenantID(c.ID))
		s.last.tenant = max(s.last.tenant, c.ID)
	case KindBucket:
		if b := s.buckets[quorate.BucketID(c.ID)]; b != nil {
			s.unindexBucket(b)
		}
		s.last.bucket = max(s.last.bucket, c.ID)
	case KindReplicaSet:
		delete(s.sets, quorate.ReplicaSetID(c.ID))
		s.last.set = max(s.last.set, c.ID)
	case KindDeletion:
		delete(s.deletions, c.ID)
		s.last.deletion = max(s.last.deletion, c.ID)
	case KindCluster, KindNode, KindPolicy: // never removed
		return
	}
	if !whole {
		s.bury(Tombstone{Kind: c.Kind, ID: c.ID, Name: c.Name, ModIndex: c.Index})
	}
}

// Await waits until the state machine has applied, or followed to, an index.
// The error is ctx's, or ErrClosed.
func (m *StateMachine) Await(ctx context.Context, index uint64) error {
	for {
		m.mu.RLock()
		reached, closed, more := m.state.index >= index, m.closed, m.more
		m.mu.RUnlock()
		switch {
		case reached:
			return nil
		case closed:
			return ErrClosed
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-more:
		}
	}
}
