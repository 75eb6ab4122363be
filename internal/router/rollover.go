package router

import (
	"cmp"
	"context"
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/value"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/metasvc"
)

// In the last part of a bucket the series that are written are made known to
// the next bucket, each at an instant that its hash picks. Without that, the
// first scrapes of a bucket would have to parse, send and log the labels of
// every series there is within one scrape interval.
const (
	// rolloverPart and rolloverMost say how long before a bucket's end that
	// begins: a quarter of its span, but not more than half an hour.
	rolloverPart = 4
	rolloverMost = 30 * time.Minute
	// rolloverRest is the part of that time at its end, an eighth, in which no
	// more instants lie, so that a series that is written every few minutes is
	// seen after its own.
	rolloverRest = 8
)

// rollover is what one attempt at a write request knows of the passage from
// the current bucket to the next.
type rollover struct {
	current *metasvc.Bucket // of the clock's time; nil where there is none
	next    *metasvc.Bucket // nil unless series are to be made known to it now
	due     uint64          // the largest shard hash of those whose instant has come
	// The sets of next are those numbered from first on, if there are that
	// many: what a bucket's sets are numbered like.
	first, sets uint32
}

// rolloverOf looks at the clock (ms) once a request.
func rolloverOf(tenant *metasvc.Tenant, m *metasvc.Map, now int64) rollover {
	r := rollover{current: m.Bucket(tenant.PolicyAt(now), now)}
	if r.current == nil {
		return r
	}
	span := r.current.Range
	lasts := min((span.End-span.Start)/rolloverPart, rolloverMost.Milliseconds())
	elapsed := now - (span.End - lasts)
	if elapsed < 0 {
		return r
	}
	next := m.Bucket(tenant.PolicyAt(span.End), span.End)
	if next == nil || next.State != metasvc.BucketOpen || !routable(next) {
		return r
	}
	first, last := next.Sets[0].ID, next.Sets[len(next.Sets)-1].ID
	if last > math.MaxUint32 {
		return r // the route cache cannot name them: series would be made known over and over
	}
	r.next, r.due = next, math.MaxUint64
	if last-first == quorate.ReplicaSetID(len(next.Sets)-1) && slices.IsSortedFunc(next.Sets, byID) {
		r.first, r.sets = uint32(first), uint32(len(next.Sets))
	}
	if spread := lasts - lasts/rolloverRest; elapsed < spread {
		r.due, _ = bits.Div64(uint64(elapsed), 0, uint64(spread))
	}
	return r
}

func byID(a, b *metasvc.ReplicaSet) int { return cmp.Compare(a.ID, b.ID) }

// knows tells whether a route has a ref in a set of the next bucket, without
// finding out which that would be: the division takes longer than the rest.
func (r *rollover) knows(route *cachedRoute) bool {
	return route.refs[0].set-r.first < r.sets || route.refs[1].set-r.first < r.sets
}

// keep returns the sets whose refs a series of a shard hash is to keep.
func (r *rollover) keep(hash uint64) (keep keepSets) {
	for i, b := range [...]*metasvc.Bucket{r.current, r.next} {
		if b == nil {
			continue
		}
		shard := int(hash % uint64(len(b.Sets)))
		if set := b.Writable(shard); set != nil {
			keep[i] = set.ID
		}
	}
	return keep
}

// warmUp hands the request's series whose instant has come, and which the next
// bucket does not know yet, to the warm-up. It costs 45 ns a request outside of
// a bucket's last part, and inside of it 3 to 6 ns a series until an instant
// comes (BenchmarkWarmUp).
func (q *request) warmUp(ctx context.Context) {
	r := &q.rollover
	if r.next == nil {
		return
	}
	shards := uint64(len(r.next.Sets))
	for i := range q.routes {
		route := &q.routes[i]
		if route.hash > r.due || r.knows(route) {
			continue
		}
		set := r.next.Sets[route.hash%shards]
		if _, known := route.refIn(set.ID); known || !q.goesOn(int32(i)) {
			continue
		}
		labels, ok := q.labels(int32(i))
		if !ok {
			continue
		}
		room := q.router.warmup.offer(ctx, warmSeries{
			tenant: q.id, set: set, cache: q.cache,
			key: q.in.Series[i].Key, hash: route.hash, keep: r.keep(route.hash), labels: labels,
		})
		if !room {
			return // nor is it worth parsing the labels of the rest
		}
	}
}

// goesOn tells whether a series was written in the current bucket, by its last
// sample, and did not end with that: a backfill is not seen again, and a series
// that went stale neither.
func (q *request) goesOn(series int32) bool {
	s, before := q.in.Series[series], wire.RequestSeries{}
	if series > 0 {
		before = q.in.Series[series-1]
	}
	start := q.rollover.current.Range.Start
	if s.HistogramEnd > before.HistogramEnd {
		return q.in.Histograms[s.HistogramEnd-1].Timestamp >= start
	}
	if s.FloatEnd == before.FloatEnd {
		return false
	}
	return q.in.Timestamps[s.FloatEnd-1] >= start && !value.IsStaleNaN(q.in.Values[s.FloatEnd-1])
}

// warmSeries is one series to be made known to a set.
type warmSeries struct {
	tenant quorate.TenantID
	set    *metasvc.ReplicaSet
	cache  *routeCache
	key    wire.SeriesKey
	hash   uint64
	keep   keepSets
	labels []byte // canonical; copied by who keeps it
}
