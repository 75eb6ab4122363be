package block

import (
	"encoding/binary"
	"fmt"
	"math"
	"sort"

	"github.com/quorate/quorate/internal/cursor"
)

// A page of blobs has rows of bytes that are looked up by their number: uvarint
// first number, then for each row uvarint distance to the number before (0 for
// the first row), uvarint length, bytes.

// blobWriter gathers rows into a page of blobs.
type blobWriter struct {
	rows rowsWriter
	last uint32
}

func newBlobWriter(f *fileWriter, kind pageKind, target int) blobWriter {
	return blobWriter{rows: rowsWriter{f: f, kind: kind, target: target}}
}

func (w *blobWriter) add(number uint32, row []byte) {
	if len(w.rows.body)+len(row) > w.rows.target {
		w.rows.flush()
	}
	before, some := w.last, w.rows.some
	if w.rows.begin(number) {
		w.last = number
		w.rows.entry.continued = some && number == before
	}
	w.rows.body = cursor.AppendBytes(binary.AppendUvarint(w.rows.body, uint64(number-w.last)), row)
	w.last = number
}

func (w *blobWriter) flush() { w.rows.flush() }

// blobPage is a parsed page of blobs.
type blobPage struct {
	body []byte
	rows []blobRow
}

// blobRow says where in the page's body a row is.
type blobRow struct {
	number, from, to uint32
}

func (p *blobPage) size() int { return len(p.body) + 12*len(p.rows) }

func (p *blobPage) row(i int) []byte {
	r := p.rows[i]
	return p.body[r.from:r.to:r.to]
}

// find returns the place of the first row of a number or, if there is none, of
// a greater one.
func (p *blobPage) find(number uint32) int {
	return sort.Search(len(p.rows), func(i int) bool { return p.rows[i].number >= number })
}

func readBlobPage(body []byte) (*blobPage, error) {
	c := cursor.Cursor{B: body}
	p := &blobPage{body: body}
	for number := uint64(readNumber(&c)); len(c.B) > 0; {
		delta := c.Uvarint()
		number += delta
		row := c.Bytes()
		if c.Bad || number > math.MaxUint32 || len(p.rows) == 0 && delta != 0 {
			c.Fail()
			break
		}
		to := len(body) - len(c.B)
		p.rows = append(p.rows, blobRow{number: uint32(number), from: uint32(to - len(row)), to: uint32(to)})
	}
	if len(p.rows) == 0 {
		c.Fail()
	}
	return p, c.Finish(ErrDamaged, "page")
}

// blobPage returns the i-th page of a kind whose rows are blobs.
func (f *file) blobPage(c *Cache, kind pageKind, i int) (*blobPage, error) {
	p, err := load(f, c, kind, i, readBlobPage)
	if e := &f.dir.sections[kind].pages[i]; err == nil && (p.rows[0].number != e.first || len(p.rows) != int(e.rows)) {
		err = f.at(kind, i, fmt.Errorf("%w: %d rows from %d on, the directory says %d from %d on", ErrDamaged, len(p.rows), p.rows[0].number, e.rows, e.first))
	}
	return p, err
}

// blob returns the first row of a number and the page that it is in; nil when
// there is none.
func (f *file) blob(c *Cache, kind pageKind, number uint32) (row []byte, page int, err error) {
	if page = f.dir.sections[kind].find(number); page < 0 {
		return nil, page, nil
	}
	p, err := f.blobPage(c, kind, page)
	if err != nil {
		return nil, page, err
	}
	if at := p.find(number); at < len(p.rows) && p.rows[at].number == number {
		return p.row(at), page, nil
	}
	return nil, page, nil
}

// eachBlob calls visit with the rows of numbers from first to last.
func (f *file) eachBlob(c *Cache, kind pageKind, first, last uint32, visit func(page int, number uint32, row []byte) error) error {
	pages := f.dir.sections[kind].pages
	for i := max(0, f.dir.sections[kind].find(first)); i < len(pages) && pages[i].first <= last; i++ {
		p, err := f.blobPage(c, kind, i)
		if err != nil {
			return err
		}
		for at := p.find(first); at < len(p.rows) && p.rows[at].number <= last; at++ {
			if err := visit(i, p.rows[at].number, p.row(at)); err != nil {
				return err
			}
		}
	}
	return nil
}
