package metasvc

import (
	"slices"

	"github.com/quorate/quorate"
)

func (c PlanBucket) apply(s *state, _ uint64) any {
	if s.policies[c.Policy] == nil {
		return refuse(ReasonNotFound, "bucket %v: policy %d does not exist", c.Range, c.Policy)
	}
	if c.Range.Start >= c.Range.End {
		return refuse(ReasonInvalid, "bucket %v of policy %d does not start before it ends", c.Range, c.Policy)
	}
	if horizon := s.policies[c.Policy].Horizon; c.Range.Start < horizon { // PROTOCOL 15
		return refuse(ReasonInvalid, "bucket %v of policy %d lies before %s, where retention has dropped everything", c.Range, c.Policy, quorate.FormatTime(horizon))
	}
	for _, b := range s.bucketsOf[c.Policy] {
		if b.Range.Start == c.Range.Start { // PROTOCOL 10: planned already
			return PlanBucketResult{Index: s.index, Bucket: b.ID, Sets: b.SetIDs}
		}
		if b.Range.Start < c.Range.End && c.Range.Start < b.Range.End {
			return refuse(ReasonOverlap, "bucket %v of policy %d overlaps bucket %d %v", c.Range, c.Policy, b.ID, b.Range)
		}
	}
	if r := c.checkPlacement(s); r != nil {
		return r
	}
	s.last.bucket++
	bucket := &BucketRecord{
		ID:          quorate.BucketID(s.last.bucket),
		Policy:      c.Policy,
		Range:       c.Range,
		State:       BucketPlanned,
		HashVersion: c.HashVersion,
		OnDemand:    c.OnDemand,
		Pending:     c.Pending,
		SetIDs:      make([]quorate.ReplicaSetID, len(c.Placement)),
		OverlayIDs:  make([]quorate.ReplicaSetID, len(c.Placement)),
		Planned:     c.Now,
		Announced:   s.index,
	}
	for shard, nodes := range c.Placement {
		set := s.mintSet(bucket.ID, shard, c.Range, nodes)
		bucket.SetIDs[shard] = set.ID
		s.putSet(set)
	}
	s.putBucket(bucket)
	return PlanBucketResult{Index: s.index, Bucket: bucket.ID, Sets: bucket.SetIDs, Created: true}
}

// checkPlacement checks what must hold of any placement; whether it is a good
// one was the proposer's business.
func (c PlanBucket) checkPlacement(s *state) *Refusal {
	if c.HashVersion == 0 {
		return refuse(ReasonInvalid, "bucket %v: shard hash version is zero", c.Range)
	}
	if n := len(c.Placement); n < 1 || n > MaxShards {
		return refuse(ReasonInvalid, "bucket %v: %d shards are not between 1 and %d", c.Range, n, MaxShards)
	}
	for shard, nodes := range c.Placement {
		if r := s.checkPlaces(nodes); r != nil {
			return refuse(r.Reason, "bucket %v shard %d: %s", c.Range, shard, r.Rule)
		}
	}
	return nil
}

// checkPlaces checks the nodes of a new set's replicas.
func (s *state) checkPlaces(nodes []quorate.NodeID) *Refusal {
	if n := len(nodes); n < 1 || n > MaxReplicas {
		return refuse(ReasonInvalid, "%d replicas are not between 1 and %d", n, MaxReplicas)
	}
	for i, id := range nodes {
		if r := s.checkHolder(id); r != nil {
			return r
		}
		if slices.Contains(nodes[:i], id) {
			return refuse(ReasonInvalid, "node %s stands twice", id)
		}
	}
	return nil
}

func (c ReportFormed) apply(s *state, _ uint64) any {
	set := s.sets[c.Set]
	if set == nil {
		return refuse(ReasonNotFound, "set %d does not exist", c.Set)
	}
	if !set.HasMember(c.Replica) {
		return refuse(ReasonNotFound, "replica %d is not a member of set %d", c.Replica, c.Set)
	}
	bucket := s.buckets[set.Bucket]
	if !set.hasFormed(c.Replica) {
		if set.Moved { // PROTOCOL 2
			return refuse(ReasonOutdated, "set %d: replica %d did not form before the set's members changed, and is to be replaced", c.Set, c.Replica)
		}
		formed := *set
		formed.Formed = with(set.Formed, c.Replica)
		if set.State == ReplicaSetForming && len(formed.Formed) > len(formed.Members)/2 { // PROTOCOL 2: a majority
			formed.State = ReplicaSetOpen
			if formed.Pending {
				formed.Announced = s.index
			}
		}
		set = &formed
		s.putSet(set)
		bucket = s.openIfReady(bucket)
	}
	return ReportFormedResult{Index: s.index, Set: set.State, Bucket: bucket.State}
}

func (c EffectBucket) apply(s *state, _ uint64) any {
	bucket := s.buckets[c.Bucket]
	if bucket == nil {
		return refuse(ReasonNotFound, "bucket %d does not exist", c.Bucket)
	}
	if bucket.Pending && bucket.State == BucketPlanned {
		effective := *bucket
		effective.Pending = false
		bucket = &effective
		s.putBucket(bucket)
		bucket = s.openIfReady(bucket)
	}
	return EffectBucketResult{Index: s.index, Bucket: bucket.State}
}

// openIfReady opens a bucket all of whose sets are formed (PROTOCOL 10) and
// which waits for nobody (PROTOCOL 8), and returns the bucket as it then is.
func (s *state) openIfReady(b *BucketRecord) *BucketRecord {
	if b.State != BucketPlanned || b.Pending || !s.formed(b) {
		return b
	}
	open := *b
	open.State = BucketOpen
	s.putBucket(&open)
	return &open
}

// formed tells whether all sets of a bucket are formed.
func (s *state) formed(b *BucketRecord) bool {
	return !slices.ContainsFunc(b.SetIDs, func(id quorate.ReplicaSetID) bool { return s.sets[id].State == ReplicaSetForming })
}

func (c ReplanSet) apply(s *state, term uint64) any {
	set := s.sets[c.Set]
	if set == nil {
		return refuse(ReasonNotFound, "set %d does not exist", c.Set)
	}
	bucket := s.buckets[set.Bucket]
	switch {
	case c.Term != term:
		return refuse(ReasonOutdated, "set %d: that it never forms was decided in term %d, this is term %d", c.Set, c.Term, term)
	case set.State != ReplicaSetForming || bucket.State == BucketDropping:
		return refuse(ReasonOutdated, "set %d is %s and its bucket %s: only a set that is forming is planned anew", c.Set, set.State, bucket.State)
	case set.Base != 0 && len(c.Nodes) > 0:
		return refuse(ReasonInvalid, "set %d is an overlay: it lies where its base %d does", c.Set, set.Base)
	}
	changed := *bucket
	var planned quorate.ReplicaSetID
	if set.Base != 0 {
		changed.OverlayIDs = slices.Clone(bucket.OverlayIDs)
		changed.OverlayIDs[set.Shard] = 0
	} else {
		if r := s.checkPlaces(c.Nodes); r != nil {
			return refuse(r.Reason, "set %d: %s", c.Set, r.Rule)
		}
		fresh := s.mintSet(bucket.ID, set.Shard, bucket.Range, c.Nodes)
		s.putSet(fresh)
		planned = fresh.ID
		changed.SetIDs = slices.Clone(bucket.SetIDs)
		changed.SetIDs[set.Shard] = planned
	}
	s.putBucket(&changed)
	s.dropSet(set) // it has no samples: nobody wrote to it
	return ReplanSetResult{Index: s.index, Set: planned}
}
