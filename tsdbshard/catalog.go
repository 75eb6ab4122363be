package tsdbshard

import (
	"encoding/binary"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/quorate/quorate/internal/wire"
)

// catalog is what never changes about the series below next: whose they are
// and their labels. It is a copy of slice headers, valid for ever and for any
// number of goroutines, whatever the table goes on to define.
type catalog struct {
	next      uint32 // refs from here on are not in it
	nextLabel uint32 // nor are labels from here on
	slab      [][]byte
	rows      []*[pageRows]tableRow
	labels    []*[labelPageRows]labelRow
	names     []*labelName
}

// catalog returns the catalog of the series defined so far.
func (t *table) catalog() catalog {
	l := &t.labels
	return catalog{next: t.next, nextLabel: l.next, slab: t.slab.blocks, rows: t.rows, labels: l.pages, names: l.names}
}

// ids returns a series' labels: an iterator over their numbers, and the index of the
// tenant whose series it is.
func (c *catalog) ids(ref uint32) (it labelIDs, tenant uint32) {
	it.rest = c.rows[ref>>pageBits][ref&pageMask].labels.from(c.slab)
	tenant = it.uvarint()
	it.left = it.uvarint()
	return it, tenant
}

// tenantOf returns the index of the tenant whose series it is.
func (c *catalog) tenantOf(ref uint32) uint32 {
	_, tenant := c.ids(ref)
	return tenant
}

// labelIDs walks the numbers of a series' labels, which are in the order of
// their names.
type labelIDs struct {
	rest []byte
	left uint32
}

func (it *labelIDs) uvarint() uint32 {
	if b := it.rest[0]; b < 0x80 {
		it.rest = it.rest[1:]
		return uint32(b)
	}
	u, n := binary.Uvarint(it.rest)
	it.rest = it.rest[n:]
	return uint32(u)
}

// next returns the next label's number, and whether there is one.
func (it *labelIDs) next() (uint32, bool) {
	if it.left == 0 {
		return 0, false
	}
	it.left--
	return it.uvarint(), true
}

func (c *catalog) label(id uint32) *labelRow {
	return &c.labels[id>>labelPageBits][id&labelPageMask]
}

// name returns the name of a label.
func (c *catalog) name(id uint32) string { return c.names[c.label(id).name].text }

// value returns the value of a label. It aliases the slab, which keeps it.
func (c *catalog) value(id uint32) string { return textOf(c.label(id).value.bytes(c.slab)) }

// appendCanonical appends the canonical labels of a series.
func (c *catalog) appendCanonical(dst []byte, ref uint32) []byte {
	it, _ := c.ids(ref)
	for id, ok := it.next(); ok; id, ok = it.next() {
		dst = wire.AppendLabel(dst, c.name(id), c.value(id))
	}
	return dst
}

// addLabels adds the labels of a series to a builder, which copies them.
func (c *catalog) addLabels(b *labels.ScratchBuilder, ref uint32) {
	it, _ := c.ids(ref)
	for id, ok := it.next(); ok; id, ok = it.next() {
		b.Add(c.name(id), c.value(id))
	}
}

// labelSet returns the labels of a series.
func (c *catalog) labelSet(ref uint32) labels.Labels {
	var b labels.ScratchBuilder
	c.addLabels(&b, ref)
	return b.Labels()
}

// compare orders two series of one tenant as labels.Compare does: pair by
// pair, name before value, a prefix before what continues it. Labels of one
// tenant are equal if their numbers are, so only one pair is looked at.
func (c *catalog) compare(a, b uint32) int {
	x, _ := c.ids(a)
	y, _ := c.ids(b)
	return c.compareIDs(x, y)
}

// compareIDs orders what is left of two label sets.
func (c *catalog) compareIDs(x, y labelIDs) int {
	for {
		i, more := x.next()
		j, too := y.next()
		switch {
		case !more && !too:
			return 0
		case !more:
			return -1
		case !too:
			return 1
		case i == j:
			continue
		}
		return c.compareLabels(i, j)
	}
}
