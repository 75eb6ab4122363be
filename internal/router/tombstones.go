package router

import (
	"context"
	"fmt"
	"math"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/metasvc"
)

// CleanTombstones frees the space of what was deleted of a tenant's samples,
// and returns when that is done: open sets write their samples anew, and
// sealed sets are replaced, one after the other, by new files without the
// deleted samples. Samples of other tenants that share a set are freed with
// it. The error is of kind NotFound for an unknown tenant, else Unavailable;
// what was done until then is done.
func (r *Router) CleanTombstones(ctx context.Context, tenant quorate.TenantID) error {
	record, m, err := r.meta.TenantMap(ctx, tenant)
	if err != nil {
		return err
	}
	shards, _ := r.shardsFor(&record, m, math.MinInt64, math.MaxInt64)
	for _, shard := range shards {
		if err := r.cleanShard(ctx, m, shard, tenant); err != nil {
			return fmt.Errorf("clean tombstones of shard %d of %v: %w", shard.base.Shard, shard.base.Bounds.Range, err)
		}
	}
	return nil
}

func (r *Router) cleanShard(ctx context.Context, m *metasvc.Map, shard shardPlan, tenant quorate.TenantID) error {
	if shard.base.State == metasvc.ReplicaSetSealed && deletesOf(m, shard.base.ID, tenant) {
		return r.rewrite(ctx, shard.base, shard.overlay) // with what was deleted from the overlay
	}
	for _, set := range []*metasvc.ReplicaSet{shard.base, shard.overlay} {
		if set == nil || set.State != metasvc.ReplicaSetOpen {
			continue
		}
		if err := r.compactSet(ctx, set); err != nil {
			return err
		}
	}
	return nil
}

// deletesOf tells whether deletions of a tenant are kept for a sealed set.
func deletesOf(m *metasvc.Map, set quorate.ReplicaSetID, tenant quorate.TenantID) bool {
	for _, d := range m.DeletionsOf(set) {
		if d.Deletion.Tenant == tenant {
			return true
		}
	}
	return false
}

// rewrite has a sealed set replaced by one that its deletions are folded into:
// an overlay, empty but for late samples there may be, is sealed over it
// (PROTOCOL 15, 19). It returns when the map shows the base as replaced, or
// gone with its bucket.
func (r *Router) rewrite(ctx context.Context, sealed, there *metasvc.ReplicaSet) error {
	var overlay quorate.ReplicaSetID
	m, err := r.meta.AwaitMap(ctx, nil)
	if err == nil {
		err = retry(ctx, func(ctx context.Context) error {
			if m, err = r.meta.AwaitMap(ctx, nil); err != nil || isReplaced(m.Set(sealed.ID)) {
				return err
			}
			overlay, err = r.askForSeal(ctx, sealed, there)
			return err
		})
	}
	for err == nil && !isReplaced(m.Set(sealed.ID)) {
		if err := undisputed(m.Set(overlay)); err != nil {
			return err
		}
		m, err = r.meta.AwaitMap(ctx, m)
	}
	return err
}

// isReplaced tells whether another set stands in the place of a sealed one, or
// none does.
func isReplaced(set *metasvc.ReplicaSet) bool {
	return set == nil || set.State != metasvc.ReplicaSetSealed || set.Pending
}

// askForSeal opens an overlay over a sealed set, unless there is one, and has
// it sealed at once.
func (r *Router) askForSeal(ctx context.Context, sealed, there *metasvc.ReplicaSet) (quorate.ReplicaSetID, error) {
	overlay, err := r.ensureOverlay(ctx, sealed, there)
	if err != nil {
		return 0, err
	}
	err = r.meta.RequestSeal(ctx, []quorate.ReplicaSetID{overlay.ID})
	if quorate.KindOf(err) == quorate.Unavailable {
		return 0, retriable(err)
	}
	return overlay.ID, err
}
