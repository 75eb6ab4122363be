package raftset

import (
	"slices"
	"sync"

	"github.com/hashicorp/raft"
)

const (
	// trailMarks is how finely the log's size is known: a mark is made for this
	// part of what is to be kept.
	trailMarks = 256
	// trailEntry is what an entry counts beside its data.
	trailEntry = 64
)

// trail knows where in a log its last so many bytes begin. They are kept past a
// flush for members that lag, who would otherwise need the manifest and its
// files for a few entries.
type trail struct {
	grain int64 // bytes from one mark to the next

	mu    sync.Mutex
	total int64 // of all entries stored since the replica opened, and found then
	marks []mark
}

func newTrail(keep int) *trail { return &trail{grain: int64(keep) / trailMarks} }

// mark is an entry, and the bytes of all entries before it.
type mark struct {
	index  uint64
	before int64
}

// stored notes an entry at the log's end.
func (t *trail) stored(l *raft.Log) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.marks); n == 0 || t.total-t.marks[n-1].before >= t.grain {
		t.marks = append(t.marks, mark{index: l.Index, before: t.total})
	}
	t.total += int64(len(l.Data)) + trailEntry
}

// truncated notes that the log's end was deleted from an index. What the rest
// counts too much until its next mark does not matter.
func (t *trail) truncated(from uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(t.marks)
	for n > 0 && t.marks[n-1].index >= from {
		n--
		t.total = t.marks[n].before
	}
	t.marks = t.marks[:n]
}

// deleted notes that the log begins behind an index.
func (t *trail) deleted(to uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for n+1 < len(t.marks) && t.marks[n+1].index <= to+1 {
		n++
	}
	t.marks = slices.Delete(t.marks, 0, n)
}

// begin returns the first entry of the last so many bytes, as far as marks tell:
// a little more is kept rather than less. It is 0 when the log has no more.
func (t *trail) begin(bytes int64) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, m := range t.marks {
		if t.total-m.before <= bytes {
			if i == 0 {
				return 0
			}
			return t.marks[i-1].index
		}
	}
	if n := len(t.marks); n > 0 {
		return t.marks[n-1].index
	}
	return 0
}
