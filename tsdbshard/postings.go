package tsdbshard

import (
	"slices"
	"sort"

	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/index"
)

// postings is one tenant's inverted index: name → value → refs. Everything in
// it is append-only and ascending, so a view reads the part of it that is older
// than the view's next ref: lists are cut at it, and values and names whose
// first series is younger are not there.
//
// It is index.MemPostings with 4-byte refs and with this cut. Writers hold the
// shard's lock, readers its read lock while they copy slice headers.
type postings struct {
	names map[string]*nameIndex
	all   []uint32
}

// nameIndex is the index of one label name. Values stand in the order of their
// first series, which is also the order of those series' refs.
type nameIndex struct {
	at     map[string]uint32 // value → position in values and lists
	values []string
	lists  [][]uint32
}

func newPostings() *postings { return &postings{names: make(map[string]*nameIndex)} }

func (p *postings) add(ref uint32, name, value string) {
	n := p.names[name]
	if n == nil {
		n = &nameIndex{at: make(map[string]uint32)}
		p.names[name] = n
	}
	i, ok := n.at[value]
	if !ok {
		i = uint32(len(n.values))
		n.at[value] = i
		n.values = append(n.values, value)
		n.lists = append(n.lists, nil)
	}
	n.lists[i] = append(n.lists[i], ref)
}

// cutRefs returns the refs of an ascending list that are below next.
func cutRefs(list []uint32, next uint32) []uint32 {
	if n := len(list); n == 0 || list[n-1] < next {
		return list[:n:n]
	}
	n, _ := slices.BinarySearch(list, next)
	return list[:n:n]
}

// cutValues returns how many of the name's values have a series below next.
func (n *nameIndex) cutValues(next uint32) int {
	return sort.Search(len(n.lists), func(i int) bool { return n.lists[i][0] >= next })
}

// refList is a list of refs as index.Postings. Its positions are refs plus
// one, since the set operations of tsdb/index take 0 for "before the first".
type refList struct {
	rest []uint32
	cur  storage.SeriesRef
}

var _ index.Postings = (*refList)(nil)

func newRefList(refs []uint32) *refList { return &refList{rest: refs} }

// Next moves to the next ref.
func (l *refList) Next() bool {
	if len(l.rest) == 0 {
		l.cur = 0
		return false
	}
	l.cur, l.rest = positionOf(l.rest[0]), l.rest[1:]
	return true
}

// Seek moves on to the first position at or after v.
func (l *refList) Seek(v storage.SeriesRef) bool {
	if l.cur >= v && l.cur != 0 {
		return true
	}
	i := sort.Search(len(l.rest), func(i int) bool { return positionOf(l.rest[i]) >= v })
	l.rest = l.rest[i:]
	return l.Next()
}

// At returns the position that the list stands at.
func (l *refList) At() storage.SeriesRef { return l.cur }

// Err returns nil.
func (l *refList) Err() error { return nil }

func positionOf(ref uint32) storage.SeriesRef { return storage.SeriesRef(ref) + 1 }
