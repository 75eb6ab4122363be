package router

import (
	"context"
	"fmt"
	"sync"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
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
	if err == nil {
		err = q.failure
	}
	if err == nil {
		err = q.refused.err()
	}
	return q.result, err
}

// attempt routes what is not stored yet under the newest map, sends it, and
// takes in the answers.
func (q *request) attempt(ctx context.Context) (err error) {
	if q.tenant, q.m, err = q.router.meta.TenantMap(ctx, q.id); err != nil {
		return err
	}
	if q.attempts++; q.attempts == 1 {
		q.placeAll(ctx)
	} else {
		q.router.metrics.retries.Inc()
		q.placeRemaining(ctx)
	}
	q.send(ctx)
	return q.collect()
}

// send proposes the parts of every ReplicaSet, sets in parallel, the parts of
// one set in order.
func (q *request) send(ctx context.Context) {
	var last []*part
	var others sync.WaitGroup
	// Deferred, since the parts' memory is the request's: whatever happens
	// here, it goes back to the pool only when nobody reads it any more.
	defer others.Wait()
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

func (r *Router) sendPart(ctx context.Context, p *part) error {
	replica, err := r.replicas.Get(p.set)
	if err != nil {
		return err
	}
	p.encoded = p.batch.Append(p.encoded[:0])
	p.result, err = replica.Write(ctx, p.encoded)
	if err != nil {
		return err
	}
	if p.result.Status != wire.BatchApplied {
		return retriable(quorate.Errorf(quorate.Unavailable, "set %v refused a batch: %v", p.set, p.result.Status))
	}
	return nil
}

// collect takes in what the sets answered: counts and learned refs of the
// parts that were applied; the rows of the others remain to be placed again
// where that may help, and otherwise fail the request. It returns a retriable
// error while rows remain.
func (q *request) collect() error {
	for _, b := range q.buckets {
		for _, chain := range b.chains {
			for _, p := range chain {
				q.collectPart(p)
			}
		}
	}
	if len(q.remaining) > 0 && q.failure == nil {
		return q.again
	}
	return nil
}

func (q *request) collectPart(p *part) {
	switch {
	case p.err == nil:
		q.account(p)
		q.learn(p)
	case isRetriable(p.err):
		if p.result != nil && p.result.Status == wire.BatchUnknownRef {
			q.forget(p)
		}
		q.remaining = append(q.remaining, p.rows[0]...)
		q.remaining = append(q.remaining, p.rows[1]...)
		q.remaining = append(q.remaining, p.rows[2]...)
		q.remaining = append(q.remaining, p.rows[3]...)
		q.again = p.err
	default:
		q.failure = p.err
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
		r.learn(p.set, p.result.Defined[i])
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
