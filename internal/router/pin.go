package router

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/prometheus/prometheus/util/annotations"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/tsdbshard"
)

// errMapUnconfirmed is the warning of answers given while the map lease has run
// out (PROTOCOL 9).
var errMapUnconfirmed = errors.New("map_unconfirmed: the metadata service has not confirmed this node's map of the cluster lately; samples that lie where the map does not show would be missing")

// shardPlan is where the samples of one shard of one bucket are to be read.
type shardPlan struct {
	// base has the shard's samples, and overlay, nil where there is none, the
	// late ones over it.
	base, overlay *metasvc.ReplicaSet
	// oldest is the time (ms) before which retention hides the samples.
	oldest int64
}

// pinnedShard are the views of one shard.
type pinnedShard struct {
	base, overlay View // overlay is nil where there is none
	oldest        int64
}

// readersIn is readers for a query of no more than the closed range [mint, maxt].
func (p *pinnedShard) readersIn(tenant quorate.TenantID, mint, maxt int64) []tsdbshard.TenantReader {
	if p.overlay == nil {
		return []tsdbshard.TenantReader{p.base.TenantIn(tenant, mint, maxt)}
	}
	return []tsdbshard.TenantReader{p.base.TenantIn(tenant, mint, maxt), p.overlay.TenantIn(tenant, mint, maxt)}
}

// readers returns what the layers of a shard show of a tenant, base first.
func (p *pinnedShard) readers(tenant quorate.TenantID) []tsdbshard.TenantReader {
	if p.overlay == nil {
		return []tsdbshard.TenantReader{p.base.Tenant(tenant)}
	}
	return []tsdbshard.TenantReader{p.base.Tenant(tenant), p.overlay.Tenant(tenant)}
}

// pinned are the views of one query, in order of their buckets' start.
type pinned struct {
	shards []pinnedShard
	// warnings are what every answer of the query is to carry.
	warnings annotations.Annotations
	once     sync.Once
}

// release lets the views go. It may be called more than once.
func (p *pinned) release() {
	p.once.Do(func() {
		for _, s := range p.shards {
			if s.base != nil {
				s.base.Close()
			}
			if s.overlay != nil {
				s.overlay.Close()
			}
		}
	})
}

// pin takes a confirmed view of every set that may hold the tenant's samples
// of the range, all sets in parallel. While one cannot be read, all of it is
// tried again under the map of that moment: the set may have been sealed,
// replaced by its overlay, or dropped since.
func (r *Router) pin(ctx context.Context, tenant quorate.TenantID, mint, maxt int64) (p *pinned, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.queryTimeout)
	defer cancel()
	err = retry(ctx, func(ctx context.Context) error {
		p, err = r.pinOnce(ctx, tenant, mint, maxt)
		return err
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (r *Router) pinOnce(ctx context.Context, tenant quorate.TenantID, mint, maxt int64) (*pinned, error) {
	record, m, err := r.meta.TenantMap(ctx, tenant)
	if err != nil {
		return nil, err
	}
	plan := slices.DeleteFunc(r.shardsFor(&record, m, mint, maxt), func(s shardPlan) bool {
		return max(mint, s.oldest) >= s.base.Bounds.Range.End
	})
	p := &pinned{shards: make([]pinnedShard, len(plan))}
	if !r.meta.MapCurrent() {
		p.warnings.Add(errMapUnconfirmed)
	}
	var wait sync.WaitGroup
	errs := make([]error, 2*len(plan))
	open := func(into *View, failed *error, set *metasvc.ReplicaSet) {
		r.metrics.setsQueried.Inc()
		wait.Go(func() {
			view, err := r.view(ctx, m, set)
			if err != nil {
				*failed = fmt.Errorf("read shard %d of %v: %w", set.Shard, set.Bounds.Range, err)
				return
			}
			*into = view
		})
	}
	for i, s := range plan {
		p.shards[i].oldest = s.oldest
		open(&p.shards[i].base, &errs[2*i], s.base)
		if s.overlay != nil {
			open(&p.shards[i].overlay, &errs[2*i+1], s.overlay)
		}
	}
	wait.Wait()
	if err := strongest(errs); err != nil {
		p.release()
		return nil, err
	}
	return p, nil
}

// strongest joins errors. Those that another attempt may mend are left out
// where there are others, since then no attempt helps.
func strongest(errs []error) error {
	var final []error
	for _, err := range errs {
		if err != nil && !isRetriable(err) {
			final = append(final, err)
		}
	}
	if len(final) > 0 {
		return errors.Join(final...)
	}
	return errors.Join(errs...)
}

func (r *Router) view(ctx context.Context, m *metasvc.Map, set *metasvc.ReplicaSet) (View, error) {
	replica, err := r.replicas.Get(set.ID)
	if err != nil {
		return nil, err
	}
	deletions := m.DeletionsOf(set.ID)
	if replica.Sealed() == nil && set.State == metasvc.ReplicaSetSealed && (set.Base != 0 || len(deletions) > 0) {
		// The metadata have the set as sealed since, and its file is about to
		// take this replica's place. The replica shows neither what lay under
		// an overlay, which the file has too, nor what was deleted since.
		return nil, retriable(quorate.Errorf(quorate.Unavailable, "the sealed file of set %v is not open on this node yet", set.ID))
	}
	return replica.View(ctx, deletions)
}

// shardsFor lists the shards that may have a tenant's samples of [mint, maxt]:
// those of every policy in the part of its placement history that the range
// touches (PROTOCOL 11), by start of bucket. Buckets that are planned in this
// node's map hold nothing yet: whatever was written to them was routed by this
// very map, since this node is the only one. Those that are being dropped are
// past retention.
func (r *Router) shardsFor(record *metasvc.Tenant, m *metasvc.Map, mint, maxt int64) []shardPlan {
	var shards []shardPlan
	history := record.PlacementsOverlapping(mint, maxt)
	for i, h := range history {
		from, to := max(mint, h.From), maxt
		if i+1 < len(history) {
			to = min(to, history[i+1].From-1)
		}
		oldest := r.oldest(record, m.Policy(h.Policy))
		for _, b := range m.BucketsOverlapping(h.Policy, from, to) {
			if b.State != metasvc.BucketOpen {
				continue
			}
			for shard := range b.Sets {
				s := shardPlan{oldest: oldest}
				s.base, s.overlay = b.Readable(shard)
				shards = append(shards, s)
			}
		}
	}
	return shards
}

// oldest returns the time (ms) before which a tenant's samples are hidden: its
// own retention, where that is shorter than the policy's, else the policy's.
func (r *Router) oldest(record *metasvc.Tenant, policy *metasvc.Policy) int64 {
	if policy == nil {
		return math.MinInt64 // not in the map, and neither are its buckets
	}
	return r.now().UnixMilli() - policy.RetentionOf(record).Milliseconds()
}
