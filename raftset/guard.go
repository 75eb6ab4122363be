package raftset

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// guard turns the first failure of a replica into a clean stop of that replica
// alone. Everything that touches the replica's files or state asks it first,
// so that nothing is written, read or acknowledged after the failure.
type guard struct {
	cause atomic.Pointer[error]
	// failing is closed by the first failure; the group's supervisor then
	// shuts Raft down.
	failing chan struct{}
	// halted is closed once Raft has been told to shut down: from then on its
	// goroutines may end wherever they stand.
	halted chan struct{}
	halt   func()
	// running is set once Raft's own goroutines run. Before, they cannot be
	// parked, and an error returned ends the start.
	running atomic.Bool
}

func newGuard() *guard {
	g := &guard{failing: make(chan struct{}), halted: make(chan struct{})}
	g.halt = sync.OnceFunc(func() { close(g.halted) })
	return g
}

// err returns why the replica failed, and nil while it has not.
func (g *guard) err() error {
	if p := g.cause.Load(); p != nil {
		return *p
	}
	return nil
}

// over tells whether the replica failed, or Raft has been told to shut down.
func (g *guard) over() bool {
	if g.err() != nil {
		return true
	}
	select {
	case <-g.halted:
		return true
	default:
		return false
	}
}

// fail records the first failure and sets off the stop.
func (g *guard) fail(err error) {
	if g.cause.CompareAndSwap(nil, &err) {
		close(g.failing)
	}
}

// park holds one of Raft's goroutines where a return would make the library
// panic or take a failure for a success, until Raft has been told to shut down;
// then it ends the goroutine, whose deferred calls the library counts on. Before
// Raft runs it returns err instead.
func (g *guard) park(err error) error {
	if !g.running.Load() {
		return err
	}
	<-g.halted
	runtime.Goexit()
	return err
}

// recovered is deferred round calls into the state machine. It turns a panic
// into a failure that it stores in err.
func (g *guard) recovered(what string, err *error) {
	r := recover()
	if r == nil {
		return
	}
	*err = panicError(what, r)
}

func panicError(what string, r any) error {
	if e, ok := r.(error); ok {
		return fmt.Errorf("%s panicked: %w\n%s", what, e, debug.Stack())
	}
	return fmt.Errorf("%s panicked: %w\n%s", what, errors.New(fmt.Sprint(r)), debug.Stack())
}
