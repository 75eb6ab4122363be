package block

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
)

// tenantEntry is what the directory says of one tenant of a canonical block.
type tenantEntry struct {
	id quorate.TenantID
	// Series and label pairs are numbered over the whole block; a tenant has
	// those from first on.
	firstSeries, series uint32
	firstPair, pairs    uint32
	samples             uint64
	// mint and maxt (ms) are the first and last sample's; mint > maxt for none.
	mint, maxt int64
}

func emptyTenant(id quorate.TenantID) tenantEntry {
	return tenantEntry{id: id, mint: math.MaxInt64, maxt: math.MinInt64}
}

// append appends an entry that follows one of the given ID; where series and
// pairs begin follows from those before.
func (e *tenantEntry) append(dst []byte, previous quorate.TenantID) []byte {
	dst = binary.AppendUvarint(dst, uint64(e.id-previous))
	dst = binary.AppendUvarint(dst, uint64(e.series))
	dst = binary.AppendUvarint(dst, uint64(e.pairs))
	dst = binary.AppendUvarint(dst, e.samples)
	if e.samples == 0 {
		return dst
	}
	dst = binary.AppendVarint(dst, e.mint)
	return binary.AppendUvarint(dst, uint64(e.maxt-e.mint))
}

// next reads the entry after e.
func (e *tenantEntry) next(c *cursor.Cursor, first bool) {
	delta := c.Uvarint()
	series, pairs := uint64(e.firstSeries)+uint64(e.series), uint64(e.firstPair)+uint64(e.pairs)
	n := emptyTenant(e.id + quorate.TenantID(delta))
	n.firstSeries, n.firstPair = uint32(series), uint32(pairs)
	n.series, n.pairs, n.samples = readNumber(c), readNumber(c), c.Uvarint()
	if n.samples > 0 {
		n.mint = c.Varint()
		n.maxt = n.mint + int64(c.Uvarint())
		if n.maxt < n.mint {
			c.Fail()
		}
	}
	if !first && (delta == 0 || n.id < e.id) || series+uint64(n.series) > math.MaxUint32 || pairs+uint64(n.pairs) > math.MaxUint32 {
		c.Fail()
	}
	*e = n
}

// tenantStride is how many entries are read one after the other when a tenant
// is looked up.
const tenantStride = 32

// tenantTable finds tenants. It keeps the entries as they are encoded, some 16
// bytes each, and every tenantStride-th where to begin to read.
type tenantTable struct {
	n       int
	encoded []byte
	marks   []tenantMark
}

// tenantMark is where an entry's encoding begins, and the entry before it.
type tenantMark struct {
	before tenantEntry
	first  quorate.TenantID // of the entry that begins here
	offset int
}

// readTenants reads the table at the end of a directory.
func readTenants(c *cursor.Cursor, n int) (*tenantTable, error) {
	const leastEntry = 4
	if n > len(c.B)/leastEntry {
		return nil, fmt.Errorf("%w: %d tenants in %d bytes", ErrDamaged, n, len(c.B))
	}
	t := &tenantTable{n: n}
	all := slices.Clone(c.B)
	own := cursor.Cursor{B: all, Shortest: true}
	var e tenantEntry
	for i := range n {
		before, offset := e, len(all)-len(own.B)
		e.next(&own, i == 0)
		if i%tenantStride == 0 {
			t.marks = append(t.marks, tenantMark{before: before, first: e.id, offset: offset})
		}
	}
	if own.Bad {
		return nil, fmt.Errorf("%w: tenants", ErrDamaged)
	}
	used := len(all) - len(own.B)
	t.encoded, c.B = slices.Clip(all[:used]), c.B[used:]
	return t, nil
}

// all yields the entries in order.
func (t *tenantTable) all(yield func(tenantEntry) bool) {
	c := cursor.Cursor{B: t.encoded}
	var e tenantEntry
	for i := range t.n {
		e.next(&c, i == 0)
		if !yield(e) {
			return
		}
	}
}

// find returns the entry of a tenant.
func (t *tenantTable) find(id quorate.TenantID) (tenantEntry, bool) {
	i, exact := slices.BinarySearchFunc(t.marks, id, func(m tenantMark, id quorate.TenantID) int {
		switch {
		case m.first < id:
			return -1
		case m.first > id:
			return 1
		}
		return 0
	})
	if !exact {
		i--
	}
	if i < 0 {
		return tenantEntry{}, false
	}
	m := &t.marks[i]
	c := cursor.Cursor{B: t.encoded[m.offset:]}
	e := m.before
	for k := i * tenantStride; k < min(t.n, (i+1)*tenantStride); k++ {
		if e.next(&c, k == 0); e.id >= id {
			return e, e.id == id
		}
	}
	return tenantEntry{}, false
}

func (t *tenantTable) memory() int64 { return int64(len(t.encoded)) + 80*int64(len(t.marks)) }
