package metasvc

import (
	"slices"

	"github.com/quorate/quorate"
)

// An overlay takes the late samples of a sealed set (PROTOCOL 15). It is a set
// of its own over the same bounds and on the same nodes:
//
//	PlanOverlay -> forming -> (ReportFormed by a majority) -> open, pending
//	            -> (EffectSet: every node knows of it) -> takes writes
//	            -> (BeginIntent, ReportSeal, JudgeSeal) -> takes its base's place
//
// It is announced when it is open, not when it is planned: from then on every
// node that knows of it can read it.

func (c PlanOverlay) apply(s *state, _ uint64) any {
	base := s.sets[c.Base]
	if base == nil {
		return refuse(ReasonNotFound, "set %d does not exist", c.Base)
	}
	bucket := s.buckets[base.Bucket]
	switch {
	case base.State == ReplicaSetDropping || base.Pending || bucket.State == BucketDropping:
		return refuse(ReasonOutdated, "set %d was replaced or is dropped", base.ID)
	case base.State != ReplicaSetSealed:
		return refuse(ReasonBusy, "set %d is %s: an overlay lies over a sealed set", base.ID, base.State)
	case bucket.OverlayIDs[base.Shard] != 0:
		return PlanOverlayResult{Index: s.index, Overlay: bucket.OverlayIDs[base.Shard]}
	case s.overlays() >= c.Budget:
		return refuse(ReasonBudget, "set %d: %d overlays are open already, the most there may be", base.ID, s.overlays())
	case base.Generation >= maxGeneration:
		return refuse(ReasonLimit, "set %d was sealed %d times, the most there may be", base.ID, maxGeneration)
	}
	nodes := make([]quorate.NodeID, len(base.Members))
	for i, m := range base.Members {
		nodes[i] = m.Node
	}
	overlay := s.mintSet(bucket.ID, base.Shard, base.Bounds.Range, nodes)
	overlay.Reach = base.Reach
	overlay.Base = base.ID
	overlay.Generation = base.Generation + 1
	overlay.Pending = true
	s.putSet(overlay)
	changed := *bucket
	changed.OverlayIDs = slices.Clone(bucket.OverlayIDs)
	changed.OverlayIDs[base.Shard] = overlay.ID
	s.putBucket(&changed)
	return PlanOverlayResult{Index: s.index, Overlay: overlay.ID, Created: true}
}

// mintSet returns a new set with new replicas, to be put.
func (s *state) mintSet(bucket quorate.BucketID, shard int, r quorate.TimeRange, nodes []quorate.NodeID) *ReplicaSet {
	s.last.set++
	set := &ReplicaSet{
		ID:      quorate.ReplicaSetID(s.last.set),
		Bucket:  bucket,
		Shard:   shard,
		State:   ReplicaSetForming,
		Bounds:  quorate.Bounds{Version: 1, Range: r, State: quorate.SetOpen},
		Members: make([]Member, len(nodes)),
	}
	for i, node := range nodes {
		s.last.replica++
		set.Members[i] = Member{Node: node, Replica: quorate.ReplicaID(s.last.replica)}
	}
	return set
}

// overlays counts the overlays that are not sealed.
func (s *state) overlays() (n int) {
	for _, b := range s.buckets {
		if b.State == BucketDropping {
			continue
		}
		for _, id := range b.OverlayIDs {
			if id != 0 {
				n++
			}
		}
	}
	return n
}

func (c EffectSet) apply(s *state, _ uint64) any {
	set := s.sets[c.Set]
	switch {
	case set == nil:
		return refuse(ReasonNotFound, "set %d does not exist", c.Set)
	case set.Pending && set.State == ReplicaSetForming:
		return refuse(ReasonBusy, "set %d is still forming", c.Set)
	case set.Pending && c.Announced != 0 && c.Announced != set.Announced:
		// All know of what an earlier version announced, the opening of an
		// overlay for one, and not yet that it was replaced since.
		return refuse(ReasonOutdated, "set %d: every node knows of version %d, and its change was announced at %d", c.Set, c.Announced, set.Announced)
	case set.Pending && set.State == ReplicaSetSealed:
		set = s.dropSet(set)
		s.forgetDeletions(set.ID)
	case set.Pending:
		effective := *set
		effective.Pending = false
		set = &effective
		s.putSet(set)
	}
	return EffectSetResult{Index: s.index, State: set.State}
}
