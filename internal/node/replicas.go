package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/router"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/raftset"
	"github.com/quorate/quorate/tsdbshard"
)

const (
	// reconcileEvery is how often the replicas are compared with the map when
	// nothing announces a change.
	reconcileEvery = time.Second
	// The pause before a replica that could not be opened is tried again,
	// doubling from first to most.
	firstReopen = time.Second
	mostReopen  = time.Minute
	// healthyAfter is how long an opened replica runs before an earlier
	// failure is forgotten: one that fails twice within it stays closed.
	healthyAfter = 10 * time.Minute
)

// replicaManager opens the replicas that the map places on this node, reports
// new ones as formed, and closes or reopens those that fail. It never deletes
// anything: files go only on a positive record (PROTOCOL 16), of which there
// is none yet.
type replicaManager struct {
	dataDir string
	node    quorate.NodeID
	host    *raftset.Host
	client  *metasvc.Client
	open    *router.Replicas
	metrics *tsdbshard.Metrics
	counts  replicaMetrics
	now     func() time.Time
	logger  *slog.Logger

	// replicas are those this node has tried to open, guarded by mu against
	// ready and close; only the run goroutine changes it.
	mu       sync.Mutex
	replicas map[setID]*openReplica
}

// openReplica is one replica of this node, open or broken.
type openReplica struct {
	id     quorate.ReplicaID
	group  *raftset.Group // nil while broken
	broken error
	// forGood is set when opening it again would not help: its files are
	// damaged, or it failed twice within healthyAfter.
	forGood bool
	// pause is the last pause between attempts, again when the next one is due.
	pause time.Duration
	again time.Time
	// failed is when it last stopped by itself.
	failed time.Time
}

func newReplicaManager(n *Node, open *router.Replicas) (*replicaManager, error) {
	metrics, err := tsdbshard.NewMetrics(n.options.Registry)
	if err != nil {
		return nil, err
	}
	m := &replicaManager{
		dataDir:  n.settings.DataDir,
		node:     n.identity.Node,
		host:     n.host,
		client:   n.meta.client,
		open:     open,
		metrics:  metrics,
		counts:   newReplicaMetrics(),
		now:      time.Now, // of pauses, not of samples
		logger:   n.logger,
		replicas: make(map[setID]*openReplica),
	}
	return m, m.counts.register(n.options.Registry)
}

// run reconciles until the context ends.
func (m *replicaManager) run(ctx context.Context) {
	for {
		seen := m.client.Map()
		m.reconcile(ctx, seen)
		m.awaitChange(ctx, seen)
		if ctx.Err() != nil {
			return
		}
	}
}

// awaitChange returns when the map has changed, after reconcileEvery, or when
// the context ends.
func (m *replicaManager) awaitChange(ctx context.Context, seen *metasvc.Map) {
	ctx, cancel := context.WithTimeout(ctx, reconcileEvery)
	defer cancel()
	// The error is the context's: time to look again, or to end.
	_, _ = m.client.AwaitMap(ctx, seen)
}

// reconcile opens what the map places here and is not open, and deals with
// replicas that have stopped.
func (m *replicaManager) reconcile(ctx context.Context, current *metasvc.Map) {
	for set, replica := range current.SetsOn(m.node) {
		if ctx.Err() != nil {
			return
		}
		r := m.replicas[set.ID]
		switch {
		case r == nil:
			m.openSet(ctx, set, &openReplica{id: replica})
		case r.group != nil && failed(r.group):
			m.handleFailure(ctx, set, r)
		case r.group == nil && !r.forGood && !m.now().Before(r.again):
			m.openSet(ctx, set, r)
		}
	}
}

func failed(g *raftset.Group) bool {
	select {
	case <-g.Failed():
		return true
	default:
		return false
	}
}

// handleFailure closes a replica that stopped by itself and opens it again,
// once: what it reads then was written anew and fsynced by raftset. A second
// failure soon after is the disk's, and more attempts would only wear it.
func (m *replicaManager) handleFailure(ctx context.Context, set *metasvc.ReplicaSet, r *openReplica) {
	group := r.group
	reason := group.Status().Broken
	m.logger.Error("replica stopped", "set", set.ID, "replica", r.id, "error", reason)
	m.counts.failures.Inc()
	now := m.now()
	r.forGood = !r.failed.IsZero() && now.Sub(r.failed) < healthyAfter
	r.failed = now
	// Hidden before it is closed, so that no request finds it half closed.
	m.markBroken(set.ID, r, reason)
	if err := group.Close(); err != nil {
		m.logger.Warn("closing a stopped replica failed", "set", set.ID, "error", err)
	}
	if !r.forGood {
		m.openSet(ctx, set, r)
	}
}

// openSet opens a replica, or notes why it is broken and when to try again.
func (m *replicaManager) openSet(ctx context.Context, set *metasvc.ReplicaSet, r *openReplica) {
	group, shard, err := m.openReplica(ctx, set, r.id)
	if ctx.Err() != nil && err != nil {
		return
	}
	if err != nil {
		m.counts.failures.Inc()
		r.forGood = isPermanent(err)
		r.pause = min(max(2*r.pause, firstReopen), mostReopen)
		r.again = m.now().Add(r.pause)
		m.logger.Error("replica cannot be opened", "set", set.ID, "replica", r.id, "error", err, "for_good", r.forGood, "pause", r.pause)
		m.markBroken(set.ID, r, err)
		return
	}
	m.mu.Lock()
	r.group, r.broken, r.pause = group, nil, 0
	m.replicas[set.ID] = r
	m.updateBrokenLocked()
	m.mu.Unlock()
	m.counts.opened.Inc()
	m.open.Add(router.NewReplica(set.ID, group, shard, router.ClientMeta{Client: m.client}))
	m.logger.Info("replica opened", "set", set.ID, "replica", r.id, "range", set.Bounds.Range, "shard", set.Shard)
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

func (m *replicaManager) markBroken(set setID, r *openReplica, reason error) {
	m.mu.Lock()
	r.group, r.broken = nil, reason
	m.replicas[set] = r
	m.updateBrokenLocked()
	m.mu.Unlock()
	m.open.Break(set, reason, r.forGood)
}

func (m *replicaManager) updateBrokenLocked() {
	n := 0
	for _, r := range m.replicas {
		if r.broken != nil {
			n++
		}
	}
	m.counts.broken.Set(float64(n))
}

// openReplica forms the replica if its set is new, reports it (PROTOCOL 2),
// and opens it.
func (m *replicaManager) openReplica(ctx context.Context, set *metasvc.ReplicaSet, replica quorate.ReplicaID) (*raftset.Group, *tsdbshard.Shard, error) {
	if set.State == metasvc.ReplicaSetForming {
		if err := m.form(ctx, set, replica); err != nil {
			return nil, nil, err
		}
	}
	shard, err := tsdbshard.New(tsdbshard.Config{
		Dir:     setDir(m.dataDir, set.ID, replica),
		Set:     set.ID,
		Logger:  m.logger,
		Metrics: m.metrics,
	})
	if err != nil {
		return nil, nil, err
	}
	group, err := m.host.Open(ctx, set.ID, replica, shard)
	if err != nil {
		return nil, nil, errors.Join(err, shard.Close())
	}
	return group, shard, nil
}

// form persists the set's genesis, identical on all members since all of it
// comes from the map's record, and reports it.
func (m *replicaManager) form(ctx context.Context, set *metasvc.ReplicaSet, replica quorate.ReplicaID) error {
	genesis := raftset.Genesis{Set: set.ID, Replica: replica, Payload: tsdbshard.GenesisPayload(set.Bounds)}
	for _, v := range set.Members {
		genesis.Voters = append(genesis.Voters, raftset.Member{Node: v.Node, Replica: v.Replica})
	}
	if err := m.host.Form(ctx, genesis); err != nil {
		return fmt.Errorf("form set %v: %w", set.ID, err)
	}
	if err := m.client.ReportFormed(ctx, set.ID, replica); err != nil {
		return fmt.Errorf("report set %v as formed: %w", set.ID, err)
	}
	return nil
}

// ready returns why the bucket of time now (ms) of some policy does not take
// writes on this node yet, or nil.
func (m *replicaManager) ready(_ context.Context, now int64) error {
	current := m.client.Map()
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
			if _, here := set.MemberOn(m.node); !here {
				continue
			}
			r := m.replicas[set.ID]
			switch {
			case r == nil:
				return fmt.Errorf("set %v is not open yet", set.ID)
			case r.broken != nil:
				return fmt.Errorf("set %v is broken: %w", set.ID, r.broken)
			}
			if _, leads := r.group.Leadership(); !leads {
				return fmt.Errorf("set %v has no leader here yet", set.ID)
			}
		}
	}
	return nil
}

// close closes all replicas, in parallel, since each waits for its disk.
func (m *replicaManager) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var wait sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for set, r := range m.replicas {
		m.open.Remove(set)
		if r.group == nil {
			continue
		}
		wait.Go(func() {
			if err := r.group.Close(); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, fmt.Errorf("close set %v: %w", set, err))
			}
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}
