package tsdbshard

import (
	"encoding/binary"
	"slices"
	"sort"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/tsdbshard/chunk"
)

const (
	// tailRows is how many floats of a series wait uncompressed. More make
	// longer chunks, fewer cost less memory for series that rarely come.
	tailRows = 16
	// firstTailRows is for how many there is room at first in an interval: a
	// series that came for a few samples costs a quarter of one that stays.
	firstTailRows = 4
	// outOfOrderRows is how many out-of-order samples of a series wait until
	// they are sorted and compressed as one run.
	outOfOrderRows = 32
	// MaxExemplars is how many exemplars are kept for each series: those that
	// are newest by (timestamp, value bits, labels). The newest of a union are
	// among the newest of its parts, so each memcache and file may keep only
	// that many and reads still equal the fold over the log.
	MaxExemplars = 4096
)

// Rough sizes by which memory is counted.
const (
	floatBytes = 16
	rowBytes   = 48
	extraBytes = 176
)

// memcache holds the samples of one log interval: the live one until Freeze,
// then it never changes again.
type memcache struct {
	pages  []*[pageRows]memRow // by ref; nil where nothing was touched
	chunks slab                // chunk records, encoded histograms, exemplar labels
	enc    runEncoder
	bytes  int64
	dirty  bool
	// exemplarRefs lists the series that have exemplars here, in the order of
	// their first one.
	exemplarRefs []uint32
	// metadata lists what changed, in log order.
	metadata []metadataChange
	// epoch is the number of the newest view pinned to this memcache, pinned
	// the number of those that are open. Guarded by the shard's lock.
	epoch uint64
	views []*View
}

type metadataChange struct {
	tenant quorate.TenantID
	entry  wire.Metadata
}

// memRow is one series' samples in a memcache.
type memRow struct {
	epoch uint64 // memcache.epoch at the last change; see touch
	// tail are the floats that wait, ascending in time. What is past its end
	// may be written, what is before it never is while a view is pinned.
	tail  []stagedFloat
	extra *rowExtra // what most series do not have
	last  slabPos   // newest in-order chunk record
}

// stagedFloat is a float that waits to be compressed. Time and value lie side
// by side, so that staging one touches one cache line.
type stagedFloat struct {
	t int64
	v float64
}

// rowExtra is the rarer part of a series.
type rowExtra struct {
	// starts are the start timestamps of the tail's rows; nil while all are 0.
	starts []int64
	// open is the in-order histogram chunk. Either it or the tail is empty.
	open chunk.Open
	// newestBits and newestStart complete the newest sample when open has it.
	newestBits  uint64
	newestStart int64
	// outOfOrder are samples in log order, no timestamp twice, up to
	// outOfOrderRows; the runs before them are in the chain that ends at run.
	outOfOrder []outOfOrderSample
	run        slabPos
	exemplars  []exemplarRow // ascending, see compareExemplars
}

// outOfOrderSample is a staged out-of-order sample: a float, or an encoded
// histogram in the memcache's slab.
type outOfOrderSample struct {
	t, st     int64
	v         float64
	histogram []byte
}

// row returns a series' row, ready to be changed.
func (m *memcache) row(ref uint32) *memRow {
	page := int(ref >> pageBits)
	if page >= len(m.pages) {
		m.pages = append(m.pages, make([]*[pageRows]memRow, page+1-len(m.pages))...)
	}
	p := m.pages[page]
	if p == nil {
		p = new([pageRows]memRow)
		m.pages[page] = p
		m.bytes += pageRows * rowBytes
	}
	row := &p[ref&pageMask]
	m.dirty = true
	if row.epoch != m.epoch {
		m.touch(ref, row)
	}
	return row
}

// touch is called before the first change of a row since a view was pinned. It
// saves what the row is into those views that have not seen it change.
func (m *memcache) touch(ref uint32, row *memRow) {
	for _, v := range m.views {
		if v.epoch > row.epoch {
			v.saved.put(ref, row.image(true))
		}
	}
	row.epoch = m.epoch
}

// pinned tells whether an open view reads this memcache.
func (m *memcache) pinned() bool { return len(m.views) > 0 }

// rowIfAny returns a series' row for reading, or nil.
func (m *memcache) rowIfAny(ref uint32) *memRow {
	if page := int(ref >> pageBits); page < len(m.pages) && m.pages[page] != nil {
		return &m.pages[page][ref&pageMask]
	}
	return nil
}

func (m *memcache) extraOf(row *memRow) *rowExtra {
	if row.extra == nil {
		row.extra = new(rowExtra)
		m.bytes += extraBytes
	}
	return row.extra
}

// appendFloat appends an in-order float.
func (m *memcache) appendFloat(ref uint32, t, st int64, v float64) error {
	row := m.row(ref)
	if row.extra != nil && !row.extra.open.Empty() {
		m.sealHistograms(row)
	}
	if len(row.tail) == tailRows {
		m.sealTail(row)
	}
	if len(row.tail) == cap(row.tail) {
		m.growTail(row)
	}
	if st != 0 || row.extra != nil && row.extra.starts != nil {
		x := m.extraOf(row)
		before := cap(x.starts)
		if x.starts == nil {
			x.starts = make([]int64, len(row.tail), cap(row.tail))
		}
		x.starts = append(x.starts, st)
		m.bytes += int64(8 * (cap(x.starts) - before))
	}
	row.tail = append(row.tail, stagedFloat{t: t, v: v})
	return nil
}

// growTail makes room in a tail that has none: a little for a series that is
// new to this memcache, all there will be for one that goes on. Views that
// hold the old array keep it.
func (m *memcache) growTail(row *memRow) {
	rows := tailRows
	if cap(row.tail) == 0 && row.last == 0 {
		rows = firstTailRows
	}
	m.bytes += int64(floatBytes * (rows - cap(row.tail)))
	row.tail = append(make([]stagedFloat, 0, rows), row.tail...)
}

// sealTail compresses the tail. It runs only when the next sample has come, so
// that the newest sample of a series is always found uncompressed.
func (m *memcache) sealTail(row *memRow) {
	var starts []int64
	if row.extra != nil {
		starts = row.extra.starts
	}
	row.last = m.putChunk(row.last, m.enc.encode(starts, row.tail))
	if m.pinned() { // a view may hold both
		m.bytes -= int64(floatBytes*cap(row.tail) + 8*cap(starts))
		row.tail, starts = nil, nil
	}
	row.tail = row.tail[:0]
	if row.extra != nil {
		row.extra.starts = starts[:0]
	}
}

// appendHistogram appends an in-order histogram; bits is the hash of its encoding.
func (m *memcache) appendHistogram(ref uint32, s sample, bits uint64) error {
	row := m.row(ref)
	if len(row.tail) > 0 {
		m.sealTail(row)
	}
	x := m.extraOf(row)
	size := x.open.Len()
	before, full, err := x.open.Append(s)
	if err != nil {
		return err
	}
	if full {
		row.last = m.putChunk(row.last, before)
		size = 0
	}
	m.bytes += int64(x.open.Len() - size)
	x.newestBits, x.newestStart = bits, s.ST
	return nil
}

func (m *memcache) sealHistograms(row *memRow) {
	row.last = m.putChunk(row.last, row.extra.open.Chunk())
	row.extra.open = chunk.Open{}
}

// addOutOfOrder stages a sample that is older than its series' newest. One
// with a timestamp that is staged already changes nothing, since the first
// stays; whether one is in an older run is left to reads, which look by age.
func (m *memcache) addOutOfOrder(ref uint32, s outOfOrderSample) error {
	row := m.row(ref)
	x := m.extraOf(row)
	for i := range x.outOfOrder {
		if x.outOfOrder[i].t == s.t {
			return nil
		}
	}
	if s.histogram != nil {
		_, s.histogram = m.chunks.add(s.histogram)
	}
	x.outOfOrder = append(x.outOfOrder, s)
	m.bytes += 48
	if len(x.outOfOrder) < outOfOrderRows {
		return nil
	}
	run, err := encodeOutOfOrder(x.outOfOrder)
	if err != nil {
		return err
	}
	for _, c := range run {
		x.run = m.putChunk(x.run, c)
	}
	m.bytes -= int64(48 * len(x.outOfOrder))
	if m.pinned() {
		x.outOfOrder = nil
	} else {
		x.outOfOrder = x.outOfOrder[:0]
	}
	return nil
}

// encodeOutOfOrder sorts staged samples and encodes them.
func encodeOutOfOrder(staged []outOfOrderSample) ([]chunk.Chunk, error) {
	samples := make([]sample, len(staged))
	for i, s := range staged {
		samples[i] = sample{T: s.t, ST: s.st, V: s.v}
		if s.histogram != nil {
			var err error
			if samples[i].H, samples[i].FH, err = wire.DecodeHistogram(s.histogram); err != nil {
				return nil, err
			}
		}
	}
	sort.Slice(samples, func(i, j int) bool { return samples[i].T < samples[j].T })
	return chunk.AppendChunks(nil, samples)
}

// addExemplar keeps an exemplar unless it is there; see MaxExemplars.
func (m *memcache) addExemplar(ref uint32, e exemplarRow) {
	at := 0
	if row := m.rowIfAny(ref); row != nil && row.extra != nil {
		list, found := row.extra.exemplars, false
		at, found = slices.BinarySearchFunc(list, e, compareExemplars)
		if found || at == 0 && len(list) == MaxExemplars {
			return // what is scraped again and again costs no touch and no copy
		}
	}
	row := m.row(ref)
	x := m.extraOf(row)
	if len(x.exemplars) == 0 {
		m.exemplarRefs = append(m.exemplarRefs, ref)
	}
	_, e.labels = m.chunks.add(e.labels)
	x.exemplars = insertExemplar(x.exemplars, at, e, m.pinned())
	m.bytes += int64(40 + len(e.labels))
}

// A chunk record in the slab: the position of the record before it as 8 bytes
// little-endian, the kind, uvarint rows, varint first time, uvarint last minus
// first time, and the three columns, each after its uvarint length. Records link backwards, so that a row needs one position and the
// collector has nothing to look at.

func (m *memcache) putChunk(before slabPos, c chunk.Chunk) slabPos {
	var head [8 + 1 + 6*binary.MaxVarintLen64]byte
	binary.LittleEndian.PutUint64(head[:], uint64(before))
	n := len(appendChunkHead(head[:8], &c))
	at, record := m.chunks.alloc(n + len(c.Times) + len(c.Starts) + len(c.Values))
	rest := record[copy(record, head[:n]):]
	rest = rest[copy(rest, c.Times):]
	rest = rest[copy(rest, c.Starts):]
	copy(rest, c.Values)
	m.bytes += int64(len(record))
	return at
}

// appendChain appends the chunks of a chain, oldest first.
func appendChain(dst []part, blocks [][]byte, last slabPos) []part {
	from := len(dst)
	for last != 0 {
		b := last.from(blocks)
		last = slabPos(binary.LittleEndian.Uint64(b))
		r := newReader(b[8:])
		dst = append(dst, part{Chunk: r.chunk()})
	}
	slices.Reverse(dst[from:])
	return dst
}

// image is a row at one moment. What it refers to never changes.
type image struct {
	tail  []stagedFloat
	extra *extraImage
	last  slabPos
}

type extraImage struct {
	starts     []int64
	open       chunk.Chunk // no rows when there is none
	outOfOrder []outOfOrderSample
	run        slabPos
	exemplars  []exemplarRow
}

// image returns the row as it is. The open histogram chunk is copied if it may
// change later: its header counts its samples.
func (r *memRow) image(copyOpen bool) image {
	img := image{tail: r.tail, last: r.last}
	if x := r.extra; x != nil {
		img.extra = &extraImage{starts: x.starts, outOfOrder: x.outOfOrder, run: x.run, exemplars: x.exemplars}
		if !x.open.Empty() {
			img.extra.open = x.open.Chunk()
			if copyOpen {
				img.extra.open = cloneChunk(img.extra.open)
			}
		}
	}
	return img
}

// appendParts appends the image's samples in log order: the in-order ones
// before the out-of-order runs. For if both have a sample of one timestamp, the
// in-order one was applied first: once the other had been, the series' newest
// sample was past that timestamp, and it never goes back.
func (img *image) appendParts(dst []part, blocks [][]byte) ([]part, error) {
	dst = appendChain(dst, blocks, img.last)
	if n := len(img.tail); n > 0 {
		p := part{staged: img.tail}
		p.MinTime, p.MaxTime = p.staged[0].t, p.staged[n-1].t
		if img.extra != nil {
			p.starts = img.extra.starts
		}
		dst = append(dst, p)
	}
	x := img.extra
	if x == nil {
		return dst, nil
	}
	if x.open.Rows > 0 {
		dst = append(dst, part{Chunk: x.open})
	}
	dst = appendChain(dst, blocks, x.run)
	if len(x.outOfOrder) == 0 {
		return dst, nil
	}
	run, err := encodeOutOfOrder(x.outOfOrder)
	if err != nil {
		return nil, err
	}
	for _, c := range run {
		dst = append(dst, part{Chunk: c})
	}
	return dst, nil
}

// newest returns the newest in-order sample that the frozen row has.
func (r *memRow) newest() (s newestSample, ok bool) {
	switch {
	case len(r.tail) > 0:
		i := len(r.tail) - 1
		s = newestSample{time: r.tail[i].t, bits: floatBits(r.tail[i].v), kind: kindFloat}
		if r.extra != nil && r.extra.starts != nil {
			s.start = r.extra.starts[i]
		}
	case r.extra != nil && !r.extra.open.Empty():
		s = newestSample{time: r.extra.open.MaxTime(), bits: r.extra.newestBits, start: r.extra.newestStart, kind: kindHistogram}
	default:
		return s, false
	}
	return s, true
}
