package tsdbshard

import (
	"slices"
	"strings"
)

// labelSorter sorts series of one tenant as labels.Compare orders them, label
// by label: series are cut into groups by the number of their first label, the
// groups are brought in the order of those labels, and each group is sorted by
// the labels that come next. So a value is compared with another once for each
// group and not for each pair of series: 100k series take a third of what
// slices.SortFunc with catalog.compare takes.
type labelSorter struct {
	*catalog
	// Scratch space.
	ids    []uint32
	ranks  []labelRank
	sorted []sortRow
	counts []int
}

// sortRow is a series that is being sorted.
type sortRow struct {
	ref  uint32
	next slabPos // of the labels that come next
	left uint32  // how many they are
	key  uint32  // number of the current label plus one; 0 past the last
}

type labelRank struct{ key, rank uint32 }

// fewRows is up to how many series are compared pair by pair.
const fewRows = 12

// sort sorts refs by their labels.
func (c *catalog) sort(refs []uint32) {
	rows := make([]sortRow, len(refs))
	for i, ref := range refs {
		at := c.rows[ref>>pageBits][ref&pageMask].labels
		before := len(at.from(c.slab))
		it, _ := c.ids(ref)
		rows[i] = sortRow{ref: ref, next: at + slabPos(before-len(it.rest)), left: it.left}
	}
	s := labelSorter{catalog: c}
	s.sortRows(rows)
	for i := range rows {
		refs[i] = rows[i].ref
	}
}

// sortRows sorts series that have all labels before their next one in common.
func (s *labelSorter) sortRows(rows []sortRow) {
	for len(rows) > 1 {
		if len(rows) <= fewRows {
			slices.SortFunc(rows, func(a, b sortRow) int {
				return s.compareIDs(labelIDs{rest: a.next.from(s.slab), left: a.left}, labelIDs{rest: b.next.from(s.slab), left: b.left})
			})
			return
		}
		if !s.advance(rows) {
			s.order(rows)
			break
		}
	}
	for from := 0; from < len(rows); {
		to := from + 1
		for to < len(rows) && rows[to].key == rows[from].key {
			to++
		}
		if to-from > 1 {
			s.sortRows(rows[from:to])
		}
		from = to
	}
}

// advance moves to the next label of each series and tells whether it is one.
func (s *labelSorter) advance(rows []sortRow) (same bool) {
	same = true
	for i := range rows {
		r := &rows[i]
		r.key = 0
		if r.left > 0 {
			it := labelIDs{rest: r.next.from(s.slab), left: r.left}
			before := len(it.rest)
			id, _ := it.next()
			r.next += slabPos(before - len(it.rest))
			r.left--
			r.key = id + 1
		}
		same = same && r.key == rows[0].key
	}
	return same
}

// order brings series in the order of their current labels.
func (s *labelSorter) order(rows []sortRow) {
	s.ids = s.ids[:0]
	for i := range rows {
		s.ids = append(s.ids, rows[i].key)
	}
	slices.Sort(s.ids)
	s.ids = slices.Compact(s.ids)
	s.ranks = s.ranks[:0]
	for _, key := range s.ids {
		s.ranks = append(s.ranks, labelRank{key: key})
	}
	// In order of the labels, to give each its rank, and back.
	slices.SortFunc(s.ranks, func(a, b labelRank) int { return s.compareKeys(a.key, b.key) })
	for i := range s.ranks {
		s.ranks[i].rank = uint32(i)
	}
	slices.SortFunc(s.ranks, func(a, b labelRank) int { return int(a.key) - int(b.key) })
	s.counts = slices.Grow(s.counts[:0], len(s.ranks)+1)[:len(s.ranks)+1]
	clear(s.counts)
	s.ids = s.ids[:0]
	for i := range rows {
		at, _ := slices.BinarySearchFunc(s.ranks, rows[i].key, func(r labelRank, key uint32) int { return int(r.key) - int(key) })
		rank := s.ranks[at].rank
		s.ids = append(s.ids, rank)
		s.counts[rank+1]++
	}
	for i := 1; i < len(s.counts); i++ {
		s.counts[i] += s.counts[i-1]
	}
	s.sorted = slices.Grow(s.sorted[:0], len(rows))[:len(rows)]
	for i, rank := range s.ids {
		s.sorted[s.counts[rank]] = rows[i]
		s.counts[rank]++
	}
	copy(rows, s.sorted)
}

func (s *labelSorter) compareKeys(a, b uint32) int {
	switch {
	case a == b:
		return 0
	case a == 0:
		return -1
	case b == 0:
		return 1
	}
	return s.compareLabels(a-1, b-1)
}

// compareLabels orders two different labels of one tenant.
func (c *catalog) compareLabels(i, j uint32) int {
	if n, m := c.label(i).name, c.label(j).name; n != m {
		return strings.Compare(c.names[n].text, c.names[m].text)
	}
	return strings.Compare(c.value(i), c.value(j))
}
