package tsdbshard

const (
	// maxSegment is how many values a segment holds before it is split in two:
	// what one insert may have to move, whatever the size of the index.
	maxSegment = 4096
	// maxDepth bounds the directory: 1<<18 segments hold a billion numbers.
	maxDepth = 18
	// minSlots is what the first segment begins with.
	minSlots = 16
)

// hashIndex finds numbers by a hash of what they stand for: extendible hashing
// over segments with open addressing. A slot is 8 bytes and at least 58 % of
// them are in use, a map of Go takes twice that; and it never moves more than
// one segment at a time, where a table that doubles moves millions of slots
// while readers wait. Equal hashes are for the caller to tell apart.
type hashIndex struct {
	directory []*hashSegment // by the upper depth bits of the hash
	depth     uint
}

// hashSegment holds the hashes that have its upper depth bits. They lie in
// ascending order but for collisions, so that growing is one pass.
type hashSegment struct {
	slots []uint64 // hash << 32 | number + 1; 0 is free
	used  int
	depth uint
}

// home is the slot that a hash is looked for first.
func (s *hashSegment) home(hash uint32) int {
	return int(uint64(hash<<s.depth) * uint64(len(s.slots)) >> 32)
}

func (s *hashSegment) put(slot uint64) {
	at := s.home(uint32(slot >> 32))
	for s.slots[at] != 0 {
		if at++; at == len(s.slots) {
			at = 0
		}
	}
	s.slots[at] = slot
	s.used++
}

// hashProbe walks the numbers that have a hash.
type hashProbe struct {
	slots []uint64
	at    int
	hash  uint32
}

func (h *hashIndex) probe(hash uint32) hashProbe {
	if len(h.directory) == 0 {
		return hashProbe{}
	}
	s := h.directory[hash>>(32-h.depth)]
	return hashProbe{slots: s.slots, at: s.home(hash), hash: hash}
}

// next returns the next number with the hash, and whether there is one.
func (p *hashProbe) next() (uint32, bool) {
	for p.at < len(p.slots) {
		s := p.slots[p.at]
		if s == 0 {
			break
		}
		if p.at++; p.at == len(p.slots) {
			p.at = 0
		}
		if uint32(s>>32) == p.hash {
			return uint32(s) - 1, true
		}
	}
	return 0, false
}

// insert adds a number, below 1<<32 - 1, under a hash.
func (h *hashIndex) insert(hash, number uint32) {
	if len(h.directory) == 0 {
		h.directory = []*hashSegment{{slots: make([]uint64, minSlots)}}
	}
	s := h.directory[hash>>(32-h.depth)]
	for 8*(s.used+1) > 7*len(s.slots) {
		if s.used < maxSegment || s.depth == maxDepth {
			s.grow()
			continue
		}
		h.split(s, hash)
		s = h.directory[hash>>(32-h.depth)]
	}
	s.put(uint64(hash)<<32 | uint64(number+1))
}

// grow makes the segment half as large again.
func (s *hashSegment) grow() {
	old := s.slots
	s.slots, s.used = make([]uint64, len(old)+len(old)/2), 0
	for _, slot := range old {
		if slot != 0 {
			s.put(slot)
		}
	}
}

// split replaces a segment by two, of one more bit each.
func (h *hashIndex) split(s *hashSegment, hash uint32) {
	if s.depth == h.depth {
		doubled := make([]*hashSegment, 2*len(h.directory))
		for i := range doubled {
			doubled[i] = h.directory[i/2]
		}
		h.directory, h.depth = doubled, h.depth+1
	}
	depth := s.depth + 1
	// A little more room than is needed for half: both go on growing.
	size := s.used/2 + s.used/4
	low := &hashSegment{slots: make([]uint64, size), depth: depth}
	high := &hashSegment{slots: make([]uint64, size), depth: depth}
	for _, slot := range s.slots {
		if slot == 0 {
			continue
		}
		half := low
		if slot>>(64-depth)&1 == 1 {
			half = high
		}
		if 8*(half.used+1) > 7*len(half.slots) {
			half.grow()
		}
		half.put(slot)
	}
	// The segment's place in the directory is a run of entries.
	first := int(hash>>(32-s.depth)) << (h.depth - s.depth)
	half := 1 << (h.depth - depth)
	for i := range half {
		h.directory[first+i] = low
		h.directory[first+half+i] = high
	}
}

// bytes returns the memory that the index takes.
func (h *hashIndex) bytes() int64 {
	n := int64(8 * len(h.directory))
	for i, s := range h.directory {
		if i == 0 || h.directory[i-1] != s {
			n += int64(8*len(s.slots)) + 48
		}
	}
	return n
}
