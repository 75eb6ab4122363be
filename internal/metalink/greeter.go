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
	// State tells that the data directory has held something before this
	// start; such a node founds nothing, and nobody counts on it for that.
	State bool
	// Cluster is asked at every hello; zero while this node belongs to none.
	Cluster func() quorate.ClusterID
	// Port takes the handler.
	Port Port
}

// Greeter answers hellos, from the moment that the port is open. While the
// node has no cluster, it keeps the one promise that the node makes: to wait
// for the cluster of another, or to found its own.
//
// A promise lasts as long as the process. It moves only from a node that has
// itself promised to wait for another, and therefore never founds; so whoever
// has the promises of more than half of the nodes is alone in that. A process
// that starts anew has forgotten what it promised; that matters only to a node
// that founds in that very moment and is not seen by the others after it.
type Greeter struct {
	cfg GreeterConfig

	mu        sync.Mutex // guards what follows
	directory Directory
	promised  quorate.NodeID
}

// NewGreeter makes a Greeter and lets it answer.
func NewGreeter(cfg GreeterConfig) *Greeter {
	g := &Greeter{cfg: cfg}
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
		g.promiseLocked(from)
	}
	h.Promised = g.promised
	g.mu.Unlock()
	if directory != nil {
		h.Meta, h.Leader = directory.MetaNodes(), directory.Leader()
	}
	return encodeHello(h), nil
}

// promiseLocked promises to wait for a node, if that may be: it goes by a
// smaller name, so that of any two nodes one gives way, and nothing else was
// promised.
func (g *Greeter) promiseLocked(to quorate.NodeID) {
	if !g.cfg.State && to.Name < g.cfg.Self.Name && g.promised == (quorate.NodeID{}) {
		g.promised = to
	}
}

// promise returns what was promised; zero is nothing.
func (g *Greeter) promise() quorate.NodeID {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.promised
}

// release takes the promise back from a node that never founds, or never will
// again.
func (g *Greeter) release(from quorate.NodeID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.promised == from && from != g.cfg.Self {
		g.promised = quorate.NodeID{}
	}
}

// found promises the node to itself, for good.
func (g *Greeter) found() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.promised == (quorate.NodeID{}) {
		g.promised = g.cfg.Self
	}
	return g.promised == g.cfg.Self
}
