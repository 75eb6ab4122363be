package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/router"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/raftset"
	"github.com/quorate/quorate/tsdbshard"
)

// reconcileEvery is how often the replicas are compared with the map when
// nothing announces a change.
const reconcileEvery = time.Second

// replicaManager opens the replicas that the map places on this node, reports
// new ones as formed, and closes or reopens those that fail. It never deletes
// anything: files go only on a positive record (PROTOCOL 16), of which there
// is none yet.
type replicaManager struct {
	dataDir  string
	node     quorate.NodeID
	host     *raftset.Host
	client   *metasvc.Client
	open     *router.Replicas
	metrics  *tsdbshard.Metrics
	opened   prometheus.Counter
	failures prometheus.Counter
	logger   *slog.Logger

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
	// reopened is set once the replica was opened again after a failure; a
	// second failure leaves it broken until the process restarts (DESIGN: a
	// set alone answers 503 naming the reason and is reopened once).
	reopened bool
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
		logger:   n.logger,
		replicas: make(map[setID]*openReplica),
		opened: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "quorate_node_replicas_opened_total",
			Help: "Replicas opened on this node, reopened ones included.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "quorate_node_replica_failures_total",
			Help: "Replicas that stopped by themselves or could not be opened.",
		}),
	}
	return m, errors.Join(n.options.Registry.Register(m.opened), n.options.Registry.Register(m.failures))
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
		if r := m.replicas[set.ID]; r == nil {
			m.openSet(ctx, set, &openReplica{id: replica})
		} else if r.group != nil && failed(r.group) {
			m.handleFailure(ctx, set, r)
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

func (m *replicaManager) handleFailure(ctx context.Context, set *metasvc.ReplicaSet, r *openReplica) {
	reason := r.group.Status().Broken
	m.logger.Error("replica stopped", "set", set.ID, "replica", r.id, "error", reason)
	m.failures.Inc()
	if err := r.group.Close(); err != nil {
		m.logger.Warn("closing a stopped replica failed", "set", set.ID, "error", err)
	}
	if r.reopened {
		m.markBroken(set.ID, r, reason)
		return
	}
	m.open.Break(set.ID, fmt.Errorf("stopped, being opened again: %w", reason))
	r.reopened = true
	m.openSet(ctx, set, r)
}

func (m *replicaManager) openSet(ctx context.Context, set *metasvc.ReplicaSet, r *openReplica) {
	group, shard, err := m.openReplica(ctx, set, r.id)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		m.failures.Inc()
		m.logger.Error("replica cannot be opened", "set", set.ID, "replica", r.id, "error", err)
		m.markBroken(set.ID, r, err)
		return
	}
	m.mu.Lock()
	r.group, r.broken = group, nil
	m.replicas[set.ID] = r
	m.mu.Unlock()
	m.opened.Inc()
	m.open.Add(router.NewReplica(set.ID, group, shard, router.ClientMeta{Client: m.client}))
	m.logger.Info("replica opened", "set", set.ID, "replica", r.id, "range", set.Bounds.Range, "shard", set.Shard)
}

func (m *replicaManager) markBroken(set setID, r *openReplica, reason error) {
	m.mu.Lock()
	r.group, r.broken = nil, reason
	m.replicas[set] = r
	m.mu.Unlock()
	m.open.Break(set, reason)
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
