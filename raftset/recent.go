package raftset

import (
	"sync"

	"github.com/hashicorp/raft"
)

// recentBytes is how much of a log's end is kept in memory.
const recentBytes = 256 << 10

// recent keeps the entries that were stored last. The library reads each entry
// once for every member that it sends it to, once more for its term when it sends
// the next, and on a follower to apply it: all within moments of its storing, and
// each a read of the file, a checksum and copies. Entries are shared with who
// stored them and who reads them, and nobody changes them.
type recent struct {
	mu    sync.RWMutex
	logs  []raft.Log // of consecutive indexes
	bytes int
}

// stored notes entries that were appended to the log. More at once than may be
// kept are not: on a follower they would keep the whole message that brought them.
func (r *recent) stored(logs []*raft.Log) {
	r.mu.Lock()
	defer r.mu.Unlock()
	bytes := 0
	for _, l := range logs {
		bytes += len(l.Data)
	}
	if n := len(r.logs); bytes > recentBytes || n > 0 && r.logs[n-1].Index+1 != logs[0].Index {
		r.forgetLocked(len(r.logs))
	}
	if bytes > recentBytes {
		return
	}
	for _, l := range logs {
		r.logs = append(r.logs, *l)
	}
	r.bytes += bytes
	first := 0
	for over := r.bytes; over > recentBytes; first++ {
		over -= len(r.logs[first].Data)
	}
	r.forgetLocked(first)
}

// forgetLocked forgets the first n entries.
func (r *recent) forgetLocked(n int) {
	for _, l := range r.logs[:n] {
		r.bytes -= len(l.Data)
	}
	rest := copy(r.logs, r.logs[n:])
	clear(r.logs[rest:])
	r.logs = r.logs[:rest]
}

// get reads an entry, and tells whether it is kept.
func (r *recent) get(index uint64, l *raft.Log) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(r.logs) == 0 || index < r.logs[0].Index || index > r.logs[len(r.logs)-1].Index {
		return false
	}
	*l = r.logs[index-r.logs[0].Index]
	return true
}

// forget forgets all: entries were deleted.
func (r *recent) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.logs, r.bytes = nil, 0
}
