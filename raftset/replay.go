package raftset

import (
	"runtime"
	"sync"
)

// replayBytes is how much of the log's tail a starting replica holds in memory
// between reading and applying it.
const replayBytes = 16 << 20

// replay slows the reading of a log's tail down to the pace at which it is
// applied. When a replica starts, the library reads everything past the
// manifest and queues up to 128 batches of maxAppendEntries entries before the
// state machine sees the first: gigabytes, if entries are large.
//
// It is for single voters, whose main loop alone reads the tail and has no
// heartbeat to answer meanwhile.
type replay struct {
	upTo   uint64 // the tail's last index; 0 switches the brake off
	halted <-chan struct{}
	moved  chan struct{}

	mu      sync.Mutex
	seen    uint64 // the last index counted
	entries int    // read, not yet applied
	bytes   int64
}

func newReplay(upTo uint64, halted <-chan struct{}) *replay {
	return &replay{upTo: upTo, halted: halted, moved: make(chan struct{}, 1)}
}

// wait holds the reader back while too much waits to be applied. The library
// hands entries on in batches of maxAppendEntries: with that many read, at
// least one batch is on its way to the state machine, so that waiting ends.
func (r *replay) wait(index uint64) {
	if index > r.upTo {
		return
	}
	for r.full(index) {
		select {
		case <-r.moved:
		case <-r.halted:
			runtime.Goexit()
		}
	}
}

func (r *replay) full(index uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return index > r.seen && r.entries >= maxAppendEntries && r.bytes >= replayBytes
}

// read counts an entry that will be applied.
func (r *replay) read(index uint64, bytes int) {
	if index > r.upTo {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if index > r.seen {
		r.seen = index
		r.entries++
		r.bytes += int64(bytes)
	}
}

// applied takes an entry off the count.
func (r *replay) applied(index uint64, bytes int) {
	if index > r.upTo {
		return
	}
	r.mu.Lock()
	r.entries--
	r.bytes -= int64(bytes)
	r.mu.Unlock()
	notify(r.moved)
}
