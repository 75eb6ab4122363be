package raftset

import (
	"sync"
	"time"
)

// beatsPerTimeout is how many beats a heartbeat timeout has. A leader's pause
// between two heartbeats, which the library makes a tenth to a fifth of the
// timeout, stays under a quarter of it (see vigilTurn).
const beatsPerTimeout = 40

// beat is the rhythm in which a host sends heartbeats. The library has a timer
// for each group and member; were each heartbeat sent when its own is due, each
// would be a frame, two system calls and half a dozen wake-ups of its own, and
// its answer as well. At the beat all that are due leave together. It delays a
// heartbeat by a fortieth of the timeout at most, and does not beat while none is
// due.
type beat struct {
	every time.Duration
	begun time.Time

	mu  sync.Mutex
	due []func()
}

func newBeat(timeout time.Duration) *beat {
	return &beat{every: timeout / beatsPerTimeout, begun: time.Now()}
}

// join has send called at the next beat. It must not block: it holds up others.
func (b *beat) join(send func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.due) == 0 {
		time.AfterFunc(b.every-time.Since(b.begun)%b.every, b.strike)
	}
	b.due = append(b.due, send)
}

func (b *beat) strike() {
	b.mu.Lock()
	due := b.due
	b.due = nil
	b.mu.Unlock()
	for _, send := range due {
		send()
	}
}
