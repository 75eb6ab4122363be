package raftset

import (
	"fmt"
	"sync/atomic"
	"time"
)

// watchdogBeats is into how many parts a watchdog divides its time.
const watchdogBeats = 10

// watchdog reports a write that neither succeeds nor fails. A hung disk does
// not move leadership by itself, since heartbeats need none
// (hashicorp/raft#503), and the stuck write may land after all, so it must not
// be turned into an error: the process has to end.
//
// Time is counted in beats, each set off by the one before, so that a process
// that was paused (SIGSTOP, a suspended machine) is charged one beat for it and
// not the whole pause: its disk did nothing wrong.
//
// One watchdog serves one goroutine at a time.
type watchdog struct {
	every time.Duration
	// left is how many beats the write has left; below 1 while nothing is watched.
	left  atomic.Int32
	timer *time.Timer
}

// newWatchdog makes a watchdog that calls fatal when a watched write takes
// longer than after.
func newWatchdog(what string, after time.Duration, fatal func(error)) *watchdog {
	w := &watchdog{every: max(after/watchdogBeats, 1)}
	w.timer = time.AfterFunc(after, func() {
		switch left := w.left.Add(-1); {
		case left > 0:
			w.timer.Reset(w.every)
		case left == 0:
			fatal(fmt.Errorf("%s: a write has been stuck for %v", what, after))
		}
	})
	w.timer.Stop()
	return w
}

// watch starts the clock; the returned function stops it.
func (w *watchdog) watch() func() {
	w.left.Store(watchdogBeats)
	w.timer.Reset(w.every)
	return func() {
		w.left.Store(0)
		w.timer.Stop()
	}
}
