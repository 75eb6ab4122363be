package metalink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/quorate/quorate"
)

const (
	// defaultAskEvery is how often the nodes are asked unless told otherwise.
	defaultAskEvery = 250 * time.Millisecond
	// helloTimeout bounds one hello.
	helloTimeout = 2 * time.Second
	// sayEvery is how often it is logged what is waited for.
	sayEvery = 10 * time.Second
)

// DiscoverConfig configures Discover.
type DiscoverConfig struct {
	// Port asks the others. Greeter answers them, and has the node's identity.
	Port    Port
	Greeter *Greeter
	// Addresses are where the nodes listen that cluster.join names; this node's
	// own may be among them.
	Addresses []string
	// Expect is how many nodes, this one included, must wait for a cluster
	// before one is founded: more than half of those that Addresses names. 0
	// founds none, unless Addresses names nobody either.
	Expect int
	// Every is how often the addresses are asked. Zero means 250 ms.
	Every time.Duration
	// Logger defaults to none.
	Logger *slog.Logger
}

// Decision is what Discover came to.
type Decision struct {
	// Found tells this node to found the cluster; nobody else does. Else it
	// joins Cluster, of whose metadata nodes Meta names some.
	Found   bool
	Cluster quorate.ClusterID
	Meta    []MetaNode
	// Leader leads the metadata group as far as somebody knows.
	Leader quorate.NodeID
}

// Discover finds out whether this node, which belongs to no cluster, is to join
// one or to found it. It asks the addresses until one of them answers for a
// cluster, or until enough nodes without state have promised to wait for this
// one, which then has the smallest name of all that it sees. It returns an
// error when ctx ends, or when what it was told cannot be right: Expect is no
// majority, two nodes go by one name, or two clusters answer. Errors of the
// latter sort are of kind Invalid.
func Discover(ctx context.Context, cfg DiscoverConfig) (Decision, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Every <= 0 {
		cfg.Every = defaultAskEvery
	}
	state := cfg.Greeter.cfg.State
	if len(cfg.Addresses) == 0 && cfg.Expect <= 1 && !state {
		// A promise that was made when it knew of others still binds it.
		if found, err := cfg.Greeter.found(); found || err != nil {
			return Decision{Found: found}, err
		}
	}
	if n := len(cfg.Addresses); cfg.Expect > 0 && 2*cfg.Expect <= n {
		return Decision{}, notMajority(cfg.Expect, n)
	}
	tick := time.NewTicker(cfg.Every)
	defer tick.Stop()
	said := time.Now().Add(cfg.Every - sayEvery)
	for {
		round := ask(ctx, cfg)
		// Who did not answer because ctx has ended is not gone.
		if ctx.Err() == nil {
			decision, done, err := round.decide(cfg)
			if done || err != nil {
				return decision, err
			}
		}
		if now := time.Now(); now.Sub(said) >= sayEvery {
			said = now
			cfg.Logger.Info("waiting for a cluster", "expect", cfg.Expect, "seen", round.names(), "promised_to", cfg.Greeter.promise().Name, "errors", errors.Join(round.errs...))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return Decision{}, quorate.Errorf(quorate.Unavailable, "no cluster was found: %w; seen %q, last errors: %w", context.Cause(ctx), round.names(), errors.Join(round.errs...))
		}
	}
}

func notMajority(expect, nodes int) error {
	return quorate.Errorf(quorate.Invalid,
		"cluster.expect of %d is not more than half of the %d nodes of cluster.join: two halves could both found a cluster; it must be at least %d", expect, nodes, nodes/2+1)
}

// round is what the addresses answered, once each.
type round struct {
	self quorate.NodeID
	// selfSeen tells that one of the addresses is this node's own.
	selfSeen bool
	hellos   []Hello // of others, each node once
	at       map[quorate.NodeID]string
	errs     []error
}

// ask asks all addresses at once.
func ask(ctx context.Context, cfg DiscoverConfig) round {
	r := round{self: cfg.Greeter.cfg.Self, at: make(map[quorate.NodeID]string)}
	promise := cfg.Greeter.promise()
	seeks := cfg.Expect > 0 && !cfg.Greeter.cfg.State && (promise == quorate.NodeID{} || promise == r.self)
	greeting := encodeGreeting(seeks)
	hellos := make([]Hello, len(cfg.Addresses))
	errs := make([]error, len(cfg.Addresses))
	var group sync.WaitGroup
	for i, address := range cfg.Addresses {
		group.Go(func() { hellos[i], errs[i] = greet(ctx, cfg.Port, address, greeting) })
	}
	group.Wait()
	for i, h := range hellos {
		if errs[i] != nil {
			r.errs = append(r.errs, errs[i])
			continue
		}
		if h.Node == r.self {
			r.selfSeen = true
			continue
		}
		if _, again := r.at[h.Node]; !again {
			r.at[h.Node] = cfg.Addresses[i]
			r.hellos = append(r.hellos, h)
		}
	}
	return r
}

// greet says hello to whoever listens at an address.
func greet(ctx context.Context, port Port, address string, greeting []byte) (Hello, error) {
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	b, err := port.CallAddress(ctx, address, methodHello, greeting)
	if err != nil {
		return Hello{}, err
	}
	h, err := decodeHello(b)
	if err != nil {
		return Hello{}, fmt.Errorf("hello of %s: %w", address, err)
	}
	return h, nil
}

func (r *round) names() []string {
	var names []string
	for _, h := range r.hellos {
		names = append(names, h.Node.Name)
	}
	slices.Sort(names)
	return names
}

// decide draws the conclusion of a round, if there is one.
func (r *round) decide(cfg DiscoverConfig) (d Decision, done bool, err error) {
	if err := r.checkNames(); err != nil {
		return Decision{}, false, err
	}
	if d, done, err = r.join(); done || err != nil {
		return d, done, err
	}
	if err := r.release(cfg.Greeter); err != nil {
		return Decision{}, false, err
	}
	if cfg.Expect == 0 || cfg.Greeter.cfg.State {
		return Decision{}, false, nil
	}
	promised := 1
	for _, h := range r.hellos {
		switch {
		case h.State:
		case h.Node.Name < r.self.Name:
			return Decision{}, false, nil // that one is to found
		case h.Promised == r.self:
			promised++
		}
	}
	if promised < cfg.Expect {
		return Decision{}, false, nil
	}
	nodes := len(cfg.Addresses)
	if !r.selfSeen {
		nodes++
	}
	if 2*cfg.Expect <= nodes {
		return Decision{}, false, notMajority(cfg.Expect, nodes)
	}
	found, err := cfg.Greeter.found()
	return Decision{Found: found}, found, err
}

// checkNames refuses two nodes of one name.
func (r *round) checkNames() error {
	seen := map[string]quorate.NodeID{r.self.Name: r.self}
	for _, h := range r.hellos {
		if other, ok := seen[h.Node.Name]; ok {
			return quorate.Errorf(quorate.Invalid, "two nodes go by the name %q: %s and %s; give each a node.name of its own", h.Node.Name, other, h.Node)
		}
		seen[h.Node.Name] = h.Node
	}
	return nil
}

// join returns the cluster that somebody answers for.
func (r *round) join() (d Decision, found bool, err error) {
	var witness quorate.NodeID
	for _, h := range r.hellos {
		if h.Cluster.IsZero() {
			continue
		}
		if found && h.Cluster != d.Cluster {
			return Decision{}, false, quorate.Errorf(quorate.Invalid, "cluster.join names nodes of two clusters: %s is in %s, and %s in %s", witness, d.Cluster, h.Node, h.Cluster)
		}
		found, witness, d.Cluster = true, h.Node, h.Cluster
		if h.Leader != (quorate.NodeID{}) {
			d.Leader = h.Leader
		}
		// The node itself knows where the leader is, if nothing else.
		for _, m := range append(slices.Clone(h.Meta), MetaNode{h.Node, r.at[h.Node]}) {
			if !slices.ContainsFunc(d.Meta, func(n MetaNode) bool { return n.ID == m.ID }) {
				d.Meta = append(d.Meta, m)
			}
		}
	}
	return d, found, nil
}

// release takes this node's promise back from one that will not found: it
// waits for another itself, or is another now, begun anew on an empty disk.
func (r *round) release(g *Greeter) error {
	to := g.promise()
	for _, h := range r.hellos {
		conceded := h.Node == to && h.Promised != (quorate.NodeID{}) && h.Promised != to
		replaced := h.Node.Name == to.Name && h.Node != to
		if conceded || replaced {
			return g.release(to)
		}
	}
	return nil
}
