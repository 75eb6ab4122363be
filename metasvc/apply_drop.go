package metasvc

import (
	"slices"

	"github.com/quorate/quorate"
)

// Retention drops whole buckets (PROTOCOL 15, 16, 17):
//
//	BeginDrop     -> dropping, pending: nobody reads or writes it any more
//	EffectDrop    -> its sets are dropping: every node knows
//	ReportDropped <- each replica, when its files are out of the way
//
// With a set's last report its record goes, with the last set the bucket's; a
// replica that had left the set before reports it (ReportLeft), too.
// There is no other way to drop a set that holds the only copy of samples.

func (c BeginDrop) apply(s *state, term uint64) any {
	bucket := s.buckets[c.Bucket]
	switch {
	case bucket == nil:
		return refuse(ReasonNotFound, "bucket %d does not exist", c.Bucket)
	case c.Term != term:
		return refuse(ReasonOutdated, "bucket %d: its drop was decided in term %d, this is term %d", c.Bucket, c.Term, term)
	case c.Now < 0:
		return refuse(ReasonInvalid, "bucket %d: a clock at %s cannot drop it", c.Bucket, quorate.FormatTime(c.Now))
	case bucket.State == BucketDropping:
		return DropResult{Index: s.index, Pending: bucket.Pending}
	}
	policy := s.policies[bucket.Policy]
	if !policy.expired(s.readEnd(bucket), c.Now) {
		// Retention may have grown since the leader looked.
		return refuse(ReasonOutdated, "bucket %d %v is inside the retention of %v at %s", c.Bucket, bucket.Range, policy.Retention, quorate.FormatTime(c.Now))
	}
	if r := s.checkClock(policy, c.Now); r != nil {
		return r
	}
	for _, set := range s.setsOf(bucket.ID) {
		if set.Intent != nil || set.SealAsked { // what they wanted has no object any more
			given := *set
			given.dropIntent()
			given.SealAsked = false
			s.putSet(&given)
		}
	}
	if bucket.Range.End > policy.Horizon {
		raised := *policy
		raised.Horizon = bucket.Range.End
		s.putPolicy(&raised)
	}
	dropping := *bucket
	dropping.State = BucketDropping
	dropping.Pending = true
	dropping.Announced = s.index
	s.putBucket(&dropping)
	return DropResult{Index: s.index, Pending: true}
}

// checkClock tells whether a clock may drop buckets of a policy: an open bucket
// covers it that was planned while its start was still ahead. A clock that has
// jumped shows time that nobody planned for, or whose bucket was planned only
// once it was there, and so drops nothing before the next bucket begins. That is
// also how long a cluster waits that was off for longer than was planned ahead.
func (s *state) checkClock(p *Policy, now int64) *Refusal {
	b := s.bucketAt(p.ID, now)
	switch {
	case b == nil:
		return refuse(ReasonBusy, "nothing of policy %q is dropped by a clock at %s: no bucket was planned for that time", p.Name, quorate.FormatTime(now))
	case b.Range.Start <= b.Planned:
		return refuse(ReasonBusy, "nothing of policy %q is dropped by a clock at %s before %s: bucket %d was not planned ahead, so the clock may have jumped or the cluster was off",
			p.Name, quorate.FormatTime(now), quorate.FormatTime(b.Range.End), b.ID)
	case b.State != BucketOpen:
		return refuse(ReasonBusy, "nothing of policy %q is dropped by a clock at %s: bucket %d of that time is %s", p.Name, quorate.FormatTime(now), b.ID, b.State)
	}
	return nil
}

// expired tells whether a bucket that ends at end (ms) is past retention at
// now (ms, not negative).
func (p *Policy) expired(end, now int64) bool { return end <= now-p.Retention.Milliseconds() }

// readEnd is the time (ms, exclusive) up to which a bucket may have samples: those
// taken before it was cut may lie past its end.
func (s *state) readEnd(b *BucketRecord) int64 {
	end := b.Range.End
	if b.Cut {
		for _, id := range b.SetIDs { // an overlay reaches as far as its base
			end = max(end, s.sets[id].ReadRange().End)
		}
	}
	return end
}

// setsOf returns all sets of a bucket, replaced ones included, by ID.
func (s *state) setsOf(bucket quorate.BucketID) (list []*ReplicaSet) {
	for _, set := range byKey(s.sets) {
		if set.Bucket == bucket {
			list = append(list, set)
		}
	}
	return list
}

// hasSets tells whether a bucket has a set left, replaced ones included.
func (s *state) hasSets(bucket quorate.BucketID) bool {
	for _, set := range s.sets {
		if set.Bucket == bucket {
			return true
		}
	}
	return false
}

func (c EffectDrop) apply(s *state, _ uint64) any {
	bucket := s.buckets[c.Bucket]
	switch {
	case bucket == nil:
		return refuse(ReasonNotFound, "bucket %d does not exist", c.Bucket)
	case bucket.State != BucketDropping:
		return refuse(ReasonOutdated, "bucket %d is %s, not dropping", c.Bucket, bucket.State)
	case bucket.Pending:
		effective := *bucket
		effective.Pending = false
		s.putBucket(&effective)
		var dropped []quorate.ReplicaSetID
		for _, set := range s.setsOf(bucket.ID) {
			if set.State != ReplicaSetDropping {
				s.dropSet(set)
				dropped = append(dropped, set.ID)
			}
		}
		s.forgetDeletions(dropped...)
	}
	return DropResult{Index: s.index}
}

// dropSet records that a set is dropped: its replicas may remove their files
// (PROTOCOL 16). The caller forgets its deletions.
func (s *state) dropSet(set *ReplicaSet) *ReplicaSet {
	dropped := *set
	dropped.dropIntent()
	dropped.State = ReplicaSetDropping
	dropped.Pending = false
	s.putSet(&dropped)
	return &dropped
}

func (c ReportDropped) apply(s *state, _ uint64) any {
	set := s.sets[c.Set]
	switch {
	case set == nil && c.Set != 0 && uint64(c.Set) <= s.last.set:
		return ReportDroppedResult{Index: s.index, Gone: true} // reported again
	case set == nil:
		return refuse(ReasonNotFound, "set %d does not exist", c.Set)
	case !set.HasMember(c.Replica):
		return refuse(ReasonNotFound, "replica %d is not a member of set %d", c.Replica, c.Set)
	case set.State != ReplicaSetDropping:
		return refuse(ReasonConflict, "set %d is %s, and replica %d says that it was dropped", c.Set, set.State, c.Replica)
	}
	if _, reported := slices.BinarySearch(set.Dropped, c.Replica); reported {
		return ReportDroppedResult{Index: s.index}
	}
	dropped := *set
	dropped.Dropped = with(set.Dropped, c.Replica)
	return ReportDroppedResult{Index: s.index, Gone: s.putOrRemove(&dropped)}
}

func (c SetTenantRetention) apply(s *state, _ uint64) any {
	t := s.tenants[c.Tenant]
	if t == nil {
		return refuse(ReasonNotFound, "tenant %d does not exist", c.Tenant)
	}
	if c.Retention > MaxRetention {
		return refuse(ReasonInvalid, "tenant %d: retention %v is over the limit of %v", c.Tenant, c.Retention, MaxRetention)
	}
	if t.Retention != c.Retention {
		changed := *t
		changed.Retention = c.Retention
		s.putTenant(&changed)
	}
	return TenantResult{Index: s.index, Tenant: t.ID}
}
