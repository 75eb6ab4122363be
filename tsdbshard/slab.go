package tsdbshard

import (
	"encoding/binary"
	"unsafe"
)

const (
	slabFirstBlock = 4 << 10 // so that an idle shard costs nothing
	slabBlockBits  = 20
	slabMaxBlock   = 1 << slabBlockBits
	// slabFull is at how many blocks a slab is full: three quarters of what
	// positions reach, so that no entry, and no series, can go past it.
	slabFull = 3 << (32 - slabBlockBits - 2)
)

// slabPos is the position of bytes in a slab: block number and offset. Zero is
// "nowhere".
type slabPos uint32

// slab keeps many byte strings in few allocations. It is append-only: the
// blocks slice as it is at some moment serves every position given out until
// then, whatever is appended later, so a reader needs only a copy of it.
type slab struct {
	blocks [][]byte
	used   int   // bytes used of the last block
	bytes  int64 // sum of the lengths of all blocks
}

// alloc reserves n bytes. Whoever appends looks now and then whether the slab
// is full.
func (s *slab) alloc(n int) (slabPos, []byte) {
	last := len(s.blocks) - 1
	if last < 0 || len(s.blocks[last])-s.used < n || s.used >= slabMaxBlock {
		size := min(max(slabFirstBlock, int(s.bytes)), slabMaxBlock)
		// One more byte: the first block's first is not used, so that no
		// position is zero.
		s.blocks = append(s.blocks, make([]byte, max(size, n+1)))
		last++
		s.bytes += int64(len(s.blocks[last]))
		s.used = 0
		if last == 0 {
			s.used = 1
		}
	}
	at := s.used
	s.used += n
	return slabPos(last<<slabBlockBits | at), s.blocks[last][at : at+n : at+n]
}

// full tells whether nothing more should be appended.
func (s *slab) full() bool { return len(s.blocks) >= slabFull }

// add copies b into the slab.
func (s *slab) add(b []byte) (slabPos, []byte) {
	at, kept := s.alloc(len(b))
	copy(kept, b)
	return at, kept
}

// addBytes copies b into the slab, after its uvarint length.
func (s *slab) addBytes(b []byte) slabPos {
	var head [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(head[:], uint64(len(b)))
	at, kept := s.alloc(n + len(b))
	copy(kept[copy(kept, head[:n]):], b)
	return at
}

// from returns the bytes of the block from a position to the block's end.
func (p slabPos) from(blocks [][]byte) []byte {
	return blocks[p>>slabBlockBits][p&(slabMaxBlock-1):]
}

// bytes returns what addBytes copied to a position.
func (p slabPos) bytes(blocks [][]byte) []byte {
	b := p.from(blocks)
	from, to := bytesSpan(b)
	return b[from:to:to]
}

// bytesSpan returns where the first length-prefixed byte string of b begins and
// ends.
func bytesSpan(b []byte) (from, to int) {
	if b[0] < 0x80 {
		return 1, 1 + int(b[0])
	}
	return longSpan(b)
}

func longSpan(b []byte) (from, to int) {
	n, k := binary.Uvarint(b)
	return k, k + int(n)
}

// cutBytes cuts the first length-prefixed byte string off b, which holds one.
func cutBytes(b []byte) (head, rest []byte) {
	from, to := bytesSpan(b)
	return b[from:to:to], b[to:]
}

// textOf returns immutable bytes as a string without copying them. Its callers
// pass bytes of slabs and pages, which are never written again once readable.
func textOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
