package metasvc

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/quorate/quorate"
)

// Heartbeat is what another node last said of itself. Heartbeats live in the
// memory of the metadata leader and never enter the log.
type Heartbeat struct {
	Node quorate.NodeID
	// Received is when it came, by this node's clock.
	Received time.Time
	// Confirmed is when this node last confirmed a map for the other, by this
	// node's clock: a map lease may have begun by then. Zero is never.
	Confirmed time.Time
	// Clock is what the other node's clock showed as it was sent.
	Clock time.Time
	// MapVersion is the version of the other node's map.
	MapVersion uint64
	// Free is the space left for data on the other node, in bytes; 0 is unknown.
	Free uint64
	// Space is what the other node makes of that, by its own limits.
	Space Space
	// Sets are the node's replicas.
	Sets []SetBeat
}

// Heartbeats is a book of the last heartbeat of each node. Every node that may
// lead the metadata group keeps one. Its zero value is ready; it is safe for
// concurrent use.
type Heartbeats struct {
	// Now is the clock; its readings carry monotonic time. Nil means time.Now.
	// It must not be changed after the first call.
	Now func() time.Time

	mu    sync.Mutex // guards beats
	beats map[quorate.NodeID]Heartbeat
}

// Record notes a heartbeat in place of the node's last one, as received now
// unless it says when.
func (h *Heartbeats) Record(beat Heartbeat) {
	if beat.Received.IsZero() {
		beat.Received = h.now()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.beats == nil {
		h.beats = make(map[quorate.NodeID]Heartbeat)
	}
	if last := h.beats[beat.Node].Confirmed; beat.Confirmed.Before(last) {
		beat.Confirmed = last
	}
	h.beats[beat.Node] = beat
}

// Confirm notes that this node, as the leader, confirms a map for another now. It
// must be called before the answer leaves: from then on the other's map lease may
// hold, whatever becomes of its heartbeats (PROTOCOL 8).
func (h *Heartbeats) Confirm(node quorate.NodeID) {
	now := h.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.beats == nil {
		h.beats = make(map[quorate.NodeID]Heartbeat)
	}
	beat := h.beats[node]
	beat.Node, beat.Confirmed = node, now
	h.beats[node] = beat
}

func (h *Heartbeats) now() time.Time {
	if h.Now == nil {
		return time.Now()
	}
	return h.Now()
}

// List returns the last heartbeat of each node, by name and incarnation,
// however old.
func (h *Heartbeats) List() []Heartbeat {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.SortedFunc(maps.Values(h.beats), func(a, b Heartbeat) int {
		return cmp.Or(cmp.Compare(a.Node.Name, b.Node.Name), slices.Compare(a.Node.Incarnation[:], b.Node.Incarnation[:]))
	})
}

// Progress returns, of each set whose leader was heard of within a minute, the
// index in its log of the last entry that stored a sample. A leader that is
// silent says nothing: its set's progress is not known.
func (h *Heartbeats) Progress() map[quorate.ReplicaSetID]uint64 {
	now := h.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	progress := make(map[quorate.ReplicaSetID]uint64)
	for _, beat := range h.beats {
		if now.Sub(beat.Received) > absentAfter {
			continue
		}
		for _, s := range beat.Sets {
			if s.Leads { // of two who say so the one further ahead is right
				progress[s.Set] = max(progress[s.Set], s.LastWrite)
			}
		}
	}
	return progress
}

// clockTrusted tells whether this node's clock lies within clockTolerance of
// the median of all nodes' clocks, its own included (PROTOCOL 17); of an even number
// of clocks, of both in the middle. A lone node is its own median. Nodes that are silent since a minute before now have no say.
func clockTrusted(self quorate.NodeID, beats []Heartbeat, now time.Time) (off time.Duration, trusted bool) {
	offsets := []time.Duration{0}
	for _, b := range beats {
		if b.Node == self || now.Sub(b.Received) > absentAfter {
			continue
		}
		// Round wall clocks, not monotonic readings, are compared.
		offsets = append(offsets, b.Clock.Round(0).Sub(b.Received.Round(0)))
	}
	slices.Sort(offsets)
	off = offsets[len(offsets)/2]
	if lower := offsets[(len(offsets)-1)/2]; lower.Abs() > off.Abs() {
		off = lower
	}
	return off, off.Abs() <= clockTolerance
}
