package metalink

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/raftset"
)

var testCluster = quorate.ClusterID{0xc1}

func nodeID(name string) quorate.NodeID {
	return quorate.NodeID{Name: name, Incarnation: quorate.Incarnation{1}}
}

func address(name string) string { return name + ":9241" }

// pass lets virtual time pass.
func pass(d time.Duration) { <-time.NewTimer(d).C }

type (
	handler       = func(ctx context.Context, from quorate.NodeID, request []byte) ([]byte, error)
	streamHandler = func(ctx context.Context, from quorate.NodeID, request []byte, send func([]byte) error) error
)

// network carries calls between the ports of a test, in memory.
type network struct {
	mu    sync.Mutex // guards what follows, and the ports' fields
	ports map[string]*fakePort
	// cut are the pairs of nodes that do not reach each other.
	cut map[[2]string]bool
	// calls counts the calls that arrived, by method.
	calls map[string]int
	// dropAnswers are the nodes whose answers are lost.
	dropAnswers map[string]bool
	// hung are the nodes that take calls and never answer.
	hung map[string]bool
}

func newNetwork() *network {
	return &network{
		ports: make(map[string]*fakePort), cut: make(map[[2]string]bool), calls: make(map[string]int),
		dropAnswers: make(map[string]bool), hung: make(map[string]bool),
	}
}

func (n *network) set(change func(*network)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(n)
}

func (n *network) count(method string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.calls[method]
}

// separate cuts a node off from others.
func (n *network) separate(name string, others ...string) {
	n.set(func(n *network) {
		for _, o := range others {
			n.cut[[2]string{name, o}], n.cut[[2]string{o, name}] = true, true
		}
	})
}

func (n *network) heal() { n.set(func(n *network) { clear(n.cut) }) }

// fakePort is a node's Port on the network.
type fakePort struct {
	net      *network
	self     quorate.NodeID
	handlers map[string]handler
	streams  map[string]streamHandler
	down     bool
}

// join puts a new port on the network, in place of any other of its name.
func (n *network) join(self quorate.NodeID) *fakePort {
	p := &fakePort{net: n, self: self, handlers: make(map[string]handler), streams: make(map[string]streamHandler)}
	n.set(func(n *network) { n.ports[address(self.Name)] = p })
	return p
}

func (p *fakePort) Handle(method string, h handler) {
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	p.handlers[method] = h
}

func (p *fakePort) HandleStranger(method string, h handler) { p.Handle(method, h) }

func (p *fakePort) HandleStream(method string, h streamHandler) {
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	p.streams[method] = h
}

type undone struct{ error }

func (undone) NotDone() bool { return true }

// reach finds the port at an address.
func (p *fakePort) reach(to string) (*fakePort, error) {
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	other, ok := p.net.ports[to]
	if !ok || other.down || p.net.cut[[2]string{p.self.Name, other.self.Name}] {
		return nil, undone{quorate.Errorf(quorate.Unavailable, "%s cannot be reached", to)}
	}
	return other, nil
}

func (p *fakePort) Call(ctx context.Context, to quorate.NodeID, method string, request []byte) ([]byte, error) {
	return p.CallAddress(ctx, address(to.Name), method, request)
}

func (p *fakePort) CallAddress(ctx context.Context, to, method string, request []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, undone{quorate.Errorf(quorate.Unavailable, "%w", err)}
	}
	other, err := p.reach(to)
	if err != nil {
		return nil, err
	}
	p.net.mu.Lock()
	h, hung, drop := other.handlers[method], p.net.hung[other.self.Name], p.net.dropAnswers[other.self.Name]
	p.net.calls[method]++
	p.net.mu.Unlock()
	switch {
	case hung:
		<-ctx.Done()
		return nil, quorate.Errorf(quorate.Unavailable, "%w", context.Cause(ctx))
	case h == nil:
		return nil, undone{quorate.Errorf(quorate.Unavailable, "%s is starting", to)}
	}
	answer, err := h(ctx, p.self, append([]byte(nil), request...))
	if drop {
		return nil, quorate.Errorf(quorate.Unavailable, "the answer of %s was lost", to)
	}
	return answer, err
}

func (p *fakePort) Stream(ctx context.Context, to quorate.NodeID, method string, request []byte) (func() ([]byte, error), error) {
	other, err := p.reach(address(to.Name))
	if err != nil {
		return nil, err
	}
	p.net.mu.Lock()
	h := other.streams[method]
	p.net.mu.Unlock()
	if h == nil {
		return nil, undone{quorate.Errorf(quorate.Unavailable, "%s is starting", to.Name)}
	}
	ctx, cancel := context.WithCancel(ctx)
	elements := make(chan []byte)
	var ended error
	go func() {
		defer cancel()
		defer close(elements)
		ended = h(ctx, p.self, request, func(b []byte) error {
			for {
				if _, err := p.reach(address(to.Name)); err == nil {
					break
				} else if pause(ctx, 10*time.Millisecond) != nil {
					return ctx.Err()
				}
			}
			select {
			case elements <- append([]byte(nil), b...):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	return func() ([]byte, error) {
		select {
		case b, ok := <-elements:
			if ok {
				return b, nil
			}
			if ended == nil {
				ended = io.EOF
			}
			return nil, ended
		case <-ctx.Done():
			return nil, quorate.Errorf(quorate.Unavailable, "%w", context.Cause(ctx))
		}
	}, nil
}

func pause(ctx context.Context, d time.Duration) error { return wait(ctx, d) }

// ensemble is a metadata group of a test: one log, applied by every replica
// that does not lag.
type ensemble struct {
	mu      sync.Mutex // guards what follows, and the replicas' fields
	encoder wire.Encoder
	index   uint64
	leader  quorate.NodeID
	members []*fakeGroup
	// failure is what a proposal is answered with after it was applied.
	failure error
}

// fakeGroup is one replica of an ensemble.
type fakeGroup struct {
	group   *ensemble
	self    quorate.NodeID
	machine *metasvc.StateMachine
	applied uint64
	lags    bool
	waiting []quorate.LogEntry
	// known is whom it takes for the leader, when that is not so.
	known *quorate.NodeID
}

func newEnsemble() *ensemble { return &ensemble{index: 1} }

func (e *ensemble) set(change func(*ensemble)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change(e)
}

// replica adds a replica to the group.
func (e *ensemble) replica(t testing.TB, self quorate.NodeID) *fakeGroup {
	t.Helper()
	g := &fakeGroup{group: e, self: self, machine: newMachine(t), applied: 1}
	e.set(func(e *ensemble) { e.members = append(e.members, g) })
	return g
}

// newMachine returns a state machine at the genesis.
func newMachine(t testing.TB) *metasvc.StateMachine {
	t.Helper()
	m := metasvc.NewStateMachine(metasvc.StateMachineConfig{})
	if err := m.Open(t.Context(), nil, 1); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// elect makes a node the leader, which in a real group fences: an entry that no
// state machine sees.
func (e *ensemble) elect(id quorate.NodeID) {
	e.set(func(e *ensemble) {
		e.leader = id
		e.index++
		for _, g := range e.members {
			if !g.lags {
				g.applied = e.index
			}
		}
	})
}

func (g *fakeGroup) Leadership() (uint64, bool) {
	g.group.mu.Lock()
	defer g.group.mu.Unlock()
	return 1, g.group.leader == g.self
}

func (g *fakeGroup) Status() raftset.Status {
	g.group.mu.Lock()
	defer g.group.mu.Unlock()
	s := raftset.Status{AppliedIndex: g.applied}
	leader := g.group.leader
	if g.known != nil {
		leader = *g.known
	}
	if leader != (quorate.NodeID{}) {
		s.Leader = raftset.Member{Node: leader, Replica: 1}
	}
	return s
}

func (g *fakeGroup) Propose(ctx context.Context, kind wire.Kind, command []byte) (any, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if kind != wire.KindMeta {
		return nil, errors.New("not a metadata command")
	}
	if err := g.notLeader(); err != nil {
		return nil, err
	}
	e := g.group
	e.mu.Lock()
	defer e.mu.Unlock()
	e.index++
	entry := quorate.LogEntry{Index: e.index, Term: 1, Data: e.encoder.Append(nil, kind, command)}
	var result any
	for _, m := range e.members {
		if m.lags {
			m.waiting = append(m.waiting, entry)
			continue
		}
		results, err := m.machine.ApplyBatch([]quorate.LogEntry{entry})
		if err != nil {
			return nil, err
		}
		m.applied = e.index
		if m == g {
			result = results[0][0]
		}
	}
	if e.failure != nil {
		return nil, e.failure
	}
	return result, nil
}

// catchUp ends a replica's lag.
func (g *fakeGroup) catchUp(t testing.TB) {
	t.Helper()
	g.group.mu.Lock()
	defer g.group.mu.Unlock()
	g.lags = false
	if _, err := g.machine.ApplyBatch(g.waiting); err != nil {
		t.Error(err)
	}
	g.waiting, g.applied = nil, g.group.index
}

func (g *fakeGroup) notLeader() error {
	if _, leads := g.Leadership(); leads {
		return nil
	}
	return &quorate.Error{Kind: quorate.Unavailable, Err: &raftset.NotLeaderError{Leader: g.Status().Leader}}
}

func (g *fakeGroup) ConfirmRead(ctx context.Context) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return 1, g.notLeader()
}

func (g *fakeGroup) Seed() []byte { return []byte("seed of " + g.self.Name) }

// city is a cluster of a test: three nodes with a metadata replica, n1 to n3,
// and whoever else joins.
type city struct {
	t     *testing.T
	net   *network
	group *ensemble
	links map[string]*member
}

// member is a node of a city.
type member struct {
	*Link
	port    *fakePort
	replica *fakeGroup
	machine *metasvc.StateMachine
	beats   *metasvc.Heartbeats
	client  atomic.Pointer[metasvc.Client]
}

func newCity(t *testing.T) *city {
	t.Helper()
	c := &city{t: t, net: newNetwork(), group: newEnsemble(), links: make(map[string]*member)}
	for _, name := range []string{"n1", "n2", "n3"} {
		replica := c.group.replica(t, nodeID(name))
		m := c.open(name, replica.machine)
		m.replica = replica
		m.Attach(replica, replica.machine, nil)
	}
	c.group.elect(nodeID("n1"))
	_, err := c.links["n1"].Propose(t.Context(), metasvc.EncodeCommand(metasvc.Bootstrap{
		Cluster: testCluster, Created: 1, Node: spec("n1"), MetaReplica: 1,
	}))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"n2", "n3"} {
		if _, err := c.links[name].Join(t.Context(), spec(name)); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func spec(name string) metasvc.NodeSpec {
	return metasvc.NodeSpec{ID: nodeID(name), Roles: metasvc.AllRoles, Address: address(name)}
}

// open opens a node's link, without a replica.
func (c *city) open(name string, machine *metasvc.StateMachine, options ...func(*Config)) *member {
	c.t.Helper()
	m := &member{port: c.net.join(nodeID(name)), machine: machine, beats: new(metasvc.Heartbeats)}
	cfg := Config{
		Self: nodeID(name), Port: m.port, Machine: machine, Beats: m.beats,
		Map: func() *metasvc.Map {
			if client := m.client.Load(); client != nil {
				return client.Map()
			}
			return nil
		},
		Meta: []MetaNode{{nodeID("n1"), address("n1")}, {nodeID("n2"), address("n2")}, {nodeID("n3"), address("n3")}},
	}
	for _, o := range options {
		o(&cfg)
	}
	var err error
	if m.Link, err = Open(cfg); err != nil {
		c.t.Fatal(err)
	}
	c.links[name] = m
	return m
}

// newcomer opens a node without a replica that follows the metadata.
func (c *city) newcomer(name string, options ...func(*Config)) *member {
	c.t.Helper()
	m := c.open(name, newMachine(c.t), options...)
	c.start(m.Follow)
	return m
}

// start runs something until the test ends.
func (c *city) start(run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	c.t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			c.t.Errorf("want it to end by its context, got %v", err)
		}
	})
}

// createTenant is a command that always succeeds.
func createTenant(name string) []byte {
	name = strings.ReplaceAll(name, " ", "-")
	return metasvc.EncodeCommand(metasvc.CreateTenant{Name: name, Policy: 1, Created: 1})
}

func (c *city) createPolicy() {
	c.t.Helper()
	result, err := c.links["n1"].Propose(c.t.Context(), metasvc.EncodeCommand(metasvc.CreatePolicy{Policy: metasvc.DefaultPolicy()}))
	if err != nil {
		c.t.Fatal(err)
	}
	if r, ok := result.(metasvc.PolicyResult); !ok || r.Policy != 1 {
		c.t.Fatalf("policy: got %v", result)
	}
}

func mustTenant(t testing.TB, result any, err error) metasvc.TenantResult {
	t.Helper()
	r, ok := result.(metasvc.TenantResult)
	if err != nil || !ok {
		t.Fatalf("want a tenant, got %v (%T), %v", result, result, err)
	}
	return r
}

func wantUnavailable(t testing.TB, err error) {
	t.Helper()
	if err == nil || quorate.KindOf(err) != quorate.Unavailable {
		t.Errorf("want an error of kind unavailable, got %v", err)
	}
}
