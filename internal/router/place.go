package router

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/metasvc"
)

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
	if p == nil {
		q.park(b.bucket, shard, r)
		return
	}
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
	if p == nil {
		q.park(b.bucket, shard, r)
		return
	}
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

// partFor returns the part that takes the next row of a shard, nil where no set
// takes any.
func (q *request) partFor(b *bucketParts, shard int) *part {
	chain := b.chains[shard]
	if n := len(chain); n > 0 {
		p := chain[n-1]
		if p.batch.Rows() < maxPartRows && p.bytes < maxPartBytes {
			return p
		}
	}
	set := b.bucket.Writable(shard)
	if set == nil {
		return nil
	}
	p := q.newPart()
	p.set = set.ID
	p.batch.Reset(q.id, set.Bounds.Version)
	b.chains[shard] = append(chain, p)
	return p
}

// park puts a row aside until the sealed set of its shard has an overlay.
func (q *request) park(bucket *metasvc.Bucket, shard int, r row) {
	sealed := bucket.Sets[shard]
	// Rows come series by series, and late ones mostly lie in few shards.
	for i := len(q.parked) - 1; i >= 0; i-- {
		if p := q.parked[i]; p.set.ID == sealed.ID {
			p.rows = append(p.rows, r)
			return
		}
	}
	q.parked = append(q.parked, &parkedRows{set: sealed, overlay: bucket.Overlays[shard], rows: []row{r}})
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
		q.giveUp(placement.valid, quorate.Errorf(quorate.Unavailable, "policy %v is not in this node's map", placement.policy))
		return nil
	}
	oldest := q.now - policy.RetentionOf(&q.tenant).Milliseconds()
	if err := q.checkTime(policy, t, oldest); err != nil {
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
		case quorate.KindOf(err) == quorate.Invalid && !refusedByMetadata(err):
			q.refuseTime(r, "no_bucket", err)
			return nil
		case err != nil:
			span := policy.Span.Milliseconds()
			start := t - (t%span+span)%span
			q.giveUp(quorate.TimeRange{Start: start, End: start + span}, err)
			return nil
		}
	}
	if !routable(bucket) {
		q.giveUp(bucket.Range, quorate.Errorf(quorate.Unavailable, "bucket %s spreads series by version %d of the shard hash; this node knows version %d alone",
			bucket.Range, bucket.HashVersion, wire.ShardHashVersion))
		return nil
	}
	return q.openParts(bucket, quorate.TimeRange{
		Start: max(bucket.Range.Start, placement.valid.Start, oldest, policy.Horizon),
		End:   min(bucket.Range.End, placement.valid.End, q.now+policy.FutureBound.Milliseconds()+1),
	})
}

// routable tells whether this binary knows a bucket's shard hash. By another one
// it would spread series otherwise than their other writers do, and one series
// over two sets (PROTOCOL 12).
func routable(bucket *metasvc.Bucket) bool { return bucket.HashVersion == wire.ShardHashVersion }

// checkTime judges a timestamp by the policy's rules, and by the tenant's own
// retention, which ends at oldest.
func (q *request) checkTime(policy *metasvc.Policy, t, oldest int64) error {
	if err := policy.CheckTime(t, time.UnixMilli(q.now)); err != nil {
		return err
	}
	if t < oldest {
		return quorate.Errorf(quorate.Invalid, "sample time %s is older than the tenant's retention of %v, which ends at %s",
			quorate.FormatTime(t), q.tenant.Retention, quorate.FormatTime(oldest))
	}
	return nil
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

// refusedByMetadata tells that the metadata log refused a command. A time that
// no bucket may cover is refused before there is one, so that this is no verdict
// on the row: a node's role, say, changed as the bucket was placed on it.
func refusedByMetadata(err error) bool {
	var refused *metasvc.Refusal
	return errors.As(err, &refused)
}

// giveUp gives up on the rows of a range for this request, whose outcome is then
// a failure; the metadata client has done the waiting.
func (q *request) giveUp(of quorate.TimeRange, why error) {
	q.uncovered = append(q.uncovered, of)
	q.fail(why)
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
