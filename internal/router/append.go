package router

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/metasvc"
)

const (
	// refreshTimeout bounds how long a write waits for the metadata leader to
	// confirm the map before it tries again by the one that it has.
	refreshTimeout = 2 * time.Second
	// retryBudget is when a request refused for a budget may be worth sending
	// again.
	retryBudget = time.Minute
)

// Append writes the rows of one request of one tenant. The result counts what
// was stored whether or not there is an error. The error's kind is the
// strongest of what went wrong: Unavailable when the outcome of any row is not
// known (a retry is safe), else Invalid when rows were refused that must not
// be sent again; its text names the first such series and the rule.
//
// The request's memory is the caller's again when Append returns.
func (r *Router) Append(ctx context.Context, tenant quorate.TenantID, in *wire.WriteRequest) (wire.WriteResult, error) {
	ctx, cancel := context.WithTimeout(ctx, r.writeTimeout)
	defer cancel()
	q := r.requests.Get().(*request)
	defer func() {
		q.release()
		r.requests.Put(q)
	}()
	q.begin(r, tenant, in)
	q.resolve()
	err := retry(ctx, q.attempt)
	r.metrics.observe(&q.result)
	q.warmUp(ctx)
	if err != nil {
		q.fail(err)
	}
	err = q.failure
	if err == nil {
		err = q.refused.err()
	}
	return q.result, err
}

// attempt routes what is not stored yet and sends it. When all that is left are
// rows for which an overlay was opened, there is nothing more to wait for.
func (q *request) attempt(ctx context.Context) error {
	for {
		err := q.round(ctx)
		if err == nil || !q.ready || ctx.Err() != nil {
			return err
		}
	}
}

// round routes what is not stored yet under the newest map, sends it, and takes
// in the answers.
func (q *request) round(ctx context.Context) (err error) {
	q.ready = false // what comes of an earlier round says nothing of this one
	if q.stale {
		q.stale = false
		q.router.refreshMap(ctx)
	}
	if q.tenant, q.m, err = q.router.meta.TenantMap(ctx, q.id); err != nil {
		return err
	}
	if q.attempts++; q.attempts == 1 {
		q.rollover = rolloverOf(&q.tenant, q.m, q.now)
		q.placeAll(ctx)
	} else {
		q.router.metrics.retries.Inc()
		q.placeRemaining(ctx)
	}
	q.send(ctx)
	return q.collect()
}

// refreshMap makes the map show why a set refused what it was sent. Without a
// metadata leader the map stays as it is, and the sets judge by their own logs
// again; so a failure is nothing to stop for.
func (r *Router) refreshMap(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	if err := r.meta.ConfirmMap(ctx); err != nil {
		r.logger.Debug("map was not confirmed before a retry", "error", err)
	}
}

// send proposes the parts of every ReplicaSet, sets in parallel, the parts of
// one set in order. Overlays that rows wait for are opened meanwhile.
func (q *request) send(ctx context.Context) {
	var last []*part
	var others sync.WaitGroup
	// Deferred, since the parts' memory is the request's: whatever happens
	// here, it goes back to the pool only when nobody reads it any more.
	defer others.Wait()
	for _, p := range q.parked {
		others.Go(func() { _, p.err = q.router.ensureOverlay(ctx, p.set, p.overlay) })
	}
	for _, b := range q.buckets {
		for _, chain := range b.chains {
			if len(chain) == 0 {
				continue
			}
			if last != nil {
				other := last
				others.Go(func() { q.sendChain(ctx, other) })
			}
			last = chain
		}
	}
	if last != nil {
		q.sendChain(ctx, last)
	}
}

func (q *request) sendChain(ctx context.Context, chain []*part) {
	var failed error
	for _, p := range chain {
		if failed == nil {
			failed = q.router.sendPart(ctx, p)
		}
		p.err = failed
	}
}

// ensureOverlay has an overlay opened over a sealed set, where the map has none
// or one that does not take samples. Its error is retriable where a newer map,
// or a moment, may have another answer.
func (r *Router) ensureOverlay(ctx context.Context, sealed, there *metasvc.ReplicaSet) (*metasvc.ReplicaSet, error) {
	for _, set := range []*metasvc.ReplicaSet{sealed, there} {
		if err := undisputed(set); err != nil {
			return nil, err
		}
	}
	overlay, err := r.meta.EnsureOverlay(ctx, sealed.ID)
	if err == nil {
		return overlay, nil
	}
	err = fmt.Errorf("late samples for shard %d of %v: %w", sealed.Shard, sealed.Bounds.Range, err)
	if overBudget(err) {
		return nil, &quorate.Error{Kind: quorate.Unavailable, Err: err, RetryAfter: retryBudget}
	}
	if kind := quorate.KindOf(err); kind == quorate.Unavailable || kind == quorate.NotFound {
		err = retriable(err) // being sealed, replaced or dropped
	}
	return nil, err
}

// undisputed returns the error of a set whose replicas disagree on what they
// have sealed: until somebody looks into it, it is read and not changed.
func undisputed(set *metasvc.ReplicaSet) error {
	if set == nil || set.State != metasvc.ReplicaSetDisputed {
		return nil
	}
	return quorate.Errorf(quorate.Unavailable, "set %v takes no changes: its replicas disagree on what they have sealed", set.ID)
}

// overBudget tells the refusals that only time lifts, longer than a request.
func overBudget(err error) bool {
	var refused *metasvc.Refusal
	return errors.As(err, &refused) && refused.Reason == metasvc.ReasonBudget
}

func (r *Router) sendPart(ctx context.Context, p *part) (err error) {
	p.encoded = p.batch.Append(p.encoded[:0])
	if p.result, err = r.write(ctx, p.set, p.encoded); err != nil {
		return err
	}
	if err := p.check(); err != nil {
		p.result = nil
		return err
	}
	if p.result.Status != wire.BatchApplied {
		return retriable(quorate.Errorf(quorate.Unavailable, "set %v refused a batch: %v", p.set, p.result.Status))
	}
	return nil
}

// check tells whether the result, which may come from another node, is one of
// the part's batch.
func (p *part) check() error {
	if p.result.Refused == 0 {
		return nil
	}
	first := p.result.First
	if first.Section < wire.SectionFloats || first.Section > wire.SectionMetadata || first.Row >= len(p.rows[first.Section-wire.SectionFloats]) {
		return fmt.Errorf("set %v refuses row %d of section %d, which it was not sent", p.set, first.Row, first.Section)
	}
	return nil
}

// collect takes in what the sets answered: counts and learned refs of the
// parts that were applied; the rows of the others remain to be placed again
// where that may help, and otherwise fail the request, which goes on for the
// rest. It returns a retriable error while rows remain.
func (q *request) collect() error {
	q.ready = true
	for _, b := range q.buckets {
		for _, chain := range b.chains {
			for _, p := range chain {
				q.collectPart(p)
			}
		}
	}
	for _, p := range q.parked {
		q.collectParked(p)
	}
	if len(q.remaining) > 0 {
		return q.again
	}
	return nil
}

// collectParked has the rows of a shard that was sealed placed again, now that
// it has an overlay or its set may be another.
func (q *request) collectParked(p *parkedRows) {
	switch {
	case p.err == nil:
		q.again = retriable(quorate.Errorf(quorate.Unavailable, "set %v was sealed, and its overlay is new", p.set.ID))
	case isRetriable(p.err):
		q.again, q.stale, q.ready = p.err, true, false
	default:
		q.fail(p.err)
		return
	}
	q.remaining = append(q.remaining, p.rows...)
}

func (q *request) collectPart(p *part) {
	switch {
	case p.err == nil:
		q.account(p)
		q.learn(p)
	case isRetriable(p.err):
		if p.result != nil {
			q.collectRefusal(p)
		}
		q.remaining = append(q.remaining, p.rows[0]...)
		q.remaining = append(q.remaining, p.rows[1]...)
		q.remaining = append(q.remaining, p.rows[2]...)
		q.remaining = append(q.remaining, p.rows[3]...)
		q.again, q.ready = p.err, false
	default:
		q.fail(p.err)
	}
}

// collectRefusal takes in why a set refused a batch as a whole.
func (q *request) collectRefusal(p *part) {
	switch p.result.Status {
	case wire.BatchUnknownRef:
		q.forget(p)
	case wire.BatchStaleRoute, wire.BatchSealed:
		q.stale = true
	case wire.BatchApplied: // is no refusal
	}
}

func (q *request) account(p *part) {
	q.result.Floats += p.result.Floats
	q.result.Histograms += p.result.Histograms
	q.result.Exemplars += p.result.Exemplars
	q.result.Duplicates += p.result.Duplicates
	if p.result.Refused == 0 {
		return
	}
	q.router.metrics.refused.WithLabelValues("out_of_bounds").Add(float64(p.result.OutOfBounds))
	q.router.metrics.refused.WithLabelValues("conflict").Add(float64(p.result.Refused - p.result.OutOfBounds))
	row := p.rows[p.result.First.Section-wire.SectionFloats][p.result.First.Row]
	q.refused.add(p.result.Refused, func() error {
		return fmt.Errorf("series %s: %v, at %s", q.describe(row.series), p.result.First.Reason, quorate.FormatTime(q.timestamp(row)))
	})
	q.result.Refused += p.result.Refused
}

// learn puts the refs that a part's definitions were given into the route cache.
func (q *request) learn(p *part) {
	if len(p.defined) == 0 || len(p.result.Defined) != len(p.defined) {
		return
	}
	keys := make([]wire.SeriesKey, len(p.defined))
	for i, series := range p.defined {
		keys[i] = q.in.Series[series].Key
	}
	q.cache.update(keys, func(i int, r *cachedRoute) {
		r.hash = q.routes[p.defined[i]].hash
		r.learn(p.set, p.result.Defined[i], q.rollover.keep(r.hash))
	})
}

// forget drops the refs that a set refused, so that labels are sent in their place.
func (q *request) forget(p *part) {
	var keys []wire.SeriesKey
	for _, rows := range p.rows {
		for _, row := range rows {
			if row.series < 0 {
				continue // metadata belongs to no series
			}
			if _, known := q.routes[row.series].refIn(p.set); known {
				q.routes[row.series].forget(p.set)
				keys = append(keys, q.in.Series[row.series].Key)
			}
		}
	}
	q.router.metrics.unknownRefs.Add(float64(len(keys)))
	q.cache.update(keys, func(_ int, r *cachedRoute) { r.forget(p.set) })
}
