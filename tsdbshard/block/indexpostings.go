package block

import (
	"context"
	"fmt"
	"math/bits"
	"sort"

	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/quorate/quorate/internal/cursor"
)

// Postings returns the series that have one of the values for a label.
func (r *indexReader) Postings(ctx context.Context, name string, values ...string) (index.Postings, error) {
	if all, value := index.AllPostingsKey(); name == all && len(values) == 1 && values[0] == value {
		return r.t.allPostings(), nil
	}
	n := r.name(name)
	if n == nil {
		return index.EmptyPostings(), nil
	}
	var numbers []uint32
	for _, value := range values {
		number, ok, err := r.t.f.findValue(r.t.cache, r.t.entry.firstPair+n.first, n.values, value)
		if err != nil {
			return nil, fmt.Errorf("postings of %s=%q: %w", name, value, err)
		}
		if ok {
			numbers = append(numbers, number)
		}
	}
	p := r.t.union(ctx, numbers)
	return p, p.Err()
}

// PostingsForLabelMatching returns the series whose value of a label matches.
func (r *indexReader) PostingsForLabelMatching(ctx context.Context, name string, match func(string) bool) index.Postings {
	n := r.name(name)
	if n == nil {
		return index.EmptyPostings()
	}
	var numbers []uint32
	err := r.eachValue(ctx, n, func(value string, number, _ uint32) bool {
		if match(value) {
			numbers = append(numbers, number)
		}
		return true
	})
	if err != nil {
		return index.ErrPostings(fmt.Errorf("postings of %s: %w", name, err))
	}
	return r.t.union(ctx, numbers)
}

// PostingsForAllLabelValues returns the series that have a label.
func (r *indexReader) PostingsForAllLabelValues(ctx context.Context, name string) index.Postings {
	return r.PostingsForLabelMatching(ctx, name, func(string) bool { return true })
}

// allPostings returns all series.
func (t *CanonicalTenant) allPostings() index.Postings {
	if t.entry.series == 0 {
		return index.EmptyPostings()
	}
	return &rangePostings{n: uint64(t.entry.series)}
}

// postings returns the series of a pair, by the pair's number in the block.
func (t *CanonicalTenant) postings(number uint32) *postings {
	return &postings{t: t, number: number, page: t.f.dir.sections[pagePostings].find(number)}
}

// union returns the series that have one of the pairs. More than one list is
// gathered into a bit for each series of the tenant, 125 KB for a million: a
// tree over the lists, as index.Merge makes it, takes more for a few thousand
// values, and for each posting a logarithm of them.
func (t *CanonicalTenant) union(ctx context.Context, numbers []uint32) index.Postings {
	switch len(numbers) {
	case 0:
		return index.EmptyPostings()
	case 1:
		return t.postings(numbers[0])
	}
	set := &bitPostings{words: make([]uint64, (t.entry.series+63)/64)}
	for i, number := range numbers {
		if i%checkContextEvery == 0 && ctx.Err() != nil {
			return index.ErrPostings(ctx.Err())
		}
		if err := t.postings(number).each(func(list []uint32) {
			for _, n := range list {
				set.words[n/64] |= 1 << (n % 64)
			}
		}); err != nil {
			return index.ErrPostings(err)
		}
	}
	return set
}

// refOf returns the ref of a series, by its place among the tenant's series:
// one more, since the set operations of tsdb/index take 0 for "before the first".
func refOf(place uint32) storage.SeriesRef { return storage.SeriesRef(place) + 1 }

// postings walks the series of a label pair, reading pages as it comes to them.
type postings struct {
	t      *CanonicalTenant
	number uint32
	page   int // next to be read
	p      *blobPage
	row    int      // next in p
	list   []uint32 // what is left of the piece under way
	buffer []uint32
	cur    storage.SeriesRef
	err    error
}

// nextPiece decodes the next piece that has a number at or after least.
func (l *postings) nextPiece(least uint32) bool {
	pages := l.t.f.dir.sections[pagePostings].pages
	for l.err == nil {
		if l.p == nil || l.row == len(l.p.rows) {
			if l.page < 0 || l.page >= len(pages) || pages[l.page].first > l.number {
				return false
			}
			if l.p, l.err = l.t.f.blobPage(l.t.cache, pagePostings, l.page); l.err != nil {
				return false
			}
			l.row = l.p.find(l.number)
			l.page++
			continue
		}
		if l.p.rows[l.row].number != l.number {
			return false
		}
		piece := l.p.row(l.row)
		l.row++
		c := cursor.Cursor{B: piece}
		if h := readPieceHead(&c); !c.Bad && h.last < least {
			continue
		}
		l.decode(piece)
		return l.err == nil
	}
	return false
}

func (l *postings) decode(piece []byte) {
	l.buffer, l.err = appendPieceNumbers(l.buffer[:0], piece)
	if l.err == nil && l.buffer[len(l.buffer)-1] >= l.t.entry.series {
		l.err = fmt.Errorf("%w: series %d of %d", ErrDamaged, l.buffer[len(l.buffer)-1], l.t.entry.series)
	}
	l.list = l.buffer
	if l.err != nil {
		l.list = nil
		l.err = l.t.f.at(pagePostings, l.page-1, fmt.Errorf("pair %d: %w", l.number, l.err))
	}
}

// each calls visit with what is left of the list, piece by piece.
func (l *postings) each(visit func(list []uint32)) error {
	for l.nextPiece(0) {
		visit(l.list)
	}
	return l.err
}

// Next moves to the next series.
func (l *postings) Next() bool {
	if len(l.list) == 0 && !l.nextPiece(0) {
		l.cur = 0
		return false
	}
	l.cur, l.list = refOf(l.list[0]), l.list[1:]
	return true
}

// Seek moves on to the first ref at or after v.
func (l *postings) Seek(v storage.SeriesRef) bool {
	if l.cur >= v && l.cur != 0 {
		return true
	}
	if v == 0 {
		return l.Next()
	}
	if v > storage.SeriesRef(l.t.entry.series) {
		l.list, l.page, l.p = nil, len(l.t.f.dir.sections[pagePostings].pages), nil
		return l.Next()
	}
	least := uint32(v - 1)
	if n := len(l.list); n == 0 || l.list[n-1] < least {
		if !l.nextPiece(least) {
			l.list, l.cur = nil, 0
			return false
		}
	}
	if l.list[0] < least {
		l.list = l.list[sort.Search(len(l.list), func(i int) bool { return l.list[i] >= least }):]
	}
	return l.Next()
}

// At returns the ref that the list stands at.
func (l *postings) At() storage.SeriesRef { return l.cur }

// Err returns why the list ended early.
func (l *postings) Err() error { return l.err }

// rangePostings are the refs from 1 to n.
type rangePostings struct{ cur, n uint64 }

// Next moves to the next ref.
func (l *rangePostings) Next() bool {
	if l.cur >= l.n {
		l.cur = l.n + 1
		return false
	}
	l.cur++
	return true
}

// Seek moves on to the first ref at or after v.
func (l *rangePostings) Seek(v storage.SeriesRef) bool {
	if l.cur >= uint64(v) && l.cur != 0 {
		return l.cur <= l.n
	}
	l.cur = min(max(uint64(v), 1), l.n+1)
	return l.cur <= l.n
}

// At returns the current ref.
func (l *rangePostings) At() storage.SeriesRef { return storage.SeriesRef(l.cur) }

// Err returns nil.
func (*rangePostings) Err() error { return nil }

// bitPostings are refs as a set of bits, by place.
type bitPostings struct {
	words []uint64
	cur   storage.SeriesRef // 0 before the first
	done  bool
}

// Next moves to the next ref.
func (l *bitPostings) Next() bool { return l.from(uint64(l.cur)) }

// from moves to the first place at or after one.
func (l *bitPostings) from(place uint64) bool {
	for w := place / 64; !l.done && w < uint64(len(l.words)); w++ {
		word := l.words[w]
		if w == place/64 {
			word &^= 1<<(place%64) - 1
		}
		if word != 0 {
			l.cur = storage.SeriesRef(w*64+uint64(bits.TrailingZeros64(word))) + 1
			return true
		}
	}
	l.done = true
	return false
}

// Seek moves on to the first ref at or after v.
func (l *bitPostings) Seek(v storage.SeriesRef) bool {
	if l.done || l.cur >= v && l.cur != 0 {
		return !l.done
	}
	if v == 0 {
		return l.Next()
	}
	return l.from(uint64(v - 1))
}

// At returns the current ref.
func (l *bitPostings) At() storage.SeriesRef { return l.cur }

// Err returns nil.
func (*bitPostings) Err() error { return nil }
