package router

import (
	"context"
	"fmt"
	"time"

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

	// Per series of the request: where it goes, its canonical labels where
	// they were parsed, and whether it was refused as a whole.
	routes    []cachedRoute
	canonical [][]byte
	skip      []bool
	missing   []int32
	arena     []byte

	buckets   []*bucketParts
	current   *bucketParts
	uncovered []quorate.TimeRange // time for which no bucket could be had

	remaining []row // to be placed by the next attempt
	again     error // why
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
	q.again, q.failure = nil, nil
	q.refused, q.result = refusals{}, wire.WriteResult{}
}

// release drops what the request must not keep alive between uses.
func (q *request) release() {
	q.recycle()
	q.router, q.cache, q.in, q.m = nil, nil, nil, nil
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

// placeRemaining sorts the rows that earlier attempts left into batches.
func (q *request) placeRemaining(ctx context.Context) {
	rows := q.remaining
	q.remaining = nil
	q.recycle()
	q.uncovered = q.uncovered[:0]
	for _, r := range rows {
		q.placeRow(ctx, r)
	}
}

// placeAll sorts every row of the request into batches by bucket and shard.
func (q *request) placeAll(ctx context.Context) {
	var before wire.RequestSeries
	for i := range q.in.Series {
		s := &q.in.Series[i]
		if !q.skip[i] {
			for at := before.FloatEnd; at < s.FloatEnd; at++ {
				q.placeRow(ctx, row{wire.SectionFloats, int32(i), at})
			}
			for at := before.HistogramEnd; at < s.HistogramEnd; at++ {
				q.placeRow(ctx, row{wire.SectionHistograms, int32(i), at})
			}
			for at := before.ExemplarEnd; at < s.ExemplarEnd; at++ {
				q.placeRow(ctx, row{wire.SectionExemplars, int32(i), at})
			}
		}
		before = *s
	}
	for at := range q.in.Metadata {
		q.placeRow(ctx, row{wire.SectionMetadata, -1, uint32(at)})
	}
}

func (q *request) placeRow(ctx context.Context, r row) {
	t := q.timestamp(r)
	b := q.current
	if b == nil || !b.valid.Contains(t) {
		if b = q.bucketAt(ctx, r, t); b == nil {
			return
		}
		q.current = b
	}
	if r.section == wire.SectionMetadata {
		q.placeMetadata(b, r)
		return
	}
	shard := int(q.routes[r.series].hash % uint64(len(b.chains)))
	p := q.partFor(b, shard)
	name, ok := q.nameIn(p, r.series)
	if !ok {
		return
	}
	p.rows[r.section-wire.SectionFloats] = append(p.rows[r.section-wire.SectionFloats], r)
	switch r.section {
	case wire.SectionFloats:
		p.batch.Series = append(p.batch.Series, name)
		p.batch.Timestamps = append(p.batch.Timestamps, t)
		p.batch.Values = append(p.batch.Values, q.in.Values[r.at])
		if len(q.in.StartTimestamps) > 0 {
			p.batch.StartTimestamps = append(p.batch.StartTimestamps, q.in.StartTimestamps[r.at])
		}
	case wire.SectionHistograms:
		h := &q.in.Histograms[r.at]
		p.batch.HistogramSeries = append(p.batch.HistogramSeries, name)
		p.batch.HistogramTimestamps = append(p.batch.HistogramTimestamps, t)
		p.batch.HistogramStartTimestamps = append(p.batch.HistogramStartTimestamps, h.StartTimestamp)
		p.batch.Histograms = append(p.batch.Histograms, h.Encoded)
		p.bytes += len(h.Encoded)
	case wire.SectionExemplars:
		e := &q.in.Exemplars[r.at]
		p.batch.ExemplarSeries = append(p.batch.ExemplarSeries, name)
		p.batch.ExemplarTimestamps = append(p.batch.ExemplarTimestamps, t)
		p.batch.ExemplarValues = append(p.batch.ExemplarValues, e.Value)
		p.batch.ExemplarLabels = append(p.batch.ExemplarLabels, e.Labels)
		p.bytes += len(e.Labels)
	case wire.SectionMetadata: // placed above
	}
}

// placeMetadata sends a family's metadata to the current bucket's set that its
// name hashes to, so that one set has the family whatever series carry it.
func (q *request) placeMetadata(b *bucketParts, r row) {
	m := &q.in.Metadata[r.at]
	start := len(q.arena)
	q.arena = wire.AppendLabel(q.arena, "__name__", m.Family)
	shard := int(wire.ShardHash(q.id, q.arena[start:]) % uint64(len(b.chains)))
	q.arena = q.arena[:start]
	p := q.partFor(b, shard)
	p.rows[wire.SectionMetadata-wire.SectionFloats] = append(p.rows[wire.SectionMetadata-wire.SectionFloats], r)
	p.batch.Metadata = append(p.batch.Metadata, *m)
	p.bytes += len(m.Family) + len(m.Type) + len(m.Unit) + len(m.Help)
}

// nameIn returns how a part's batch names a series: by the ref its set gave
// it, else by a definition with its labels.
func (q *request) nameIn(p *part, series int32) (wire.RowSeries, bool) {
	if p.lastSeries == series {
		return p.lastRow, true
	}
	ref, known := q.routes[series].refIn(p.set)
	name := wire.ByRef(ref)
	if !known {
		labels, ok := q.labels(series)
		if !ok {
			return 0, false
		}
		name = wire.ByDefinition(len(p.batch.Definitions))
		p.batch.Definitions = append(p.batch.Definitions, labels)
		p.defined = append(p.defined, series)
		p.bytes += len(labels)
	}
	p.lastSeries, p.lastRow = series, name
	return name, true
}

// partFor returns the part that takes the next row of a shard.
func (q *request) partFor(b *bucketParts, shard int) *part {
	chain := b.chains[shard]
	if n := len(chain); n > 0 {
		p := chain[n-1]
		if p.batch.Rows() < maxPartRows && p.bytes < maxPartBytes {
			return p
		}
	}
	p := q.newPart()
	set := b.bucket.Sets[shard]
	p.set = set.ID
	p.batch.Reset(q.id, set.Bounds.Version)
	b.chains[shard] = append(chain, p)
	return p
}

func (q *request) newPart() *part {
	n := len(q.freeParts)
	if n == 0 {
		return &part{lastSeries: -1}
	}
	p := q.freeParts[n-1]
	q.freeParts = q.freeParts[:n-1]
	for i := range p.rows {
		p.rows[i] = p.rows[i][:0]
	}
	p.defined, p.bytes = p.defined[:0], 0
	p.lastSeries, p.lastRow = -1, 0
	p.result, p.err = nil, nil
	return p
}

// bucketAt finds the bucket that takes a row of time t, making one on demand
// where the policy's retention still covers the time. It returns nil where
// there is none, having refused the row or failed the request.
func (q *request) bucketAt(ctx context.Context, r row, t int64) *bucketParts {
	for _, b := range q.buckets {
		if b.valid.Contains(t) {
			return b
		}
	}
	for _, u := range q.uncovered {
		if u.Contains(t) {
			return nil
		}
	}
	placement := q.placementAt(t)
	policy := q.m.Policy(placement.policy)
	if policy == nil {
		q.fail(placement.valid, quorate.Errorf(quorate.Unavailable, "policy %v is not in this node's map", placement.policy))
		return nil
	}
	if err := policy.CheckTime(t, time.UnixMilli(q.now)); err != nil {
		reason := "retention"
		if t > q.now {
			reason = "future"
		}
		q.refuseTime(r, reason, err)
		return nil
	}
	bucket := q.m.Bucket(policy.ID, t)
	if bucket == nil || bucket.State != metasvc.BucketOpen {
		var err error
		bucket, err = q.router.meta.EnsureBucket(ctx, policy.ID, t)
		switch {
		case quorate.KindOf(err) == quorate.Invalid:
			q.refuseTime(r, "no_bucket", err)
			return nil
		case err != nil:
			span := policy.Span.Milliseconds()
			start := t - (t%span+span)%span
			q.fail(quorate.TimeRange{Start: start, End: start + span}, err)
			return nil
		}
	}
	return q.openParts(bucket, quorate.TimeRange{
		Start: max(bucket.Range.Start, placement.valid.Start, q.now-policy.Retention.Milliseconds()),
		End:   min(bucket.Range.End, placement.valid.End, q.now+policy.FutureBound.Milliseconds()+1),
	})
}

func (q *request) openParts(bucket *metasvc.Bucket, valid quorate.TimeRange) *bucketParts {
	b := new(bucketParts)
	if n := len(q.freeBuckets); n > 0 {
		b, q.freeBuckets = q.freeBuckets[n-1], q.freeBuckets[:n-1]
	}
	b.valid, b.bucket = valid, bucket
	if cap(b.chains) < len(bucket.Sets) {
		b.chains = make([][]*part, len(bucket.Sets))
	}
	b.chains = b.chains[:len(bucket.Sets)]
	q.buckets = append(q.buckets, b)
	return b
}

// fail gives up on the rows of a range for this request, whose outcome is then
// a failure; the metadata client has done the waiting.
func (q *request) fail(of quorate.TimeRange, why error) {
	q.uncovered = append(q.uncovered, of)
	q.failure = why
}

// refuseTime refuses a row because of its timestamp.
func (q *request) refuseTime(r row, reason string, why error) {
	q.router.metrics.refused.WithLabelValues(reason).Inc()
	q.result.Refused++
	q.refused.add(1, func() error {
		if r.series < 0 {
			return fmt.Errorf("metadata of %q: %w", q.in.Metadata[r.at].Family, why)
		}
		return fmt.Errorf("series %s: %w", q.describe(r.series), why)
	})
}

// placement is the part of a tenant's placement history that holds at an instant.
type placement struct {
	policy quorate.PolicyID
	valid  quorate.TimeRange
}

func (q *request) placementAt(t int64) placement {
	history := q.tenant.Placements
	p := placement{policy: history[0].Policy, valid: quorate.Forever}
	for _, h := range history[1:] {
		if h.From > t {
			p.valid.End = h.From
			break
		}
		p.policy, p.valid.Start = h.Policy, h.From
	}
	return p
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
