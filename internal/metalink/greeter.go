package metalink

import (
	"context"
	"sync"

	"github.com/quorate/quorate"
)

// Directory is what a Greeter tells of the cluster; a *Link is one.
type Directory interface {
	// MetaNodes are the nodes known to hold metadata.
	MetaNodes() []MetaNode
	// Leader leads the metadata group; zero when nobody is known to.
	Leader() quorate.NodeID
}

// GreeterConfig configures a Greeter.
type GreeterConfig struct {
	// Self is this node.
	Self quorate.NodeID
	// State tells that the data directory has held something of a cluster
	// before this start; such a node founds nothing, and nobody counts on it for
	// that. It has a cluster, and no need of Discover.
	State bool
	// Promised is what this node has promised before it was started anew; zero
	// is nothing.
	Promised quorate.NodeID
	// Keep makes a promise outlive the process before it is told, or takes it
	// back, where it is zero. Nil keeps it in memory alone, for tests.
	Keep func(promised quorate.NodeID) error
	// Cluster is asked at every hello; zero while this node belongs to none.
	Cluster func() quorate.ClusterID
	// Port takes the handler.
	Port Port
}

// Greeter answers hellos, from the moment that the port is open. While the
// node has no cluster, it keeps the one promise that the node makes: to wait
// for the cluster of another, or to found its own.
//
// A promise lasts until the node is in a cluster, whatever becomes of the process.
// It moves only from a node that has itself promised to wait for another, and
// therefore never founds, or that was begun anew on an empty directory; so whoever
// has the promises of more than half of the nodes is alone in that.
type Greeter struct {
	cfg GreeterConfig

	mu        sync.Mutex // guards what follows
	directory Directory
	promised  quorate.NodeID
}

// NewGreeter makes a Greeter and lets it answer.
func NewGreeter(cfg GreeterConfig) *Greeter {
	g := &Greeter{cfg: cfg, promised: cfg.Promised}
	if g.cfg.Keep == nil {
		g.cfg.Keep = func(quorate.NodeID) error { return nil }
	}
	cfg.Port.HandleStranger(methodHello, g.answer)
	return g
}

// serve tells from now on what a directory knows.
func (g *Greeter) serve(d Directory) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.directory = d
}

func (g *Greeter) answer(_ context.Context, from quorate.NodeID, request []byte) ([]byte, error) {
	seeks, err := decodeGreeting(request)
	if err != nil {
		return nil, quorate.Errorf(quorate.Invalid, "%w", err)
	}
	h := Hello{Node: g.cfg.Self, Cluster: g.cfg.Cluster(), State: g.cfg.State}
	g.mu.Lock()
	directory := g.directory
	if seeks && h.Cluster.IsZero() {
		err = g.promiseLocked(from)
	}
	h.Promised = g.promised
	g.mu.Unlock()
	if err != nil {
		return nil, quorate.Errorf(quorate.Unavailable, "the promise to wait for node %s cannot be kept: %w", from.Name, err)
	}
	if directory != nil {
		h.Meta, h.Leader = directory.MetaNodes(), directory.Leader()
	}
	return encodeHello(h), nil
}

// promiseLocked promises to wait for a node, if that may be: it goes by a
// smaller name, so that of any two nodes one gives way, and nothing else was
// promised.
func (g *Greeter) promiseLocked(to quorate.NodeID) error {
	if !g.cfg.State && to.Name < g.cfg.Self.Name && g.promised == (quorate.NodeID{}) {
		return g.keepLocked(to)
	}
	return nil
}

// keepLocked changes the promise, first where it outlives the process.
func (g *Greeter) keepLocked(promised quorate.NodeID) error {
	if err := g.cfg.Keep(promised); err != nil {
		return err
	}
	g.promised = promised
	return nil
}

// promise returns what was promised; zero is nothing.
func (g *Greeter) promise() quorate.NodeID {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.promised
}

// release takes the promise back from a node that never founds, or never will
// again.
func (g *Greeter) release(from quorate.NodeID) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.promised == from && from != g.cfg.Self && from != (quorate.NodeID{}) {
		return g.keepLocked(quorate.NodeID{})
	}
	return nil
}

// found promises the node to itself, for good, and tells whether it is.
func (g *Greeter) found() (bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.promised == (quorate.NodeID{}) {
		if err := g.keepLocked(g.cfg.Self); err != nil {
			return false, err
		}
	}
	return g.promised == g.cfg.Self, nil
}
