package router

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/quorate/quorate"
)

// ErrMapUnconfirmed is the warning of answers given while the map lease has run
// out (PROTOCOL 9).
var ErrMapUnconfirmed = errors.New("map_unconfirmed: the metadata service has not confirmed this node's map of the cluster lately; samples that lie where the map does not show would be missing")

// errFormingLeftOut is the warning of stale answers that leave sets out.
var errFormingLeftOut = errors.New("stale_read: sets that are forming in this node's map were left out without asking whether they take samples by now")

// warn notes what every answer of the query is to carry.
func (p *pinning) warn(of survey) {
	if !of.current {
		p.result.warnings.Add(ErrMapUnconfirmed)
	}
	if of.forming && of.current {
		p.result.warnings.Add(errFormingLeftOut)
	}
	stale, unknown, most := 0, 0, uint64(0)
	for _, w := range p.wants {
		switch {
		case !w.lag.stale:
			continue
		case !w.lag.known:
			unknown++
		}
		stale++
		most = max(most, w.lag.entries)
	}
	if stale == 0 {
		return
	}
	text := fmt.Sprintf("stale_read: %d of %d sets were read without asking their leaders; the replicas lacked up to %d log entries that they knew of", stale, len(p.wants), most)
	if unknown > 0 {
		text += fmt.Sprintf("; %d of them know no leader, and how far they lag is unknown", unknown)
	}
	p.result.warnings.Add(errors.New(text))
}

// Reads reads from the sets of all nodes at one consistency. The Router's own
// methods of these names read at the default one.
type Reads struct {
	router      *Router
	consistency quorate.Consistency
}

// Reads returns what reads at a consistency.
func (r *Router) Reads(c quorate.Consistency) Reads { return Reads{router: r, consistency: c} }

func (r Reads) by(tenant quorate.TenantID) reading { return reading{tenant, r.consistency} }

// Querier returns a querier over a tenant's samples in the closed range [mint,
// maxt] (ms). It pins one view of each ReplicaSet that the range needs, each
// confirmed at its leader now unless the read is stale, so that all its answers
// show one state and every write acknowledged before the call; Close lets the
// views go. Where a set cannot be read, the error names it and nothing is
// answered. The context bounds the querier's life too.
//
// Samples past the tenant's retention are not returned. Labels of series that
// have only such samples may be, until their bucket is dropped or written anew.
func (r Reads) Querier(ctx context.Context, tenant quorate.TenantID, mint, maxt int64) (storage.Querier, error) {
	return r.router.querier(ctx, r.by(tenant), mint, maxt)
}

// ChunkQuerier is Querier for remote read's streamed chunks.
func (r Reads) ChunkQuerier(ctx context.Context, tenant quorate.TenantID, mint, maxt int64) (storage.ChunkQuerier, error) {
	return r.router.chunkQuerier(ctx, r.by(tenant), mint, maxt)
}

// ExemplarQuerier returns a querier over a tenant's exemplars. Each Select
// pins its own views.
func (r Reads) ExemplarQuerier(ctx context.Context, tenant quorate.TenantID) (storage.ExemplarQuerier, error) {
	return &exemplarQuerier{ctx: ctx, router: r.router, of: r.by(tenant)}, nil
}

// Metadata returns what the tenant's senders last said of a metric family, or
// of all families where family is empty, from the buckets of the last two days.
func (r Reads) Metadata(ctx context.Context, tenant quorate.TenantID, family string) (map[string]metadata.Metadata, annotations.Annotations, error) {
	return r.router.metadata(ctx, r.by(tenant), family)
}

// Stats returns the cardinality of a tenant's series in the bucket that takes
// samples now, with the limit largest entries of each list. Series lie in one
// shard each, so numbers of series add up exactly; lists are merged from each
// shard's own. Of a shard that was sealed although it takes samples still, what
// the overlay alone has is not counted: most of it is in both layers.
func (r Reads) Stats(ctx context.Context, tenant quorate.TenantID, label string, limit int) (*tsdb.Stats, annotations.Annotations, error) {
	return r.router.stats(ctx, r.by(tenant), label, limit)
}

// Querier is that of Reads at the default consistency.
func (r *Router) Querier(ctx context.Context, tenant quorate.TenantID, mint, maxt int64) (storage.Querier, error) {
	return r.Reads(quorate.ConsistencyDefault).Querier(ctx, tenant, mint, maxt)
}

// ChunkQuerier is that of Reads at the default consistency.
func (r *Router) ChunkQuerier(ctx context.Context, tenant quorate.TenantID, mint, maxt int64) (storage.ChunkQuerier, error) {
	return r.Reads(quorate.ConsistencyDefault).ChunkQuerier(ctx, tenant, mint, maxt)
}

// ExemplarQuerier is that of Reads at the default consistency.
func (r *Router) ExemplarQuerier(ctx context.Context, tenant quorate.TenantID) (storage.ExemplarQuerier, error) {
	return r.Reads(quorate.ConsistencyDefault).ExemplarQuerier(ctx, tenant)
}

// Metadata is that of Reads at the default consistency.
func (r *Router) Metadata(ctx context.Context, tenant quorate.TenantID, family string) (map[string]metadata.Metadata, annotations.Annotations, error) {
	return r.Reads(quorate.ConsistencyDefault).Metadata(ctx, tenant, family)
}

// Stats is that of Reads at the default consistency.
func (r *Router) Stats(ctx context.Context, tenant quorate.TenantID, label string, limit int) (*tsdb.Stats, annotations.Annotations, error) {
	return r.Reads(quorate.ConsistencyDefault).Stats(ctx, tenant, label, limit)
}
