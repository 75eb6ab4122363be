package tsdbshard

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/quorate/quorate/internal/cursor"
	"github.com/quorate/quorate/tsdbshard/chunk"
)

// A chunk record in a memcache's slab:
//
//	head     1 byte: the chunk's kind, recordLinked, recordStarted
//	link     4 bytes, if linked: the position of the chain's record before it.
//	         Records link backwards, so that a row needs one position and the
//	         collector has nothing to look at
//	times    of floats: 4 bytes, the position of their times
//	starts   of floats, if started: uvarint length, bytes
//	span     of histograms: uvarint rows, varint first time, uvarint last minus
//	         first time
//	values   uvarint length, bytes
//
// Times are a record that chunks share: a span, uvarint length, bytes.
const (
	recordKindMask = 0x0f
	recordLinked   = 0x10
	recordStarted  = 0x20
)

const (
	linkBytes    = 4
	maxSpanBytes = 3 * binary.MaxVarintLen64
)

// putFloats appends a chunk of floats to the chain that ends at before.
func (m *memcache) putFloats(before slabPos, c *chunk.Chunk) slabPos {
	times := m.putTimes(c)
	var buf [1 + 2*linkBytes + binary.MaxVarintLen64]byte
	head := appendLink(buf[:0], c.Kind, before)
	head = binary.LittleEndian.AppendUint32(head, uint32(times))
	if len(c.Starts) > 0 {
		head[0] |= recordStarted
		head = cursor.AppendBytes(head, c.Starts)
	}
	head = binary.AppendUvarint(head, uint64(len(c.Values)))
	return m.record(head, c.Values)
}

// putHistograms appends a chunk of histograms to the chain that ends at before.
func (m *memcache) putHistograms(before slabPos, c chunk.Chunk) slabPos {
	var head [1 + linkBytes + maxSpanBytes + binary.MaxVarintLen64]byte
	b := appendSpan(appendLink(head[:0], c.Kind, before), &c)
	b = binary.AppendUvarint(b, uint64(len(c.Values)))
	return m.record(b, c.Values)
}

// record stores a record.
func (m *memcache) record(head, body []byte) slabPos {
	m.reclaim()
	before := m.room.bytes
	at, room := m.room.takeExactly(len(head) + len(body))
	m.bytes += m.room.bytes - before
	copy(room[copy(room, head):], body)
	return at
}

func appendLink(dst []byte, kind chunk.Kind, before slabPos) []byte {
	if before == 0 {
		return append(dst, byte(kind))
	}
	return binary.LittleEndian.AppendUint32(append(dst, byte(kind)|recordLinked), uint32(before))
}

func appendSpan(dst []byte, c *chunk.Chunk) []byte {
	dst = binary.AppendUvarint(dst, uint64(c.Rows))
	dst = binary.AppendVarint(dst, c.MinTime)
	return binary.AppendUvarint(dst, uint64(c.MaxTime-c.MinTime))
}

// timesMemo finds times that were stored lately: the series of a scrape fill
// their tails one after the other, and so share their times. It is a cache of
// one way, by a hash of the first and last time.
type timesMemo [16]storedTimes

type storedTimes struct {
	mint, maxt int64
	times      []byte // in the slab
	at         slabPos
	rows       int
}

// putTimes stores the times of floats, or finds them.
func (m *memcache) putTimes(c *chunk.Chunk) slabPos {
	hash := (uint64(c.MinTime) + uint64(c.MaxTime)<<20) * hashMultiplier
	memo := &m.times[hash>>60]
	if memo.mint == c.MinTime && memo.maxt == c.MaxTime && memo.rows == c.Rows && bytes.Equal(memo.times, c.Times) {
		return memo.at
	}
	var buf [maxSpanBytes + binary.MaxVarintLen64]byte
	head := binary.AppendUvarint(appendSpan(buf[:0], c), uint64(len(c.Times)))
	at := m.record(head, c.Times)
	stored := at.from(m.room.blocks)[len(head):]
	*memo = storedTimes{mint: c.MinTime, maxt: c.MaxTime, rows: c.Rows, at: at, times: stored[:len(c.Times):len(c.Times)]}
	return at
}

// appendChain appends the chunks of a chain that a gatherer wants, oldest
// first. Those of an ordered chain follow each other in time.
func appendChain(g *gatherer, dst []part, blocks [][]byte, last slabPos, ordered bool) []part {
	from := len(dst)
	for last != 0 {
		var p part
		p.Chunk, last = readRecord(blocks, last)
		if g.wants(p.MinTime, p.MaxTime) {
			dst = append(dst, p)
		} else if ordered && p.MaxTime < g.mint {
			break
		}
	}
	slices.Reverse(dst[from:])
	return dst
}

// readRecord returns the chunk at a position, and the position of the one
// before it in the chain.
func readRecord(blocks [][]byte, at slabPos) (c chunk.Chunk, before slabPos) {
	b := at.from(blocks)
	head := b[0]
	b = b[1:]
	if head&recordLinked != 0 {
		before = slabPos(binary.LittleEndian.Uint32(b))
		b = b[linkBytes:]
	}
	c.Kind = chunk.Kind(head & recordKindMask)
	if c.Kind != chunk.Floats {
		b = readSpan(b, &c)
		c.Values, _ = cutBytes(b)
		return c, before
	}
	times := readSpan(slabPos(binary.LittleEndian.Uint32(b)).from(blocks), &c)
	c.Times, _ = cutBytes(times)
	b = b[linkBytes:]
	if head&recordStarted != 0 {
		n, k := binary.Uvarint(b)
		end := k + int(n)
		c.Starts, b = b[k:end:end], b[end:]
	}
	c.Values, _ = cutBytes(b)
	return c, before
}

func readSpan(b []byte, c *chunk.Chunk) []byte {
	rows, n := binary.Uvarint(b)
	mint, k := binary.Varint(b[n:])
	n += k
	span, k := binary.Uvarint(b[n:])
	c.Rows, c.MinTime, c.MaxTime = int(rows), mint, mint+int64(span)
	return b[n+k:]
}
