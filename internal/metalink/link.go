package metalink

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/metasvc"
)

// Config configures a Link.
type Config struct {
	// Self is this node.
	Self quorate.NodeID
	// Port asks the other nodes, and takes the link's handlers.
	Port Port
	// Greeter is told what the link knows. It may be nil.
	Greeter *Greeter
	// Machine is the state machine that this node's metasvc.Client reads: that
	// of the local replica, or the one that Follow feeds.
	Machine Machine
	// Map returns the newest map, which says where the metadata's voters are. It
	// may return nil, and be nil.
	Map func() *metasvc.Map
	// Meta are metadata nodes to begin with, those of a Decision.
	Meta []MetaNode
	// Addresses are asked for metadata nodes when none of those known answers:
	// the ones of cluster.join.
	Addresses []string
	// Beats keeps the heartbeats that come while this node leads.
	Beats Beats
	// Logger defaults to none.
	Logger *slog.Logger
	// Registerer takes the metrics; nil keeps them unseen.
	Registerer prometheus.Registerer
}

// Link is a node's way to the leader of the metadata group. It is a
// metasvc.Leader, with a local replica or without, and safe for concurrent use.
type Link struct {
	cfg     Config
	logger  *slog.Logger
	metrics *metrics

	mu sync.Mutex // guards what follows
	// replica is the local one, nil where there is none.
	replica *replica
	// attached is closed and replaced whenever replica is another.
	attached chan struct{}
	// leader is who led when last heard of; zero is nobody.
	leader quorate.NodeID
	// learned are addresses that other nodes told, the map left aside.
	learned map[quorate.NodeID]string
	order   []quorate.NodeID // of learned, as it was learned
	// watching ends the watch of another node that Follow is at; nil when
	// there is none.
	watching context.CancelCauseFunc
}

// replica is a local replica of the metadata group with its state machine.
type replica struct {
	group   Group
	machine Machine
	decider Decider       // may be nil
	gone    chan struct{} // closed once it is another one's turn
}

// maxLearned bounds what is learned from other nodes.
const maxLearned = 256

// Open makes a link and lets its handlers answer.
func Open(cfg Config) (*Link, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Port == nil || cfg.Machine == nil || cfg.Beats == nil {
		return nil, errors.New("metalink: port, machine or beats is nil")
	}
	l := &Link{
		cfg:      cfg,
		logger:   cfg.Logger,
		attached: make(chan struct{}),
		learned:  make(map[quorate.NodeID]string),
	}
	var err error
	if l.metrics, err = newMetrics(cfg.Registerer); err != nil {
		return nil, err
	}
	l.learn(cfg.Meta...)
	l.handle()
	if cfg.Greeter != nil {
		cfg.Greeter.serve(l)
	}
	return l, nil
}

// Attach tells the link of the local replica and its state machine, which may
// be another than that of the configuration: Follow then feeds the latter from
// it. Decider completes what is proposed while the replica leads; it may be nil.
func (l *Link) Attach(group Group, machine Machine, decider Decider) {
	l.setReplica(&replica{group: group, machine: machine, decider: decider, gone: make(chan struct{})})
}

// propose commits a command as the leader.
func (r *replica) propose(ctx context.Context, command []byte) (any, error) {
	if r.decider != nil {
		var err error
		if command, err = r.decider.Decide(ctx, command); err != nil {
			return nil, err
		}
	}
	return r.group.Propose(ctx, wire.KindMeta, command)
}

// Detach tells the link that there is no local replica any more. Watches of
// others that it serves end.
func (l *Link) Detach() { l.setReplica(nil) }

func (l *Link) setReplica(r *replica) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.replica != nil {
		close(l.replica.gone)
	}
	l.replica = r
	close(l.attached)
	l.attached = make(chan struct{})
	if l.watching != nil {
		l.watching(errSource)
	}
}

// local returns the local replica, nil where there is none, and what is closed
// when that changes.
func (l *Link) local() (*replica, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.replica, l.attached
}

// leads tells whether the replica leads; of none, false.
func (r *replica) leads() bool {
	if r == nil {
		return false
	}
	_, leads := r.group.Leadership()
	return leads
}

// Leader returns the node that leads the metadata group as far as this one
// knows; zero when it knows of none.
func (l *Link) Leader() quorate.NodeID {
	if r, _ := l.local(); r != nil {
		if r.leads() {
			return l.cfg.Self
		}
		if m := r.group.Status().Leader; m.Replica != 0 && m.Node != l.cfg.Self {
			return m.Node
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leader
}

func (l *Link) setLeader(id quorate.NodeID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leader = id
}

// forget drops a leader that did not answer.
func (l *Link) forget(id quorate.NodeID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.leader == id {
		l.leader = quorate.NodeID{}
	}
}

// learn takes in where nodes listen, and that they may have metadata.
func (l *Link) learn(nodes ...MetaNode) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range nodes {
		if n.ID == (quorate.NodeID{}) || n.Address == "" {
			continue
		}
		if _, known := l.learned[n.ID]; !known {
			if len(l.order) == maxLearned {
				continue
			}
			l.order = append(l.order, n.ID)
		}
		l.learned[n.ID] = n.Address
	}
}

// Address returns where a node listens by what other nodes told this one. It is
// for nodes that the map does not have, or not yet.
func (l *Link) Address(id quorate.NodeID) (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	address, ok := l.learned[id]
	return address, ok
}

// addressOf is where a node listens by the map, or else by what was learned.
func (l *Link) addressOf(id quorate.NodeID) string {
	if m := l.currentMap(); m != nil {
		if n := m.Node(id); n != nil && n.Address != "" {
			return n.Address
		}
	}
	address, _ := l.Address(id)
	return address
}

func (l *Link) currentMap() *metasvc.Map {
	if l.cfg.Map == nil {
		return nil
	}
	return l.cfg.Map()
}

// MetaNodes returns the nodes that are known to have a replica of the metadata
// group, and where they listen: the voters of the map, or what was learned
// where the map has none.
func (l *Link) MetaNodes() []MetaNode {
	var nodes []MetaNode
	if m := l.currentMap(); m != nil && m.Cluster != nil {
		for _, voter := range m.Cluster.Meta {
			nodes = append(nodes, MetaNode{voter.Node, l.addressOf(voter.Node)})
		}
	}
	if len(nodes) > 0 {
		return nodes
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range l.order {
		nodes = append(nodes, MetaNode{id, l.learned[id]})
	}
	return nodes
}
