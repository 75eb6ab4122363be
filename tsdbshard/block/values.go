package block

import (
	"encoding/binary"
	"fmt"
	"math"
	"sort"

	"github.com/quorate/quorate/internal/cursor"
)

// A values page has the values of consecutive label pairs: uvarint first pair,
// uvarint number of pairs, for each the number of series that have it, for each
// the length of its value, then the values.

// valuesTarget is the size at which a page of values is closed, before
// compression.
const valuesTarget = 16 << 10

// valuesWriter gathers label values into pages.
type valuesWriter struct {
	f      *fileWriter
	series []byte
	sizes  []byte
	values []byte
	body   []byte // scratch
	entry  pageEntry
	key    string
	next   uint32 // number of the next pair
	last   string // value of the last pair of the same name, else empty
}

// add gives the next number to a pair. A name's first pair is told.
func (w *valuesWriter) add(value string, series uint32, firstOfName bool) {
	if len(w.series)+len(w.sizes)+len(w.values)+len(value) > valuesTarget {
		w.flush()
	}
	if firstOfName {
		w.last = ""
	}
	if w.entry.rows == 0 {
		w.entry.first = w.next
		// A page that begins inside a name is found by what tells its first
		// value from the one before.
		if w.last != "" {
			w.key = value[:commonPrefix(w.last, value)+1]
		}
	}
	w.series = binary.AppendUvarint(w.series, uint64(series))
	w.sizes = binary.AppendUvarint(w.sizes, uint64(len(value)))
	w.values = append(w.values, value...)
	w.last = value
	w.entry.rows++
	w.next++
}

func commonPrefix(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func (w *valuesWriter) flush() {
	if w.entry.rows == 0 {
		return
	}
	b := binary.AppendUvarint(w.body[:0], uint64(w.entry.first))
	b = binary.AppendUvarint(b, uint64(w.entry.rows))
	b = append(append(append(b, w.series...), w.sizes...), w.values...)
	w.body = b
	w.f.writePage(pageValues, b, &w.entry, w.key, true)
	w.series, w.sizes, w.values = w.series[:0], w.sizes[:0], w.values[:0]
	w.entry, w.key = pageEntry{}, ""
}

// valuesPage is a parsed values page.
type valuesPage struct {
	first  uint32 // number of the first pair
	series []uint32
	ends   []uint32 // where each value ends in text
	text   string
}

func (p *valuesPage) size() int { return len(p.text) + 8*len(p.ends) }

func (p *valuesPage) value(i int) string {
	from := uint32(0)
	if i > 0 {
		from = p.ends[i-1]
	}
	return p.text[from:p.ends[i]]
}

func readValuesPage(body []byte) (*valuesPage, error) {
	c := cursor.Cursor{B: body}
	p := &valuesPage{first: readNumber(&c)}
	n := c.Count(3)
	if uint64(p.first)+uint64(n) > math.MaxUint32 {
		c.Fail()
	}
	p.series, p.ends = make([]uint32, 0, n), make([]uint32, 0, n)
	for range n {
		p.series = append(p.series, readNumber(&c))
	}
	end := uint64(0)
	for range n {
		end += c.Uvarint()
		if end > uint64(len(body)) {
			c.Fail()
			break
		}
		p.ends = append(p.ends, uint32(end))
	}
	p.text = string(c.Take(end))
	if n == 0 {
		c.Fail()
	}
	return p, c.Finish(ErrDamaged, "page")
}

// valuesPage returns the i-th values page.
func (f *file) valuesPage(c *Cache, i int) (*valuesPage, error) {
	e := &f.dir.sections[pageValues].pages[i]
	p, err := load(f, c, pageValues, i, readValuesPage)
	if err == nil && (p.first != e.first || len(p.ends) != int(e.rows)) {
		err = f.at(pageValues, i, fmt.Errorf("%w: %d values from pair %d on", ErrDamaged, len(p.ends), p.first))
	}
	return p, err
}

// valuesPageOf returns the values page that has a pair, by the pair's number in
// the block.
func (f *file) valuesPageOf(c *Cache, number uint32) (*valuesPage, error) {
	i := f.dir.sections[pageValues].find(number)
	if i < 0 {
		return nil, fmt.Errorf("%w: no values page has pair %d", ErrDamaged, number)
	}
	p, err := f.valuesPage(c, i)
	if err == nil && number-p.first >= uint32(len(p.ends)) {
		err = f.at(pageValues, i, fmt.Errorf("%w: it ends before pair %d", ErrDamaged, number))
	}
	return p, err
}

// findValue returns the number in the block of the pair of a value, among the n
// pairs from first on, which are those of a name.
func (f *file) findValue(c *Cache, first, n uint32, value string) (number uint32, ok bool, err error) {
	s := &f.dir.sections[pageValues]
	from := s.find(first)
	if from < 0 {
		return 0, false, fmt.Errorf("%w: no values page has pair %d", ErrDamaged, first)
	}
	// Pages after the first begin inside the name, so their keys are of it.
	more := sort.Search(len(s.pages)-from-1, func(i int) bool {
		at := from + 1 + i
		return s.pages[at].first >= first+n || s.keys[at] > value
	})
	p, err := f.valuesPage(c, from+more)
	if err != nil {
		return 0, false, err
	}
	lo, hi := max(p.first, first), min(uint64(p.first)+uint64(len(p.ends)), uint64(first)+uint64(n))
	at := lo + uint32(sort.Search(int(hi)-int(lo), func(i int) bool { return p.value(int(lo-p.first)+i) >= value }))
	if uint64(at) >= hi || p.value(int(at-p.first)) != value {
		return 0, false, nil
	}
	return at, true, nil
}

// eachValue calls visit with the values of the n pairs from first on, until it
// returns false.
func (f *file) eachValue(c *Cache, first, n uint32, visit func(number uint32, value string, series uint32) bool) error {
	for number := first; number-first < n; {
		p, err := f.valuesPageOf(c, number)
		if err != nil {
			return err
		}
		for i := int(number - p.first); i < len(p.ends) && number-first < n; i++ {
			if !visit(number, p.value(i), p.series[i]) {
				return nil
			}
			number++
		}
	}
	return nil
}
