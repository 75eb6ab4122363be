package raftset

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/durable"
)

// Host holds the replicas of this process. Its methods may be called by many
// goroutines.
type Host struct {
	cfg     HostConfig
	metrics *metrics
	tide    *tide
	rounds  *rounds
	calls   sync.Pool // *call
	scratch sync.Pool // *scratch
	vigil   *vigil    // nil without other nodes
	beat    *beat

	mu     sync.Mutex
	closed bool
	// groups has an entry for each open set; it is nil while the set opens.
	groups map[quorate.ReplicaSetID]*Group
}

// NewHost makes a host without replicas. The directory is made if need be.
func NewHost(cfg HostConfig) (*Host, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if err := durable.MkdirAll(cfg.Dir); err != nil {
		return nil, fmt.Errorf("raftset: %w", err)
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("raftset: register metrics: %w", err)
	}
	h := &Host{
		cfg:     cfg,
		metrics: m,
		tide:    startTide(),
		beat:    newBeat(cfg.HeartbeatTimeout),
		groups:  make(map[quorate.ReplicaSetID]*Group),
	}
	h.rounds = &rounds{messenger: cfg.Messenger, timeout: cfg.HeartbeatTimeout, metrics: m, nodes: make(map[quorate.NodeID]*round)}
	h.calls.New = func() any { return &call{done: make(chan outcome, 1)} }
	h.scratch.New = func() any { return &scratch{} }
	if cfg.Messenger != nil {
		h.vigil = h.keepVigil()
	}
	return h, nil
}

// Group returns the open replica of a set; a broken one too, until it is closed.
func (h *Host) Group(set quorate.ReplicaSetID) (*Group, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	g := h.groups[set]
	return g, g != nil
}

// Open starts a replica that Form has formed: its manifest is read, the state
// machine opened at the manifest's index, its files checked against each other,
// and Raft started. The rest of the log is applied once there is a leader; with
// a single voter that is at once.
//
// Errors wrap ErrNotFormed, ErrQuarantined, or what the disk or the state
// machine said. After an error the state machine is closed if it had opened.
func (h *Host) Open(ctx context.Context, set quorate.ReplicaSetID, replica quorate.ReplicaID, sm StateMachine) (*Group, error) {
	if err := h.reserve(set); err != nil {
		return nil, fmt.Errorf("open set %d, replica %d: %w", set, replica, err)
	}
	g, err := h.open(ctx, set, replica, sm)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		delete(h.groups, set)
		return nil, fmt.Errorf("open set %d, replica %d: %w", set, replica, err)
	}
	h.groups[set] = g
	h.metrics.groups.Inc()
	return g, nil
}

var errOpen = errors.New("a replica of the set is open already")

func (h *Host) reserve(set quorate.ReplicaSetID) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrStopped
	}
	if _, ok := h.groups[set]; ok {
		return errOpen
	}
	h.groups[set] = nil
	return nil
}

// unreserve ends a reservation that led to no group.
func (h *Host) unreserve(set quorate.ReplicaSetID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.groups, set)
}

func (h *Host) forget(g *Group) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.groups[g.set] == g {
		delete(h.groups, g.set)
		h.metrics.groups.Dec()
	}
}

// release gives a call back whose outcome was received.
func (h *Host) release(c *call) {
	c.command = nil
	h.calls.Put(c)
}

// Close closes all groups and the host. No Open may be under way or follow. It
// is idempotent.
func (h *Host) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	groups := make([]*Group, 0, len(h.groups))
	for _, g := range h.groups {
		if g != nil {
			groups = append(groups, g)
		}
	}
	h.mu.Unlock()

	if h.vigil != nil {
		h.vigil.end()
	}
	errs := make([]error, len(groups))
	var wg sync.WaitGroup
	for i, g := range groups {
		wg.Go(func() { errs[i] = g.Close() })
	}
	wg.Wait()
	h.tide.close()
	return errors.Join(errs...)
}
