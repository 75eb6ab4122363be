package router

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/tsdbshard"
)

// Querier returns a querier over a tenant's samples in the closed range [mint,
// maxt] (ms). It pins one view of each ReplicaSet that the range needs, each
// confirmed at its leader now, so that all its answers show one state and
// every write acknowledged before the call; Close lets the views go. Where a
// set cannot be read, the error names it and nothing is answered.
func (r *Router) Querier(ctx context.Context, tenant quorate.TenantID, mint, maxt int64) (storage.Querier, error) {
	pinned, err := r.pin(ctx, tenant, mint, maxt)
	if err != nil {
		return nil, err
	}
	queriers := make([]storage.Querier, 0, len(pinned.views))
	for _, v := range pinned.views {
		q, err := tsdb.NewBlockQuerier(v.Tenant(tenant), mint, maxt)
		if err != nil {
			pinned.release()
			return nil, errors.Join(err, closeAll(queriers))
		}
		queriers = append(queriers, q)
	}
	return &querier{Querier: storage.NewMergeQuerier(queriers, nil, storage.ChainedSeriesMerge), pinned: pinned}, nil
}

// ChunkQuerier is Querier for remote read's streamed chunks.
func (r *Router) ChunkQuerier(ctx context.Context, tenant quorate.TenantID, mint, maxt int64) (storage.ChunkQuerier, error) {
	pinned, err := r.pin(ctx, tenant, mint, maxt)
	if err != nil {
		return nil, err
	}
	queriers := make([]storage.ChunkQuerier, 0, len(pinned.views))
	for _, v := range pinned.views {
		q, err := tsdb.NewBlockChunkQuerier(v.Tenant(tenant), mint, maxt)
		if err != nil {
			pinned.release()
			return nil, errors.Join(err, closeAll(queriers))
		}
		queriers = append(queriers, q)
	}
	merge := storage.NewCompactingChunkSeriesMerger(storage.ChainedSeriesMerge)
	return &chunkQuerier{ChunkQuerier: storage.NewMergeChunkQuerier(queriers, nil, merge), pinned: pinned}, nil
}

// closeAll closes what was opened before a later one failed.
func closeAll[C interface{ Close() error }](opened []C) error {
	var errs []error
	for _, c := range opened {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

type querier struct {
	storage.Querier
	pinned *pinned
}

// Close closes the queriers, then lets go of what they read.
func (q *querier) Close() error {
	defer q.pinned.release()
	return q.Querier.Close()
}

type chunkQuerier struct {
	storage.ChunkQuerier
	pinned *pinned
}

// Close closes the queriers, then lets go of what they read.
func (q *chunkQuerier) Close() error {
	defer q.pinned.release()
	return q.ChunkQuerier.Close()
}

// pinned are the views of one query, in order of their buckets' start.
type pinned struct {
	views []*tsdbshard.View
	once  sync.Once
}

// release lets the views go. It may be called more than once.
func (p *pinned) release() {
	p.once.Do(func() {
		for _, v := range p.views {
			if v != nil {
				v.Close()
			}
		}
	})
}

// pin takes a confirmed view of every set that may hold the tenant's samples
// of the range, all sets in parallel.
func (r *Router) pin(ctx context.Context, tenant quorate.TenantID, mint, maxt int64) (*pinned, error) {
	ctx, cancel := context.WithTimeout(ctx, r.queryTimeout)
	defer cancel()
	sets, err := r.setsFor(ctx, tenant, mint, maxt)
	if err != nil {
		return nil, err
	}
	p := &pinned{views: make([]*tsdbshard.View, len(sets))}
	errs := make([]error, len(sets))
	var wait sync.WaitGroup
	for i, set := range sets {
		wait.Go(func() { p.views[i], errs[i] = r.view(ctx, set) })
	}
	wait.Wait()
	r.metrics.setsQueried.Add(float64(len(sets)))
	if err := errors.Join(errs...); err != nil {
		p.release()
		return nil, err
	}
	return p, nil
}

func (r *Router) view(ctx context.Context, set *metasvc.ReplicaSet) (view *tsdbshard.View, err error) {
	err = retry(ctx, func(ctx context.Context) error {
		replica, err := r.replicas.Get(set.ID)
		if err != nil {
			return err
		}
		view, err = replica.View(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read shard %d of %v: %w", set.Shard, set.Bounds.Range, err)
	}
	return view, nil
}

// setsFor lists the sets that may hold a tenant's samples of [mint, maxt]:
// those of every policy in the part of its placement history that the range
// touches (PROTOCOL 11), by start of bucket. Buckets that are not open in this
// node's map hold nothing yet: whatever was written to them was routed by this
// very map, since this node is the only one.
func (r *Router) setsFor(ctx context.Context, tenant quorate.TenantID, mint, maxt int64) ([]*metasvc.ReplicaSet, error) {
	record, m, err := r.meta.TenantMap(ctx, tenant)
	if err != nil {
		return nil, err
	}
	var sets []*metasvc.ReplicaSet
	history := record.PlacementsOverlapping(mint, maxt)
	for i, h := range history {
		from, to := max(mint, h.From), maxt
		if i+1 < len(history) {
			to = min(to, history[i+1].From-1)
		}
		for _, b := range m.BucketsOverlapping(h.Policy, from, to) {
			if b.State == metasvc.BucketOpen {
				sets = append(sets, b.Sets...)
			}
		}
	}
	return sets, nil
}

// recently is the range in which metadata and head statistics are looked for:
// two days cover the current and the previous bucket of the default span.
func (r *Router) recently() (mint, maxt int64) {
	const twoDays = 48 * 60 * 60 * 1000
	now := r.now().UnixMilli()
	return now - twoDays, math.MaxInt64
}
