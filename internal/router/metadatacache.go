package router

import (
	"hash/maphash"
	"sync"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// maxMetadataCached bounds the families a tenant's metadataCache knows; beyond
// it the cache starts anew, which costs some repeated proposals.
const maxMetadataCached = 64 << 10

// metadataCache knows which metadata each set was last sent, so that senders
// which repeat it with every request (remote write 2.0) or every minute (1.0)
// do not fill the log with it. Forgetting is harmless: Apply keeps an entry
// only when it changes something.
type metadataCache struct {
	mu   sync.Mutex
	seed maphash.Seed
	sent map[uint64]uint64 // hash of (set, family) → hash of the whole
}

type metadataKey struct {
	set    quorate.ReplicaSetID
	family string
}

// has tells whether a set was last sent exactly this for the family.
func (c *metadataCache) has(set quorate.ReplicaSetID, m *wire.Metadata) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sent == nil {
		return false
	}
	whole, ok := c.sent[maphash.Comparable(c.seed, metadataKey{set, m.Family})]
	return ok && whole == maphash.Comparable(c.seed, *m)
}

// note records what a set has applied.
func (c *metadataCache) note(set quorate.ReplicaSetID, m *wire.Metadata) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sent == nil {
		c.seed = maphash.MakeSeed()
	}
	if c.sent == nil || len(c.sent) >= maxMetadataCached {
		c.sent = make(map[uint64]uint64)
	}
	c.sent[maphash.Comparable(c.seed, metadataKey{set, m.Family})] = maphash.Comparable(c.seed, *m)
}
