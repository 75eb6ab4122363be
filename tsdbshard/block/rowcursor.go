package block

import (
	"fmt"
	"math"

	"github.com/quorate/quorate/internal/cursor"
	"github.com/quorate/quorate/tsdbshard/chunk"
)

// RowCursor walks the rows of a delta block by rising ref, reading each page
// once. It is for one goroutine, while the block is held.
type RowCursor struct {
	d   *Delta
	err error

	ref    uint32
	newest Newest
	chunks []chunk.Chunk

	newestPages newestPages
	samples     samplesCursor
	// meet, if set, is called with each chunk and the page that it lies in.
	meet func(page int, c *chunk.Chunk)
}

// Rows returns a cursor before the first row.
func (d *Delta) Rows() *RowCursor {
	r := &RowCursor{d: d, newestPages: newestPages{d: d, page: -1}, samples: samplesCursor{f: d.file, page: -1}}
	r.fail(r.newestPages.next())
	r.fail(r.samples.next())
	return r
}

func (r *RowCursor) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// Next moves to the next row and tells whether there is one.
func (r *RowCursor) Next() bool {
	r.newest, r.chunks = Newest{}, r.chunks[:0]
	if r.err != nil || !r.newestPages.ok && !r.samples.ok {
		return false
	}
	ref := uint32(math.MaxUint32)
	if r.newestPages.ok {
		ref = r.newestPages.ref
	}
	if r.samples.ok {
		ref = min(ref, r.samples.number())
	}
	if r.err = r.d.checkRef(ref, -1); r.err != nil {
		return false
	}
	r.ref = ref
	if r.newestPages.ok && r.newestPages.ref == ref {
		r.newest = r.newestPages.newest
		r.fail(r.newestPages.next())
	}
	for r.samples.ok && r.samples.number() == ref {
		from := len(r.chunks)
		r.chunks = r.samples.p.appendChunks(r.chunks, r.samples.row, math.MinInt64, math.MaxInt64)
		for i := from; r.meet != nil && i < len(r.chunks); i++ {
			r.meet(r.samples.page, &r.chunks[i])
		}
		r.fail(r.samples.next())
	}
	return r.err == nil
}

// Ref returns the row's series.
func (r *RowCursor) Ref() uint32 { return r.ref }

// Newest returns the row's newest sample; its Kind is 0 if the row has none.
func (r *RowCursor) Newest() Newest { return r.newest }

// Chunks returns the row's chunks; the slice is valid until Next, the chunks'
// bytes for ever.
func (r *RowCursor) Chunks() []chunk.Chunk { return r.chunks }

// Err returns why the walk ended early, nil if it did not.
func (r *RowCursor) Err() error { return r.err }

// newestPages walks the newest samples of a block.
type newestPages struct {
	d    *Delta
	page int
	c    cursor.Cursor
	left uint32
	rows newestReader

	ok     bool
	ref    uint32
	newest Newest
}

func (n *newestPages) next() (err error) {
	pages := n.d.dir.sections[pageNewest].pages
	last, first := int64(n.ref), false
	if !n.ok {
		last = -1
	}
	for n.left == 0 {
		if err := n.c.Finish(ErrDamaged, "page"); err != nil {
			return n.d.at(pageNewest, n.page, err)
		}
		if n.page++; n.page >= len(pages) {
			n.ok = false
			return nil
		}
		body, err := n.d.read(pageNewest, n.page)
		if err != nil {
			return err
		}
		n.c, n.left, first = cursor.Cursor{B: body}, pages[n.page].rows, true
		if n.c.Uvarint() != uint64(pages[n.page].first) {
			n.c.Fail()
		}
	}
	n.ref, n.newest, err = n.rows.row(&n.c, first, pages[n.page].first)
	if err == nil {
		err = n.d.checkRef(n.ref, last)
	}
	if err != nil {
		return n.d.at(pageNewest, n.page, err)
	}
	n.left--
	n.ok = true
	return nil
}

// samplesCursor walks the rows of a block's samples pages. A row that goes on
// in the next page is met once in each.
type samplesCursor struct {
	f    *file
	page int
	p    *samplesPage
	row  int
	ok   bool
}

func (s *samplesCursor) number() uint32 { return s.p.rows[s.row].number }

func (s *samplesCursor) next() error {
	pages := s.f.dir.sections[pageSamples].pages
	if s.ok && s.row+1 < len(s.p.rows) {
		s.row++
		return nil
	}
	last := int64(-1)
	if s.ok {
		last = int64(s.number())
	}
	s.page++
	if s.ok = s.page < len(pages); !s.ok {
		return nil
	}
	p, err := s.f.samplesPage(nil, s.page)
	if err != nil {
		s.ok = false
		return err
	}
	if first := int64(p.rows[0].number); first < last || (first == last) != pages[s.page].continued {
		s.ok = false
		return s.f.at(pageSamples, s.page, fmt.Errorf("%w: series %d after %d", ErrDamaged, first, last))
	}
	s.p, s.row = p, 0
	return nil
}
