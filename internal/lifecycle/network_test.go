package lifecycle

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/raftset"
)

var (
	errDown    = quorate.Errorf(quorate.Unavailable, "the node is down")
	errTimeout = errors.New("no answer in time")
)

// network carries what nodes of one process say to each other.
type network struct {
	mu    sync.Mutex
	ports map[quorate.NodeID]*port
	lanes map[laneKey]chan func()
	wait  sync.WaitGroup
	// harm, if not nil, changes what a stream carries.
	harm func(from, to quorate.NodeID, message []byte) []byte
	over bool
	// stalled are nodes whose log entries do not leave, while all else does.
	stalled map[quorate.NodeID]bool
}

type laneKey struct {
	from, to quorate.NodeID
	lane     uint8
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	n := &network{ports: make(map[quorate.NodeID]*port), lanes: make(map[laneKey]chan func())}
	t.Cleanup(func() {
		n.mu.Lock()
		n.over = true
		for _, l := range n.lanes {
			close(l)
		}
		n.mu.Unlock()
		n.wait.Wait()
	})
	return n
}

// port is one node's. It is the node's raftset.Messenger, Peers and Handlers.
type port struct {
	network *network
	node    quorate.NodeID

	// Guarded by the network's.
	host    *raftset.Host // nil while the node is down
	calls   map[string]func(context.Context, quorate.NodeID, []byte) ([]byte, error)
	streams map[string]func(context.Context, quorate.NodeID, []byte, func([]byte) error) error
}

func (n *network) port(node quorate.NodeID) *port {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := &port{network: n, node: node}
	n.ports[node] = p
	return p
}

// attach puts a node on the network, nil takes it off.
func (p *port) attach(host *raftset.Host) {
	p.network.mu.Lock()
	defer p.network.mu.Unlock()
	p.host = host
	p.calls = make(map[string]func(context.Context, quorate.NodeID, []byte) ([]byte, error))
	p.streams = make(map[string]func(context.Context, quorate.NodeID, []byte, func([]byte) error) error)
}

// reach returns the port of another node, nil when it cannot be reached.
func (p *port) reach(to quorate.NodeID) *port {
	p.network.mu.Lock()
	defer p.network.mu.Unlock()
	other := p.network.ports[to]
	if other == nil || other.host == nil {
		return nil
	}
	return other
}

func (p *port) hostOf() *raftset.Host {
	p.network.mu.Lock()
	defer p.network.mu.Unlock()
	return p.host
}

// Send implements raftset.Messenger.
func (p *port) Send(to quorate.NodeID, lane uint8, message []byte, timeout time.Duration, done func([]byte, error)) {
	var once sync.Once
	finish := func(answer []byte, err error) { once.Do(func() { done(answer, err) }) }
	timer := time.AfterFunc(timeout, func() { finish(nil, errTimeout) })
	deliver := func() {
		other := p.reach(to)
		if other == nil {
			timer.Stop()
			finish(nil, errDown)
			return
		}
		host := other.hostOf()
		if host == nil {
			return // the timer tells
		}
		host.Deliver(p.node, message, func(answer []byte) {
			timer.Stop()
			if p.reach(to) == nil { // the connection broke
				finish(nil, errDown)
				return
			}
			finish(bytes.Clone(answer), nil)
		})
	}
	n := p.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.over {
		return
	}
	if n.stalled[p.node] && lane == raftset.LaneData {
		return
	}
	key := laneKey{from: p.node, to: to, lane: lane}
	queue := n.lanes[key]
	if queue == nil {
		queue = make(chan func(), 10_000)
		n.lanes[key] = queue
		n.wait.Go(func() {
			for f := range queue {
				f()
			}
		})
	}
	select {
	case queue <- deliver:
	default: // lost
	}
}

// Handle implements Handlers.
func (p *port) Handle(method string, h func(context.Context, quorate.NodeID, []byte) ([]byte, error)) {
	p.network.mu.Lock()
	defer p.network.mu.Unlock()
	p.calls[method] = h
}

// HandleStream implements Handlers.
func (p *port) HandleStream(method string, h func(context.Context, quorate.NodeID, []byte, func([]byte) error) error) {
	p.network.mu.Lock()
	defer p.network.mu.Unlock()
	p.streams[method] = h
}

// Call implements Peers.
func (p *port) Call(ctx context.Context, to quorate.NodeID, method string, req []byte) ([]byte, error) {
	other := p.reach(to)
	if other == nil {
		return nil, errDown
	}
	p.network.mu.Lock()
	h := other.calls[method]
	p.network.mu.Unlock()
	if h == nil {
		return nil, errDown
	}
	return h(ctx, p.node, req)
}

// Stream implements Peers.
func (p *port) Stream(ctx context.Context, to quorate.NodeID, method string, req []byte) (func() ([]byte, error), error) {
	other := p.reach(to)
	if other == nil {
		return nil, errDown
	}
	p.network.mu.Lock()
	h, harm := other.streams[method], p.network.harm
	p.network.mu.Unlock()
	if h == nil {
		return nil, errDown
	}
	messages, result := make(chan []byte), make(chan error, 1)
	p.network.wait.Go(func() {
		defer close(messages)
		result <- h(ctx, p.node, req, func(message []byte) error {
			message = bytes.Clone(message)
			if harm != nil {
				message = harm(to, p.node, message)
			}
			if p.reach(to) == nil {
				return errDown
			}
			select {
			case messages <- message:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	return func() ([]byte, error) {
		select {
		case m, ok := <-messages:
			if ok {
				return m, nil
			}
			if err := <-result; err != nil {
				return nil, err
			}
			return nil, io.EOF
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}, nil
}
