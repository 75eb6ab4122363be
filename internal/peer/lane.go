package peer

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/quorate/quorate"
)

// The lanes, by the numbers that Send takes.
const (
	laneControl uint8 = iota
	laneData
	laneBulk
	laneCount
)

func laneName(id uint8) string {
	switch id {
	case laneControl:
		return "control"
	case laneData:
		return "data"
	case laneBulk:
		return "bulk"
	}
	return "lane " + strconv.Itoa(int(id))
}

// laneKey is the header of a Messages stream that names its lane, by number.
const laneKey = "quorate-lane"

// Send queues a message for a node. The messages of one lane to one node
// arrive in the order of their Send. done is called exactly once, with the
// answer, or with the reason for which there is none, which is of kind
// Unavailable: the timeout passed, there is no connection, it broke, too much
// waits already, or the Port is closed. It is called on a goroutine of the
// Port's, never within Send, and must not block: it holds up other answers.
//
// The message must not be changed any more, not even after done: gRPC may
// still hold it.
func (p *Port) Send(to quorate.NodeID, lane uint8, message []byte, timeout time.Duration, done func(answer []byte, err error)) {
	n, err := p.node(to)
	if err == nil && lane >= laneCount {
		err = fmt.Errorf("peer: there is no %s", laneName(lane))
	}
	if err != nil {
		// The caller may hold a lock that done takes.
		time.AfterFunc(0, func() { done(nil, err) })
		return
	}
	n.lanes[lane].send(message, timeout, done)
}

// message is one message from its Send until done is called.
type message struct {
	id       uint64
	body     []byte
	done     func([]byte, error)
	sent     time.Time // when Send was called
	deadline time.Time
	// failure is what the deadline means; ErrTimeout unless the message never
	// got as far as the queue.
	failure error
	place   int  // in the heap of deadlines
	queued  bool // not taken out of the queue yet
}

// lane is the messages of one lane to one node. Three parties work on it: Send
// puts in, run writes to the stream and reads answers from it, and the timer
// takes out what nobody answered. Each message is in waiting from Send on, and
// whoever takes it out of there calls its done.
type lane struct {
	port    *Port
	conn    *conn
	to      quorate.NodeID
	id      uint8
	metrics *laneMetrics
	wake    chan struct{} // tells run that the queue has something

	mu        sync.Mutex // guards what follows; no done is called under it
	running   bool
	closed    bool
	lastID    uint64
	queue     []*message // those that are not queued any more are skipped
	bytes     int        // of the bodies that are queued
	waiting   map[uint64]*message
	deadlines deadlines
	timer     *time.Timer
}

func newLane(p *Port, c *conn, to quorate.NodeID, id uint8) *lane {
	return &lane{
		port: p, conn: c, to: to, id: id, metrics: &p.metrics.lanes[id],
		wake:    make(chan struct{}, 1),
		waiting: make(map[uint64]*message),
	}
}

func (l *lane) send(body []byte, timeout time.Duration, done func([]byte, error)) {
	now := time.Now()
	m := &message{body: body, done: done, sent: now, deadline: now.Add(timeout), failure: ErrTimeout, queued: true}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		time.AfterFunc(0, func() { done(nil, notDone{ErrClosed}) })
		return
	case len(body) > l.port.cfg.MaxMessageBytes:
		l.rejectLocked(m, quorate.Errorf(quorate.TooLarge, "message of %d bytes is over the limit of %d", len(body), l.port.cfg.MaxMessageBytes))
	case len(body) > l.port.cfg.MaxQueueBytes-l.bytes && l.bytes > 0:
		l.metrics.overflows.Inc()
		l.rejectLocked(m, fmt.Errorf("node %s, lane %s: %w: %d", l.to.Name, laneName(l.id), ErrQueueFull, l.bytes))
	}
	l.lastID++
	m.id = l.lastID
	l.waiting[m.id] = m
	heap.Push(&l.deadlines, m)
	if m.place == 0 {
		l.setTimerLocked(now)
	}
	if !m.queued {
		return
	}
	l.queue = append(l.queue, m)
	l.bytes += len(body)
	l.metrics.queued.Add(float64(len(body)))
	if !l.running {
		l.running = true
		l.port.background.Go(l.run)
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// rejectLocked makes a message one that the timer fails at once.
func (l *lane) rejectLocked(m *message, reason error) {
	m.queued, m.body = false, nil
	m.deadline = m.sent
	m.failure = notDone{reason}
}

func (l *lane) setTimerLocked(now time.Time) {
	pause := l.deadlines[0].deadline.Sub(now)
	if l.timer == nil {
		l.timer = time.AfterFunc(pause, l.expire)
	} else {
		l.timer.Reset(pause)
	}
}

// expire fails the messages whose time is over.
func (l *lane) expire() {
	now := time.Now()
	l.mu.Lock()
	var over []*message
	for len(l.deadlines) > 0 && !l.deadlines[0].deadline.After(now) {
		m := l.deadlines[0]
		l.takeLocked(m)
		over = append(over, m)
	}
	if len(l.deadlines) > 0 && !l.closed {
		l.setTimerLocked(now)
	}
	l.mu.Unlock()
	for _, m := range over {
		if m.failure == ErrTimeout { //nolint:errorlint // as set by send
			l.metrics.timeouts.Inc()
			m.done(nil, fmt.Errorf("node %s, lane %s: %w: waited %v", l.to.Name, laneName(l.id), ErrTimeout, m.deadline.Sub(m.sent)))
			continue
		}
		m.done(nil, m.failure)
	}
}

// takeLocked takes a message out; its done is then the caller's to call.
func (l *lane) takeLocked(m *message) {
	delete(l.waiting, m.id)
	heap.Remove(&l.deadlines, m.place)
	if m.queued {
		l.dequeueLocked(m)
		m.body = nil // its place in the queue is skipped, but may last
	}
}

func (l *lane) dequeueLocked(m *message) {
	m.queued = false
	l.bytes -= len(m.body)
	l.metrics.queued.Sub(float64(len(m.body)))
}

// answer hands an answer on. That of a message whose time was over is dropped.
func (l *lane) answer(a numbered) {
	l.mu.Lock()
	m := l.waiting[a.id]
	if m != nil {
		l.takeLocked(m)
	}
	l.mu.Unlock()
	if m != nil {
		l.metrics.answered.Inc()
		l.metrics.roundTrip.Observe(time.Since(m.sent).Seconds())
		m.done(a.body, nil)
	}
}

// fail fails messages: all, or those that have left the queue.
func (l *lane) fail(all bool, reason error) {
	l.mu.Lock()
	var failed []*message
	for _, m := range l.waiting {
		if all || !m.queued {
			failed = append(failed, m)
		}
	}
	for _, m := range failed {
		l.takeLocked(m)
	}
	if all {
		l.queue = nil
	}
	l.mu.Unlock()
	for _, m := range failed {
		l.metrics.breaks.Inc()
		m.done(nil, reason)
	}
}

// next returns the frame of the messages that wait, as many as go together, or
// nothing.
func (l *lane) next(f *framer) *outgoing {
	l.mu.Lock()
	taken := 0
	for _, m := range l.queue {
		if m.queued && !f.add(m.id, m.body) {
			break
		}
		if m.queued {
			l.dequeueLocked(m)
			l.metrics.sent.Inc()
		}
		taken++
	}
	clear(l.queue[:taken])
	l.queue = l.queue[taken:]
	l.mu.Unlock()
	return f.frame(l.metrics)
}

// run writes what is queued, over one stream after the other, until the Port
// is closed.
func (l *lane) run() {
	ctx := l.port.running
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		}
		if l.idle() {
			continue
		}
		if err := l.connected(ctx); err != nil {
			err = fmt.Errorf("node %s, lane %s: %w", l.to.Name, laneName(l.id), err)
			l.fail(errors.As(err, new(notDone)), err)
		}
		// What was queued meanwhile has woken nobody who listened.
		if !l.idle() {
			select {
			case l.wake <- struct{}{}:
			default:
			}
		}
	}
}

func (l *lane) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue) == 0
}

// connected opens a stream and keeps to it until it breaks. The error is
// marked notDone if there was none.
func (l *lane) connected(ctx context.Context) error {
	client, err := l.conn.get()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	md := hello{cluster: l.port.cfg.Cluster(), from: l.port.cfg.Self, to: l.to}.header()
	md.Set(laneKey, strconv.Itoa(int(l.id)))
	stream, err := client.NewStream(metadata.NewOutgoingContext(ctx, md), &grpc.StreamDesc{
		StreamName: methodMessages, ServerStreams: true, ClientStreams: true,
	}, "/"+serviceName+"/"+methodMessages)
	if err != nil {
		return notDone{transportError(ctx, err)}
	}
	var broken error
	ended := make(chan struct{})
	// It ends with the stream, at the latest by cancel, and is waited for below.
	go func() { //nolint:contextcheck // the stream has the context
		defer close(ended)
		broken = l.read(stream)
	}()
	l.write(stream, ended)
	cancel()
	<-ended
	return broken
}

// write writes frames until the stream ends, of which read knows the reason.
func (l *lane) write(stream grpc.ClientStream, ended <-chan struct{}) {
	var f framer
	for {
		out := l.next(&f)
		if out == nil {
			select {
			case <-ended:
				return
			case <-l.wake:
				gather()
			}
			continue
		}
		if err := stream.SendMsg(out); errors.Is(err, io.EOF) {
			<-ended // with the reason, which cancelling would hide
			return
		} else if err != nil {
			return
		}
	}
}

// read hands answers on until the stream ends, and tells why it did.
func (l *lane) read(stream grpc.ClientStream) error {
	for {
		var in incoming
		if err := stream.RecvMsg(&in); errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: it ended the stream", ErrUnreachable)
		} else if err != nil {
			return transportError(stream.Context(), err)
		}
		l.metrics.receivedBytes.Add(float64(len(in.b)))
		for a, err := range frameMessages(in.b) {
			if err != nil {
				return fmt.Errorf("%w: %w", ErrUnreachable, err)
			}
			l.answer(a)
		}
	}
}

// close fails everything and takes nothing more. What run still does, it does
// for nobody.
func (l *lane) close() {
	l.mu.Lock()
	l.closed = true
	if l.timer != nil {
		l.timer.Stop()
	}
	l.mu.Unlock()
	l.fail(true, fmt.Errorf("node %s, lane %s: %w", l.to.Name, laneName(l.id), ErrClosed))
}

// deadlines is a heap of messages, the earliest deadline first.
type deadlines []*message

// Len implements heap.Interface.
func (d deadlines) Len() int { return len(d) }

// Less implements heap.Interface.
func (d deadlines) Less(i, j int) bool { return d[i].deadline.Before(d[j].deadline) }

// Swap implements heap.Interface.
func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place, d[j].place = i, j
}

// Push implements heap.Interface.
func (d *deadlines) Push(x any) {
	m := x.(*message)
	m.place = len(*d)
	*d = append(*d, m)
}

// Pop implements heap.Interface.
func (d *deadlines) Pop() any {
	last := len(*d) - 1
	m := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	return m
}
