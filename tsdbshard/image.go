package tsdbshard

import (
	"slices"

	"github.com/quorate/quorate/tsdbshard/chunk"
)

// image is a row at one moment. What it refers to never changes.
type image struct {
	row   memRow
	extra *extraImage // nil when the row has none
}

type extraImage struct {
	open       chunk.Chunk // no rows when there is none
	outOfOrder []outOfOrderSample
	run        slabPos
	exemplars  []exemplarRow
}

// tailIn returns the floats that wait, of a memcache with these blocks.
func (r *memRow) tailIn(blocks [][]byte) tail {
	if r.rows == 0 {
		return tail{}
	}
	return tail{data: r.tail.from(blocks)[:r.used:r.used], tailShape: r.tailShape}
}

// image returns a row's rarer part as it is. The open histogram chunk is copied
// if it may change later: its header counts its samples.
func (x *rowExtra) image(copyOpen bool) *extraImage {
	img := &extraImage{outOfOrder: x.outOfOrder, run: x.run, exemplars: x.exemplars}
	if x.open.Empty() {
		return img
	}
	img.open = x.open.Chunk()
	if copyOpen {
		img.open = cloneChunk(img.open)
	}
	return img
}

// imageOf returns the image of a series in a frozen memcache, and whether it
// has a row.
func (m *memcache) imageOf(ref uint32) (image, bool) {
	row := m.rowIfAny(ref)
	if row == nil {
		return image{}, false
	}
	img := image{row: *row}
	if x := m.extraIfAny(row); x != nil {
		img.extra = x.image(false)
	}
	return img, true
}

// appendParts appends the image's samples in log order: the in-order ones
// before the out-of-order runs. For if both have a sample of one timestamp, the
// in-order one was applied first: once the other had been, the series' newest
// sample was past that timestamp, and it never goes back.
func (img *image) appendParts(g *gatherer, dst []part, blocks [][]byte) ([]part, error) {
	dst = appendChain(g, dst, blocks, img.row.last, true)
	if img.row.rows > 0 {
		p := part{tail: img.row.tailIn(blocks)}
		p.Rows = int(p.tail.rows)
		if p.MinTime, p.MaxTime = p.tail.bounds(); g.wants(p.MinTime, p.MaxTime) {
			dst = append(dst, p)
		}
	}
	x := img.extra
	if x == nil {
		return dst, nil
	}
	if x.open.Rows > 0 && g.wants(x.open.MinTime, x.open.MaxTime) {
		dst = append(dst, part{Chunk: x.open})
	}
	dst = appendChain(g, dst, blocks, x.run, false)
	wanted := slices.ContainsFunc(x.outOfOrder, func(s outOfOrderSample) bool { return g.wants(s.t, s.t) })
	if !wanted {
		return dst, nil
	}
	run, err := encodeOutOfOrder(g.encoder(), x.outOfOrder)
	if err != nil {
		return nil, err
	}
	for _, c := range run {
		if g.wants(c.MinTime, c.MaxTime) {
			dst = append(dst, part{Chunk: c})
		}
	}
	return dst, nil
}

// newestOf returns the newest in-order sample of a series in a frozen memcache,
// and whether it has one.
func (m *memcache) newestOf(ref uint32) (newestSample, bool) {
	row := m.rowIfAny(ref)
	if row == nil {
		return newestSample{}, false
	}
	if row.rows > 0 {
		return row.tailIn(m.room.blocks).last(), true
	}
	if x := m.extraIfAny(row); x != nil && !x.open.Empty() {
		return newestSample{time: x.open.MaxTime(), bits: x.newestBits, start: x.newestStart, kind: kindHistogram}, true
	}
	return newestSample{}, false
}

// hasAny tells whether the memcache has anything of a series.
func (m *memcache) hasAny(ref uint32) bool {
	row := m.rowIfAny(ref)
	return row != nil && (row.rows > 0 || row.last != 0 || row.extra != 0)
}

// savedRows is what a view keeps of a live memcache: the rows, and their rarer
// parts, that have changed since.
type savedRows struct {
	groups []*rowGroup // by ref / groupRows; nil where nothing has changed
	extras map[uint32]*extraImage
}

// put saves the rows of a ref's group.
func (s *savedRows) put(ref uint32, rows *rowGroup) {
	at := int(ref / groupRows)
	if at >= len(s.groups) {
		s.groups = append(s.groups, make([]*rowGroup, at+1-len(s.groups))...)
	}
	saved := *rows
	s.groups[at] = &saved
}

func (s *savedRows) putExtra(number uint32, x *extraImage) {
	if s.extras == nil {
		s.extras = make(map[uint32]*extraImage)
	}
	s.extras[number] = x
}

// image returns the image of a series' row: what was saved, or what the live
// memcache has if that was not changed.
func (s *savedRows) image(live *memcache, ref uint32) (img image) {
	if at := int(ref / groupRows); at < len(s.groups) && s.groups[at] != nil {
		img.row = s.groups[at][ref%groupRows]
	} else if row := live.rowIfAny(ref); row != nil {
		img.row = *row
	}
	if n := img.row.extra; n != 0 {
		if img.extra = s.extras[n]; img.extra == nil {
			img.extra = live.extras[n-1].image(true)
		}
	}
	return img
}
