package peer

import (
	"errors"
	"io"
	"strconv"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/quorate/quorate"
)

// serveMessages is the gRPC handler of one lane's messages from one node.
func (p *Port) serveMessages(_ any, stream grpc.ServerStream) error {
	ctx := stream.Context()
	from, stranger, err := p.greet(ctx)
	if err != nil {
		return err
	}
	if stranger {
		p.metrics.refused.Inc()
		return status.Error(codes.FailedPrecondition, "messages are not for nodes without a cluster")
	}
	md, _ := metadata.FromIncomingContext(ctx)
	lane, err := laneOf(md)
	if err != nil {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	handle := p.messages.Load()
	if handle == nil {
		return status.Error(codes.Aborted, "nothing handles messages")
	}
	m := &p.metrics.lanes[lane]
	a := newAnswers(stream, m, p.cfg.MaxQueueBytes)
	defer func() {
		// A writer that is blocked, since nothing is taken, ends when the stream
		// does: with the return.
		if a.close(); !a.full() {
			<-a.ended
		}
	}()
	for {
		var in incoming
		if err := stream.RecvMsg(&in); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		m.receivedBytes.Add(float64(len(in.b)))
		for message, err := range frameMessages(in.b) {
			if err != nil {
				return status.Error(codes.InvalidArgument, err.Error())
			}
			m.received.Inc()
			p.deliver(*handle, from, message, a)
		}
		if a.full() {
			return status.Error(codes.ResourceExhausted, "the answers are not taken")
		}
	}
}

// deliver hands a message on. One whose handler panics is never answered.
func (p *Port) deliver(handle MessageHandler, from quorate.NodeID, m numbered, a *answers) {
	var err error // is logged where it is made
	defer p.recovered("message", &err)
	handle(from, m.body, a.to(m.id))
}

func laneOf(md metadata.MD) (uint8, error) {
	values := md.Get(laneKey)
	if len(values) != 1 {
		return 0, errors.New("the stream names no lane")
	}
	lane, err := strconv.ParseUint(values[0], 10, 8)
	if err != nil || lane >= uint64(laneCount) {
		return 0, errors.New("the stream's lane " + strconv.Quote(values[0]) + " is not known")
	}
	return uint8(lane), nil
}

// answers are the answers that wait to be written to one stream.
type answers struct {
	stream  grpc.ServerStream
	metrics *laneMetrics
	limit   int // of bytes
	wake    chan struct{}
	ending  chan struct{}
	ended   chan struct{}

	mu      sync.Mutex // guards what follows
	closed  bool
	waiting []numbered
	bytes   int
}

func newAnswers(stream grpc.ServerStream, m *laneMetrics, limit int) *answers {
	a := &answers{
		stream: stream, metrics: m, limit: limit,
		wake: make(chan struct{}, 1), ending: make(chan struct{}), ended: make(chan struct{}),
	}
	go a.run() // until close, which waits for it
	return a
}

// to returns the function that answers a message. It may be called late, and
// by anyone.
func (a *answers) to(id uint64) func([]byte) {
	var answered atomic.Bool
	return func(body []byte) {
		if !answered.Swap(true) {
			a.put(numbered{id, body})
		}
	}
}

func (a *answers) put(n numbered) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || a.bytes > a.limit {
		// Nobody waits for it, or whoever does takes nothing and is cut off.
		return
	}
	a.waiting = append(a.waiting, n)
	a.bytes += maxHead + len(n.body)
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

func (a *answers) full() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.bytes > a.limit
}

func (a *answers) next(f *framer) *outgoing {
	a.mu.Lock()
	taken := 0
	for taken < len(a.waiting) && f.add(a.waiting[taken].id, a.waiting[taken].body) {
		a.bytes -= maxHead + len(a.waiting[taken].body)
		taken++
	}
	clear(a.waiting[:taken])
	a.waiting = a.waiting[taken:]
	a.mu.Unlock()
	return f.frame(a.metrics)
}

func (a *answers) run() {
	defer close(a.ended)
	var f framer
	for {
		out := a.next(&f)
		if out == nil {
			select {
			case <-a.ending:
				return
			case <-a.wake:
				gather()
			}
			continue
		}
		if err := a.stream.SendMsg(out); err != nil {
			return // the stream is over, which its reader sees as well
		}
	}
}

// close drops what waits, and ends the writer as soon as it is not blocked.
func (a *answers) close() {
	a.mu.Lock()
	a.closed = true
	a.waiting = nil
	a.mu.Unlock()
	close(a.ending)
}
