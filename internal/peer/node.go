package peer

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/keepalive"

	"github.com/quorate/quorate"
)

const (
	// connectTimeout bounds one attempt to connect.
	connectTimeout = 3 * time.Second
	// A node that restarts is found again within the longest pause.
	shortestPause = 50 * time.Millisecond
	longestPause  = time.Second
	// idleAfter ends connections without a request, and the attempts to make
	// one to a node that nobody has asked for: it may never come back.
	idleAfter = time.Minute
)

// node is what a Port has for another node: a connection for each lane's
// messages, the last of which also carries calls and streams. Nothing connects
// before it is used.
type node struct {
	id    quorate.NodeID
	conns [laneCount]*conn
	lanes [laneCount]*lane
}

func newNode(p *Port, id quorate.NodeID) *node {
	n := &node{id: id}
	for i := range n.conns {
		n.conns[i] = &conn{port: p, to: id}
		n.lanes[i] = newLane(p, n.conns[i], id, uint8(i))
	}
	return n
}

// bulk carries calls and streams.
func (n *node) bulk() *conn { return n.conns[laneBulk] }

func (n *node) connected() int {
	count := 0
	for _, c := range n.conns {
		if c.connected() {
			count++
		}
	}
	return count
}

// close fails what is under way. The Port takes no more.
func (n *node) close() {
	for _, l := range n.lanes {
		l.close()
	}
	for _, c := range n.conns {
		c.close()
	}
}

// conn is one connection to a node at the address that the map has for it.
type conn struct {
	port *Port
	to   quorate.NodeID

	mu      sync.Mutex // guards what follows
	closed  bool
	address string
	client  *grpc.ClientConn
}

// get returns the connection, which gRPC makes when it is used. When the map
// has moved the node, what was under way at the old address fails: the node is
// not there any more.
func (c *conn) get() (*grpc.ClientConn, error) {
	address, ok := c.port.cfg.Resolve(c.to)
	if !ok {
		return nil, notDone{fmt.Errorf("%w: the map has no address of node %s", ErrUnreachable, c.to)}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, notDone{ErrClosed}
	}
	if c.client != nil && c.address == address {
		return c.client, nil
	}
	client, err := c.port.dial(address, c.to.Name)
	if err != nil {
		return nil, notDone{err}
	}
	if c.client != nil {
		_ = c.client.Close() // it only says that it was closed before
	}
	c.client, c.address = client, address
	return client, nil
}

func (c *conn) connected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.client != nil && c.client.GetState() == connectivity.Ready
}

func (c *conn) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.client != nil {
		_ = c.client.Close() // it only says that it was closed before
	}
}

// dial makes a client of an address, at which the node of a name answers; an
// empty name is any node's. It does not connect yet.
func (p *Port) dial(address, name string) (*grpc.ClientConn, error) {
	pauses := backoff.Config{BaseDelay: shortestPause, Multiplier: 1.6, Jitter: 0.2, MaxDelay: longestPause}
	// The target is no address, so that nothing but Dial looks at it.
	client, err := grpc.NewClient("passthrough:///node",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return p.cfg.Dial(ctx, address) }),
		grpc.WithAuthority("quorate"),
		grpc.WithTransportCredentials(clientCredentials(p.cfg.TLS, name, p.cfg.Cluster)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: pauses, MinConnectTimeout: connectTimeout}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingEvery, Timeout: deadAfter}),
		grpc.WithInitialWindowSize(streamWindow),
		grpc.WithInitialConnWindowSize(connectionWindow),
		grpc.WithIdleTimeout(idleAfter),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithDisableHealthCheck(),
		grpc.WithDefaultCallOptions(
			grpc.ForceCodecV2(codec{}),
			grpc.MaxCallRecvMsgSize(p.envelopeBytes()),
			grpc.MaxCallSendMsgSize(p.envelopeBytes()),
		),
	)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return client, nil
}
