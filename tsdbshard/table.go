package tsdbshard

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// Rows about series lie in pages, so that the table grows without moving what
// readers look at and without copying everything at each doubling.
const (
	pageBits = 10
	pageRows = 1 << pageBits
	pageMask = pageRows - 1
)

// valueKind is the type of a sample.
type valueKind uint8

const (
	kindNone valueKind = iota
	kindFloat
	kindHistogram // integer or float native histogram
)

// definition is what never changes about a series.
type definition struct {
	at     slabPos // canonical labels
	length uint32
	tenant uint32 // index into the table's tenants
}

// newestSample identifies the newest sample of a series. It is logical state:
// Apply tells duplicates, conflicts and out-of-order samples by it, so files
// carry it and it does not depend on what is in memory.
type newestSample struct {
	time   int64
	bits   uint64 // value bits, or the hash of an encoded histogram
	start  int64  // start timestamp, 0 for none
	tenant uint32 // index into the table's tenants; here because Apply looks at both
	kind   valueKind
}

var errRefsExhausted = errors.New("the set has no refs left")

// table is the series table of one ReplicaSet. Only the apply goroutine calls
// its methods; readers hold copies of the slices (see View).
type table struct {
	seed        maphash.Seed
	slots       []uint64 // upper half of the hash << 32 | ref+1; 0 is free
	labels      slab
	definitions []*[pageRows]definition
	newest      []*[pageRows]newestSample
	next        uint32
	tenants     []*tenant
	byID        map[quorate.TenantID]*tenant
}

// tenant is what a shard knows about one tenant.
type tenant struct {
	id       quorate.TenantID
	index    uint32
	postings *postings
	// epoch is the state's epoch at the last change of info; see state.touchTenant.
	epoch uint64
	info  tenantInfo
	// metadataEpoch is the state's epoch when info.metadata was last copied:
	// only views made later can hold the map.
	metadataEpoch uint64
}

// tenantInfo is the part of a tenant that views pin by value.
type tenantInfo struct {
	series     uint64
	mint, maxt int64                    // of its samples; mint > maxt when there are none
	metadata   map[string]wire.Metadata // by family; see state.setMetadata
}

func newTable() *table {
	// The hash is seeded by chance so that nobody can choose labels that
	// collide. It decides only where a series is looked for, never what is
	// found, so it is no chance in Apply's results.
	return &table{seed: maphash.MakeSeed(), byID: make(map[quorate.TenantID]*tenant)}
}

func (t *table) tenant(id quorate.TenantID) *tenant {
	tn := t.byID[id]
	if tn == nil {
		tn = &tenant{id: id, index: uint32(len(t.tenants)), postings: newPostings(), info: emptyTenantInfo()}
		t.tenants = append(t.tenants, tn)
		t.byID[id] = tn
	}
	return tn
}

func emptyTenantInfo() tenantInfo { return tenantInfo{mint: 1, maxt: 0} }

// add widens the range of the tenant's samples by [mint, maxt].
func (i *tenantInfo) add(mint, maxt int64) {
	if i.mint > i.maxt {
		i.mint, i.maxt = mint, maxt
		return
	}
	i.mint, i.maxt = min(i.mint, mint), max(i.maxt, maxt)
}

// newestOf returns the row of a ref below next.
func (t *table) newestOf(ref uint32) *newestSample {
	return &t.newest[ref>>pageBits][ref&pageMask]
}

func (t *table) hash(tenantIndex uint32, canonical []byte) uint64 {
	return maphash.Bytes(t.seed, canonical) ^ uint64(tenantIndex)*0x9e3779b97f4a7c15
}

// find returns the ref of a series. The slot where the search ended is where
// insert would put it.
func (t *table) find(hash uint64, tenantIndex uint32, canonical []byte) (ref uint32, slot int, ok bool) {
	if len(t.slots) == 0 {
		return 0, 0, false
	}
	mask := len(t.slots) - 1
	high := hash >> 32
	for slot = int(high) & mask; ; slot = (slot + 1) & mask {
		s := t.slots[slot]
		if s == 0 {
			return 0, slot, false
		}
		if s>>32 != high {
			continue
		}
		ref = uint32(s) - 1
		d := &t.definitions[ref>>pageBits][ref&pageMask]
		if d.tenant == tenantIndex && int(d.length) == len(canonical) && bytes.Equal(d.labels(t.labels.blocks), canonical) {
			return ref, slot, true
		}
	}
}

// define returns the ref of a series, giving it the next one if it is new. The
// caller has checked the labels to be canonical, and holds the shard's lock.
func (t *table) define(tn *tenant, canonical []byte) (ref uint32, isNew bool, err error) {
	hash := t.hash(tn.index, canonical)
	ref, slot, ok := t.find(hash, tn.index, canonical)
	if ok {
		return ref, false, nil
	}
	if t.next > uint32(wire.MaxSeriesRef) {
		return 0, false, fmt.Errorf("define series %d: %w", t.next, errRefsExhausted)
	}
	if 4*(int(t.next)+1) > 3*len(t.slots) { // at most 3/4 full
		t.growSlots()
		_, slot, _ = t.find(hash, tn.index, canonical)
	}
	ref = t.next
	t.slots[slot] = hash>>32<<32 | uint64(ref+1)
	if int(ref>>pageBits) == len(t.definitions) {
		t.definitions = append(t.definitions, new([pageRows]definition))
		t.newest = append(t.newest, new([pageRows]newestSample))
	}
	at, kept := t.labels.add(canonical)
	t.definitions[ref>>pageBits][ref&pageMask] = definition{at: at, length: uint32(len(kept)), tenant: tn.index}
	t.newestOf(ref).tenant = tn.index
	t.next++
	for it := wire.IterLabels(kept); it.Next(); {
		tn.postings.add(ref, textOf(it.Name()), textOf(it.Value()))
	}
	tn.postings.all = append(tn.postings.all, ref)
	return ref, true, nil
}

// growSlots doubles the hash table. A slot holds the half of the hash by which
// it was placed, so no label is looked at.
func (t *table) growSlots() {
	old := t.slots
	t.slots = make([]uint64, max(64, 2*len(old)))
	mask := len(t.slots) - 1
	for _, s := range old {
		if s == 0 {
			continue
		}
		slot := int(s>>32) & mask
		for t.slots[slot] != 0 {
			slot = (slot + 1) & mask
		}
		t.slots[slot] = s
	}
}

// labels returns the series' canonical labels.
func (d *definition) labels(blocks [][]byte) []byte { return d.at.from(blocks)[:d.length:d.length] }

// compareLabels orders canonical label sets as labels.Compare does: pair by
// pair, name before value, a prefix before what continues it.
func compareLabels(a, b []byte) int {
	for len(a) > 0 && len(b) > 0 {
		var x, y []byte
		x, a = cutString(a)
		y, b = cutString(b)
		if c := bytes.Compare(x, y); c != 0 {
			return c
		}
	}
	return len(a) - len(b)
}

// cutString cuts the first length-prefixed string off canonical labels.
func cutString(b []byte) (head, rest []byte) {
	if b[0] < 0x80 {
		n := int(b[0]) + 1
		return b[1:n], b[n:]
	}
	n, k := binary.Uvarint(b)
	return b[k : k+int(n)], b[k+int(n):]
}
