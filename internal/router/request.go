package router

import (
	"fmt"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/metasvc"
)

// The size at which a part is closed and the next one of its set begun, so
// that a large request becomes log entries of bounded size.
const (
	maxPartRows = 16 << 10
	// maxPartBytes bounds what a part holds besides floats: labels of new
	// series, histograms, labels of exemplars, metadata. It keeps commands far
	// below the 16 MiB that raftset takes.
	maxPartBytes = 512 << 10
)

// request is one Append under way. It is used by one goroutine, except that
// parts are sent by several, and its memory is used again by later ones.
type request struct {
	router *Router
	id     quorate.TenantID
	cache  *routeCache // of the tenant
	in     *wire.WriteRequest
	now    int64 // ms

	// Of the attempt under way: one version of the metadata (PROTOCOL 7).
	attempts int
	tenant   metasvc.Tenant
	m        *metasvc.Map
	rollover rollover

	// Per series of the request: where it goes, its canonical labels where
	// they were parsed, and whether it was refused as a whole.
	routes    []cachedRoute
	canonical [][]byte
	skip      []bool
	missing   []int32
	arena     []byte

	buckets   []*bucketParts
	current   *bucketParts
	parked    []*parkedRows
	uncovered []quorate.TimeRange // time for which no bucket could be had

	remaining []row // to be placed by the next attempt
	again     error // why
	stale     bool  // the map has to be newer for that
	ready     bool  // or has all that is needed
	failure   error // the request's outcome is not known, for good
	refused   refusals
	result    wire.WriteResult

	freeParts   []*part
	freeBuckets []*bucketParts
}

// row names one row of the request: its section, its series (-1 for metadata)
// and its position in the request's columns of that section.
type row struct {
	section wire.Section
	series  int32
	at      uint32
}

// bucketParts are the rows of a request that fall into one bucket, by shard.
type bucketParts struct {
	valid  quorate.TimeRange // the time that may be placed here without a further look
	bucket *metasvc.Bucket
	chains [][]*part
}

// part is one batch on its way to one set.
type part struct {
	set     quorate.ReplicaSetID
	batch   wire.Batch
	rows    [4][]row // by section, in batch order
	defined []int32  // the series of each definition
	// The series placed last and its name in this batch, since rows come
	// series by series.
	lastSeries int32
	lastRow    wire.RowSeries
	bytes      int // see maxPartBytes

	encoded []byte
	result  *wire.BatchResult
	err     error
}

// parkedRows are rows of a shard that no set takes at the moment: the shard is
// sealed and its overlay is missing or not ready. They wait for it beside the
// other shards' batches.
type parkedRows struct {
	set     *metasvc.ReplicaSet // the sealed one
	overlay *metasvc.ReplicaSet // the one that takes nothing, nil without
	rows    []row
	err     error // why there is no overlay
}

func (q *request) begin(r *Router, tenant quorate.TenantID, in *wire.WriteRequest) {
	q.router, q.id, q.in = r, tenant, in
	q.cache, q.attempts = r.routesOf(tenant), 0
	q.now = r.now().UnixMilli()
	n := len(in.Series)
	if cap(q.routes) < n {
		q.routes = make([]cachedRoute, n)
		q.canonical = make([][]byte, n)
		q.skip = make([]bool, n)
	}
	q.routes, q.canonical, q.skip = q.routes[:n], q.canonical[:n], q.skip[:n]
	clear(q.canonical)
	clear(q.skip)
	q.missing, q.arena = q.missing[:0], q.arena[:0]
	q.uncovered, q.remaining = q.uncovered[:0], q.remaining[:0]
	q.again, q.stale, q.ready, q.failure = nil, false, false, nil
	q.refused, q.result = refusals{}, wire.WriteResult{}
}

// release drops what the request must not keep alive between uses.
func (q *request) release() {
	q.recycle()
	q.router, q.cache, q.in, q.m = nil, nil, nil, nil
	q.rollover = rollover{}
	q.again, q.failure, q.refused = nil, nil, refusals{}
	clear(q.canonical)
}

// recycle returns all parts to the free list.
func (q *request) recycle() {
	for _, b := range q.buckets {
		for i, chain := range b.chains {
			q.freeParts = append(q.freeParts, chain...)
			b.chains[i] = chain[:0]
		}
		b.bucket = nil
		q.freeBuckets = append(q.freeBuckets, b)
	}
	q.buckets, q.current = q.buckets[:0], nil
	clear(q.parked)
	q.parked = q.parked[:0]
}

// resolve finds each series' shard hash: in the route cache, or by parsing its
// labels. A series whose labels break a rule is refused here.
func (q *request) resolve() {
	q.missing = q.cache.lookup(q.in.Series, q.routes, q.missing)
	q.router.metrics.cacheHits.Add(float64(len(q.in.Series) - len(q.missing)))
	q.router.metrics.cacheMisses.Add(float64(len(q.missing)))
	for _, i := range q.missing {
		q.routes[i] = cachedRoute{}
		if labels, ok := q.labels(i); ok {
			q.routes[i].hash = wire.ShardHash(q.id, labels)
		}
	}
}

// labels returns a series' canonical labels, parsing them once; ok is false
// when they break a rule, and the series is refused then.
func (q *request) labels(series int32) (canonical []byte, ok bool) {
	if q.skip[series] {
		return nil, false
	}
	if q.canonical[series] != nil {
		return q.canonical[series], true
	}
	start := len(q.arena)
	grown, err := q.in.Labels.CanonicalLabels(q.arena, int(series))
	if err != nil {
		q.skip[series] = true
		q.refuseSeries(series, err)
		return nil, false
	}
	// When the arena moves, earlier labels stay where they were.
	q.arena = grown
	q.canonical[series] = grown[start:len(grown):len(grown)]
	return q.canonical[series], true
}

// describe names a series for an error.
func (q *request) describe(series int32) string {
	if labels, ok := q.labels(series); ok {
		return describe(labels)
	}
	return fmt.Sprintf("number %d of the request", series)
}

func (q *request) timestamp(r row) int64 {
	switch r.section {
	case wire.SectionFloats:
		return q.in.Timestamps[r.at]
	case wire.SectionHistograms:
		return q.in.Histograms[r.at].Timestamp
	case wire.SectionExemplars:
		return q.in.Exemplars[r.at].Timestamp
	case wire.SectionMetadata: // what is known now
	}
	return q.now
}

// fail notes that the outcome of some rows is not known. Of several failures the
// strongest counts (see Append), the first of its strength. What a failure
// complains of is never the rows, which are judged one by one and refused: it is
// something between the nodes, and the request is to come again.
func (q *request) fail(why error) {
	switch quorate.KindOf(why) {
	case quorate.Invalid, quorate.NotFound, quorate.Unsupported:
		why = quorate.Errorf(quorate.Unavailable, "%w", why)
	case quorate.Internal, quorate.TooLarge, quorate.Limited, quorate.Unavailable:
	}
	if q.failure == nil || strength(why) > strength(q.failure) {
		q.failure = why
	}
}

// strength orders the failures of a request: above all those after which a
// client sends it again.
func strength(err error) int {
	switch quorate.KindOf(err) {
	case quorate.Unavailable:
		return 3
	case quorate.Internal:
		return 2
	case quorate.Limited:
		return 1
	case quorate.Invalid, quorate.TooLarge, quorate.Unsupported, quorate.NotFound:
	}
	return 0
}

// refuseSeries refuses all rows of a series.
func (q *request) refuseSeries(series int32, err error) {
	s, before := q.in.Series[series], wire.RequestSeries{}
	if series > 0 {
		before = q.in.Series[series-1]
	}
	rows := int(s.FloatEnd - before.FloatEnd + s.HistogramEnd - before.HistogramEnd + s.ExemplarEnd - before.ExemplarEnd)
	q.refused.add(rows, func() error { return err })
	q.result.Refused += rows
	q.router.metrics.refused.WithLabelValues("labels").Add(float64(rows))
}

// refusals counts refused rows and keeps the first reason.
type refusals struct {
	rows  int
	first error
}

func (r *refusals) add(rows int, why func() error) {
	if r.first == nil {
		r.first = why()
	}
	r.rows += rows
}

func (r *refusals) err() error {
	switch {
	case r.first == nil:
		return nil
	case r.rows <= 1:
		return quorate.Errorf(quorate.Invalid, "%w", r.first)
	}
	return quorate.Errorf(quorate.Invalid, "%w (the first of %d rows refused)", r.first, r.rows)
}
