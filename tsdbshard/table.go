package tsdbshard

import (
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

// newestSample identifies the newest sample of a series. It is logical state:
// Apply tells duplicates, conflicts and out-of-order samples by it, so files
// carry it and it does not depend on what is in memory.
type newestSample struct {
	time  int64
	bits  uint64 // value bits, or the hash of an encoded histogram
	start int64  // start timestamp, 0 for none
	kind  valueKind
}

// tableRow is what the table has of a series besides its labels: its newest
// sample, whose it is, and where its labels are. Apply looks at all of it for
// each sample.
type tableRow struct {
	time   int64
	bits   uint64
	labels slabPos // uvarint tenant, uvarint count, uvarint label numbers; never changes
	flags  uint32  // tenant << rowTenantShift | rowStarted | kind
}

const (
	rowKindMask    = 3
	rowStarted     = 4 // the newest sample has a start timestamp: it is in table.starts
	rowTenantShift = 3
	maxTenants     = 1 << (32 - rowTenantShift)
)

var errTableFull = errors.New("the set has no room for more series")

// hashMultiplier spreads the tenants over the hashes.
const hashMultiplier = 0x9e3779b97f4a7c15

// table is the series table of one ReplicaSet. Only the apply goroutine calls
// its methods; readers hold a catalog, and the shard's read lock while they
// take snapshots of lists.
type table struct {
	seed   maphash.Seed
	slab   slab // labels, lists
	index  hashIndex
	labels labelTable
	rows   []*[pageRows]tableRow
	// starts are the start timestamps of newest samples, in pages that are nil
	// where there are none.
	starts  []*[pageRows]int64
	next    uint32
	tenants []*tenant
	byID    map[quorate.TenantID]*tenant
	// Scratch space.
	ids    []uint32
	record []byte
}

// tenant is what a shard knows about one tenant.
type tenant struct {
	id     quorate.TenantID
	index  uint32
	names  map[string]uint32 // of labels; their numbers in table.labels
	series longList
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
	t := &table{seed: maphash.MakeSeed(), byID: make(map[quorate.TenantID]*tenant)}
	t.labels.slab = &t.slab
	return t
}

func (t *table) tenant(id quorate.TenantID) *tenant {
	tn := t.byID[id]
	if tn == nil {
		tn = &tenant{id: id, index: uint32(len(t.tenants)), names: make(map[string]uint32), info: emptyTenantInfo()}
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

// row returns the row of a ref below next.
func (t *table) row(ref uint32) *tableRow { return &t.rows[ref>>pageBits][ref&pageMask] }

// tenantOf returns the index of the tenant whose series a ref below next is.
func (t *table) tenantOf(ref uint32) uint32 { return t.row(ref).flags >> rowTenantShift }

// newestOf returns the newest sample of a ref below next.
func (t *table) newestOf(ref uint32) newestSample {
	row := t.row(ref)
	s := newestSample{time: row.time, bits: row.bits, kind: valueKind(row.flags & rowKindMask)}
	if row.flags&rowStarted != 0 {
		s.start = t.starts[ref>>pageBits][ref&pageMask]
	}
	return s
}

// setNewest sets the newest sample of a ref below next.
func (t *table) setNewest(ref uint32, s *newestSample) {
	row := t.row(ref)
	row.time, row.bits = s.time, s.bits
	if s.start != 0 || row.flags&(rowKindMask|rowStarted) != uint32(s.kind) {
		t.setRest(ref, row, s)
	}
}

// setRest sets what mostly stays as it is.
func (t *table) setRest(ref uint32, row *tableRow, s *newestSample) {
	row.flags = row.flags&^(rowKindMask|rowStarted) | uint32(s.kind)
	if s.start != 0 {
		row.flags |= rowStarted
		t.setStart(ref, s.start)
	}
}

func (t *table) setStart(ref uint32, start int64) {
	if n := len(t.rows) - len(t.starts); n > 0 {
		t.starts = append(t.starts, make([]*[pageRows]int64, n)...)
	}
	page := &t.starts[ref>>pageBits]
	if *page == nil {
		*page = new([pageRows]int64)
	}
	(*page)[ref&pageMask] = start
}

func (t *table) hash(tenantIndex uint32, canonical []byte) uint32 {
	return uint32((maphash.Bytes(t.seed, canonical) ^ uint64(tenantIndex)*hashMultiplier) >> 32)
}

// find returns the ref of a series.
func (t *table) find(hash, tenantIndex uint32, canonical []byte) (ref uint32, ok bool) {
	probe := t.index.probe(hash)
	for {
		ref, ok := probe.next()
		if !ok || t.tenantOf(ref) == tenantIndex && t.is(ref, tenantIndex, canonical) {
			return ref, ok
		}
	}
}

// is tells whether a series has just these labels.
func (t *table) is(ref, tenantIndex uint32, canonical []byte) bool {
	c := t.catalog()
	it, _ := c.ids(ref)
	for id, ok := it.next(); ok; id, ok = it.next() {
		if len(canonical) == 0 {
			return false
		}
		var name, value []byte
		name, canonical = cutBytes(canonical)
		value, canonical = cutBytes(canonical)
		if !t.labels.is(id, tenantIndex, name, value) {
			return false
		}
	}
	return len(canonical) == 0
}

// define returns the ref of a series, giving it the next one if it is new. The
// caller has checked the labels to be canonical, and holds the shard's lock.
func (t *table) define(tn *tenant, canonical []byte) (ref uint32, isNew bool, err error) {
	hash := t.hash(tn.index, canonical)
	if ref, ok := t.find(hash, tn.index, canonical); ok {
		return ref, false, nil
	}
	ref = t.next
	// What is refused depends on what was defined before and on nothing else.
	if ref > uint32(wire.MaxSeriesRef) || t.slab.full() || len(t.tenants) > maxTenants {
		return 0, false, fmt.Errorf("define series %d: %w", ref, errTableFull)
	}
	t.ids = t.labels.intern(t.ids[:0], t.seed, tn, canonical, ref)
	t.record = binary.AppendUvarint(t.record[:0], uint64(tn.index))
	t.record = binary.AppendUvarint(t.record, uint64(len(t.ids)))
	for _, id := range t.ids {
		t.record = binary.AppendUvarint(t.record, uint64(id))
	}
	at, _ := t.slab.add(t.record)
	if int(ref>>pageBits) == len(t.rows) {
		t.rows = append(t.rows, new([pageRows]tableRow))
	}
	*t.row(ref) = tableRow{labels: at, flags: tn.index << rowTenantShift}
	t.index.insert(hash, ref)
	tn.series.append(&t.slab, ref)
	t.next++
	return ref, true, nil
}
