package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/internal/router"
	"github.com/quorate/quorate/promql"
	"github.com/quorate/quorate/raftset"
)

// drainTimeout bounds how long Close waits for requests under way.
const drainTimeout = 30 * time.Second

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
}

// Node is one running process of the cluster.
type Node struct {
	settings config.Config
	options  Options
	logger   *slog.Logger
	identity identity

	lock     *dirLock
	host     *raftset.Host
	meta     *metaService
	replicas *replicaManager
	router   *router.Router
	queries  *promql.API
	public   *listener
	admin    *listener

	// background holds what runs until Close besides the listeners; serving
	// holds the listeners. Each goroutine is started in start and awaited in Close.
	background     sync.WaitGroup
	stopBackground context.CancelFunc
	serving        *errgroup.Group
	failed         <-chan struct{} // a listener ended by itself

	closeOnce sync.Once
	closeErr  error
}

// Start opens a node on the settings' data directory and serves. When it
// returns nil the listeners accept; /-/ready tells when the metadata service
// leads and the current bucket takes writes. The context bounds only the
// start.
func Start(ctx context.Context, settings config.Config, options Options) (*Node, error) {
	n := &Node{settings: settings, options: options, logger: options.Logger}
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
	dir := n.settings.DataDir
	if n.lock, n.identity, err = openDir(dir, n.settings.NodeName); err != nil {
		return err
	}
	n.logger.Info("data directory opened", "dir", dir, "cluster", n.identity.Cluster, "node", n.identity.Node)

	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	n.stopBackground = stop

	n.host, err = raftset.NewHost(raftset.HostConfig{
		Dir:          filepath.Join(dir, raftDirName),
		Logger:       n.logger,
		Registerer:   n.options.Registry,
		SegmentBytes: int(n.settings.Raft.SegmentBytes),
		Fatal:        n.options.Fatal,
	})
	if err != nil {
		return fmt.Errorf("raft host: %w", err)
	}
	if n.meta, err = n.openMeta(ctx); err != nil {
		return fmt.Errorf("metadata service: %w", err)
	}
	open := new(router.Replicas)
	if n.replicas, err = newReplicaManager(n, open); err != nil {
		return err
	}
	n.router = router.New(router.Config{
		Meta: router.ClientMeta{Client: n.meta.client}, Replicas: open, Now: n.options.Now, Logger: n.logger, Registerer: n.options.Registry,
	})
	flush := &flusher{
		config: FlushConfig{
			MaxMemcacheBytes: int64(n.settings.Flush.MaxMemcacheBytes),
			MaxLogBytes:      int64(n.settings.Flush.MaxLogBytes),
			MaxAge:           n.settings.Flush.MaxAge,
		}.withDefaults(),
		replicas: open,
		logger:   n.logger,
		due:      make(map[setID]time.Time),
	}
	n.background.Go(func() {
		if err := n.meta.run(background); err != nil {
			n.logger.Error("metadata controller ended", "error", err)
		}
	})
	n.background.Go(func() { n.replicas.run(background) })
	n.background.Go(func() { flush.run(background) })
	return n.listen(ctx)
}

// listen opens both listeners and serves on them. They come last: nobody is
// answered by half a node.
func (n *Node) listen(ctx context.Context) error {
	handler, err := n.edges()
	if err != nil {
		return err
	}
	s := n.settings
	if n.public, err = listen(ctx, "http", s.HTTP.Listen, s.HTTP.WebConfigFile, handler, n.logger); err != nil {
		return err
	}
	if n.admin, err = listen(ctx, "admin", s.Admin.Listen, "", adminHandler(), n.logger); err != nil {
		return err
	}
	group, failed := errgroup.WithContext(context.WithoutCancel(ctx))
	n.serving, n.failed = group, failed.Done()
	n.public.serve(group)
	n.admin.serve(group)
	n.logger.Info("listening", "http", n.HTTPAddr(), "admin", n.AdminAddr())
	return nil
}

// HTTPAddr returns the host:port on which writes and queries are served.
func (n *Node) HTTPAddr() string { return n.public.address() }

// AdminAddr returns the host:port on which profiles are served.
func (n *Node) AdminAddr() string { return n.admin.address() }

// Failed is closed when a listener ended by itself; Close then returns why.
func (n *Node) Failed() <-chan struct{} { return n.failed }

// ready tells what the node still waits for before it can take writes.
func (n *Node) ready(ctx context.Context) error {
	return n.replicas.ready(ctx, n.options.Now().UnixMilli())
}

// Close drains and closes the node. It may be called more than once. The order
// is argued: listeners first, so that no request comes in and those under way
// finish while everything they need is open; then the background work, which
// writes to the rooms; then the replicas, whose logs are closed behind the
// last entry they acknowledged; the metadata service after them, since their
// leaders ask it; the host that carries all groups; and the directory lock
// last, when no file of it is open any more.
func (n *Node) Close() error {
	n.closeOnce.Do(func() { n.closeErr = n.close() })
	return n.closeErr
}

func (n *Node) close() error {
	var errs []error
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout) //nolint:forbidigo // Close outlives every request's context
	defer cancel()
	for _, l := range []*listener{n.public, n.admin} {
		if l != nil {
			errs = append(errs, l.shutdown(ctx))
		}
	}
	if n.serving != nil {
		errs = append(errs, n.serving.Wait())
	}
	if n.stopBackground != nil {
		n.stopBackground()
	}
	n.background.Wait()
	if n.queries != nil {
		errs = append(errs, n.queries.Close())
	}
	if n.replicas != nil {
		errs = append(errs, n.replicas.close())
	}
	if n.meta != nil {
		errs = append(errs, n.meta.close())
	}
	if n.host != nil {
		errs = append(errs, n.host.Close())
	}
	if n.lock != nil {
		errs = append(errs, n.lock.Close())
	}
	return errors.Join(errs...)
}
