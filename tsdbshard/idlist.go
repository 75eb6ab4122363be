package tsdbshard

import (
	"encoding/binary"
	"slices"
	"sort"
)

// listBlockBytes is the size past which a block of a long list is closed. A
// search decodes half a block on average: 0.2 µs.
const listBlockBytes = 192

// listHead is an append-only list of ascending numbers, in the 12 bytes that
// most lists need: one number, neighbours, or two. What is longer goes on in a
// longList. The zero head is the empty list.
type listHead struct {
	first uint32
	// last is the last number of a list of neighbours or of two. A list that
	// goes on elsewhere does not change it.
	last uint32
	more uint32 // headRun, headPair, or the number of a longList plus headLong
}

const (
	headEmpty = iota
	headRun   // first, first + 1, ... last
	headPair  // first and last
	headLong
)

// longList is a list as runs: of neighbours, since the series of a scrape get
// refs one after the other, and so cost nothing in the lists of all the labels
// that they share.
//
// Closed blocks lie in a slab. What is in blocks and open is never changed, so
// copies of the slice headers are a snapshot, together with the last run.
type longList struct {
	blocks     []listBlock
	open       []byte // runs since the last block, see appendRun
	openEnd    uint32 // end of the last run in open
	start, end uint32 // the last run, in neither yet; end is not in it
	total      uint32 // numbers in blocks and open
}

// listBlock is a closed block.
type listBlock struct {
	first uint32
	upTo  uint32  // numbers in the list up to the block's end
	at    slabPos // uvarint length, runs
}

// idLists are lists of ascending numbers and the memory they share.
type idLists struct {
	slab *slab
	long []*longList
}

// append appends a number higher than all in the list.
func (s *idLists) append(h *listHead, id uint32) {
	switch h.more {
	case headEmpty:
		*h = listHead{first: id, last: id, more: headRun}
		return
	case headRun:
		if id == h.last+1 {
			h.last = id
			return
		}
		if h.first == h.last {
			h.last, h.more = id, headPair
			return
		}
		s.goOn(h, &longList{start: h.first, end: h.last + 1})
	case headPair:
		l := &longList{start: h.first, end: h.first + 1}
		l.append(s.slab, h.last)
		s.goOn(h, l)
	}
	s.long[h.more-headLong].append(s.slab, id)
}

func (s *idLists) goOn(h *listHead, l *longList) {
	h.more = headLong + uint32(len(s.long))
	s.long = append(s.long, l)
}

// snapshot returns the list up to the numbers below cut. What it refers to
// never changes.
func (s *idLists) snapshot(h *listHead, cut uint32) idList {
	switch h.more {
	case headEmpty:
		return idList{}
	case headRun:
		return idList{start: h.first, end: h.last + 1, cut: cut}
	case headPair:
		return idList{single: true, first: h.first, start: h.last, end: h.last + 1, total: 1, cut: cut}
	}
	return s.long[h.more-headLong].snapshot(s.slab, cut)
}

func (l *longList) append(slab *slab, id uint32) {
	if id == l.end && l.start < l.end {
		l.end++
		return
	}
	if l.start < l.end {
		l.closeRun(slab)
	}
	l.start, l.end = id, id+1
}

// closeRun moves the last run to the open block.
func (l *longList) closeRun(slab *slab) {
	n := l.end - l.start
	l.open = appendRun(l.open, l.openEnd, l.start, n)
	l.openEnd = l.end
	l.total += n
	if len(l.open) < listBlockBytes {
		return
	}
	first, _, _, _ := cutRun(l.open, 0)
	var size [binary.MaxVarintLen64]byte
	k := binary.PutUvarint(size[:], uint64(len(l.open)))
	at, block := slab.alloc(k + len(l.open))
	copy(block[copy(block, size[:k]):], l.open)
	l.blocks = append(l.blocks, listBlock{first: first, upTo: l.total, at: at})
	l.open, l.openEnd = nil, 0 // a snapshot may hold the bytes
}

// appendRun appends a run of n numbers from start: uvarint (start minus the
// end of the run before it) << 1, plus 1 when a uvarint n minus 2 follows, and
// n is 1 otherwise. The first run of a block counts from 0.
func appendRun(dst []byte, before, start, n uint32) []byte {
	gap := uint64(start-before) << 1
	if n == 1 {
		return binary.AppendUvarint(dst, gap)
	}
	return binary.AppendUvarint(binary.AppendUvarint(dst, gap|1), uint64(n-2))
}

// cutRun cuts the first run off a block's runs. ok is false for bytes that
// appendRun did not write.
func cutRun(b []byte, before uint32) (start, end uint32, rest []byte, ok bool) {
	var u uint64
	if len(b) > 0 && b[0] < 0x80 {
		u, b = uint64(b[0]), b[1:]
	} else {
		n := 0
		if u, n = binary.Uvarint(b); n <= 0 {
			return 0, 0, nil, false
		}
		b = b[n:]
	}
	start = before + uint32(u>>1)
	if u&1 == 0 {
		return start, start + 1, b, true
	}
	more, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, 0, nil, false
	}
	return start, start + 2 + uint32(more), b[n:], true
}

func (l *longList) snapshot(slab *slab, cut uint32) idList {
	return idList{slab: slab.blocks, blocks: l.blocks, open: l.open, start: l.start, end: l.end, total: l.total, cut: cut}
}

// idList is a snapshot of a list.
type idList struct {
	slab   [][]byte
	blocks []listBlock
	open   []byte
	// single tells that the list begins with first and goes on with the last
	// run; there are no blocks then.
	single     bool
	first      uint32
	start, end uint32 // the last run
	total      uint32 // numbers before it
	cut        uint32 // numbers from here on are not in the snapshot
}

// count returns how many numbers the snapshot has.
func (l *idList) count() int {
	if l.cut > l.start {
		return int(l.total + min(l.end, l.cut) - l.start)
	}
	// Blocks that end below the cut need not be looked at.
	c := l.runs()
	n := 0
	if i := sort.Search(len(l.blocks), func(i int) bool { return l.blocks[i].first >= l.cut }); i > 1 {
		n = int(l.blocks[i-2].upTo)
		c.stage = i - 1
	}
	for c.next() {
		n += int(c.end - c.start)
	}
	return n
}

// runs returns a cursor before the snapshot's first run.
func (l *idList) runs() runCursor {
	c := runCursor{list: *l}
	if l.single {
		c.stage = stageSingle
	}
	return c
}

const stageSingle = -1

// runCursor walks the runs of a snapshot.
type runCursor struct {
	list idList
	// stage is what comes next: stageSingle, a block, then, past the blocks,
	// the open block, the last run, nothing.
	stage int
	rest  []byte // of the block that is being read
	prior uint32 // end of the run before rest

	start, end uint32 // the run that the cursor stands at
}

// next moves to the next run.
func (c *runCursor) next() bool {
	for {
		if len(c.rest) > 0 {
			var ok bool
			if c.start, c.end, c.rest, ok = cutRun(c.rest, c.prior); !ok {
				return c.stop()
			}
			c.prior = c.end
			return c.bounded()
		}
		l := &c.list
		switch at := c.stage - len(l.blocks); {
		case c.stage == stageSingle:
			c.start, c.end = l.first, l.first+1
			c.stage = len(l.blocks) + 1
			return c.bounded()
		case at < 0:
			b := l.blocks[c.stage].at.from(l.slab)
			n, k := binary.Uvarint(b)
			c.rest, c.prior = b[k:k+int(n)], 0
		case at == 0:
			c.rest, c.prior = l.open, 0
		case at == 1:
			c.start, c.end = l.start, l.end
			c.stage++
			return c.bounded()
		default:
			return c.stop()
		}
		c.stage++
	}
}

// bounded cuts the run at the snapshot's end.
func (c *runCursor) bounded() bool {
	if c.end > c.list.cut {
		c.end = c.list.cut
	}
	if c.start >= c.end {
		return c.stop()
	}
	return true
}

func (c *runCursor) stop() bool {
	c.stage, c.rest = len(c.list.blocks)+2, nil
	c.start, c.end = 0, 0
	return false
}

// seek moves on to the first run that has a number at or past id, and cuts off
// what of it is before id.
func (c *runCursor) seek(id uint32) bool {
	if c.end <= id {
		c.skip(id)
		for {
			if !c.next() {
				return false
			}
			if c.end > id {
				break
			}
		}
	}
	c.start = max(c.start, id)
	return true
}

// skip leaves out blocks that end before id.
func (c *runCursor) skip(id uint32) {
	l := &c.list
	if c.stage > len(l.blocks)+1 {
		return
	}
	if id >= l.start {
		c.stage, c.rest = len(l.blocks)+1, nil
		return
	}
	if c.stage < 0 || c.stage >= len(l.blocks) {
		return
	}
	ahead := l.blocks[c.stage:]
	if n := sort.Search(len(ahead), func(i int) bool { return ahead[i].first > id }); n > 0 {
		c.stage, c.rest = c.stage+n-1, nil
	}
}

// appendAll appends the snapshot's numbers to dst.
func (l *idList) appendAll(dst []uint32) []uint32 {
	dst = slices.Grow(dst, l.count())
	for c := l.runs(); c.next(); {
		for id := c.start; id < c.end; id++ {
			dst = append(dst, id)
		}
	}
	return dst
}
