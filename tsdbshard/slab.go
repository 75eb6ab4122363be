package tsdbshard

import "unsafe"

const (
	slabFirstBlock = 4 << 10 // so that an idle shard costs nothing
	slabMaxBlock   = 1 << 20
)

// slabPos is the position of bytes in a slab: block number and offset. Zero is
// "nowhere".
type slabPos uint64

// slab keeps many byte strings in few allocations. It is append-only: the
// blocks slice as it is at some moment serves every position given out until
// then, whatever is appended later, so a reader needs only a copy of it.
type slab struct {
	blocks [][]byte
	used   int   // bytes used of the last block
	bytes  int64 // sum of the lengths of all blocks
}

// alloc reserves n bytes.
func (s *slab) alloc(n int) (slabPos, []byte) {
	last := len(s.blocks) - 1
	if last < 0 || len(s.blocks[last])-s.used < n {
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
	return slabPos(uint64(last)<<32 | uint64(at)), s.blocks[last][at : at+n : at+n]
}

// add copies b into the slab.
func (s *slab) add(b []byte) (slabPos, []byte) {
	at, kept := s.alloc(len(b))
	copy(kept, b)
	return at, kept
}

// from returns the bytes of the block from a position to the block's end.
func (p slabPos) from(blocks [][]byte) []byte {
	return blocks[p>>32][uint32(p):]
}

// textOf returns immutable bytes as a string without copying them. Its callers
// pass bytes of slabs and pages, which are never written again once readable.
func textOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
