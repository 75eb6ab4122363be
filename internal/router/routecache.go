package router

import (
	"math"
	"sync"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// routeCache remembers, for one tenant, where series go: from the keyed hash
// of a series' raw label bytes to its shard hash and its refs in two
// ReplicaSets: that of the current bucket, and of the bucket, before or after
// it or an overlay, it was last written to besides.
// A series found here is written without looking at its labels.
//
// It is an open-addressing table of 40-byte slots, one cache line touched for
// a hit most of the time (a Go map costs 3 times as much). Keys are
// 128 bits under a per-process secret and are trusted without comparing
// labels: 2^32 series meet by chance with probability 2^-65.
//
// Memory is bounded by two generations: when the young table holds limit
// slots, it becomes the old one, which serves until entries are used again (and
// so copied) or the next turn drops it.
type routeCache struct {
	mu         sync.RWMutex
	young, old routeTable
	limit      int // slots of the young table before it turns old
}

// cachedRoute is what is known of one series.
type cachedRoute struct {
	hash uint64 // wire.ShardHash of the series
	refs [2]setRef
}

// setRef is a series' ref in one ReplicaSet; set 0 means none, since the
// metadata group holds no series.
type setRef struct {
	set uint32
	ref wire.SeriesRef
}

// refIn returns the series' ref in a set, if it is known.
func (c *cachedRoute) refIn(set quorate.ReplicaSetID) (wire.SeriesRef, bool) {
	switch uint64(set) {
	case uint64(c.refs[0].set):
		return c.refs[0].ref, true
	case uint64(c.refs[1].set):
		return c.refs[1].ref, true
	}
	return 0, false
}

// keepSets are the sets whose refs a route keeps before those of any other: a
// series' set in the current bucket and, while that one is at its end, in the
// next. 0 is none. What comes for other times, into older buckets and their
// overlays, would else displace a ref that every scrape needs.
type keepSets [2]quorate.ReplicaSetID

func (k keepSets) has(set uint32) bool {
	return set != 0 && (uint64(set) == uint64(k[0]) || uint64(set) == uint64(k[1]))
}

// learn notes the series' ref in a set: in a free place, or in place of the
// older ref, or of the one that is not to be kept. Where both are, the ref is
// not noted, and the series is sent with its labels each time.
func (c *cachedRoute) learn(set quorate.ReplicaSetID, ref wire.SeriesRef, keep keepSets) {
	if set > math.MaxUint32 {
		return // not cached: the series is sent with its labels each time
	}
	learned := setRef{set: uint32(set), ref: ref}
	switch first, second := c.refs[0].set, c.refs[1].set; {
	case second == learned.set:
		c.refs[0], c.refs[1] = learned, c.refs[0]
	case first == learned.set || first == 0:
		c.refs[0] = learned
	case !keep.has(second): // or none is there
		c.refs[0], c.refs[1] = learned, c.refs[0]
	case !keep.has(first):
		c.refs[0] = learned
	}
}

// forget drops what is known of the series in a set.
func (c *cachedRoute) forget(set quorate.ReplicaSetID) {
	for i := range c.refs {
		if uint64(c.refs[i].set) == uint64(set) {
			c.refs[i] = setRef{}
		}
	}
}

func newRouteCache(limit int) *routeCache { return &routeCache{limit: limit} }

// lookup fills routes[i] for each series it knows and reports the others by
// appending their positions to missing.
func (c *routeCache) lookup(series []wire.RequestSeries, routes []cachedRoute, missing []int32) []int32 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for i := range series {
		key := series[i].Key
		if r := c.young.find(key); r != nil {
			routes[i] = *r
		} else if r := c.old.find(key); r != nil {
			routes[i] = *r
		} else {
			missing = append(missing, int32(i))
		}
	}
	return missing
}

// update stores what change makes of the known route of a series (zero when
// none is known). It is called for series whose refs were learned or refused,
// so never in the steady state.
func (c *routeCache) update(keys []wire.SeriesKey, change func(i int, r *cachedRoute)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, key := range keys {
		if c.young.used >= c.limit {
			c.old, c.young = c.young, routeTable{}
		}
		r := c.young.find(key)
		if r == nil {
			var fresh cachedRoute
			if before := c.old.find(key); before != nil {
				fresh = *before
			}
			r = c.young.insert(key, fresh)
		}
		change(i, r)
	}
}

// size counts the slots in use in both generations.
func (c *routeCache) size() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.young.used + c.old.used
}

// routeTable is the open-addressing table: linear probing, a power of two of
// slots, at most three quarters full. The zero key marks a free slot; a series
// whose key is zero is stored under another (see slotKey).
type routeTable struct {
	slots []routeSlot
	used  int
}

type routeSlot struct {
	key   wire.SeriesKey
	route cachedRoute
}

const firstTableSlots = 256

func slotKey(key wire.SeriesKey) wire.SeriesKey {
	if key == (wire.SeriesKey{}) {
		return wire.SeriesKey{Hi: 1}
	}
	return key
}

func (t *routeTable) find(key wire.SeriesKey) *cachedRoute {
	if len(t.slots) == 0 {
		return nil
	}
	key = slotKey(key)
	mask := uint64(len(t.slots) - 1)
	for at := key.Lo & mask; ; at = (at + 1) & mask {
		s := &t.slots[at]
		if s.key == key {
			return &s.route
		}
		if s.key == (wire.SeriesKey{}) {
			return nil
		}
	}
}

// insert adds a key that is not there and returns its route, valid until the
// next insert.
func (t *routeTable) insert(key wire.SeriesKey, route cachedRoute) *cachedRoute {
	if 4*(t.used+1) > 3*len(t.slots) {
		t.grow()
	}
	t.used++
	s := t.free(slotKey(key))
	s.key, s.route = slotKey(key), route
	return &s.route
}

func (t *routeTable) free(key wire.SeriesKey) *routeSlot {
	mask := uint64(len(t.slots) - 1)
	at := key.Lo & mask
	for t.slots[at].key != (wire.SeriesKey{}) {
		at = (at + 1) & mask
	}
	return &t.slots[at]
}

func (t *routeTable) grow() {
	old := t.slots
	t.slots = make([]routeSlot, max(firstTableSlots, 2*len(old)))
	for i := range old {
		if old[i].key != (wire.SeriesKey{}) {
			*t.free(old[i].key) = old[i]
		}
	}
}
