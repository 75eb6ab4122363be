package metasvc

import (
	"fmt"
	"math"
	"slices"

	"github.com/quorate/quorate"
)

// check tells whether the state keeps its invariants, which Apply keeps by
// induction. It judges decoded bytes, and the states of tests. The error wraps
// ErrCorrupt and names the record.
func (s *state) check() error {
	for _, check := range []func() error{s.checkNodes, s.checkTenants, s.checkBucketOrder, s.checkBuckets, s.checkSets, s.checkDeletions, s.checkTombstones} {
		if err := check(); err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
	}
	return nil
}

// checkNumber checks that a number was given out by its counter and a ModIndex
// lies in the past.
func (s *state) checkNumber(what string, id, last, mod uint64) error {
	if id == 0 || id > last {
		return fmt.Errorf("%s %d was never minted (the last is %d)", what, id, last)
	}
	if mod > s.index {
		return fmt.Errorf("%s %d was changed at index %d, after %d", what, id, mod, s.index)
	}
	return nil
}

func (s *state) checkNodes() error {
	if s.cluster == nil {
		if len(s.nodes)+len(s.policies)+len(s.tenants)+len(s.buckets)+len(s.sets)+len(s.deletions) > 0 {
			return fmt.Errorf("there are records but no cluster")
		}
		return nil
	}
	if s.cluster.ID.IsZero() || s.cluster.ModIndex > s.index || len(s.cluster.Meta) == 0 {
		return fmt.Errorf("cluster %s of index %d with %d metadata replicas", s.cluster.ID, s.cluster.ModIndex, len(s.cluster.Meta))
	}
	if err := s.checkMeta(); err != nil {
		return err
	}
	for _, n := range s.nodes {
		if n.State < NodeActive || n.State > NodeRemoved {
			return fmt.Errorf("node %d is %s", n.Number, n.State)
		}
		if err := s.checkNumber("node", n.Number, s.last.node, n.ModIndex); err != nil {
			return err
		}
		if r := n.check(); r != nil {
			return r
		}
	}
	names := make(map[string]bool)
	for _, p := range s.policies {
		if err := s.checkNumber("policy", uint64(p.ID), s.last.policy, p.ModIndex); err != nil {
			return err
		}
		if r := p.check(); r != nil {
			return r
		}
		if names[p.Name] {
			return fmt.Errorf("two policies are named %q", p.Name)
		}
		names[p.Name] = true
	}
	return nil
}

// checkMeta checks the members of the metadata group.
func (s *state) checkMeta() error {
	members := s.cluster.Meta
	if j := s.cluster.MetaJoining; j != nil {
		members = append(slices.Clone(members), *j)
	}
	last := quorate.ReplicaID(0)
	for i, m := range members {
		node := s.nodes[m.Node]
		if m.Replica <= last || uint64(m.Replica) > s.last.replica || node == nil || node.State == NodeRemoved ||
			slices.ContainsFunc(members[:i], func(other Member) bool { return other.Node == m.Node }) {
			return fmt.Errorf("the metadata group has replica %d on node %s, out of order, never minted, or on a node that is not there or stands twice", m.Replica, m.Node)
		}
		last = m.Replica
	}
	return nil
}

func (s *state) checkTenants() error {
	if len(s.tenants) != len(s.tenantByName) {
		return fmt.Errorf("%d tenants have %d names", len(s.tenants), len(s.tenantByName))
	}
	for _, t := range s.tenants {
		if err := s.checkNumber("tenant", uint64(t.ID), s.last.tenant, t.ModIndex); err != nil {
			return err
		}
		if len(t.Placements) == 0 || t.Placements[0].From != math.MinInt64 {
			return fmt.Errorf("tenant %d has no placement from the beginning of time", t.ID)
		}
		if t.Retention > MaxRetention {
			return fmt.Errorf("tenant %d: retention %v is over the limit", t.ID, t.Retention)
		}
		for i, p := range t.Placements {
			if s.policies[p.Policy] == nil {
				return fmt.Errorf("tenant %d is placed under policy %d, which does not exist", t.ID, p.Policy)
			}
			if i > 0 && p.From <= t.Placements[i-1].From {
				return fmt.Errorf("tenant %d: placements do not rise", t.ID)
			}
		}
	}
	return nil
}

// checkBucketOrder checks that no buckets of a policy overlap (PROTOCOL 10).
func (s *state) checkBucketOrder() error {
	ordered := 0
	for policy, list := range s.bucketsOf {
		ordered += len(list)
		if s.policies[policy] == nil {
			return fmt.Errorf("bucket %d has policy %d, which does not exist", list[0].ID, policy)
		}
		for i, b := range list {
			if b.Range.Start >= b.Range.End || i > 0 && list[i-1].Range.End > b.Range.Start {
				return fmt.Errorf("bucket %d %v of policy %d is empty or overlaps the one before", b.ID, b.Range, policy)
			}
		}
	}
	if ordered != len(s.buckets) {
		return fmt.Errorf("%d of %d buckets are in the order of their policies", ordered, len(s.buckets))
	}
	return nil
}

func (s *state) checkTombstones() error {
	if len(s.tombstones) > maxTombstones {
		return fmt.Errorf("%d tombstones are over the limit of %d", len(s.tombstones), maxTombstones)
	}
	mod := s.forgotten
	for _, t := range s.tombstones {
		var last uint64
		var there bool
		switch t.Kind {
		case KindTenant:
			last, there = s.last.tenant, s.tenants[quorate.TenantID(t.ID)] != nil
		case KindBucket:
			last, there = s.last.bucket, s.buckets[quorate.BucketID(t.ID)] != nil
		case KindReplicaSet:
			last, there = s.last.set, s.sets[quorate.ReplicaSetID(t.ID)] != nil
		case KindDeletion:
			last, there = s.last.deletion, s.deletions[t.ID] != nil
		case KindCluster, KindNode, KindPolicy: // never removed
		}
		if there || t.ModIndex < mod || s.checkNumber("removed record", t.ID, last, t.ModIndex) != nil || t.Name != "" && t.Kind != KindTenant {
			return fmt.Errorf("tombstone %+v is out of order, of a record that is there, or of no kind that is removed", t)
		}
		mod = t.ModIndex
	}
	if mod > s.index {
		return fmt.Errorf("tombstones were forgotten at index %d, after %d", mod, s.index)
	}
	return nil
}
