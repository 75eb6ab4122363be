package metasvc

import (
	"slices"
	"time"

	"github.com/quorate/quorate"
)

// Heartbeat is what another node last said of itself. Heartbeats live in the
// memory of the metadata leader and never enter the log.
type Heartbeat struct {
	Node quorate.NodeID
	// Received is when it came, by this node's clock.
	Received time.Time
	// Clock is what the other node's clock showed as it was sent.
	Clock time.Time
	// MapVersion is the version of the other node's map.
	MapVersion uint64
}

// clockTrusted tells whether this node's clock lies within clockTolerance of
// the median of all nodes' clocks, its own included (PROTOCOL 17). A lone node
// is its own median.
func clockTrusted(beats []Heartbeat) (off time.Duration, trusted bool) {
	offsets := []time.Duration{0}
	for _, b := range beats {
		// Round wall clocks, not monotonic readings, are compared.
		offsets = append(offsets, b.Clock.Round(0).Sub(b.Received.Round(0)))
	}
	slices.Sort(offsets)
	off = offsets[len(offsets)/2]
	return off, off.Abs() <= clockTolerance
}

// acknowledged tells whether every other node has a map of at least a version
// or has lost its map lease (PROTOCOL 8). A node that was never heard of since
// this one leads may hold a lease from just before.
func acknowledged(nodes []*Node, self quorate.NodeID, beats []Heartbeat, version uint64, leading, now time.Time) bool {
	for _, n := range nodes {
		if n.ID == self {
			continue // it serves the very state that the version is of
		}
		heard, known := leading, uint64(0)
		for _, b := range beats {
			if b.Node == n.ID && b.Received.After(heard) {
				heard, known = b.Received, b.MapVersion
			}
		}
		if known < version && now.Sub(heard) <= MapLease {
			return false
		}
	}
	return true
}
