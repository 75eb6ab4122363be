package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/raftset"
	"github.com/quorate/quorate/tsdbshard"
)

// open opens a replica on its log, and forms it first if its set is new. A
// replica that cannot be opened is broken until it can.
func (m *Manager) open(ctx context.Context, set *metasvc.ReplicaSet, r *replica) error {
	start := time.Now()
	group, shard, err := m.openGroup(ctx, set, r)
	if err != nil {
		if ctx.Err() == nil {
			m.mu.Lock()
			r.forGood = isPermanent(err)
			m.mu.Unlock()
			m.markBroken(r, err, r.forGood)
		}
		return err
	}
	m.serveOpen(r, group, shard)
	status := group.Status()
	m.logger.Info("replica opened", "set", r.set, "replica", r.id, "range", set.Bounds.Range, "shard", set.Shard, "base", set.Base,
		"index", status.ManifestIndex, "log_bytes", status.LogBytes, "took", time.Since(start))
	return nil
}

// isPermanent tells errors that another attempt cannot mend: the files are
// damaged, gone or another replica's. Disks that are full, descriptors that
// ran out and metadata without a leader come and go.
func isPermanent(err error) bool {
	for _, target := range []error{
		raftset.ErrQuarantined, raftset.ErrFormedOtherwise, raftset.ErrNotFormed, raftset.ErrDamaged,
		tsdbshard.ErrDamaged, tsdbshard.ErrFormat,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

func (m *Manager) shardConfig(r *replica) tsdbshard.Config {
	return tsdbshard.Config{Dir: setDir(m.cfg.DataDir, r.set, r.id), Set: r.set, Logger: m.logger, Metrics: m.shards, Cache: m.pages, Damaged: func(err error) { m.noteDamage(r, err) }}
}

// openGroup forms the replica if its set is new, or has opened without it,
// reports it (PROTOCOL 2), and opens it.
func (m *Manager) openGroup(ctx context.Context, set *metasvc.ReplicaSet, r *replica) (*raftset.Group, *tsdbshard.Shard, error) {
	if set.MayForm(r.id) {
		if err := m.form(ctx, set, r); err != nil {
			return nil, nil, err
		}
	}
	shard, err := tsdbshard.New(m.shardConfig(r))
	if err != nil {
		return nil, nil, err
	}
	group, err := m.cfg.Host.Open(ctx, r.set, r.id, shard)
	if err != nil {
		return nil, nil, errors.Join(err, shard.Close())
	}
	return group, shard, nil
}

// form persists the set's genesis, identical on all members since all of it
// comes from the map's record, and reports it.
func (m *Manager) form(ctx context.Context, set *metasvc.ReplicaSet, r *replica) error {
	if err := m.space.admits(0); err != nil {
		return fmt.Errorf("form set %v: %w", r.set, err)
	}
	genesis := raftset.Genesis{Set: r.set, Replica: r.id, Payload: tsdbshard.GenesisPayload(set.Bounds)}
	for _, v := range set.Members {
		genesis.Voters = append(genesis.Voters, raftset.Member{Node: v.Node, Replica: v.Replica})
	}
	if err := m.cfg.Host.Form(ctx, genesis); err != nil {
		return fmt.Errorf("form set %v: %w", r.set, err)
	}
	if err := m.cfg.Client.ReportFormed(ctx, r.set, r.id); err != nil {
		return fmt.Errorf("report set %v as formed: %w", r.set, err)
	}
	return nil
}

// handleFailure closes a replica that stopped by itself and opens it again,
// once: what it reads then was written anew and fsynced by raftset. A second
// failure soon after is the disk's, and more attempts would only wear it.
func (m *Manager) handleFailure(ctx context.Context, set *metasvc.ReplicaSet, r *replica) error {
	group, reason := r.group, r.group.Status().Broken
	m.logger.Error("replica stopped", "set", r.set, "replica", r.id, "err", reason)
	m.metrics.failures.Inc()
	now := time.Now()
	m.mu.Lock()
	if !errors.Is(reason, raftset.ErrReopen) { // which says nothing against the disk
		r.forGood = !r.failed.IsZero() && now.Sub(r.failed) < healthyAfter
		r.failed = now
	}
	forGood := r.forGood
	m.mu.Unlock()
	m.markBroken(r, reason, forGood)
	if err := group.Close(); err != nil {
		m.logger.Warn("closing a stopped replica failed", "set", r.set, "err", err)
	}
	if forGood {
		return nil
	}
	return m.open(ctx, set, r)
}

// Ready returns why the bucket of time now (ms) of some policy does not take
// writes on this node yet, or nil. A replica that still replays its log is not
// ready.
func (m *Manager) Ready(now int64) error {
	current := m.cfg.Client.Map()
	policies := current.Policies()
	if len(policies) == 0 {
		return errors.New("no policy exists yet")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range policies {
		bucket := current.Bucket(p.ID, now)
		if bucket == nil || bucket.State != metasvc.BucketOpen {
			return fmt.Errorf("policy %q has no open bucket for now", p.Name)
		}
		for _, set := range bucket.Sets {
			if _, here := set.MemberOn(m.cfg.Node); !here {
				continue
			}
			if err := m.replicas[set.ID].readyLocked(); err != nil {
				return fmt.Errorf("set %v %w", set.ID, err)
			}
		}
	}
	return nil
}

// The reasons for which a replica is not ready, in words that follow its set.
var (
	errNotOpen   = errors.New("is not open yet")
	errReplaying = errors.New("still replays its log")
	errNoLeader  = errors.New("has no leader yet, as far as is known here")
)

func (r *replica) readyLocked() error {
	switch {
	case r == nil:
		return errNotOpen
	case r.broken != nil:
		return fmt.Errorf("is broken: %w", r.broken)
	case r.sealed != nil:
		return nil
	case r.group == nil:
		return errNotOpen
	}
	select {
	case <-r.group.Replayed():
	default:
		return errReplaying
	}
	if r.group.Status().Leader.Replica == 0 {
		return errNoLeader
	}
	return nil
}
