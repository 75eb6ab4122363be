package router

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/quorate/quorate"
)

var (
	errDown = quorate.Errorf(quorate.Unavailable, "the node cannot be reached")
	errCut  = quorate.Errorf(quorate.Unavailable, "the connection broke")
)

// network carries what routers of one process say to each other.
type network struct {
	t     testing.TB
	mu    sync.Mutex
	ports map[quorate.NodeID]*port
	// calls counts requests by method.
	calls map[string]int
	// harm, if not nil, is asked about each request, with n 0, and each message
	// n of a stream that goes back: its error is the connection's.
	harm func(ctx context.Context, to quorate.NodeID, method string, n int) error
	wait sync.WaitGroup
}

func newNetwork(t testing.TB) *network {
	t.Helper()
	n := &network{t: t, ports: make(map[quorate.NodeID]*port), calls: make(map[string]int)}
	t.Cleanup(n.wait.Wait)
	return n
}

// port is one node's: its Peers, and the Handlers of its router.
type port struct {
	network *network
	node    quorate.NodeID
	calls   map[string]func(context.Context, quorate.NodeID, []byte) ([]byte, error)
	streams map[string]func(context.Context, quorate.NodeID, []byte, func([]byte) error) error

	// Guarded by the network's mu. Up is closed when the node goes down.
	up   chan struct{}
	down bool
}

func (n *network) port(node quorate.NodeID) *port {
	p := &port{
		network: n, node: node, up: make(chan struct{}),
		calls:   make(map[string]func(context.Context, quorate.NodeID, []byte) ([]byte, error)),
		streams: make(map[string]func(context.Context, quorate.NodeID, []byte, func([]byte) error) error),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ports[node] = p
	return p
}

// setDown cuts a node off, with all connections to it, or brings it back.
func (n *network) setDown(node quorate.NodeID, down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.ports[node]
	if p.down == down {
		return
	}
	if p.down = down; down {
		close(p.up)
	} else {
		p.up = make(chan struct{})
	}
}

// setHarm changes what is harmed; nil is nothing.
func (n *network) setHarm(harm func(ctx context.Context, to quorate.NodeID, method string, n int) error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.harm = harm
}

func (n *network) harmed(ctx context.Context, to quorate.NodeID, method string, message int) error {
	n.mu.Lock()
	harm := n.harm
	n.mu.Unlock()
	if harm == nil {
		return nil
	}
	return harm(ctx, to, method, message)
}

// called returns how many requests of a method there were.
func (n *network) called(method string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.calls[method]
}

// reach begins a request: up is closed when the node goes down.
func (n *network) reach(ctx context.Context, from *port, to quorate.NodeID, method string) (p *port, up chan struct{}, err error) {
	n.mu.Lock()
	n.calls[method]++
	p = n.ports[to]
	if p == nil || p.down || from.down {
		n.mu.Unlock()
		return nil, nil, errDown
	}
	up = p.up
	n.mu.Unlock()
	return p, up, n.harmed(ctx, to, method, 0)
}

// overWire keeps of an error what crosses the wire.
func overWire(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return quorate.Errorf(quorate.Unavailable, "remote: %s", err.Error())
	}
	return quorate.Errorf(quorate.KindOf(err), "remote: %s", err.Error())
}

// Handle implements Handlers.
func (p *port) Handle(method string, h func(context.Context, quorate.NodeID, []byte) ([]byte, error)) {
	p.calls[method] = h
}

// HandleStream implements Handlers.
func (p *port) HandleStream(method string, h func(context.Context, quorate.NodeID, []byte, func([]byte) error) error) {
	p.streams[method] = h
}

// life is the context of a handler: it ends with the caller's patience, and with
// the node.
func life(ctx context.Context, up chan struct{}) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		select {
		case <-up:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// Call implements Peers.
func (p *port) Call(ctx context.Context, to quorate.NodeID, method string, req []byte) ([]byte, error) {
	other, up, err := p.network.reach(ctx, p, to, method)
	if err != nil {
		return nil, err
	}
	type answer struct {
		b   []byte
		err error
	}
	answers := make(chan answer, 1)
	handling, cancel := life(ctx, up)
	req = bytes.Clone(req)
	p.network.wait.Go(func() {
		b, err := other.calls[method](handling, p.node, req)
		answers <- answer{bytes.Clone(b), err}
	})
	defer cancel()
	select {
	case a := <-answers:
		if err := p.network.harmed(ctx, to, method, 1); err != nil {
			return nil, err
		}
		if a.err != nil {
			return nil, overWire(a.err)
		}
		return a.b, nil
	case <-up:
		return nil, errCut
	case <-ctx.Done():
		return nil, quorate.Errorf(quorate.Unavailable, "%w", ctx.Err())
	}
}

// Stream implements Peers.
func (p *port) Stream(ctx context.Context, to quorate.NodeID, method string, req []byte) (func() ([]byte, error), error) {
	other, up, err := p.network.reach(ctx, p, to, method)
	if err != nil {
		return nil, err
	}
	handling, cancel := life(ctx, up)
	stop := context.AfterFunc(ctx, cancel)
	type element struct {
		b   []byte
		err error
	}
	elements := make(chan element, 1)
	req = bytes.Clone(req)
	p.network.wait.Go(func() {
		defer cancel()
		defer stop()
		err := other.streams[method](handling, p.node, req, func(b []byte) error {
			select {
			case elements <- element{b: bytes.Clone(b)}:
				return nil
			case <-handling.Done():
				return handling.Err()
			}
		})
		if err == nil {
			err = io.EOF
		} else {
			err = overWire(err)
		}
		select {
		case elements <- element{err: err}:
		case <-handling.Done():
		}
	})
	n := 0
	var ended error
	return func() ([]byte, error) {
		if ended != nil {
			return nil, ended
		}
		n++
		if ended = p.network.harmed(ctx, to, method, n); ended != nil {
			cancel()
			return nil, ended
		}
		select {
		case e := <-elements:
			ended = e.err
			return e.b, e.err
		default:
		}
		select {
		case e := <-elements:
			ended = e.err
			return e.b, e.err
		case <-up:
			ended = errCut
		case <-ctx.Done():
			ended = quorate.Errorf(quorate.Unavailable, "%w", ctx.Err())
		}
		return nil, ended
	}, nil
}
