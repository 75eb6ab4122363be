package metasvc

import (
	"encoding/binary"

	"github.com/VictoriaMetrics/fastcache"
	"github.com/cespare/xxhash/v2"

	"github.com/quorate/quorate"
)

// tenantSlots are the versions of the tenants in a Map. Each name falls into
// one slot; a slot holds the index of a metadata entry since which none of its
// tenants was created, changed or removed. DESIGN.md says why there are slots.
type tenantSlots [256]uint64

// tenantSlot returns the slot of a name.
func tenantSlot(name string) uint8 { return uint8(xxhash.Sum64String(name)) }

// allSlots returns slots of one version.
func allSlots(version uint64) *tenantSlots {
	s := new(tenantSlots)
	for i := range s {
		s[i] = version
	}
	return s
}

// minTenantCacheBytes is fastcache's own minimum. Its chunks are mapped at
// once and touched only when used, so an idle cache costs next to nothing.
const minTenantCacheBytes = 32 << 20

// tenantCache holds encoded tenant records under (slot version, name). A
// slot's version moves on with every change of one of its tenants, so an entry
// is right for every Map that has its version, and unreachable from any other:
// entries of different versions cannot mix (PROTOCOL 7). What is unreachable
// is overwritten in time, as fastcache is a ring.
type tenantCache struct{ cache *fastcache.Cache }

func newTenantCache(bytes int) tenantCache {
	return tenantCache{cache: fastcache.New(max(bytes, minTenantCacheBytes))}
}

// tenantKeySize holds any key; encoded records are about 25 bytes, and hold up
// to maxPlacements placements.
const tenantKeySize = 8 + quorate.MaxTenantNameBytes

func appendTenantKey(dst []byte, version uint64, name string) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, version)
	return append(dst, name...)
}

// get returns the record of a name at a slot version; hit tells that the cache
// knows, found that there is such a tenant.
func (c tenantCache) get(version uint64, name string) (t Tenant, found, hit bool) {
	var key [tenantKeySize]byte
	var room [128]byte
	value, hit := c.cache.HasGet(room[:0], appendTenantKey(key[:0], version, name))
	if !hit || len(value) == 0 {
		return Tenant{}, false, hit
	}
	r := newReader(value)
	t.Name = name
	readTenantBody(r, &t)
	if r.finish("tenant") != nil || len(t.Placements) == 0 {
		return Tenant{}, false, false // never written by put: a miss reads it again
	}
	return t, true, true
}

// put stores the record of a name at a slot version; nil says that there is no
// such tenant.
func (c tenantCache) put(version uint64, name string, t *Tenant) {
	var key [tenantKeySize]byte
	var room [128]byte
	value := room[:0]
	if t != nil {
		value = appendTenantBody(value, t)
	}
	c.cache.Set(appendTenantKey(key[:0], version, name), value)
}

// close gives the memory back.
func (c tenantCache) close() { c.cache.Reset() }
