package tsdbshard

import (
	"bytes"
	"hash/maphash"

	"github.com/quorate/quorate/internal/wire"
)

const (
	labelPageBits = 8
	labelPageRows = 1 << labelPageBits
	labelPageMask = labelPageRows - 1
)

// labelTable numbers the labels of a shard: each (tenant, name, value) is kept
// once, and is where the inverted index has its list of series. Numbers are
// dense, in the order of the labels' first series. It is append-only but for
// the ends of lists.
//
// Tenants do not share labels, though many have the same: for each of a
// tenant's labels there is a list to be kept anyhow, and one number stands for
// the list, the name and the value alike.
type labelTable struct {
	idLists

	index hashIndex
	pages []*[labelPageRows]labelRow
	next  uint32
	names []*labelName
	// previous are the labels of the series defined last; the next one mostly
	// shares all but one or two with it. same tells which of them were those of
	// the series before, too: only these are worth a look.
	previous []uint32
	same     []bool
}

// labelRow is one label.
type labelRow struct {
	value  slabPos // uvarint length, bytes
	name   uint32  // number of its name
	series listHead
}

// labelName is one label name of one tenant.
type labelName struct {
	tenant uint32 // index into the table's tenants
	text   string
	values longList // of the numbers of its labels
}

func (t *labelTable) row(id uint32) *labelRow {
	return &t.pages[id>>labelPageBits][id&labelPageMask]
}

// labelHash hashes a label as it stands in canonical labels.
func labelHash(seed maphash.Seed, tenant uint32, encoded []byte) uint32 {
	return uint32((maphash.Bytes(seed, encoded) ^ uint64(tenant)*hashMultiplier) >> 32)
}

// is tells whether a number is that of a label.
func (t *labelTable) is(id, tenant uint32, name, value []byte) bool {
	row := t.row(id)
	n := t.names[row.name]
	return string(row.value.bytes(t.slab.blocks)) == string(value) && n.text == string(name) && n.tenant == tenant
}

// find returns the number of a label.
func (t *labelTable) find(hash, tenant uint32, name, value []byte) (uint32, bool) {
	probe := t.index.probe(hash)
	for {
		id, ok := probe.next()
		if !ok || t.is(id, tenant, name, value) {
			return id, ok
		}
	}
}

// intern appends the numbers of a new series' labels to dst, giving numbers to
// those that are new, and adds the series to their lists.
func (t *labelTable) intern(dst []uint32, seed maphash.Seed, tn *tenant, canonical []byte, ref uint32) []uint32 {
	rest := canonical
	for i := 0; len(rest) > 0; i++ {
		if i == len(t.previous) {
			t.previous, t.same = append(t.previous, 0), append(t.same, false)
		}
		nameFrom, nameTo := bytesSpan(rest)
		valueFrom, end := bytesSpan(rest[nameTo:])
		valueFrom, end = nameTo+valueFrom, nameTo+end
		name, value := rest[nameFrom:nameTo], rest[valueFrom:end]
		id := t.previous[i]
		if !t.same[i] || !t.is(id, tn.index, name, value) {
			hash, ok := labelHash(seed, tn.index, rest[:end]), false
			if id, ok = t.find(hash, tn.index, name, value); !ok {
				id = t.add(hash, tn, name, value)
			}
			t.same[i] = id == t.previous[i]
			t.previous[i] = id
		}
		t.idLists.append(&t.row(id).series, ref)
		dst = append(dst, id)
		rest = rest[end:]
	}
	return dst
}

// add numbers a new label.
func (t *labelTable) add(hash uint32, tn *tenant, name, value []byte) uint32 {
	n, ok := tn.names[string(name)]
	if !ok {
		n = uint32(len(t.names))
		_, text := t.slab.add(name)
		t.names = append(t.names, &labelName{tenant: tn.index, text: textOf(text)})
		tn.names[textOf(text)] = n
	}
	id := t.next
	t.next++
	if int(id>>labelPageBits) == len(t.pages) {
		t.pages = append(t.pages, new([labelPageRows]labelRow))
	}
	*t.row(id) = labelRow{value: t.slab.addBytes(value), name: n}
	t.names[n].values.append(t.slab, id)
	t.index.insert(hash, id)
	return id
}

// lookup returns the number of a label that a reader asks for. It is called
// with the shard's lock or read lock held.
func (t *labelTable) lookup(seed maphash.Seed, tn *tenant, name, value string) (uint32, bool) {
	var room [128]byte
	encoded := wire.AppendLabel(room[:0], name, value)
	n, rest := cutBytes(encoded)
	v, _ := cutBytes(rest)
	return t.find(labelHash(seed, tn.index, encoded), tn.index, n, v)
}

// compareLabels orders canonical label sets as labels.Compare does: pair by
// pair, name before value, a prefix before what continues it.
func compareLabels(a, b []byte) int {
	for len(a) > 0 && len(b) > 0 {
		var x, y []byte
		x, a = cutBytes(a)
		y, b = cutBytes(b)
		if c := bytes.Compare(x, y); c != 0 {
			return c
		}
	}
	return len(a) - len(b)
}
