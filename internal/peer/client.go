package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"

	"github.com/quorate/quorate"
)

// Call asks another node and returns its answer, which is the caller's to
// keep. The request may be used again when Call returns. An error of the
// handler keeps its kind and RetryAfter and wraps a *RemoteError; any other is
// of kind Unavailable (TooLarge for a request over the limit), and what was
// asked may or may not have been done. An error in whose chain there is a
//
//	interface{ NotDone() bool }
//
// tells that it was not: such a request may be sent elsewhere.
func (p *Port) Call(ctx context.Context, to quorate.NodeID, method string, request []byte) ([]byte, error) {
	n, err := p.node(to)
	if err != nil {
		return nil, callError(to.Name, method, err)
	}
	client, err := n.bulk().get()
	if err != nil {
		p.metrics.calls.WithLabelValues(method, outcomeOf(err)).Inc()
		return nil, callError(to.Name, method, err)
	}
	return p.callOn(ctx, client, to.Name, to, method, request)
}

// CallAddress is Call for a node of which no more is known than where it
// listens. It makes a connection of its own. With TLS, any node's certificate
// will do.
func (p *Port) CallAddress(ctx context.Context, address, method string, request []byte) ([]byte, error) {
	if p.running.Err() != nil {
		return nil, callError(address, method, notDone{ErrClosed})
	}
	client, err := p.dial(address, "")
	if err != nil {
		return nil, callError(address, method, err)
	}
	defer func() { _ = client.Close() }() // it only says that it was closed before
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(p.running, func() { cancel(ErrClosed) })() //nolint:contextcheck // the port's end ends the call as well
	return p.callOn(ctx, client, address, quorate.NodeID{}, method, request)
}

func (p *Port) callOn(ctx context.Context, client *grpc.ClientConn, name string, to quorate.NodeID, method string, request []byte) ([]byte, error) {
	start := time.Now()
	answer, err := p.exchange(ctx, client, name, to, method, request)
	p.metrics.callSeconds.Observe(time.Since(start).Seconds())
	p.metrics.calls.WithLabelValues(method, outcomeOf(err)).Inc()
	if err != nil {
		return nil, callError(name, method, err)
	}
	return answer, nil
}

// callError names what failed. A remote error names its node itself.
func callError(node, method string, err error) error {
	if remote := (*RemoteError)(nil); errors.As(err, &remote) {
		return fmt.Errorf("call %s: %w", method, err)
	}
	return fmt.Errorf("call %s of node %s: %w", method, node, err)
}

// exchange is one unary call. It is spelled out, rather than left to
// ClientConn.Invoke, to tell a request that never left.
func (p *Port) exchange(ctx context.Context, client *grpc.ClientConn, name string, to quorate.NodeID, method string, request []byte) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := p.begin(ctx, client, to, &grpc.StreamDesc{StreamName: methodCall}, method, request)
	if err != nil {
		return nil, err
	}
	var in incoming
	if err := stream.RecvMsg(&in); err != nil {
		return nil, transportError(ctx, err)
	}
	p.metrics.callBytes.WithLabelValues("in").Add(float64(len(in.b)))
	return decodeReply(in.b, name)
}

// begin opens a stream of one of the two methods and sends its request.
func (p *Port) begin(ctx context.Context, client *grpc.ClientConn, to quorate.NodeID, desc *grpc.StreamDesc, method string, request []byte) (grpc.ClientStream, error) {
	if len(request) > p.cfg.MaxMessageBytes {
		return nil, notDone{quorate.Errorf(quorate.TooLarge, "request of %d bytes is over the limit of %d", len(request), p.cfg.MaxMessageBytes)}
	}
	h := hello{cluster: p.cfg.Cluster(), from: p.cfg.Self, to: to}
	stream, err := client.NewStream(metadata.NewOutgoingContext(ctx, h.header()), desc, "/"+serviceName+"/"+desc.StreamName)
	if err != nil {
		return nil, notDone{transportError(ctx, err)}
	}
	head := mem.SliceBuffer(appendRequest(nil, method))
	p.metrics.callBytes.WithLabelValues("out").Add(float64(len(head) + len(request)))
	// An error of io.EOF is told in full by RecvMsg.
	err = stream.SendMsg(&outgoing{mem.BufferSlice{head, copied(request)}})
	if err == nil && desc.ServerStreams {
		err = stream.CloseSend()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, transportError(ctx, err)
	}
	return stream, nil
}

// Stream asks another node for a stream. recv returns its elements, which are
// the caller's to keep, and after the last one io.EOF; any other error is as
// that of Call, and ends the stream too. One goroutine calls it. The caller
// reads to the end, or cancels ctx.
func (p *Port) Stream(ctx context.Context, to quorate.NodeID, method string, request []byte) (recv func() ([]byte, error), err error) {
	defer func() {
		if err != nil {
			p.metrics.calls.WithLabelValues(method, outcomeOf(err)).Inc()
			err = callError(to.Name, method, err)
		}
	}()
	n, err := p.node(to)
	if err != nil {
		return nil, err
	}
	client, err := n.bulk().get()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	stream, err := p.begin(ctx, client, to, &grpc.StreamDesc{StreamName: methodStream, ServerStreams: true}, method, request)
	if err != nil {
		cancel()
		return nil, err
	}
	var ended error
	return func() ([]byte, error) { //nolint:contextcheck // the stream has the context
		if ended != nil {
			return nil, ended
		}
		element, err := p.element(stream, to.Name)
		if err == nil {
			return element, nil
		}
		ended = err
		if errors.Is(err, io.EOF) {
			p.metrics.calls.WithLabelValues(method, outcomeOK).Inc()
		} else {
			p.metrics.calls.WithLabelValues(method, outcomeOf(err)).Inc()
			ended = callError(to.Name, method, err)
		}
		cancel()
		return nil, ended
	}, nil
}

// element receives one element of a stream.
func (p *Port) element(stream grpc.ClientStream, node string) ([]byte, error) {
	var in incoming
	if err := stream.RecvMsg(&in); errors.Is(err, io.EOF) {
		return nil, io.EOF
	} else if err != nil {
		return nil, transportError(stream.Context(), err)
	}
	p.metrics.callBytes.WithLabelValues("in").Add(float64(len(in.b)))
	return decodeReply(in.b, node)
}
