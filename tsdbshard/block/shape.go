package block

import (
	"encoding/binary"
	"fmt"

	"github.com/quorate/quorate/internal/cursor"
	"github.com/quorate/quorate/tsdbshard/chunk"
)

// shape is what a chunk shares with others: series of one scrape have the same
// timestamps, so a shape is stored once and chunks name it by its number.
type shape struct {
	kind       chunk.Kind
	rows       int
	mint, maxt int64
	times      []byte
}

const (
	shapeBytes      = 64 // of memory, about, without its times
	leastShapeBytes = 5  // of an encoded one
)

func shapeOf(c *chunk.Chunk) shape {
	return shape{kind: c.Kind, rows: c.Rows, mint: c.MinTime, maxt: c.MaxTime, times: c.Times}
}

func (s *shape) equal(o *shape) bool {
	return s.mint == o.mint && s.maxt == o.maxt && s.rows == o.rows && s.kind == o.kind && string(s.times) == string(o.times)
}

// chunk returns the shape's chunk with its own columns, which may alias pages.
func (s *shape) chunk(starts, values []byte) chunk.Chunk {
	return chunk.Chunk{Kind: s.kind, Rows: s.rows, MinTime: s.mint, MaxTime: s.maxt, Times: s.times, Starts: starts, Values: values}
}

// append appends a shape that follows one that begins at previous.
func (s *shape) append(dst []byte, previous int64) []byte {
	dst = append(dst, byte(s.kind))
	dst = binary.AppendUvarint(dst, uint64(s.rows))
	dst = binary.AppendVarint(dst, s.mint-previous)
	dst = binary.AppendUvarint(dst, uint64(s.maxt-s.mint))
	return cursor.AppendBytes(dst, s.times)
}

func readShape(c *cursor.Cursor, previous int64) shape {
	s := shape{kind: chunk.Kind(c.U8())}
	rows := c.Uvarint()
	s.mint = previous + c.Varint()
	s.maxt = s.mint + int64(c.Uvarint())
	s.times = c.Bytes()
	if rows == 0 || rows > chunk.MaxRows || s.maxt < s.mint {
		c.Fail()
	}
	s.rows = int(rows)
	return s
}

// shapeTable is a list of shapes, each once.
type shapeTable struct {
	// limit bounds the memory that known shapes take, in bytes; 0 is no limit.
	// Past it, shapes that come again are stored again.
	limit   int
	encoded []byte // of those not yet written
	mint    int64  // of the last encoded
	n       uint32

	at     map[string]uint32
	memory int
	last   shape  // of the last look-up
	lastAt uint32 // its number
	times  []byte // of last
	key    []byte // scratch
}

// number returns the number of a chunk's shape.
func (t *shapeTable) number(c *chunk.Chunk) uint32 {
	s := shapeOf(c)
	if t.n > 0 && s.equal(&t.last) {
		return t.lastAt
	}
	t.key = s.append(t.key[:0], 0)
	n, ok := t.at[string(t.key)]
	if !ok {
		n = t.n
		t.n++
		t.encoded = s.append(t.encoded, t.mint)
		t.mint = s.mint
		t.remember(n)
	}
	// The caller's bytes may change after the call.
	t.times = append(t.times[:0], s.times...)
	t.last, t.lastAt = s, n
	t.last.times = t.times
	return n
}

// remember enters the shape that has just been encoded as key.
func (t *shapeTable) remember(n uint32) {
	const entry = 64 // of the map, about
	if t.limit > 0 && t.memory+entry+len(t.key) > t.limit {
		return
	}
	if t.at == nil {
		t.at = make(map[string]uint32)
	}
	t.at[string(t.key)] = n
	t.memory += entry + len(t.key)
}

// forget makes the table empty.
func (t *shapeTable) forget() {
	clear(t.at)
	*t = shapeTable{limit: t.limit, encoded: t.encoded[:0], at: t.at, times: t.times, key: t.key}
}

// readShapes reads n shapes.
func readShapes(c *cursor.Cursor, n int) []shape {
	shapes := make([]shape, 0, n)
	previous := int64(0)
	for range n {
		s := readShape(c, previous)
		if c.Bad {
			break
		}
		previous = s.mint
		shapes = append(shapes, s)
	}
	return shapes
}

// shapesTarget is the size at which a page of shapes is closed, before
// compression.
const shapesTarget = 32 << 10

// shapesWriter gathers the shapes of a canonical block into pages.
type shapesWriter struct {
	f     *fileWriter
	table shapeTable
	first uint32 // not yet written
	body  []byte // scratch
}

// number returns the number of a chunk's shape in the block.
func (w *shapesWriter) number(c *chunk.Chunk) uint32 {
	n := w.table.number(c)
	if len(w.table.encoded) >= shapesTarget {
		w.flush()
	}
	return n
}

func (w *shapesWriter) flush() {
	rows := w.table.n - w.first
	if rows == 0 {
		return
	}
	w.body = binary.AppendUvarint(w.body[:0], uint64(w.first))
	w.body = binary.AppendUvarint(w.body, uint64(rows))
	w.body = append(w.body, w.table.encoded...)
	w.f.writePage(pageShapes, w.body, &pageEntry{first: w.first, rows: rows}, "", true)
	w.first, w.table.encoded, w.table.mint = w.table.n, w.table.encoded[:0], 0
}

// shapesPage is a parsed page of shapes.
type shapesPage struct {
	bytes  int
	first  uint32
	shapes []shape
}

func (p *shapesPage) size() int { return p.bytes + shapeBytes*len(p.shapes) }

func readShapesPage(body []byte) (*shapesPage, error) {
	c := cursor.Cursor{B: body}
	p := &shapesPage{bytes: len(body), first: readNumber(&c)}
	p.shapes = readShapes(&c, c.Count(leastShapeBytes))
	return p, c.Finish(ErrDamaged, "page")
}

// shapesPageOf returns the page that has a shape.
func (f *file) shapesPageOf(c *Cache, number uint32) (*shapesPage, error) {
	i := f.dir.sections[pageShapes].find(number)
	if i < 0 {
		return nil, fmt.Errorf("%w: no shapes page has shape %d", ErrDamaged, number)
	}
	p, err := load(f, c, pageShapes, i, readShapesPage)
	if err == nil && (p.first != f.dir.sections[pageShapes].pages[i].first || number-p.first >= uint32(len(p.shapes))) {
		err = f.at(pageShapes, i, fmt.Errorf("%w: %d shapes from %d on, shape %d is not there", ErrDamaged, len(p.shapes), p.first, number))
	}
	return p, err
}
