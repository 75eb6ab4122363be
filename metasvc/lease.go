package metasvc

import (
	"sync/atomic"
	"time"
)

// MapLease is L: how long a map counts as current after the send of a request
// that the metadata leader confirmed (PROTOCOL 7). It is a constant of the
// cluster, since a change in visible time waits for it to run out (PROTOCOL 8).
const MapLease = 10 * time.Second

// lease is how long a node's map counts as current, by the monotonic clock.
type lease struct {
	now   func() time.Time
	epoch time.Time
	// until is in nanoseconds after epoch; 0 is never.
	until atomic.Int64
}

func newLease(now func() time.Time) *lease { return &lease{now: now, epoch: now()} }

// extend makes the lease last until MapLease after sent, unless it lasts
// longer already. The moment of sending counts, not that of the answer: the
// answer may have been long under way.
func (l *lease) extend(sent time.Time) {
	until := int64(sent.Sub(l.epoch) + MapLease)
	for {
		old := l.until.Load()
		if old >= until || l.until.CompareAndSwap(old, until) {
			return
		}
	}
}

func (l *lease) holds() bool { return int64(l.now().Sub(l.epoch)) < l.until.Load() }
