package metasvc

import "github.com/quorate/quorate"

// maxClock bounds the clock of a proposer (ms), far from overflow.
const maxClock = 1 << 53

// A cut (PROTOCOL 13) moves a bucket's end, in the map at once and in each set's
// own log by a bounds entry. The time that it gives up is planned like any gap,
// as a pending bucket, so that nothing is written there before every node knows.
// A set that is busy with another change is told after it; one that has lost its
// quorum is told when it comes back, by the intent that waits for its leader or
// by the version that ConfirmBounds tells a new one (PROTOCOL 6).

func (c CutBucket) apply(s *state, term uint64) any {
	policy := s.policies[c.Policy]
	if policy == nil {
		return refuse(ReasonNotFound, "policy %d does not exist", c.Policy)
	}
	switch {
	case c.Term != term:
		return refuse(ReasonOutdated, "policy %q: its cut was decided in term %d, this is term %d", policy.Name, c.Term, term)
	case c.Now < 0 || c.Now > maxClock:
		return refuse(ReasonInvalid, "policy %q: a clock at %s cannot cut", policy.Name, quorate.FormatTime(c.Now))
	}
	const second = 1000
	at := max(policy.reach(c.Now), policy.Reach)
	at += (second - at%second) % second
	if b := s.cutBefore(c.Policy, at); b != nil { // by this command, sent twice
		return CutBucketResult{Index: s.index, Bucket: b.ID, At: at}
	}
	if b := s.bucketAt(c.Policy, at); b != nil && b.Range.Start == at {
		at += second // there is a border already: the bucket that begins there is cut
		if b := s.cutBefore(c.Policy, at); b != nil {
			return CutBucketResult{Index: s.index, Bucket: b.ID, At: at}
		}
	}
	bucket := s.bucketAt(c.Policy, at)
	switch {
	case bucket == nil:
		return refuse(ReasonBusy, "no bucket of policy %q covers %s: there is nothing to cut", policy.Name, quorate.FormatTime(at))
	case bucket.State != BucketOpen:
		return refuse(ReasonBusy, "bucket %d %v is %s and cannot be cut", bucket.ID, bucket.Range, bucket.State)
	}
	for _, id := range bucket.SetIDs {
		if set := s.sets[id]; set.State != ReplicaSetOpen || set.Sealing() != nil {
			return refuse(ReasonBusy, "bucket %d %v cannot be cut: set %d of it is sealed, or about to be", bucket.ID, bucket.Range, id)
		}
	}
	cut := *bucket
	cut.Range.End = at
	cut.Cut = true
	s.putBucket(&cut)
	for _, id := range bucket.SetIDs {
		if set := s.sets[id]; set.Intent == nil {
			s.beginBounds(set, term)
		}
	}
	return CutBucketResult{Index: s.index, Bucket: bucket.ID, At: at}
}

func (c BeginBounds) apply(s *state, term uint64) any {
	set := s.sets[c.Set]
	switch {
	case set == nil:
		return refuse(ReasonNotFound, "set %d does not exist", c.Set)
	case c.Term != term:
		return refuse(ReasonOutdated, "set %d: new bounds were decided in term %d, this is term %d", c.Set, c.Term, term)
	case set.Intent != nil:
		return refuse(ReasonBusy, "set %d has intent %d (%s) under way", c.Set, set.Intent.ID, set.Intent.Kind)
	case !outOfBounds(set, s.buckets[set.Bucket]):
		return refuse(ReasonOutdated, "set %d has the bounds of its bucket, or takes no others any more", c.Set)
	}
	return s.beginBounds(set, term)
}

// beginBounds begins to give a set the bounds of its bucket.
func (s *state) beginBounds(set *ReplicaSet, term uint64) IntentResult {
	bounds := quorate.Bounds{Version: set.Bounds.Version + 1, Range: s.buckets[set.Bucket].Range}
	begun := *set
	return s.begin(&begun, IntentBounds, term, appendBoundsPayload(nil, bounds))
}

// reach is the time (ms) that no sample of the policy can have reached at now, nor
// can while a map lasts that is current now, on any node whose clock is as it is to
// be.
func (p *Policy) reach(now int64) int64 {
	return now + (p.FutureBound + MapLease + clockTolerance).Milliseconds()
}

// outOfBounds tells whether a set is still to be told of its bucket's cut.
func outOfBounds(set *ReplicaSet, bucket *BucketRecord) bool {
	return set.State == ReplicaSetOpen && bucket.State == BucketOpen && set.Bounds.Range != bucket.Range
}

// intendedBounds returns the version of the bounds that a set is to have when all
// that is intended for it is done.
func (s *ReplicaSet) intendedBounds(bucket quorate.TimeRange) quorate.BoundsVersion {
	intended := s.Bounds
	if b, ok := s.Intent.Bounds(); ok {
		intended = b
	}
	if s.State == ReplicaSetOpen && intended.Range != bucket {
		intended.Version++
	}
	return intended.Version
}

// confirmBounds makes the bounds of the intent under way the set's.
// A sample past them was taken before they were a fact; the set is read up to it
// for ever.
func (s *state) confirmBounds(set *ReplicaSet, logIndex uint64, newest int64) {
	after := *set
	after.Bounds, _ = set.Intent.Bounds()
	after.Intent = nil
	if newest >= after.Bounds.Range.End {
		after.Reach = max(set.Reach, min(newest, set.ReadRange().End-1)+1)
	}
	after.Done = &Confirmation{ID: set.Intent.ID, Kind: IntentBounds, LogIndex: logIndex}
	s.putSet(&after)
}

// cutBefore returns the policy's bucket that was cut so that it ends at ts, nil
// when there is none.
func (s *state) cutBefore(policy quorate.PolicyID, ts int64) *BucketRecord {
	if b := s.bucketAt(policy, ts-1); b != nil && b.Cut && b.Range.End == ts {
		return b
	}
	return nil
}
