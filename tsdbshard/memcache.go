package tsdbshard

import (
	"encoding/binary"
	"math"
	"slices"
	"sort"
	"unsafe"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/tsdbshard/chunk"
)

const (
	// outOfOrderRows is how many out-of-order samples of a series wait until
	// they are sorted and compressed as one run.
	outOfOrderRows = 32
	// MaxExemplars is how many exemplars are kept for each series: those that
	// are newest by (timestamp, value bits, labels). The newest of a union are
	// among the newest of its parts, so each memcache and file may keep only
	// that many and reads still equal the fold over the log.
	MaxExemplars = 4096
)

// memcache holds the samples of one log interval: the live one until Freeze,
// then it never changes again.
type memcache struct {
	pages  []*rowPage // by ref; nil where nothing was touched
	extras []*rowExtra
	room   room // tails, chunk records, encoded histograms, exemplar labels
	times  timesMemo
	enc    tailEncoder
	bytes  int64 // of memory, roughly
	dirty  bool
	// exemplarRefs lists the series that have exemplars here, in the order of
	// their first one.
	exemplarRefs []uint32
	// metadata lists what changed, in log order.
	metadata []metadataChange
	// epoch is the number of the newest view pinned to this memcache; views are
	// those that are open, oldest first. Guarded by the shard's lock.
	epoch uint64
	views []*View
}

type metadataChange struct {
	tenant quorate.TenantID
	entry  wire.Metadata
}

// Rows lie in pages without pointers, so that the collector does not look at
// them.
const (
	rowPageBits = 8
	rowPageRows = 1 << rowPageBits
	rowPageMask = rowPageRows - 1
)

type rowPage struct {
	rows [rowPageRows]memRow
	// epochs are memcache.epoch at the last change, for each group of rows.
	epochs [rowPageRows / groupRows]uint64
}

// groupRows is how many rows are saved into a view at once, before the first
// change of one of them: 1.8 kB, which costs as much as to save two rows alone,
// and a scrape changes them all.
const groupRows = 64

type rowGroup [groupRows]memRow

// memRow is one series' samples in a memcache.
type memRow struct {
	tail  slabPos // floats that wait; 0 when there is no room for them yet
	last  slabPos // newest in-order chunk record
	extra uint32  // number of what most series do not have, plus one
	tailShape
	used uint8 // bytes of the tail
	size uint8 // bytes that there is room for
}

// rowExtra is the rarer part of a series.
type rowExtra struct {
	epoch uint64 // memcache.epoch at the last change
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

// Sizes by which memory is counted.
const (
	pageBytes       = int64(unsafe.Sizeof(rowPage{}))
	extraBytes      = int64(unsafe.Sizeof(rowExtra{})) + 8
	outOfOrderBytes = int64(unsafe.Sizeof(outOfOrderSample{}))
	exemplarBytes   = int64(unsafe.Sizeof(exemplarRow{}))
)

// full tells whether positions in the memcache are about to run out: then it
// must be frozen before the next entry.
func (m *memcache) full() bool { return m.room.full() }

// row returns a series' row, ready to be changed.
func (m *memcache) row(ref uint32) *memRow {
	page := int(ref >> rowPageBits)
	if page >= len(m.pages) || m.pages[page] == nil {
		m.addPage(page)
	}
	p := m.pages[page]
	row := &p.rows[ref&rowPageMask]
	if group := ref / groupRows % (rowPageRows / groupRows); p.epochs[group] != m.epoch {
		m.touch(p, ref)
	}
	return row
}

func (m *memcache) addPage(page int) {
	if page >= len(m.pages) {
		before := cap(m.pages)
		m.pages = append(m.pages, make([]*rowPage, page+1-len(m.pages))...)
		m.bytes += int64(8 * (cap(m.pages) - before))
	}
	m.pages[page] = new(rowPage)
	m.dirty = true
	m.bytes += pageBytes
}

// touch is called before the first change of a group of rows since a view was
// pinned. It saves what they are into those views that have not seen them change.
func (m *memcache) touch(p *rowPage, ref uint32) {
	epoch := &p.epochs[ref/groupRows%(rowPageRows/groupRows)]
	first := ref & rowPageMask &^ (groupRows - 1)
	for _, v := range m.views {
		if v.epoch > *epoch {
			v.saved.put(ref, (*rowGroup)(p.rows[first:]))
		}
	}
	*epoch = m.epoch
}

// pinned tells whether an open view reads this memcache.
func (m *memcache) pinned() bool { return len(m.views) > 0 }

// rowIfAny returns a series' row for reading, or nil.
func (m *memcache) rowIfAny(ref uint32) *memRow {
	if page := int(ref >> rowPageBits); page < len(m.pages) && m.pages[page] != nil {
		return &m.pages[page].rows[ref&rowPageMask]
	}
	return nil
}

// extraIfAny returns a row's rarer part, or nil.
func (m *memcache) extraIfAny(row *memRow) *rowExtra {
	if row.extra == 0 {
		return nil
	}
	return m.extras[row.extra-1]
}

// extraOf returns a row's rarer part, ready to be changed: likewise.
func (m *memcache) extraOf(row *memRow) *rowExtra {
	if row.extra == 0 {
		m.extras = append(m.extras, &rowExtra{epoch: m.epoch})
		row.extra = uint32(len(m.extras))
		m.bytes += extraBytes
	}
	x := m.extras[row.extra-1]
	if x.epoch == m.epoch {
		return x
	}
	for _, v := range m.views {
		if v.epoch > x.epoch {
			v.saved.putExtra(row.extra, x.image(true))
		}
	}
	x.epoch = m.epoch
	return x
}

// appendFloat appends an in-order float. before is the series' newest sample
// before it: the tail's last one if the tail has any, since a memcache is not
// live any more when a series' newest sample is not the last one given to it.
func (m *memcache) appendFloat(ref uint32, before, s *newestSample) {
	row := m.row(ref)
	step := uint64(s.time) - uint64(before.time)
	switch {
	case row.rows == 0:
		m.beginTail(row, s)
		return
	case row.rows == tailRows:
		m.sealTail(row)
		m.beginTail(row, s)
		return
	case row.rows == 1 && step <= math.MaxUint32:
		row.step = uint32(step)
	}
	if step != uint64(row.step) || row.started || s.start != 0 {
		m.appendOdd(row, before, s, step)
		return
	}
	room := row.tail.from(m.room.blocks)[row.used:row.size]
	kind := kindOf(s.bits, before.bits)
	if n := valueBytes[kind&3]; n > uint(len(room)) {
		if !m.growTail(row, n) {
			m.sealTail(row)
			m.beginTail(row, s)
			return
		}
		room = row.tail.from(m.room.blocks)[row.used:row.size]
	}
	row.used += uint8(putValue(room, kind, s.bits))
	row.kinds |= uint32(kind) << (2 * row.rows)
	row.rows++
}

// appendOdd appends a float that came sooner or later than its tail's step
// says, or with a start timestamp.
func (m *memcache) appendOdd(row *memRow, before, s *newestSample, step uint64) {
	var buf [maxTailSample]byte
	kind := kindOf(s.bits, before.bits)
	b := buf[:putValue(buf[:], kind, s.bits)]
	b = binary.AppendVarint(b, int64(step-uint64(row.step)))
	if row.started {
		b = binary.AppendVarint(b, s.start-before.start)
	}
	tooLong := int(row.used)+len(b) > int(row.size) && !m.growTail(row, uint(len(b)))
	if tooLong || s.start != 0 && !row.started {
		m.sealTail(row)
		m.beginTail(row, s)
		return
	}
	copy(row.tail.from(m.room.blocks)[row.used:row.size], b)
	row.used += uint8(len(b))
	row.kinds |= uint32(kind) << (2 * row.rows)
	row.odd |= 1 << row.rows
	row.rows++
}

// beginTail puts the first sample into an empty tail.
func (m *memcache) beginTail(row *memRow, s *newestSample) {
	if row.extra != 0 {
		if x := m.extraIfAny(row); !x.open.Empty() {
			row.last = m.putHistograms(row.last, x.open.Chunk())
			m.extraOf(row).open = chunk.Open{}
		}
	}
	var buf [tailTimeBytes + maxTailSample]byte
	b := binary.LittleEndian.AppendUint64(buf[:0], uint64(s.time))
	kind := kindOf(s.bits, 0)
	b = buf[:len(b)+int(putValue(buf[len(b):], kind, s.bits))]
	row.tailShape = tailShape{kinds: uint32(kind), rows: 1}
	if s.start != 0 {
		b = binary.AppendVarint(append(b, 0), s.start) // a step of nothing
		row.odd, row.started = 1, true
	}
	row.used = 0
	if len(b) > int(row.size) {
		m.growTail(row, uint(len(b)))
	}
	copy(row.tail.from(m.room.blocks)[:row.size], b)
	row.used = uint8(len(b))
}

// growTail makes room for n more bytes of a tail, and for what the samples
// after them are likely to take once there are enough to tell by. Views that
// hold the old bytes keep them. It is false when the tail is too long.
func (m *memcache) growTail(row *memRow, n uint) bool {
	need := int(row.used) + int(n)
	if need > maxTailBytes {
		return false
	}
	if row.rows >= 4 {
		need = min(max(need, int(row.used)*tailRows/int(row.rows)), maxTailBytes)
	}
	at, size := m.take(need)
	if row.tail != 0 {
		copy(at.from(m.room.blocks)[:row.used], row.tail.from(m.room.blocks))
		m.give(row.tail, int(row.size))
	}
	row.tail, row.size = at, uint8(size)
	return true
}

// sealTail compresses the tail. It runs only when the next sample has come, so
// that the newest sample of a series is always found uncompressed.
func (m *memcache) sealTail(row *memRow) {
	c := m.enc.encode(row, row.tail.from(m.room.blocks))
	row.last = m.putFloats(row.last, &c)
	// What is as large as the next tail is likely to be is kept for it.
	if need := unitsOf(int(row.used)) * roomUnit; m.pinned() || need <= int(row.size)/2 {
		m.give(row.tail, int(row.size))
		at, size := m.take(need)
		row.tail, row.size = at, uint8(size)
	}
	row.rows, row.used = 0, 0
}

// dropTail gives up the room of an empty tail.
func (m *memcache) dropTail(row *memRow) {
	if row.tail != 0 {
		m.give(row.tail, int(row.size))
		row.tail, row.size = 0, 0
	}
}

func (m *memcache) take(n int) (slabPos, int) {
	m.reclaim()
	before := m.room.bytes
	at, size := m.room.take(n)
	m.bytes += m.room.bytes - before
	return at, size
}

// reclaim frees what no open view can refer to any more.
func (m *memcache) reclaim() {
	if m.room.drained == len(m.room.retired) {
		return
	}
	oldest := uint64(math.MaxUint64)
	if len(m.views) > 0 {
		oldest = m.views[0].epoch
	}
	m.room.reclaim(oldest)
}

func (m *memcache) give(at slabPos, size int) {
	if m.pinned() {
		m.room.retire(at, size, m.epoch)
		return
	}
	m.room.give(at, size)
}

// keep copies bytes that stay as long as the memcache.
func (m *memcache) keep(b []byte) []byte {
	before := m.room.bytes
	_, kept := m.room.add(b)
	m.bytes += m.room.bytes - before
	return kept
}

// appendHistogram appends an in-order histogram; bits is the hash of its encoding.
func (m *memcache) appendHistogram(ref uint32, s sample, bits uint64) error {
	row := m.row(ref)
	if row.rows > 0 {
		m.sealTail(row)
	}
	m.dropTail(row)
	x := m.extraOf(row)
	size := x.open.Len()
	before, full, err := x.open.Append(s)
	if err != nil {
		return err
	}
	if full {
		row.last = m.putHistograms(row.last, before)
		size = 0
	}
	m.bytes += int64(x.open.Len() - size)
	x.newestBits, x.newestStart = bits, s.ST
	return nil
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
		s.histogram = m.keep(s.histogram)
	}
	before := cap(x.outOfOrder)
	x.outOfOrder = append(x.outOfOrder, s)
	m.bytes += outOfOrderBytes * int64(cap(x.outOfOrder)-before)
	if len(x.outOfOrder) < outOfOrderRows {
		return nil
	}
	run, err := encodeOutOfOrder(&m.enc.chunk, x.outOfOrder)
	if err != nil {
		return err
	}
	for i := range run {
		if run[i].Kind == chunk.Floats {
			x.run = m.putFloats(x.run, &run[i])
		} else {
			x.run = m.putHistograms(x.run, run[i])
		}
	}
	if m.pinned() {
		m.bytes -= outOfOrderBytes * int64(cap(x.outOfOrder))
		x.outOfOrder = nil
	} else {
		x.outOfOrder = x.outOfOrder[:0]
	}
	return nil
}

// encodeOutOfOrder sorts staged samples and encodes them.
func encodeOutOfOrder(enc *chunk.Encoder, staged []outOfOrderSample) ([]chunk.Chunk, error) {
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
	return enc.AppendChunks(nil, samples)
}

// addExemplar keeps an exemplar unless it is there; see MaxExemplars.
func (m *memcache) addExemplar(ref uint32, e exemplarRow) {
	at := 0
	if row := m.rowIfAny(ref); row != nil && row.extra != 0 {
		list, found := m.extraIfAny(row).exemplars, false
		at, found = slices.BinarySearchFunc(list, e, compareExemplars)
		if found || at == 0 && len(list) == MaxExemplars {
			return // what is scraped again and again costs no touch and no copy
		}
	}
	row := m.row(ref)
	x := m.extraOf(row)
	if len(x.exemplars) == 0 {
		m.exemplarRefs = append(m.exemplarRefs, ref)
		m.bytes += 4
	}
	e.labels = m.keep(e.labels)
	before := cap(x.exemplars)
	x.exemplars = insertExemplar(x.exemplars, at, e, m.pinned())
	m.bytes += exemplarBytes * int64(cap(x.exemplars)-before)
}

// exemplars returns the exemplars of a series in a frozen memcache, ascending.
func (m *memcache) exemplars(ref uint32) []exemplarRow {
	if row := m.rowIfAny(ref); row != nil && row.extra != 0 {
		return m.extraIfAny(row).exemplars
	}
	return nil
}
