package block

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/quorate/quorate/internal/cursor"
	"github.com/quorate/quorate/internal/wire"
)

// A label pair is a name with a value. The pairs of a tenant are numbered in
// the order of (name, value), so that the labels of a series are rising
// numbers, and a name's values are a range of them.

// pair is a label pair of the tenant that is being written.
type pair struct {
	name, value string
	series      uint32 // number of series that have it
}

// pairTable gives numbers to the label pairs of a tenant as they come.
type pairTable struct {
	at    map[string]uint32 // by the pair's bytes in canonical labels
	pairs []pair
}

// number returns the provisional number of a pair, given as its bytes.
func (t *pairTable) number(encoded, name, value []byte) uint32 {
	n, ok := t.at[string(encoded)]
	if !ok {
		n = uint32(len(t.pairs))
		key := string(encoded)
		t.at[key] = n
		// Name and value alias the key.
		named := labelBytes(len(name))
		t.pairs = append(t.pairs, pair{name: key[named-len(name) : named], value: key[len(key)-len(value):]})
	}
	t.pairs[n].series++
	return n
}

// sort returns the numbers of the pairs in order, and the place of each.
func (t *pairTable) sort() (order, place []uint32) {
	order = make([]uint32, len(t.pairs))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(a, b uint32) int {
		return cmp.Or(strings.Compare(t.pairs[a].name, t.pairs[b].name), strings.Compare(t.pairs[a].value, t.pairs[b].value))
	})
	place = make([]uint32, len(order))
	for i, n := range order {
		place[n] = uint32(i)
	}
	return order, place
}

// appendLabelNumbers appends the provisional numbers of a series' labels.
func (t *pairTable) appendLabelNumbers(dst []uint32, canonical []byte) []uint32 {
	rest := canonical
	for it := wire.IterLabels(canonical); it.Next(); {
		n := labelBytes(len(it.Name())) + labelBytes(len(it.Value()))
		dst = append(dst, t.number(rest[:n], it.Name(), it.Value()))
		rest = rest[n:]
	}
	return dst
}

// labelBytes is the length of a string of n bytes with its length before it.
func labelBytes(n int) int {
	size := 1
	for u := n; u >= 0x80; u >>= 7 {
		size++
	}
	return size + n
}

// nameEntry is a label name of a tenant: it has the pairs [first, first+values).
type nameEntry struct {
	name          string
	first, values uint32 // first is counted from the tenant's first pair
}

// appendNames appends the row of a names page: for each name its bytes and how
// many values it has.
func appendNames(dst []byte, names []nameEntry) []byte {
	for i := range names {
		dst = cursor.AppendBytes(dst, names[i].name)
		dst = binary.AppendUvarint(dst, uint64(names[i].values))
	}
	return dst
}

func readNames(row []byte, pairs uint32) ([]nameEntry, error) {
	var names []nameEntry
	c := cursor.Cursor{B: row}
	next := uint64(0)
	for len(c.B) > 0 {
		n := nameEntry{name: c.String(), first: uint32(next)}
		n.values = readNumber(&c)
		next += uint64(n.values)
		if c.Bad || n.values == 0 || next > uint64(pairs) || len(names) > 0 && names[len(names)-1].name >= n.name {
			c.Fail()
			break
		}
		names = append(names, n)
	}
	if next != uint64(pairs) {
		c.Fail()
	}
	return names, c.Finish(ErrDamaged, "names of a tenant")
}
