package block

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/quorate/quorate/internal/cursor"
	"github.com/quorate/quorate/tsdbshard/chunk"
)

// A samples page has rows of chunks by rising number (of ref or series). Its
// body: the number of rows, the page's own shapes, for each row its head, then
// the columns of all chunks in their order (docs/format/block.md). In canonical
// blocks shapes stand in series and shapes pages, and heads name none.

// samplesTarget is the size at which a samples page is closed; DESIGN.md has
// the measurements.
const samplesTarget = 32 << 10

// samplesWriter gathers rows into pages.
type samplesWriter struct {
	f *fileWriter
	// own is set when pages have shapes of their own.
	own    bool
	shapes shapeTable
	heads  []byte
	data   []byte
	body   []byte // scratch
	entry  pageEntry
	last   uint32 // number of the last row
}

// add adds a row of one chunk or more, whose number is greater than those
// before. A row that is larger than a page goes on in the pages after it.
func (w *samplesWriter) add(number uint32, chunks []chunk.Chunk) {
	size := 0
	for i := range chunks {
		size += len(chunks[i].Starts) + len(chunks[i].Values)
	}
	if w.entry.rows > 0 && w.size()+size > samplesTarget {
		w.flush()
	}
	if size <= samplesTarget {
		w.addRow(number, chunks, false)
		return
	}
	for i := 0; i < len(chunks); {
		from := i
		for size = 0; i < len(chunks) && (i == from || size < samplesTarget); i++ {
			size += len(chunks[i].Starts) + len(chunks[i].Values)
		}
		w.addRow(number, chunks[from:i], from > 0)
		if i < len(chunks) {
			w.flush()
		}
	}
}

func (w *samplesWriter) size() int { return len(w.shapes.encoded) + len(w.heads) + len(w.data) }

func (w *samplesWriter) addRow(number uint32, chunks []chunk.Chunk, continued bool) {
	if w.entry.rows == 0 {
		w.entry = pageEntry{first: number, continued: continued, mint: math.MaxInt64, maxt: math.MinInt64}
		w.last = number
	}
	w.heads = binary.AppendUvarint(w.heads, uint64(number-w.last))
	w.heads = binary.AppendUvarint(w.heads, uint64(len(chunks)))
	for i := range chunks {
		c := &chunks[i]
		if w.own {
			n := w.shapes.number(c)
			w.heads = binary.AppendUvarint(w.heads, uint64(n))
		}
		values := uint64(len(c.Values)) << 1
		if len(c.Starts) > 0 {
			w.heads = binary.AppendUvarint(w.heads, values|1)
			w.heads = binary.AppendUvarint(w.heads, uint64(len(c.Starts)))
		} else {
			w.heads = binary.AppendUvarint(w.heads, values)
		}
		w.data = append(append(w.data, c.Starts...), c.Values...)
		w.entry.mint, w.entry.maxt = min(w.entry.mint, c.MinTime), max(w.entry.maxt, c.MaxTime)
	}
	w.last = number
	w.entry.rows++
}

// flush writes the page that is being gathered, if any.
func (w *samplesWriter) flush() {
	if w.entry.rows == 0 {
		return
	}
	b := binary.AppendUvarint(w.body[:0], uint64(w.entry.first))
	b = binary.AppendUvarint(b, uint64(w.entry.rows))
	b = binary.AppendUvarint(b, uint64(w.shapes.n))
	b = binary.AppendUvarint(b, uint64(len(w.shapes.encoded)))
	b = binary.AppendUvarint(b, uint64(len(w.heads)))
	b = append(append(append(b, w.shapes.encoded...), w.heads...), w.data...)
	w.body = b
	// Delta blocks live for hours, and are read row by row: what a page takes
	// to decompress would be paid for each row of it.
	w.f.writePage(pageSamples, b, &w.entry, "", !w.own && worthCompressing(b))
	w.shapes.forget()
	w.heads, w.data, w.entry = w.heads[:0], w.data[:0], pageEntry{}
}

// worthCompressing guesses, without compressing a page of samples, whether that
// could save a tenth: by how often two of its bytes are equal. In most pages
// that is little more than one time in 256, as in noise, and a trial would take
// as long as all else that writing them takes. It is a matter of integers, so
// that all processors agree.
func worthCompressing(body []byte) bool {
	const (
		every = 13  // bytes are looked at
		noise = 180 // equal less often than one time in this many
	)
	var counts [256]int
	n := 0
	for i := 0; i < len(body); i += every {
		counts[body[i]]++
		n++
	}
	equal := 0
	for _, c := range counts {
		equal += c * (c - 1)
	}
	return equal*noise > n*(n-1)
}

// samplesParts are the parts of a samples page's body.
type samplesParts struct {
	first, rows, shapes uint32
	table, heads, data  []byte
}

func readSamplesParts(body []byte) (p samplesParts, err error) {
	c := cursor.Cursor{B: body}
	p.first, p.rows, p.shapes = readNumber(&c), readNumber(&c), readNumber(&c)
	table, heads := c.Uvarint(), c.Uvarint()
	p.table, p.heads = c.Take(table), c.Take(heads)
	p.data = c.B
	if c.Bad || p.rows == 0 || uint64(p.rows) > heads/2 || uint64(p.shapes) > table/leastShapeBytes {
		return p, fmt.Errorf("%w: bad parts", ErrDamaged)
	}
	return p, nil
}

// headWalk walks the heads of a samples page. Once it is bad it stays so and
// gives zeros. It counts in offsets, since storing slices would have the
// garbage collector watch.
type headWalk struct {
	heads  []byte
	own    uint32 // shapes of the page; without any, heads name none
	length int    // of the page's data
	at     int    // in heads
	data   int    // where the next chunk's columns begin
	number uint64 // of the last row
	bad    bool
}

func (w *headWalk) uvarint() uint64 {
	if w.at < len(w.heads) && w.heads[w.at] < 0x80 {
		w.at++
		return uint64(w.heads[w.at-1])
	}
	u, n := binary.Uvarint(w.heads[min(w.at, len(w.heads)):])
	if n <= 0 {
		w.bad, w.at = true, len(w.heads)
		return 0
	}
	w.at += n
	return u
}

// row reads the beginning of a row's head: its number and how many chunks it has.
func (w *headWalk) row(first bool) (chunks int) {
	delta := w.uvarint()
	w.number += delta
	n := w.uvarint()
	if w.number > math.MaxUint32 || (delta == 0) != first || n == 0 || n > uint64(len(w.heads)-w.at) {
		w.bad = true
		return 0
	}
	return int(n)
}

// chunk reads the head of a chunk: its shape, and where its columns begin, part
// and end.
func (w *headWalk) chunk() (shape uint32, from, middle, to int) {
	if w.own > 0 {
		u := w.uvarint()
		if u >= uint64(w.own) {
			w.bad, u = true, 0
		}
		shape = uint32(u)
	}
	v, starts := w.uvarint(), uint64(0)
	if v&1 != 0 {
		if starts = w.uvarint(); starts == 0 {
			w.bad = true
		}
	}
	left := uint64(w.length - w.data)
	if w.bad || starts > left || v>>1 > left-starts {
		w.bad = true
		return 0, 0, 0, 0
	}
	from = w.data
	middle = from + int(starts)
	w.data = middle + int(v>>1)
	return shape, from, middle, w.data
}

func (p *samplesParts) walk() headWalk {
	return headWalk{heads: p.heads, own: p.shapes, length: len(p.data), number: uint64(p.first)}
}

// samplesPage is a parsed samples page.
type samplesPage struct {
	samplesParts
	shapes []shape
	rows   []samplesRow
}

// samplesRow says where a row's head and columns begin.
type samplesRow struct {
	number, head, data uint32
}

func (p *samplesPage) size() int {
	return len(p.table) + len(p.heads) + len(p.data) + shapeBytes*len(p.shapes) + 12*len(p.rows)
}

func readSamplesPage(body []byte) (*samplesPage, error) {
	parts, err := readSamplesParts(body)
	if err != nil {
		return nil, err
	}
	p := &samplesPage{samplesParts: parts}
	if p.shapes, err = parts.readShapes(); err != nil {
		return nil, err
	}
	p.rows = make([]samplesRow, parts.rows)
	w := parts.walk()
	for i := range p.rows {
		row := samplesRow{head: uint32(w.at), data: uint32(w.data)}
		chunks := w.row(i == 0)
		row.number = uint32(w.number)
		for range chunks {
			w.chunk()
		}
		if w.bad {
			break
		}
		p.rows[i] = row
	}
	if w.bad || w.at != len(p.heads) || w.data != len(p.data) {
		return nil, fmt.Errorf("%w: bad row heads", ErrDamaged)
	}
	return p, nil
}

func (p *samplesParts) readShapes() ([]shape, error) {
	c := cursor.Cursor{B: p.table}
	shapes := readShapes(&c, int(p.shapes))
	return shapes, c.Finish(ErrDamaged, "shapes of a samples page")
}

// find returns the place of a row in the page.
func (p *samplesPage) find(number uint32) (int, bool) {
	return slices.BinarySearchFunc(p.rows, number, func(r samplesRow, n uint32) int { return cmp.Compare(r.number, n) })
}

// walkRow returns a walk over the chunks of a row and how many there are.
func (p *samplesPage) walkRow(row int) (w headWalk, chunks int) {
	w = p.walk()
	w.at, w.data = int(p.rows[row].head), int(p.rows[row].data)
	w.number -= uint64(p.first) // heads have distances, which matter no more
	chunks = w.row(row == 0)
	return w, chunks
}

// appendChunks appends the chunks of a row of a page with shapes, which share
// an instant with [mint, maxt]. They alias the page.
func (p *samplesPage) appendChunks(dst []chunk.Chunk, row int, mint, maxt int64) []chunk.Chunk {
	w, n := p.walkRow(row)
	return p.appendWalked(dst, &w, n, p.shapes, mint, maxt)
}

// appendWalked appends the next n chunks of a walk.
func (p *samplesParts) appendWalked(dst []chunk.Chunk, w *headWalk, n int, shapes []shape, mint, maxt int64) []chunk.Chunk {
	for range n {
		number, from, middle, to := w.chunk()
		if w.bad = w.bad || uint64(number) >= uint64(len(shapes)); w.bad {
			break
		}
		if s := &shapes[number]; s.mint <= maxt && s.maxt >= mint {
			dst = append(dst, s.chunk(p.columns(from, middle, to)))
		}
	}
	return dst
}

// columns returns the columns of a chunk; without start timestamps the first
// is nil.
func (p *samplesParts) columns(from, middle, to int) (starts, values []byte) {
	if middle > from {
		starts = p.data[from:middle:middle]
	}
	return starts, p.data[middle:to:to]
}

// samplesPage returns the i-th samples page.
func (f *file) samplesPage(c *Cache, i int) (*samplesPage, error) {
	p, err := load(f, c, pageSamples, i, readSamplesPage)
	if err == nil {
		err = f.checkSamples(i, &p.samplesParts)
	}
	return p, err
}

// checkSamples checks a samples page against the directory, and that it has
// shapes of its own if and only if it is of a delta block.
func (f *file) checkSamples(i int, p *samplesParts) error {
	if e := &f.dir.sections[pageSamples].pages[i]; p.first != e.first || p.rows != e.rows {
		return f.at(pageSamples, i, fmt.Errorf("%w: %d rows from %d on, the directory says %d from %d on", ErrDamaged, p.rows, p.first, e.rows, e.first))
	}
	if kind := f.dir.header.kind; (p.shapes > 0) != (kind == kindDelta) {
		return f.at(pageSamples, i, fmt.Errorf("%w: %d shapes in a page of a %v block", ErrDamaged, p.shapes, kind))
	}
	return nil
}

// appendRow appends the chunks of a number that the i-th samples page, which
// must have shapes, has within [mint, maxt]. Their bytes are copies: a query may
// hold chunks of many pages, of each a few hundred bytes.
func (f *file) appendRow(dst []chunk.Chunk, c *Cache, i int, number uint32, mint, maxt int64) ([]chunk.Chunk, error) {
	from := len(dst)
	if c != nil {
		p, err := f.samplesPage(c, i)
		if err != nil {
			return dst, err
		}
		if row, ok := p.find(number); ok {
			dst = p.appendChunks(dst, row, mint, maxt)
			own(dst[from:])
		}
		return dst, nil
	}
	// Parsing the page would take longer than walking to the row, and its
	// buffer serves again.
	body, buffer, err := f.borrow(pageSamples, i)
	if err != nil {
		return dst, err
	}
	defer f.buffers.Put(buffer)
	p, err := readSamplesParts(body)
	if err == nil {
		err = f.checkSamples(i, &p)
	}
	if err != nil {
		return dst, err
	}
	dst, err = p.appendFound(dst, number, mint, maxt)
	if err != nil {
		return dst, f.at(pageSamples, i, err)
	}
	own(dst[from:])
	return dst, nil
}

// appendFound walks to a row and appends its chunks within [mint, maxt].
func (p *samplesParts) appendFound(dst []chunk.Chunk, number uint32, mint, maxt int64) ([]chunk.Chunk, error) {
	w := p.walk()
	for i := range p.rows {
		n := w.row(i == 0)
		if w.bad || w.number > uint64(number) {
			break
		}
		if w.number == uint64(number) {
			shapes, err := p.readShapes()
			if err != nil {
				return dst, err
			}
			dst = p.appendWalked(dst, &w, n, shapes, mint, maxt)
			break
		}
		for range n {
			w.chunk()
		}
	}
	if w.bad {
		return dst, fmt.Errorf("%w: bad row heads", ErrDamaged)
	}
	return dst, nil
}

// own gives chunks columns that alias nothing but one array for them all.
func own(chunks []chunk.Chunk) {
	size := 0
	for i := range chunks {
		size += len(chunks[i].Times) + len(chunks[i].Starts) + len(chunks[i].Values)
	}
	array := make([]byte, 0, size)
	keep := func(b []byte) []byte {
		if b == nil {
			return nil
		}
		from := len(array)
		array = append(array, b...)
		return array[from:len(array):len(array)]
	}
	for i := range chunks {
		c := &chunks[i]
		c.Times, c.Starts, c.Values = keep(c.Times), keep(c.Starts), keep(c.Values)
	}
}
