package raftset

import (
	"sync"
	"sync/atomic"
)

// notice wakes everybody who waits for a change of some kind, each to look for
// himself. Telling it costs an atomic read while nobody waits.
type notice struct {
	waiting atomic.Bool

	mu sync.Mutex
	ch chan struct{} // closed by the next tell; nil while nobody waits
}

// wait returns a channel that the next tell closes. Look at the state after the
// call, not before.
func (n *notice) wait() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ch == nil {
		n.ch = make(chan struct{})
		n.waiting.Store(true)
	}
	return n.ch
}

// tell wakes those who wait.
func (n *notice) tell() {
	if !n.waiting.Load() {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ch != nil {
		close(n.ch)
		n.ch = nil
		n.waiting.Store(false)
	}
}
