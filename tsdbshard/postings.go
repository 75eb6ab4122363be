package tsdbshard

import (
	"context"
	"math/bits"
	"slices"
	"sort"

	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/index"
)

// Lists of refs as index.Postings. Their positions are refs plus one, since
// the set operations of tsdb/index take 0 for "before the first".

func positionOf(ref uint32) storage.SeriesRef { return storage.SeriesRef(ref) + 1 }

// listPostings walks a snapshot of a list.
type listPostings struct {
	runs runCursor
	cur  storage.SeriesRef
}

var _ index.Postings = (*listPostings)(nil)

func newListPostings(l *idList) *listPostings { return &listPostings{runs: l.runs()} }

// Next moves to the next ref.
func (p *listPostings) Next() bool {
	if p.cur != 0 && p.cur < storage.SeriesRef(p.runs.end) {
		p.cur++
		return true
	}
	if !p.runs.next() {
		p.cur = 0
		return false
	}
	p.cur = positionOf(p.runs.start)
	return true
}

// Seek moves on to the first position at or after v.
func (p *listPostings) Seek(v storage.SeriesRef) bool {
	switch {
	case p.cur == 0 && p.runs.end == 0 && v <= 1, p.cur != 0 && p.cur >= v:
		return p.cur != 0 || p.Next()
	case v > maxPosition || !p.runs.seek(uint32(v-1)):
		p.runs.stop()
		p.cur = 0
		return false
	}
	p.cur = positionOf(p.runs.start)
	return true
}

// maxPosition is past all positions.
const maxPosition = 1 << 32

// At returns the position that the list stands at.
func (p *listPostings) At() storage.SeriesRef { return p.cur }

// Err returns nil.
func (p *listPostings) Err() error { return nil }

// refList is a list of refs as index.Postings.
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

// bitList is a set of refs, a bit for each below a limit, as index.Postings.
type bitList struct {
	words []uint64
	cur   storage.SeriesRef // 0 before the first and after the last
	next  storage.SeriesRef // position to go on from, less one: a ref
}

var _ index.Postings = (*bitList)(nil)

// Next moves to the next ref.
func (l *bitList) Next() bool {
	at := int(l.next >> 6)
	if at < len(l.words) {
		w := l.words[at] &^ (1<<(l.next&63) - 1)
		for w == 0 && at+1 < len(l.words) {
			at++
			w = l.words[at]
		}
		if w != 0 {
			ref := uint32(at<<6 | bits.TrailingZeros64(w))
			l.cur = positionOf(ref)
			l.next = l.cur
			return true
		}
	}
	l.next, l.cur = storage.SeriesRef(len(l.words))<<6, 0
	return false
}

// Seek moves on to the first position at or after v.
func (l *bitList) Seek(v storage.SeriesRef) bool {
	if l.cur >= v && l.cur != 0 {
		return true
	}
	if v > 0 {
		l.next = max(l.next, v-1)
	}
	return l.Next()
}

// At returns the position that the list stands at.
func (l *bitList) At() storage.SeriesRef { return l.cur }

// Err returns nil.
func (l *bitList) Err() error { return nil }

// lazyUnion is up to how many lists are merged as they are walked. That reads
// only what an intersection asks for, but costs a comparison or two a ref for
// each doubling.
const lazyUnion = 16

// union is the union of lists, built as they come: refs while they are few,
// bits from where those take less memory. A million lists of one ref, which a
// regular expression may well select, need no tree of a million cursors.
type union struct {
	limit uint32 // past all refs
	refs  []uint32
	words []uint64
}

func (u *union) add(l *idList) {
	for c := l.runs(); c.next(); {
		u.addRun(c.start, c.end)
	}
}

func (u *union) addRun(start, end uint32) {
	if u.words == nil {
		if 32*(len(u.refs)+int(end-start)) <= int(u.limit) {
			for ref := start; ref < end; ref++ {
				u.refs = append(u.refs, ref)
			}
			return
		}
		u.words = make([]uint64, u.limit/64+1)
		for _, ref := range u.refs {
			u.words[ref>>6] |= 1 << (ref & 63)
		}
		u.refs = nil
	}
	for ref := start; ref < end; {
		word, bit := ref>>6, ref&63
		n := min(64-bit, end-ref)
		u.words[word] |= (1<<n - 1) << bit
		ref += n
	}
}

func (u *union) postings() index.Postings {
	if u.words != nil {
		return &bitList{words: u.words}
	}
	slices.Sort(u.refs)
	return newRefList(slices.Compact(u.refs))
}

// mergeLists returns the union of lists.
func mergeLists(ctx context.Context, lists []idList, limit uint32) index.Postings {
	if len(lists) > lazyUnion {
		u := union{limit: limit}
		for i := range lists {
			u.add(&lists[i])
		}
		return u.postings()
	}
	its := make([]*listPostings, len(lists))
	for i := range lists {
		its[i] = newListPostings(&lists[i])
	}
	return index.Merge(ctx, its...)
}
