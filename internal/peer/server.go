package peer

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/quorate/quorate"
)

const (
	serviceName    = "quorate.Node"
	methodMessages = "Messages"
	methodCall     = "Call"
	methodStream   = "Stream"
)

const (
	// A window holds a few of the largest log entries that are usual, so that
	// one message does not wait for the other side's permission in its middle.
	streamWindow     = 4 << 20
	connectionWindow = 16 << 20
	// maxStreams bounds the calls under way on one connection; more wait.
	maxStreams = 4096

	// What TCP does to notice a dead machine: it asks an idle connection after
	// tcpIdle and then every tcpProbe, and gives up after tcpProbes unanswered
	// probes, or when what was sent stays unacknowledged for deadAfter.
	tcpIdle   = time.Second
	tcpProbe  = time.Second
	tcpProbes = 2
	deadAfter = 3 * time.Second
	// pingEvery is how often HTTP/2 asks an idle connection, by which a process
	// that hangs on a machine that lives is noticed. gRPC allows a client no
	// less; callers bound what they wait for by their context.
	pingEvery = 10 * time.Second
)

// newServer makes the gRPC server with the one service. The description is
// written by hand: there is nothing to generate from.
func (p *Port) newServer() *grpc.Server {
	s := grpc.NewServer(
		grpc.Creds(serverCredentials(p.cfg.TLS)),
		grpc.ForceServerCodecV2(codec{}),
		// An envelope stands round each message.
		grpc.MaxRecvMsgSize(p.envelopeBytes()),
		grpc.MaxSendMsgSize(p.envelopeBytes()),
		grpc.InitialWindowSize(streamWindow),
		grpc.InitialConnWindowSize(connectionWindow),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(p.cfg.HandshakeTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingEvery, Timeout: deadAfter}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingEvery / 2, PermitWithoutStream: true}),
		grpc.WaitForHandlers(true),
	)
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: serviceName,
		Methods:     []grpc.MethodDesc{{MethodName: methodCall, Handler: p.serveCall}},
		Streams: []grpc.StreamDesc{
			{StreamName: methodStream, Handler: p.serveStream, ServerStreams: true},
			{StreamName: methodMessages, Handler: p.serveMessages, ServerStreams: true, ClientStreams: true},
		},
	}, nil)
	return s
}

// envelopeBytes bounds what carries one message.
func (p *Port) envelopeBytes() int {
	return min(p.cfg.MaxMessageBytes, math.MaxInt32-coalesceBytes-maxErrorText) + coalesceBytes + maxErrorText
}

func (p *Port) serve() {
	listener := netutil.LimitListener(patientListener{p.cfg.Listener}, p.cfg.MaxConnections)
	err := p.server.Serve(countingListener{listener, p.metrics})
	if err != nil && p.running.Err() == nil {
		p.logger.Error("port between nodes stopped listening", "address", p.address, "err", err)
	}
}

// patientListener accepts connections that notice a dead machine, and does not
// end with one that failed before it was accepted.
type patientListener struct{ net.Listener }

// Accept implements net.Listener.
func (l patientListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if tcp, ok := c.(*net.TCPConn); ok && err == nil {
		// A connection on which this fails is dead already.
		_ = tcp.SetKeepAliveConfig(tcpKeepAlive())
	}
	return c, err
}

func tcpKeepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: tcpIdle, Interval: tcpProbe, Count: tcpProbes}
}

// countingListener counts the connections that it has accepted and that are
// open.
type countingListener struct {
	net.Listener
	metrics *metrics
}

// Accept implements net.Listener.
func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.metrics.inbound.Inc()
	return &countedConn{Conn: c, closed: sync.OnceFunc(l.metrics.inbound.Dec)}, nil
}

type countedConn struct {
	net.Conn
	closed func()
}

// Close implements net.Conn.
func (c *countedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

// greet judges a request's handshake: who asks, and whether it gets no further
// than strangers may.
func (p *Port) greet(ctx context.Context) (from quorate.NodeID, stranger bool, err error) {
	md, _ := metadata.FromIncomingContext(ctx)
	h, err := helloOf(md)
	if err == nil {
		err = p.identify(ctx, h)
	}
	if err == nil {
		stranger, err = h.judge(p.cfg.Self, p.cfg.Cluster())
	}
	if err != nil {
		p.metrics.refused.Inc()
		return quorate.NodeID{}, false, status.Error(codes.FailedPrecondition, err.Error())
	}
	return h.from, stranger, nil
}

// identify checks that the certificate which the connection showed is that of
// the node which the request claims to come from.
func (p *Port) identify(ctx context.Context, h hello) error {
	if p.cfg.TLS == nil {
		return nil
	}
	cert, err := certificateOf(ctx)
	if err != nil {
		return err
	}
	return checkName(cert, h.from.Name, p.cfg.Cluster())
}

func certificateOf(ctx context.Context) (*x509.Certificate, error) {
	caller, ok := grpcpeer.FromContext(ctx)
	if !ok {
		return nil, errors.New("the connection is not known")
	}
	info, ok := caller.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return nil, errors.New("the connection showed no certificate")
	}
	return info.State.PeerCertificates[0], nil
}

// serveCall is the gRPC handler of unary calls.
func (p *Port) serveCall(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) { //nolint:revive // gRPC says where the context stands
	from, stranger, err := p.greet(ctx)
	if err != nil {
		return nil, err
	}
	var in incoming
	if err := decode(&in); err != nil {
		return nil, err
	}
	method, request, err := decodeRequest(in.b)
	if err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	h, ok := p.handler(method)
	switch {
	case !ok:
		p.metrics.handled.WithLabelValues("unknown", outcomeStarting).Inc()
		return reply(encodeError(replyStarting, fmt.Errorf("%w: nothing handles %q", ErrStarting, method))), nil
	case stranger && !h.stranger:
		p.metrics.refused.Inc()
		return nil, status.Errorf(codes.FailedPrecondition, "%q is not for nodes without a cluster", method)
	}
	body, err := p.call(ctx, method, h.handle, from, request)
	if err == nil && len(body) > p.cfg.MaxMessageBytes {
		err = fmt.Errorf("the answer to %q has %d bytes, over the limit of %d", method, len(body), p.cfg.MaxMessageBytes)
	}
	p.metrics.handled.WithLabelValues(method, outcomeOf(err)).Inc()
	if err != nil {
		return reply(encodeError(replyError, err)), nil
	}
	return &outgoing{mem.BufferSlice{mem.SliceBuffer{replyData}, mem.SliceBuffer(body)}}, nil
}

func reply(b []byte) *outgoing { return &outgoing{mem.BufferSlice{mem.SliceBuffer(b)}} }

// call runs a handler. One that panics has failed, and nothing else has.
func (p *Port) call(ctx context.Context, method string, h Handler, from quorate.NodeID, request []byte) (body []byte, err error) {
	defer p.recovered(method, &err)
	return h(ctx, from, request)
}

// recovered makes a panic an error.
func (p *Port) recovered(method string, err *error) {
	if r := recover(); r != nil {
		p.logger.Error("handler of another node's request panicked", "method", method, "panic", r, "stack", string(debug.Stack()))
		*err = quorate.Errorf(quorate.Internal, "handler of %q panicked: %v", method, r)
	}
}

// serveStream is the gRPC handler of calls that are answered by a stream.
func (p *Port) serveStream(_ any, stream grpc.ServerStream) error {
	ctx := stream.Context()
	from, stranger, err := p.greet(ctx)
	if err != nil {
		return err
	}
	if stranger {
		p.metrics.refused.Inc()
		return status.Error(codes.FailedPrecondition, "streams are not for nodes without a cluster")
	}
	var in incoming
	if err := stream.RecvMsg(&in); err != nil {
		return err
	}
	method, request, err := decodeRequest(in.b)
	if err != nil {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	h, ok := p.streamHandler(method)
	if !ok {
		p.metrics.handled.WithLabelValues("unknown", outcomeStarting).Inc()
		return stream.SendMsg(reply(encodeError(replyStarting, fmt.Errorf("%w: nothing handles %q", ErrStarting, method))))
	}
	err = p.stream(stream, method, h, from, request)
	p.metrics.handled.WithLabelValues(method, outcomeOf(err)).Inc()
	if err != nil {
		return stream.SendMsg(reply(encodeError(replyError, err)))
	}
	return nil
}

// stream runs a handler of a stream.
func (p *Port) stream(stream grpc.ServerStream, method string, h StreamHandler, from quorate.NodeID, request []byte) (err error) {
	defer p.recovered(method, &err)
	return h(stream.Context(), from, request, func(element []byte) error {
		if len(element) > p.cfg.MaxMessageBytes {
			return quorate.Errorf(quorate.Internal, "an element of %q has %d bytes, over the limit of %d", method, len(element), p.cfg.MaxMessageBytes)
		}
		// gRPC reads the bytes after SendMsg has returned.
		err := stream.SendMsg(&outgoing{mem.BufferSlice{mem.SliceBuffer{replyData}, copied(element)}})
		if err != nil {
			return transportError(stream.Context(), err)
		}
		return nil
	})
}
