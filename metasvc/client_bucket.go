package metasvc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate"
)

// retryBudget is when a request refused for the budget of old buckets may be
// worth sending again.
const retryBudget = time.Minute

// EnsureBucket returns the open bucket of a policy that covers ts (ms). Where
// none is planned and ts lies inside the retention and the future bound, it is
// planned now. It waits for the bucket to open, at most FormTimeout. The error
// is of kind Invalid for a time outside those bounds, naming time and rule;
// NotFound for a policy that does not exist; else Unavailable.
func (c *Client) EnsureBucket(ctx context.Context, policy quorate.PolicyID, ts int64) (*Bucket, error) {
	m := c.Map()
	if b := m.Bucket(policy, ts); b != nil && b.State == BucketOpen {
		return b, nil
	}
	p := m.Policy(policy)
	if p == nil {
		return nil, quorate.Errorf(quorate.NotFound, "policy %d does not exist", policy)
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.FormTimeout)
	defer cancel()
	if m.Bucket(policy, ts) == nil {
		if err := p.CheckTime(ts, c.cfg.Now()); err != nil {
			return nil, err
		}
		name := fmt.Sprintf("bucket/%d/%d", policy, floor(ts, p.Span.Milliseconds()))
		err := c.flights.do(ctx, name, func() error { return c.planBucket(ctx, policy, ts) })
		c.metrics.onDemand.WithLabelValues(resultOf(err)).Inc()
		if err != nil {
			return nil, unavailable(err, "bucket at %s", quorate.FormatTime(ts))
		}
	}
	for m = c.Map(); ; {
		b := m.Bucket(policy, ts)
		if b != nil && b.State == BucketOpen {
			return b, nil
		}
		var err error
		if m, err = c.AwaitMap(ctx, m); err != nil {
			return nil, unavailable(err, "bucket at %s is not open yet", quorate.FormatTime(ts))
		}
	}
}

// planBucket has the bucket that covers ts planned, unless it is there.
func (c *Client) planBucket(ctx context.Context, policy quorate.PolicyID, ts int64) error {
	// Placement and budget need the newest state.
	if err := c.ConfirmMap(ctx); err != nil {
		return err
	}
	if c.Map().Bucket(policy, ts) != nil {
		return nil
	}
	var command PlanBucket
	var made int
	err := quorate.Errorf(quorate.NotFound, "policy %d does not exist", policy)
	c.machine.read(func(s *state) {
		made = s.onDemandBuckets()
		if p := s.policies[policy]; p != nil {
			command, err = s.planBucket(p, ts, c.cfg.Now(), fitness{})
		}
	})
	if err != nil {
		return err
	}
	if command.OnDemand && made >= c.cfg.MaxOnDemandBuckets {
		return &quorate.Error{
			Kind:       quorate.Unavailable,
			Err:        fmt.Errorf("%d buckets for old samples are made already, the most there may be", made),
			RetryAfter: retryBudget,
		}
	}
	planned, err := propose[PlanBucketResult](ctx, c.cfg.Leader, command)
	var refused *Refusal
	if errors.As(err, &refused) && refused.Reason == ReasonOverlap {
		// Another proposer planned a bucket there in the meantime, in another
		// shape; whether it covers ts shows in the map.
		return c.ConfirmMap(ctx)
	}
	if err != nil {
		return err
	}
	if planned.Created {
		c.logger.Info("bucket planned on demand", "policy_id", policy, "bucket_id", planned.Bucket, "range", command.Range.String())
	}
	_, err = c.awaitVersion(ctx, planned.Index)
	return err
}

// ReportFormed tells metasvc that a replica of this node has persisted its
// set's genesis (PROTOCOL 2). It may be called again.
func (c *Client) ReportFormed(ctx context.Context, set quorate.ReplicaSetID, replica quorate.ReplicaID) error {
	formed, err := propose[ReportFormedResult](ctx, c.cfg.Leader, ReportFormed{Set: set, Replica: replica})
	if err != nil {
		return err
	}
	_, err = c.awaitVersion(ctx, formed.Index)
	return err
}

// ConfirmBounds returns the bounds version that a set is to have as the metadata
// leader knows it now, a cut that the set's log has not yet included: what a new
// leader of the set asks before its first write (PROTOCOL 6), and has to wait for
// in its own log. The error is of kind NotFound for an unknown set, else
// Unavailable.
func (c *Client) ConfirmBounds(ctx context.Context, set quorate.ReplicaSetID) (quorate.BoundsVersion, error) {
	if err := c.ConfirmMap(ctx); err != nil {
		return 0, unavailable(err, "bounds of set %d", set)
	}
	m := c.Map()
	s := m.Set(set)
	if s == nil {
		return 0, quorate.Errorf(quorate.NotFound, "set %d does not exist", set)
	}
	if bucket := m.bucketOf(s); bucket != nil {
		return s.intendedBounds(bucket.Range), nil
	}
	return s.Bounds.Version, nil
}

// CutBucket ends a policy's current bucket early and returns the time (ms) at
// which it does, the future bound, a map lease and a minute for clocks from now, by
// the metadata leader's clock: what comes after is
// placed anew, by the policy and the nodes as they are (PROTOCOL 13). It returns
// when the cut is recorded; the bucket after it follows within seconds. The error is of kind NotFound for a policy that does not
// exist, else Unavailable.
func (c *Client) CutBucket(ctx context.Context, policy quorate.PolicyID) (at int64, err error) {
	cut, err := propose[CutBucketResult](ctx, c.cfg.Leader, CutBucket{Policy: policy})
	if err != nil {
		return 0, err
	}
	if _, err := c.awaitVersion(ctx, cut.Index); err != nil {
		return 0, err
	}
	c.logger.Info("bucket cut", "policy_id", policy, "bucket_id", cut.Bucket, "at", quorate.FormatTime(cut.At))
	return cut.At, nil
}
