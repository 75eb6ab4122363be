package raftset

import (
	"sync"

	"github.com/quorate/quorate/internal/wire"
)

// kindFence is the kind of the calls behind ConfirmRead: they become an entry
// that changes nothing and is not handed to the state machine.
const kindFence wire.Kind = 0

// call is one command on its way, and its caller's place to wait.
type call struct {
	kind    wire.Kind
	command []byte
	// done has room for the one outcome that every queued call gets.
	done chan outcome
}

type outcome struct {
	value any
	err   error
}

// queue holds the calls that wait to be proposed, in order.
type queue struct {
	limit int
	ready chan struct{} // room for one: calls wait, or the queue is closed
	// plenty has room for one: worthwhileBytes wait.
	plenty chan struct{}

	mu     sync.Mutex
	calls  []*call
	bytes  int
	closed error
}

func newQueue(limit int) *queue {
	return &queue{limit: limit, ready: make(chan struct{}, 1), plenty: make(chan struct{}, 1)}
}

// add queues a call, unless the queue is full or closed.
func (q *queue) add(c *call) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed != nil {
		return q.closed
	}
	// A single command always finds an empty queue wide enough.
	if q.bytes > 0 && q.bytes+len(c.command) > q.limit {
		return ErrOverloaded
	}
	q.calls = append(q.calls, c)
	q.bytes += len(c.command)
	notify(q.ready)
	if q.bytes >= worthwhileBytes {
		notify(q.plenty)
	}
	return nil
}

// waiting returns how many bytes and calls wait.
func (q *queue) waiting() (bytes, calls int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes, len(q.calls)
}

// take removes the longest run of calls of one kind from the queue's head whose
// commands together do not exceed limit bytes, and at least one call if any
// waits. It appends them to dst.
func (q *queue) take(dst []*call, limit int) []*call {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, bytes := 0, 0
	for n < len(q.calls) {
		c := q.calls[n]
		if n > 0 && (c.kind != q.calls[0].kind || bytes+len(c.command) > limit) {
			break
		}
		bytes += len(c.command)
		n++
	}
	dst = append(dst, q.calls[:n]...)
	rest := copy(q.calls, q.calls[n:])
	clear(q.calls[rest:])
	q.calls = q.calls[:rest]
	q.bytes -= bytes
	return dst
}

// remove takes one call back, and tells whether it was still waiting.
func (q *queue) remove(c *call) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.calls {
		if q.calls[i] == c {
			q.calls = append(q.calls[:i], q.calls[i+1:]...)
			q.bytes -= len(c.command)
			return true
		}
	}
	return false
}

// close refuses all later calls with err and returns those that wait.
func (q *queue) close(err error) []*call {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed == nil {
		q.closed = err
	}
	waiting := q.calls
	q.calls, q.bytes = nil, 0
	notify(q.ready)
	return waiting
}

func (q *queue) isClosed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed != nil
}
