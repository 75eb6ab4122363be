package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/internal/lifecycle"
	"github.com/quorate/quorate/internal/metalink"
	"github.com/quorate/quorate/internal/peer"
	"github.com/quorate/quorate/internal/router"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/promql"
	"github.com/quorate/quorate/raftset"
)

const (
	// drainTimeout bounds how long Close waits for requests under way.
	drainTimeout = 30 * time.Second
	// relinquishTimeout bounds how long Close waits for others to take the lead
	// of what this node leads.
	relinquishTimeout = 5 * time.Second
)

// metadataTimeout bounds how long a start waits for the metadata leader.
const metadataTimeout = 10 * time.Second

// Options are what a process, rather than its operator, gives a node.
type Options struct {
	// Version is the program's version, shown by status/buildinfo.
	Version string
	Logger  *slog.Logger
	// Registry takes the metrics of every room and is served on /metrics.
	Registry *prometheus.Registry
	// Fatal ends the process at once; a hung disk calls it. Nil panics.
	Fatal func(reason error)
	// Now is the wall clock; nil means time.Now.
	Now func() time.Time
	// Free returns how many bytes the file system of a directory has left; nil
	// asks the system.
	Free func(dir string) (int64, error)
}

// Node is one running process of the cluster.
type Node struct {
	settings config.Config
	options  Options
	logger   *slog.Logger
	identity identity
	entered  atomic.Pointer[quorate.ClusterID] // of identity, for whoever asks early
	stopping atomic.Bool                       // Close has begun

	lock    *dirLock
	peers   net.Listener // of port
	port    *peer.Port
	greeter *metalink.Greeter
	host    *raftset.Host
	metaOf  atomic.Pointer[metaService] // meta, for whoever asks early
	// controllerHere is that of the metadata replica, once there is one.
	controllerHere atomic.Pointer[metasvc.Controller]
	meta           *metaService
	open           *router.Replicas
	replicas       *lifecycle.Manager
	managed        atomic.Pointer[lifecycle.Manager] // replicas, for whoever asks early
	router         *router.Router
	queries        *promql.API
	public         *listener
	admin          *listener

	// background holds what runs until Close; each goroutine is started in
	// start, by way of serve and runMeta, and awaited in Close.
	background     sync.WaitGroup
	stopBackground context.CancelFunc

	failOnce sync.Once
	failed   chan struct{}
	failure  error // written before failed is closed

	closeOnce sync.Once
	closeErr  error
}

// Start opens a node on the settings' data directory and serves. When it
// returns nil the listeners accept; /-/ready tells when the metadata service
// leads and the current bucket takes writes. The context bounds only the
// start.
func Start(ctx context.Context, settings config.Config, options Options) (*Node, error) {
	n := &Node{settings: settings, options: options, logger: options.Logger, failed: make(chan struct{})}
	if n.options.Now == nil {
		n.options.Now = time.Now
	}
	if n.options.Fatal == nil {
		n.options.Fatal = func(reason error) { panic(reason) }
	}
	if err := n.start(ctx); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func (n *Node) start(ctx context.Context) (err error) {
	if err := n.bind(ctx); err != nil {
		return err
	}
	dir := n.settings.DataDir
	if n.lock, n.identity, err = openDir(dir, n.settings.NodeName); err != nil {
		return err
	}
	if err := n.openPort(); err != nil {
		return fmt.Errorf("port between nodes: %w", err)
	}
	known, err := n.enterCluster(ctx)
	if err != nil {
		return err
	}
	n.logger.Info("data directory opened", "dir", dir, "cluster", n.identity.Cluster, "node", n.identity.Node)

	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	n.stopBackground = stop
	if err := n.openHost(); err != nil {
		return fmt.Errorf("raft host: %w", err)
	}
	if n.meta, err = n.openMeta(ctx, known); err != nil {
		return fmt.Errorf("metadata service: %w", err)
	}
	n.open = new(router.Replicas)
	if n.replicas, err = n.newLifecycle(); err != nil {
		return err
	}
	n.managed.Store(n.replicas)
	if err := n.discardLeft(); err != nil {
		return fmt.Errorf("metadata replica that was removed: %w", err)
	}
	n.router = router.New(router.Config{
		Meta: router.ClientMeta{Client: n.meta.client}, Replicas: n.open, Compact: n.replicas.Compact,
		Self: n.identity.Node, Peers: n.port, MaxRemoteBytes: int64(n.settings.Query.MaxRemoteBytes),
		Now: n.options.Now, Logger: n.logger, Registerer: n.options.Registry,
	})
	n.router.Register(n.port)
	n.replicas.Register(n.port)
	n.registerAdmin()
	n.background.Go(func() { n.runMeta(background) })
	if err := n.joinCluster(ctx); err != nil {
		return err
	}
	n.background.Go(func() { n.keepJoined(background) })
	n.awaitMetadata(ctx)
	n.background.Go(func() { n.replicas.Run(background) })
	return n.serve()
}

// openHost opens the host of the Raft groups, whose messages the port carries.
func (n *Node) openHost() (err error) {
	n.host, err = raftset.NewHost(raftset.HostConfig{
		Dir:          filepath.Join(n.settings.DataDir, raftDirName),
		Node:         n.identity.Node,
		Messenger:    n.port,
		Fetch:        n.fetchManifest,
		Logger:       n.logger,
		Registerer:   n.options.Registry,
		SegmentBytes: int(n.settings.Raft.SegmentBytes),
		ReadLease:    n.settings.Cluster.ReadLease,
		Fatal:        n.options.Fatal,
		Exhausted: func() bool {
			manager := n.managed.Load() // none yet while the metadata's replica opens
			return manager != nil && manager.Exhausted()
		},
	})
	if err != nil {
		return err
	}
	n.port.HandleMessages(n.host.Deliver)
	return nil
}

// fetchManifest fetches the files that a manifest names from the node that
// sends it. The metadata's manifest is all there is of it.
func (n *Node) fetchManifest(ctx context.Context, set quorate.ReplicaSetID, replica quorate.ReplicaID, from quorate.NodeID, payload []byte) error {
	if set == quorate.MetaReplicaSet {
		return nil
	}
	return n.replicas.FetchManifest(ctx, set, replica, from, payload)
}

// newLifecycle makes what opens, seals and drops this node's replicas.
func (n *Node) newLifecycle() (*lifecycle.Manager, error) {
	s := n.settings
	return lifecycle.New(lifecycle.Config{
		DataDir:  s.DataDir,
		Node:     n.identity.Node,
		Host:     n.host,
		Client:   n.meta.client,
		Metadata: n.meta.here.Load,
		Peers:    n.port,
		Replicas: n.open,
		Flush: lifecycle.FlushLimits{
			MemcacheBytes:      int64(s.Flush.MaxMemcacheBytes),
			TotalMemcacheBytes: int64(s.Flush.MaxTotalMemcacheBytes),
			LogBytes:           int64(s.Flush.MaxLogBytes),
			Age:                s.Flush.MaxAge,
			ShutdownTimeout:    s.Flush.ShutdownTimeout,
		},
		PageCacheBytes: int64(s.Storage.PageCacheBytes),
		Trash:          lifecycle.TrashLimits{Keep: s.Storage.TrashKeep, MinFreeBytes: int64(s.Storage.MinFreeBytes)},
		Space: lifecycle.SpaceLimits{
			Low: int64(s.Storage.LowSpaceBytes), Full: int64(s.Storage.FullSpaceBytes), Reserve: int64(s.Storage.ReserveSpaceBytes),
		},
		Scrub: lifecycle.ScrubLimits{
			BytesPerSecond: int64(s.Storage.ScrubBytesPerSecond), Every: s.Storage.ScrubEvery,
		},
		Free:       n.options.Free,
		Now:        n.options.Now,
		Logger:     n.logger,
		Registerer: n.options.Registry,
	})
}

// awaitMetadata waits, for a while, until this node's metadata is all that was
// committed before the start, so that the first request is not answered from
// an older map. Without a leader the node starts with the map that it has.
func (n *Node) awaitMetadata(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	tick := time.NewTicker(metadataTimeout / 2000)
	defer tick.Stop()
	for {
		err := n.meta.client.ConfirmMap(ctx)
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			n.logger.Warn("starting without confirmed metadata", "error", err)
			return
		}
	}
}

// fail makes the node fail as a whole, for a reason that Close returns.
func (n *Node) fail(reason error) {
	n.failOnce.Do(func() {
		n.failure = reason
		close(n.failed)
	})
}

// bind takes all addresses. It comes first, so that a port in use is told
// before anything is made; they are served last, so that nobody is answered by
// half a node.
func (n *Node) bind(ctx context.Context) (err error) {
	s := n.settings
	if n.public, err = bind(ctx, "http.listen", s.HTTP.Listen, s.HTTP.WebConfigFile, n.logger); err != nil {
		return err
	}
	if n.admin, err = bind(ctx, "admin.listen", s.Admin.Listen, "", n.logger); err != nil {
		return err
	}
	var lc net.ListenConfig
	if n.peers, err = lc.Listen(ctx, "tcp", s.Peer.Listen); err != nil {
		return fmt.Errorf("peer.listen: %w", err)
	}
	return nil
}

func (n *Node) serve() error {
	handler, err := n.edges()
	if err != nil {
		return err
	}
	n.serveOn(n.public, handler)
	n.serveOn(n.admin, n.adminHandler())
	n.logger.Info("listening", "http", n.HTTPAddr(), "admin", n.AdminAddr(), "peer", n.port.Address())
	return nil
}

func (n *Node) serveOn(l *listener, handler http.Handler) {
	n.background.Go(func() {
		if err := l.serve(handler); err != nil {
			n.fail(err)
		}
	})
}

// HTTPAddr returns the host:port on which writes and queries are served.
func (n *Node) HTTPAddr() string { return n.public.address() }

// AdminAddr returns the host:port on which the admin endpoints and profiles are
// served.
func (n *Node) AdminAddr() string { return n.admin.address() }

// Failed is closed when the node can go on no longer: a listener or the
// metadata replica stopped by itself. Close then returns why.
func (n *Node) Failed() <-chan struct{} { return n.failed }

// ready tells what the node still waits for before it can take writes.
func (n *Node) ready() error {
	select {
	case <-n.failed:
		return n.failure
	default:
	}
	if n.stopping.Load() {
		return errors.New("it is stopping")
	}
	return n.replicas.Ready(n.options.Now().UnixMilli())
}

// Close drains and closes the node. It may be called more than once. The order
// is argued: while everything runs and answers, the node tells that it is not
// ready, so that clients turn to others, and hands over what it leads, so that
// nobody waits for an election; then the listeners, so that no request comes in
// and those under way finish while everything they need is open; then the
// background work, which
// writes to the rooms; then query engine and router, which read the replicas;
// then the replicas, which flush what a start would take long to replay and
// close their logs behind the last entry they acknowledged; the metadata service
// after them, since their leaders ask it; the host that carries all groups; the
// port, by which the groups speak to the last; and the directory lock last, when no file of it is open any more.
func (n *Node) Close() error {
	n.closeOnce.Do(func() { n.closeErr = n.close() })
	return n.closeErr
}

// relinquish hands over what the node leads, as far as others can take it: what
// they cannot is elected anew when the node is gone.
func (n *Node) relinquish(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, relinquishTimeout)
	defer cancel()
	var errs []error
	if n.replicas != nil {
		errs = append(errs, n.replicas.Relinquish(ctx))
	}
	if n.meta != nil {
		if group := n.meta.here.Load(); group != nil {
			errs = append(errs, lifecycle.RelinquishLead(ctx, group))
		}
	}
	if err := errors.Join(errs...); err != nil {
		n.logger.Warn("not all leads were handed over", "err", err)
	}
}

func (n *Node) close() error {
	var errs []error
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout) //nolint:forbidigo // Close outlives every request's context
	defer cancel()
	n.stopping.Store(true)
	if n.public != nil {
		n.public.server.SetKeepAlivesEnabled(false)
	}
	n.relinquish(ctx)
	for _, l := range []*listener{n.public, n.admin} {
		if l != nil {
			errs = append(errs, l.shutdown(ctx))
		}
	}
	if n.stopBackground != nil {
		n.stopBackground()
	}
	n.background.Wait()
	select {
	case <-n.failed:
		errs = append(errs, n.failure)
	default:
	}
	if n.queries != nil {
		errs = append(errs, n.queries.Close())
	}
	if n.router != nil {
		errs = append(errs, n.router.Close())
	}
	if n.replicas != nil {
		// Requests may have used the context up; the flush has a bound of its own.
		errs = append(errs, n.replicas.Close(context.WithoutCancel(ctx)))
	}
	if n.meta != nil {
		errs = append(errs, n.meta.close())
	}
	if n.host != nil {
		errs = append(errs, n.host.Close())
	}
	switch {
	case n.port != nil:
		errs = append(errs, n.port.Close())
	case n.peers != nil:
		errs = append(errs, n.peers.Close())
	}
	if n.lock != nil {
		errs = append(errs, n.lock.Close())
	}
	return errors.Join(errs...)
}
