package block

import (
	"encoding/binary"

	"github.com/quorate/quorate/internal/cursor"
)

// rowsWriter gathers rows that are read one after the other into pages: for
// each kind of page whose rows are never looked up inside the page.
type rowsWriter struct {
	f      *fileWriter
	kind   pageKind
	target int
	body   []byte
	entry  pageEntry
	key    string
	some   bool // a page was written
}

// begin makes room for a row of a number, which the caller then appends to
// body. It tells whether the row is the first of its page.
func (w *rowsWriter) begin(number uint32) (first bool) {
	if len(w.body) >= w.target {
		w.flush()
	}
	first = w.entry.rows == 0
	if first {
		w.entry.first = number
		w.body = binary.AppendUvarint(w.body, uint64(number))
	}
	w.entry.rows++
	return first
}

// flush writes the page that is being gathered, if any.
func (w *rowsWriter) flush() {
	if w.entry.rows == 0 {
		return
	}
	w.f.writePage(w.kind, w.body, &w.entry, w.key, true)
	w.body, w.entry, w.key, w.some = w.body[:0], pageEntry{}, "", true
}

// eachRow reads the pages of a kind in order and calls row at each of their
// rows; first is set at the first row of a page, whose number is given.
func (f *file) eachRow(kind pageKind, row func(c *cursor.Cursor, first bool, number uint32) error) error {
	for i := range f.dir.sections[kind].pages {
		if err := f.rowsOf(kind, i, row); err != nil {
			return err
		}
	}
	return nil
}

// rowsOf is eachRow for one page.
func (f *file) rowsOf(kind pageKind, i int, row func(c *cursor.Cursor, first bool, number uint32) error) error {
	body, err := f.read(kind, i)
	if err != nil {
		return err
	}
	e := &f.dir.sections[kind].pages[i]
	c := cursor.Cursor{B: body}
	if c.Uvarint() != uint64(e.first) {
		c.Fail()
	}
	n := uint32(0)
	for ; len(c.B) > 0 && n < e.rows; n++ {
		if err := row(&c, n == 0, e.first); err != nil {
			return f.at(kind, i, err)
		}
	}
	if n != e.rows {
		c.Fail()
	}
	if err := c.Finish(ErrDamaged, "page"); err != nil {
		return f.at(kind, i, err)
	}
	return nil
}
