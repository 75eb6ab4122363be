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
	for _, check := range []func() error{s.checkNodes, s.checkTenants, s.checkBucketOrder, s.checkBuckets, s.checkSets, s.checkTombstones} {
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
		if len(s.nodes)+len(s.policies)+len(s.tenants)+len(s.buckets)+len(s.sets) > 0 {
			return fmt.Errorf("there are records but no cluster")
		}
		return nil
	}
	if s.cluster.ID.IsZero() || s.cluster.ModIndex > s.index || len(s.cluster.Meta) == 0 {
		return fmt.Errorf("cluster %s of index %d with %d metadata replicas", s.cluster.ID, s.cluster.ModIndex, len(s.cluster.Meta))
	}
	for _, n := range s.nodes {
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

func (s *state) checkBuckets() error {
	shards := 0
	for _, b := range s.buckets {
		if err := s.checkNumber("bucket", uint64(b.ID), s.last.bucket, b.ModIndex); err != nil {
			return err
		}
		if len(b.SetIDs) == 0 || b.HashVersion == 0 || b.Planned > b.ModIndex {
			return fmt.Errorf("bucket %d: %d shards, hash version %d, planned at %d", b.ID, len(b.SetIDs), b.HashVersion, b.Planned)
		}
		shards += len(b.SetIDs)
		for shard, id := range b.SetIDs {
			if set := s.sets[id]; set == nil || set.Bucket != b.ID || set.Shard != shard {
				return fmt.Errorf("bucket %d shard %d names set %d, which is not that shard", b.ID, shard, id)
			}
		}
		ready := !b.Pending && s.formed(b)
		if b.State != BucketPlanned && b.State != BucketOpen || ready != (b.State == BucketOpen) {
			return fmt.Errorf("bucket %d is %s, pending %t", b.ID, b.State, b.Pending)
		}
	}
	if shards != len(s.sets) {
		return fmt.Errorf("%d sets are not the %d shards of the buckets", len(s.sets), shards)
	}
	return nil
}

func (s *state) checkSets() error {
	replicas := make(map[uint64]bool)
	intents := make(map[IntentID]bool)
	for _, set := range s.sets {
		if err := s.checkNumber("set", uint64(set.ID), s.last.set, set.ModIndex); err != nil {
			return err
		}
		for _, m := range set.Members {
			if s.nodes[m.Node] == nil {
				return fmt.Errorf("set %d has a replica on node %s, which does not exist", set.ID, m.Node)
			}
			if r := uint64(m.Replica); r == 0 || r > s.last.replica || replicas[r] { // PROTOCOL 1
				return fmt.Errorf("set %d: replica %d was never minted or stands twice", set.ID, r)
			}
			replicas[uint64(m.Replica)] = true
		}
		if err := set.checkState(); err != nil {
			return err
		}
		for _, id := range set.intentIDs() {
			if id == 0 || uint64(id) > s.last.intent || intents[id] {
				return fmt.Errorf("set %d: intent %d was never minted or stands twice", set.ID, id)
			}
			intents[id] = true
		}
	}
	return nil
}

// checkState checks what a set's record says by itself.
func (s *ReplicaSet) checkState() error {
	if len(s.Members) == 0 || s.Bounds.Version == 0 || s.Bounds.State != quorate.SetOpen && s.Bounds.State != quorate.SetSealed {
		return fmt.Errorf("set %d: %d members, bounds version %d, %s", s.ID, len(s.Members), s.Bounds.Version, s.Bounds.State)
	}
	for i, id := range s.Formed {
		if !slices.ContainsFunc(s.Members, func(m Member) bool { return m.Replica == id }) || i > 0 && s.Formed[i-1] >= id {
			return fmt.Errorf("set %d: replica %d formed out of turn", s.ID, id)
		}
	}
	open := len(s.Formed) > len(s.Members)/2
	if s.State != ReplicaSetForming && s.State != ReplicaSetOpen || open != (s.State == ReplicaSetOpen) {
		return fmt.Errorf("set %d is %s with %d of %d replicas formed", s.ID, s.State, len(s.Formed), len(s.Members))
	}
	if i, d := s.Intent, s.Done; i != nil && (!i.Kind.known() || d != nil && d.ID >= i.ID) || d != nil && (!d.Kind.known() || d.LogIndex == 0) {
		return fmt.Errorf("set %d: intents %+v and %+v", s.ID, i, d)
	}
	return nil
}

func (s *ReplicaSet) intentIDs() (ids []IntentID) {
	if s.Intent != nil {
		ids = append(ids, s.Intent.ID)
	}
	if s.Done != nil {
		ids = append(ids, s.Done.ID)
	}
	return ids
}

func (k IntentKind) known() bool { return IntentMembers <= k && k <= IntentDrop }

func (s *state) checkTombstones() error {
	if len(s.tombstones) > maxTombstones {
		return fmt.Errorf("%d tombstones are over the limit of %d", len(s.tombstones), maxTombstones)
	}
	mod := s.forgotten
	for _, t := range s.tombstones {
		if t.Kind != KindTenant || s.checkNumber("removed tenant", t.ID, s.last.tenant, t.ModIndex) != nil || t.ModIndex < mod {
			return fmt.Errorf("tombstone %+v is out of order or of no kind that is removed", t)
		}
		mod = t.ModIndex
	}
	if mod > s.index {
		return fmt.Errorf("tombstones were forgotten at index %d, after %d", mod, s.index)
	}
	return nil
}
