package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/quorate/quorate"
)

// Port is a node's end of everything between nodes. It is safe for concurrent
// use.
type Port struct {
	cfg     Config
	logger  *slog.Logger
	metrics *metrics
	server  *grpc.Server
	address string

	// running ends with Close. It is kept because the lanes, which begin at
	// any time, live as long as the Port and not as whoever used them first.
	running context.Context
	stop    context.CancelCauseFunc
	// background holds the server and the lanes' goroutines. Lanes are added
	// under mu and never after closed, so that Close misses none.
	background sync.WaitGroup

	messages atomic.Pointer[MessageHandler]

	mu       sync.Mutex // guards what follows
	closed   bool
	handlers map[string]handler
	streams  map[string]StreamHandler
	nodes    map[quorate.NodeID]*node

	closeOnce sync.Once
}

// Handler answers a call. The request is the handler's to keep. The error's
// kind and RetryAfter reach the caller. The context ends when the caller gives
// up, as soon as that is known here.
type Handler = func(ctx context.Context, from quorate.NodeID, request []byte) ([]byte, error)

// StreamHandler answers a call with any number of elements. What send is given
// is free to be used again when send returns; send blocks while the caller
// takes nothing, and fails when the caller is gone. One goroutine calls it. The
// error ends the stream like that of a Handler.
type StreamHandler = func(ctx context.Context, from quorate.NodeID, request []byte, send func([]byte) error) error

// MessageHandler takes a message and answers it, at once or later, from any
// goroutine; answers after the first are dropped. Message and answer are the
// receiver's to keep. It is called in the order of sending, one message of a
// lane of a node at a time, and must not block for long: it holds up the
// messages behind.
type MessageHandler = func(from quorate.NodeID, message []byte, answer func([]byte))

type handler struct {
	handle   Handler
	stranger bool
}

// Open takes connections on the configured listener at once. Methods that
// nothing handles yet are answered with ErrStarting. The listener is closed
// with the Port, and when Open fails.
func Open(cfg Config) (*Port, error) {
	if err := cfg.Validate(); err != nil {
		return nil, errors.Join(err, closeListener(cfg.Listener))
	}
	cfg = cfg.withDefaults()
	p := &Port{
		cfg:      cfg,
		logger:   cfg.Logger,
		address:  cfg.Listener.Addr().String(),
		handlers: make(map[string]handler),
		streams:  make(map[string]StreamHandler),
		nodes:    make(map[quorate.NodeID]*node),
	}
	var err error
	if p.metrics, err = newMetrics(cfg.Registerer, p.connected); err != nil {
		return nil, errors.Join(fmt.Errorf("peer: register metrics: %w", err), closeListener(cfg.Listener))
	}
	p.running, p.stop = context.WithCancelCause(context.Background()) //nolint:forbidigo // Close ends it; no request's context lasts that long
	p.server = p.newServer()
	p.background.Go(p.serve)
	return p, nil
}

func closeListener(l net.Listener) error {
	if l == nil {
		return nil
	}
	return l.Close()
}

// Address returns the host:port on which the Port listens.
func (p *Port) Address() string { return p.address }

// Handle answers a method's calls from now on. A second handler of one method
// takes the first one's place.
func (p *Port) Handle(method string, h func(ctx context.Context, from quorate.NodeID, request []byte) ([]byte, error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handlers[method] = handler{handle: h}
}

// HandleStranger is Handle for a method that nodes without a cluster may call
// too, and that this node answers while it has none itself. From is then what
// the caller claims, under TLS with its certificate.
func (p *Port) HandleStranger(method string, h func(ctx context.Context, from quorate.NodeID, request []byte) ([]byte, error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handlers[method] = handler{handle: h, stranger: true}
}

// HandleStream answers a method's streams from now on.
func (p *Port) HandleStream(method string, h func(ctx context.Context, from quorate.NodeID, request []byte, send func([]byte) error) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.streams[method] = h
}

// HandleMessages takes the messages of other nodes' Send from now on.
func (p *Port) HandleMessages(h func(from quorate.NodeID, message []byte, answer func([]byte))) {
	p.messages.Store(&h)
}

func (p *Port) handler(method string) (handler, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h, ok := p.handlers[method]
	return h, ok
}

func (p *Port) streamHandler(method string) (StreamHandler, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h, ok := p.streams[method]
	return h, ok
}

// node returns what the Port has for another node; it fails once the Port is
// closed.
func (p *Port) node(id quorate.NodeID) (*node, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, notDone{ErrClosed}
	}
	n, ok := p.nodes[id]
	if !ok {
		n = newNode(p, id)
		p.nodes[id] = n
	}
	return n, nil
}

// connected counts the connections to others that stand.
func (p *Port) connected() float64 {
	p.mu.Lock()
	nodes := make([]*node, 0, len(p.nodes))
	for _, n := range p.nodes {
		nodes = append(nodes, n)
	}
	p.mu.Unlock()
	count := 0
	for _, n := range nodes {
		count += n.connected()
	}
	return float64(count)
}

// Close ends everything: calls and messages in flight fail, streams end, and
// handlers' contexts are cancelled and the handlers waited for. Whoever waits
// for another node is let go first, since a handler may be the one that waits.
// It is idempotent.
func (p *Port) Close() error {
	p.closeOnce.Do(func() {
		p.mu.Lock()
		p.closed = true
		nodes := p.nodes
		p.mu.Unlock()
		p.stop(ErrClosed)
		for _, n := range nodes {
			n.close()
		}
		p.server.Stop()
		p.background.Wait()
	})
	return nil
}
