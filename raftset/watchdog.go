package raftset

import (
	"fmt"
	"time"
)

// watchdog reports a write that neither succeeds nor fails. A hung disk does
// not move leadership by itself, since heartbeats need none
// (hashicorp/raft#503), and the stuck write may land after all, so it must not
// be turned into an error: the process has to end.
//
// One watchdog serves one goroutine at a time.
type watchdog struct {
	after time.Duration
	timer *time.Timer
}

// newWatchdog makes a watchdog that calls fatal when a watched write takes
// longer than after.
func newWatchdog(what string, after time.Duration, fatal func(error)) *watchdog {
	timer := time.AfterFunc(after, func() {
		fatal(fmt.Errorf("%s: a write has been stuck for %v", what, after))
	})
	timer.Stop()
	return &watchdog{after: after, timer: timer}
}

// watch starts the clock; the returned function stops it.
func (w *watchdog) watch() func() {
	w.timer.Reset(w.after)
	return func() { w.timer.Stop() }
}
