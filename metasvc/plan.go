package metasvc

import (
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

const (
	// bucketsAhead is how many buckets after the current one exist at least
	// (PROTOCOL 10).
	bucketsAhead = 2
	// openAhead is how long before its start a bucket is open (PROTOCOL 10),
	// plus the time to form it, retries of a slow node included.
	openAhead = time.Hour + 30*time.Minute
	// clockTolerance is how far a clock that decides may be off (PROTOCOL 17).
	clockTolerance = time.Minute
)

// CheckTime judges a sample's timestamp (ms) against the policy's retention,
// horizon and future bound, as they stand at now. The error is of kind Invalid and
// names the time and the rule.
func (p *Policy) CheckTime(ts int64, now time.Time) error {
	ms := now.UnixMilli()
	if oldest := ms - p.Retention.Milliseconds(); ts < oldest {
		return quorate.Errorf(quorate.Invalid, "sample time %s is older than the retention of %v under policy %q, which ends at %s",
			quorate.FormatTime(ts), p.Retention, p.Name, quorate.FormatTime(oldest))
	}
	if ts < p.Horizon {
		return quorate.Errorf(quorate.Invalid, "sample time %s lies before %s, where the retention of policy %q has dropped everything",
			quorate.FormatTime(ts), quorate.FormatTime(p.Horizon), p.Name)
	}
	if newest := ms + p.FutureBound.Milliseconds(); ts > newest {
		return quorate.Errorf(quorate.Invalid, "sample time %s is more than the future bound of %v ahead of the clock under policy %q, which stands at %s",
			quorate.FormatTime(ts), p.FutureBound, p.Name, quorate.FormatTime(ms))
	}
	return nil
}

// planBucket returns the command that makes the bucket which is to cover ts,
// with its placement, to be proposed as it is.
func (s *state) planBucket(p *Policy, ts int64, now time.Time, fit fitness) (PlanBucket, error) {
	placement, err := s.place(p, fit)
	if err != nil {
		// The error names no time, so that it stays the same while it lasts.
		return PlanBucket{}, fmt.Errorf("place a bucket: %w", err)
	}
	ms := now.UnixMilli()
	r := s.bucketRange(p, ts)
	// PROTOCOL 8: queries see time up to the future bound, and what is planned
	// is known everywhere only after a map lease.
	visible := ms + (p.FutureBound + MapLease + clockTolerance).Milliseconds()
	return PlanBucket{
		Policy:      p.ID,
		Range:       r,
		HashVersion: wire.ShardHashVersion,
		OnDemand:    r.End <= ms,
		Pending:     r.Start < visible || s.cutBefore(p.ID, r.Start) != nil,
		Now:         ms,
		Placement:   placement,
	}, nil
}

// bucketRange returns the range of the bucket that is to cover ts, which no
// bucket covers: from one multiple of the span to the next (UTC), cut where
// neighbours of another span, a cut or the horizon reach into it.
func (s *state) bucketRange(p *Policy, ts int64) quorate.TimeRange {
	span := p.Span.Milliseconds()
	r := quorate.TimeRange{Start: floor(ts, span)}
	r.End = r.Start + span
	r.Start = max(r.Start, p.Horizon)
	for _, b := range s.bucketsOf[p.ID] {
		if b.Range.End <= ts {
			r.Start = max(r.Start, b.Range.End)
		} else {
			r.End = min(r.End, b.Range.Start)
		}
	}
	return r
}

// floor rounds ts down to a multiple of span, also before the epoch.
func floor(ts, span int64) int64 {
	rest := ts % span
	if rest < 0 {
		rest += span
	}
	return ts - rest
}

// missing returns a time for which the policy lacks a bucket that is to be
// there at now. The caller plans it and asks again, until nothing is missing:
// the current bucket, all that start within openAhead, and bucketsAhead after
// those, so that there are as many ahead also when the next one starts. A
// policy without any gets the previous bucket first, since a sender's first
// request holds samples from before it was started.
func (s *state) missing(p *Policy, now time.Time) (ts int64, missing bool) {
	ms := now.UnixMilli()
	if len(s.bucketsOf[p.ID]) == 0 {
		if before := floor(ms, p.Span.Milliseconds()) - 1; p.CheckTime(before, now) == nil {
			return before, true
		}
	}
	ts = ms
	for ahead := 0; ahead < bucketsAhead; {
		b := s.bucketAt(p.ID, ts)
		if b == nil {
			return ts, true
		}
		if b.Range.Start > ms+openAhead.Milliseconds() {
			ahead++
		}
		ts = b.Range.End
	}
	return 0, false
}

// onDemandBuckets counts the buckets that were made for old samples and take
// some still. Those that are sealed or dropped cost no more than others.
func (s *state) onDemandBuckets() (n int) {
	for _, b := range s.buckets {
		if b.OnDemand && b.State != BucketDropping && slices.ContainsFunc(b.SetIDs, func(id quorate.ReplicaSetID) bool {
			return s.sets[id].State != ReplicaSetSealed
		}) {
			n++
		}
	}
	return n
}
