package router

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"

	"github.com/prometheus/prometheus/util/annotations"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/metasvc"
)

// shardPlan is where the samples of one shard of one bucket are to be read.
type shardPlan struct {
	// base has the shard's samples, and overlay, nil where there is none, the
	// late ones over it.
	base, overlay *metasvc.ReplicaSet
	// oldest is the time (ms) before which retention hides the samples.
	oldest int64
}

// pinnedShard is what is pinned of one shard.
type pinnedShard struct {
	base, overlay layer // overlay is nil where there is none
	oldest        int64
}

// layers returns the layers of a shard, base first.
func (p *pinnedShard) layers() []layer {
	if p.overlay == nil {
		return []layer{p.base}
	}
	return []layer{p.base, p.overlay}
}

// pinned is what one query has pinned, in order of the buckets' start.
type pinned struct {
	shards []pinnedShard
	// warnings are what every answer of the query is to carry.
	warnings annotations.Annotations
	// remoteBytes is how much the query may still take in from other nodes.
	remoteBytes atomic.Int64

	mu      sync.Mutex // guards streams
	streams []func()   // end the streams that views on other nodes live by
	once    sync.Once
}

// addStream has a stream ended when the views are let go.
func (p *pinned) addStream(end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.streams = append(p.streams, end)
}

// release lets the views go. It may be called more than once.
func (p *pinned) release() {
	p.once.Do(func() {
		for _, s := range p.shards {
			if s.base != nil {
				s.base.release()
			}
			if s.overlay != nil {
				s.overlay.release()
			}
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, end := range p.streams {
			end()
		}
	})
}

// reading is who reads, and how current it is to be.
type reading struct {
	tenant      quorate.TenantID
	consistency quorate.Consistency
}

// pin takes a view of every set that may hold the tenant's samples of the range,
// all sets in parallel. While one cannot be read, all of it is tried again under
// the map of that moment: the set may have been sealed, replaced by its overlay,
// or dropped since, or its leader is another.
func (r *Router) pin(ctx context.Context, of reading, mint, maxt int64) (p *pinned, err error) {
	opening, cancel := context.WithTimeout(ctx, r.queryTimeout)
	defer cancel()
	err = retry(opening, func(opening context.Context) error {
		attempt := &pinning{router: r, life: ctx, of: of}
		p, err = attempt.pin(opening, mint, maxt)
		return err
	})
	if err != nil {
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

// shardsFor lists the shards that may have a tenant's samples of [mint, maxt]:
// those of every policy in the part of its placement history that the range
// touches (PROTOCOL 11), by start of bucket. Buckets that are being dropped are
// past retention.
//
// A bucket that was cut may have samples past its end (PROTOCOL 13).
//
// A bucket that is planned in this node's map may be open in that of another,
// which then has written to it (PROTOCOL 8): its sets are read as far as they
// are there. Forming tells that some are not, as far as this map knows: see
// survey. On a node alone planned buckets hold nothing: whatever is written is
// routed by this very map.
func (r *Router) shardsFor(record *metasvc.Tenant, m *metasvc.Map, mint, maxt int64) (shards []shardPlan, forming bool) {
	history := record.PlacementsOverlapping(mint, maxt)
	for i, h := range history {
		from, to := max(mint, h.From), maxt
		if i+1 < len(history) {
			to = min(to, history[i+1].From-1)
		}
		oldest := r.oldest(record, m.Policy(h.Policy))
		for _, b := range m.BucketsToRead(h.Policy, from, to) {
			if b.State != metasvc.BucketOpen && (r.peers == nil || b.State != metasvc.BucketPlanned) {
				continue
			}
			for shard := range b.Sets {
				s := shardPlan{oldest: oldest}
				s.base, s.overlay = b.Readable(shard)
				if b.Range.End <= from && s.base.ReadRange().End <= from {
					continue // its bucket was cut, and other shards of it had samples since
				}
				if s.base.State == metasvc.ReplicaSetForming {
					forming = true
					continue
				}
				shards = append(shards, s)
			}
		}
	}
	return shards, forming
}

// survey is where a reading's samples are, by one map.
type survey struct {
	m      *metasvc.Map
	shards []shardPlan
	// current tells that the map had whatever was committed when the reading
	// began: it was taken while the map lease held, or after a confirmation.
	current bool
	// forming tells that sets which are forming in the map count as empty,
	// although they may have been written to by now.
	forming bool
}

// survey is shardsFor by the newest map that will do: a set that is forming in
// the metadata of this moment cannot have been written to, and counts as empty.
// Without the metadata leader nobody knows that of this moment; once the map
// lease has run out, answers say so, and the map is taken as it is (PROTOCOL 9).
// A strong reading fails then, and a stale one has asked nobody to begin with.
//
// Whether the lease holds is judged before the map is taken: one that begins to
// hold later says nothing of a map that was taken before.
func (r *Router) survey(ctx context.Context, of reading, mint, maxt int64) (s survey, err error) {
	asked, confirmed := false, false
	confirm := func() error {
		asked = true
		err := r.confirmMap(ctx)
		confirmed = err == nil
		return err
	}
	for {
		s.current = confirmed || !asked && r.meta.MapCurrent()
		if of.consistency == quorate.ConsistencyStrong && !s.current {
			if err := confirm(); err != nil {
				return survey{}, retriable(quorate.Errorf(quorate.Unavailable, "a strong read needs a current map of the cluster: %w", err))
			}
			s.current = true
		}
		record, m, err := r.meta.TenantMap(ctx, of.tenant)
		if err != nil {
			return survey{}, err
		}
		s.m = m
		s.shards, s.forming = r.shardsFor(&record, m, mint, maxt)
		if !s.forming || asked {
			s.forming = s.forming && !confirmed
			return s, nil
		}
		if of.consistency == quorate.ConsistencyStale {
			return s, nil
		}
		if err := confirm(); err != nil && (s.current || of.consistency == quorate.ConsistencyStrong) {
			return survey{}, retriable(err)
		}
	}
}

// confirmMap makes the map as new as everything committed before the call, if
// the metadata leader answers soon.
func (r *Router) confirmMap(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	return r.meta.ConfirmMap(ctx)
}

// oldest returns the time (ms) before which a tenant's samples are hidden: its
// own retention, where that is shorter than the policy's, else the policy's.
func (r *Router) oldest(record *metasvc.Tenant, policy *metasvc.Policy) int64 {
	if policy == nil {
		return math.MinInt64 // not in the map, and neither are its buckets
	}
	return r.now().UnixMilli() - policy.RetentionOf(record).Milliseconds()
}
