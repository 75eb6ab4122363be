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
		if n := len(nodes); n < 1 || n > MaxReplicas {
			return refuse(ReasonInvalid, "bucket %v shard %d: %d replicas are not between 1 and %d", c.Range, shard, n, MaxReplicas)
		}
		for i, id := range nodes {
			node := s.nodes[id]
			switch {
			case node == nil:
				return refuse(ReasonNotFound, "bucket %v shard %d: node %s does not exist", c.Range, shard, id)
			case node.Roles&RoleData == 0:
				return refuse(ReasonInvalid, "bucket %v shard %d: node %s holds no data", c.Range, shard, id)
			case slices.Contains(nodes[:i], id):
				return refuse(ReasonInvalid, "bucket %v shard %d: node %s stands twice", c.Range, shard, id)
			}
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
	at, reported := slices.BinarySearch(set.Formed, c.Replica)
	if !reported {
		formed := *set
		formed.Formed = slices.Insert(slices.Clone(set.Formed), at, c.Replica)
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
