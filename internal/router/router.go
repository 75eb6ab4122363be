package router

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate"
)

// Config is what a Router is made of.
type Config struct {
	Meta     Meta
	Replicas *Replicas
	// Self is this node, and Peers its way to the others: sets of which this node
	// has no replica, or one that does not lead, are written and read there. Nil
	// Peers is a node alone.
	Self  quorate.NodeID
	Peers Peers
	// Now is the wall clock that the future bound is judged by; nil means time.Now.
	Now func() time.Time
	// WriteTimeout bounds one write with all its retries. Zero means 25 s, a
	// little less than the 30 s after which Prometheus gives up on a request.
	WriteTimeout time.Duration
	// QueryTimeout bounds how long a query waits for the sets it needs to have
	// a leader. Zero means 10 s.
	QueryTimeout time.Duration
	// MaxRemoteBytes bounds the encoded samples and labels that one query takes
	// in from other nodes, and holds until it ends; a query that needs more is
	// refused with kind TooLarge. Zero means 512 MiB.
	MaxRemoteBytes int64
	// Compact has an open set of this node write its samples anew without
	// those that were deleted, and returns when that is done, at once for a
	// set that is not open any more: what CleanTombstones asks of sets that
	// have a log. Nil does nothing; deleted samples then take space until a
	// flush meets them.
	Compact func(ctx context.Context, set quorate.ReplicaSetID) error
	// RouteCacheSeries bounds the series a tenant's route cache keeps, 40
	// bytes each. Zero means 4 Mi.
	RouteCacheSeries int
	Logger           *slog.Logger
	// Registerer takes the router's metrics; nil keeps them to itself.
	Registerer prometheus.Registerer
}

// Router is the one entrance to the samples: every write and every query of
// every edge goes through it. It is safe for concurrent use.
type Router struct {
	meta         Meta
	replicas     *Replicas
	self         quorate.NodeID
	peers        Peers // nil for a node alone
	peerNotes    acquaintances
	served       *servedViews
	remoteBytes  int64
	now          func() time.Time
	writeTimeout time.Duration
	queryTimeout time.Duration
	cacheSeries  int
	compact      func(ctx context.Context, set quorate.ReplicaSetID) error
	logger       *slog.Logger
	metrics      *Metrics
	warmup       *warmup

	mu     sync.RWMutex
	caches map[quorate.TenantID]*routeCache

	requests sync.Pool // of *request
}

// New returns a Router, to be closed.
func New(c Config) *Router {
	r := &Router{
		meta: c.Meta, replicas: c.Replicas, now: c.Now,
		self: c.Self, peers: c.Peers, remoteBytes: c.MaxRemoteBytes,
		writeTimeout: c.WriteTimeout, queryTimeout: c.QueryTimeout, cacheSeries: c.RouteCacheSeries,
		compact: c.Compact,
		logger:  c.Logger,
		metrics: newMetrics(c.Registerer),
		caches:  make(map[quorate.TenantID]*routeCache),
	}
	if r.now == nil {
		r.now = time.Now
	}
	if r.writeTimeout == 0 {
		r.writeTimeout = 25 * time.Second
	}
	if r.queryTimeout == 0 {
		r.queryTimeout = 10 * time.Second
	}
	if r.remoteBytes == 0 {
		r.remoteBytes = 512 << 20
	}
	if r.cacheSeries == 0 {
		r.cacheSeries = 4 << 20
	}
	if r.logger == nil {
		r.logger = slog.New(slog.DiscardHandler)
	}
	if r.compact == nil {
		r.compact = func(context.Context, quorate.ReplicaSetID) error { return nil }
	}
	r.warmup = newWarmup(r)
	r.served = newServedViews(r.metrics)
	r.requests.New = func() any { return new(request) }
	return r
}

// Close ends the router's background work and the views that other nodes have
// here. Requests have ended before, and the replicas are closed after. It may be
// called again.
func (r *Router) Close() error {
	r.warmup.close()
	r.served.close()
	return nil
}

// routesOf returns a tenant's route cache.
func (r *Router) routesOf(tenant quorate.TenantID) *routeCache {
	r.mu.RLock()
	c := r.caches[tenant]
	r.mu.RUnlock()
	if c != nil {
		return c
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c = r.caches[tenant]; c == nil {
		c = newRouteCache(r.cacheSeries / 2)
		r.caches[tenant] = c
	}
	return c
}
