package metasvc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quorate/quorate/internal/durable"
)

const (
	// renewEvery is how often the map lease is renewed: three renewals may
	// fail before it runs out.
	renewEvery = MapLease / 4
	// renewAgain is how soon a failed renewal is tried again.
	renewAgain = 250 * time.Millisecond
	// confirmTimeout bounds one renewal.
	confirmTimeout = 2 * time.Second
	// warmChanges is up to how many changes a batch's tenants are put into the
	// tenant cache as they come. A larger batch is a resync, whose tenants are
	// cached when somebody asks for them.
	warmChanges = 256
)

// Client is a node's way to the metadata. Reads are served from memory, by the
// map and the tenant cache that a watch of the change log keeps fresh; changes
// go through the leader. It is safe for concurrent use.
type Client struct {
	cfg     ClientConfig
	machine *StateMachine
	logger  *slog.Logger
	metrics *clientMetrics

	// started is the map before the watch gave any: the file's, or the empty one.
	started *Map
	current atomic.Pointer[Map]
	moved   signal // current is another map
	lease   *lease
	tenants tenantCache
	flights flights

	mu sync.Mutex // guards what follows
	// followed is the newest map that the watch gave, nil before the first.
	followed *Map
	// confirmed is an index up to which the leader has confirmed this node's
	// state machine; 0 is never.
	confirmed uint64

	closeOnce sync.Once
	stop      context.CancelFunc
	group     *errgroup.Group
}

// OpenClient loads the node's copy of the map and starts to follow the state
// machine, which need not be open yet. A damaged copy is logged and done
// without. The context bounds nothing but the call; Close ends the client.
func OpenClient(ctx context.Context, cfg ClientConfig) (*Client, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Client{
		cfg:     cfg,
		machine: cfg.StateMachine,
		logger:  cfg.Logger,
		lease:   newLease(cfg.Now),
		tenants: newTenantCache(cfg.TenantCacheBytes),
	}
	if c.metrics, err = newClientMetrics(cfg.Registerer, c.MapCurrent, c.Map); err != nil {
		return nil, fmt.Errorf("metadata client metrics: %w", err)
	}
	if c.started, err = c.load(); err != nil {
		return nil, err
	}
	c.current.Store(c.started)
	c.metrics.mapVersion.Set(float64(c.started.Version))
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stop = stop
	c.group, running = errgroup.WithContext(running)
	c.group.Go(func() error { return c.follow(running) })
	c.group.Go(func() error { return c.renew(running) })
	c.group.Go(func() error { return c.persist(running) })
	return c, nil
}

// load returns the map of the map file, or the empty map when there is none.
func (c *Client) load() (*Map, error) {
	if c.cfg.Dir == "" {
		return newMap(), nil
	}
	if err := durable.MkdirAll(c.cfg.Dir); err != nil {
		return nil, fmt.Errorf("metadata client: %w", err)
	}
	if err := durable.RemoveTemporary(c.cfg.Dir); err != nil {
		return nil, fmt.Errorf("metadata client: %w", err)
	}
	path := filepath.Join(c.cfg.Dir, MapFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return newMap(), nil
	}
	if err != nil {
		return nil, fmt.Errorf("metadata client: %w", err)
	}
	s, err := decodeMapFile(b)
	if err != nil {
		// It is only a copy, and is written anew.
		c.logger.Warn("copy of the map is not usable", "path", path, "err", err)
		return newMap(), nil
	}
	if s.cluster != nil && !c.cfg.Cluster.IsZero() && s.cluster.ID != c.cfg.Cluster {
		return nil, fmt.Errorf("metadata client: %s is a map of cluster %s, and this node belongs to cluster %s", path, s.cluster.ID, c.cfg.Cluster)
	}
	return mapOf(s), nil
}

// Map returns the newest map that this node has; it is never nil. Take it once
// a request.
func (c *Client) Map() *Map { return c.current.Load() }

// MapCurrent tells whether the map lease holds: the metadata leader has
// confirmed a request that this node sent less than MapLease ago, and the map
// is at least as new as that (PROTOCOL 7).
func (c *Client) MapCurrent() bool { return c.lease.holds() }

// AwaitMap waits until the map is another than seen and returns it; nil is
// another than any.
func (c *Client) AwaitMap(ctx context.Context, seen *Map) (*Map, error) {
	for {
		moved := c.moved.wait()
		if m := c.Map(); m != seen {
			return m, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-moved:
		}
	}
}

// awaitVersion waits until the map, followed from the state machine and not
// loaded from a file, has reached an index.
func (c *Client) awaitVersion(ctx context.Context, index uint64) (*Map, error) {
	m := c.Map()
	for m.Version < index || m.Loaded() {
		var err error
		if m, err = c.AwaitMap(ctx, m); err != nil {
			return nil, unavailable(err, "wait for metadata index %d", index)
		}
	}
	return m, nil
}

// ConfirmMap makes the map current: when it returns nil, the map has
// everything that was committed before the call, and the lease is extended.
// The error is of kind Unavailable.
func (c *Client) ConfirmMap(ctx context.Context) error {
	sent := c.cfg.Now()
	err := c.cfg.Leader.ConfirmRead(ctx)
	c.metrics.confirms.WithLabelValues(resultOf(err)).Inc()
	if err != nil {
		return unavailable(err, "confirm the map")
	}
	index := c.machine.AppliedIndex()
	c.mu.Lock()
	c.confirmed = max(c.confirmed, index)
	c.publishLocked()
	c.mu.Unlock()
	if _, err := c.awaitVersion(ctx, index); err != nil {
		return err
	}
	c.lease.extend(sent)
	return nil
}

// publishLocked serves the map that the watch gave, unless the one loaded from
// the file is newer. A loaded map that is newer than what the leader has
// confirmed is of a history that was lost, and gives way.
func (c *Client) publishLocked() {
	serving := c.Map()
	if c.followed == nil || serving == c.followed {
		return
	}
	if serving.Loaded() && c.followed.Version < serving.Version {
		if c.confirmed == 0 || c.followed.Version < c.confirmed {
			return
		}
		c.logger.Warn("copy of the map was newer than the metadata", "copy_version", serving.Version, "version", c.followed.Version)
	}
	c.current.Store(c.followed)
	c.metrics.mapVersion.Set(float64(c.followed.Version))
	c.moved.broadcast()
}

// follow keeps the map and the tenant cache fresh until ctx ends or the state
// machine is closed.
func (c *Client) follow(ctx context.Context) error {
	watch := c.machine.Watch(0)
	mirror := newMirror()
	for {
		batch, err := watch.Next(ctx)
		if errors.Is(err, ErrClosed) && ctx.Err() == nil {
			c.logger.Warn("metadata replica was closed: the map stays as it is", "version", c.Map().Version)
		}
		if err != nil {
			return err
		}
		mirror.apply(batch)
		m := mirror.build()
		if len(batch.Changes) <= warmChanges {
			c.warm(m, batch.Changes)
		}
		c.mu.Lock()
		c.followed = m
		c.publishLocked()
		c.mu.Unlock()
	}
}

// warm puts the tenants of a batch into the cache, under the versions of the
// map that the batch led to. Of several changes to one name the last counts:
// a batch may create a tenant and remove it.
func (c *Client) warm(m *Map, changes []Change) {
	last := make(map[string]*Tenant)
	for _, change := range changes {
		if t, ok := change.Record.(*Tenant); ok {
			last[t.Name] = t
		} else if change.Kind == KindTenant {
			last[change.Name] = nil
		}
	}
	for name, t := range last {
		c.tenants.put(m.slots[tenantSlot(name)], name, t)
	}
}

// renew keeps the map lease until ctx ends.
func (c *Client) renew(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	current := false
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		attempt, cancel := context.WithTimeout(ctx, confirmTimeout)
		err := c.ConfirmMap(attempt)
		cancel()
		if err == nil {
			timer.Reset(renewEvery)
		} else {
			timer.Reset(renewAgain)
		}
		if now := c.MapCurrent(); now != current {
			current = now
			if now {
				c.logger.Info("map is confirmed", "version", c.Map().Version)
			} else {
				c.logger.Warn("map lease has run out", "version", c.Map().Version, "err", err)
			}
		}
	}
}

// persist writes the map file after changes, at most once each PersistEvery,
// until ctx ends, and then what is not written yet.
func (c *Client) persist(ctx context.Context) error {
	if c.cfg.Dir == "" {
		return nil
	}
	pause := time.NewTimer(c.cfg.PersistEvery)
	defer pause.Stop()
	written := c.started
	for {
		m, err := c.AwaitMap(ctx, written)
		if err != nil {
			if c.Map() != written {
				c.writeMap()
			}
			return err
		}
		c.writeMap()
		written = m
		pause.Reset(c.cfg.PersistEvery)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
	}
}

// writeMap publishes the map file. A failure is logged and not returned: the
// copy serves only starts without a metadata leader, and the next change
// writes it again.
func (c *Client) writeMap() {
	path := filepath.Join(c.cfg.Dir, MapFile)
	err := durable.WriteFile(path, encodeMapFile(c.machine.snapshot()))
	c.metrics.mapWrites.WithLabelValues(resultOf(err)).Inc()
	if err != nil {
		c.logger.Warn("copy of the map cannot be written", "path", path, "err", err)
	}
}

// Close ends the client's background work, writes the map a last time and
// gives the cache's memory back. It is idempotent; no other call may follow.
func (c *Client) Close() error {
	c.closeOnce.Do(func() {
		c.stop()
		// What ends the goroutines is the cancellation above, or the state
		// machine being closed; neither is an error.
		_ = c.group.Wait()
		c.tenants.close()
	})
	return nil
}
