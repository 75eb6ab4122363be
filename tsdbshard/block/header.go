package block

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
)

// kind is which of the two kinds of blocks a file is.
type kind uint8

const (
	kindDelta     kind = 1
	kindCanonical kind = 2
)

func (k kind) String() string {
	switch k {
	case kindDelta:
		return "delta"
	case kindCanonical:
		return "canonical"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// DeltaHeader says what a delta block is of.
type DeltaHeader struct {
	// Set is the ReplicaSet whose log the block has a part of.
	Set quorate.ReplicaSetID
	// Lo and Hi are the interval (Lo, Hi] of log indexes (PROTOCOL 19).
	Lo, Hi uint64
	// FirstRef is the ref of the first series that the block defines: the
	// number of series that older blocks define.
	FirstRef uint32
}

// CanonicalHeader says what a canonical block is of.
type CanonicalHeader struct {
	// Set is the sealed ReplicaSet.
	Set quorate.ReplicaSetID
	// SealIndex is the log index of its last entry (PROTOCOL 14).
	SealIndex uint64
	// Range holds every sample of the set.
	Range quorate.TimeRange
}

// header is the body of a block's header page, which its directory repeats.
type header struct {
	kind      kind
	delta     DeltaHeader
	canonical CanonicalHeader
}

func (h *header) append(dst []byte) []byte {
	dst = append(dst, byte(h.kind))
	if h.kind == kindDelta {
		d := &h.delta
		dst = binary.AppendUvarint(dst, uint64(d.Set))
		dst = binary.AppendUvarint(dst, d.Lo)
		dst = binary.AppendUvarint(dst, d.Hi)
		return binary.AppendUvarint(dst, uint64(d.FirstRef))
	}
	c := &h.canonical
	dst = binary.AppendUvarint(dst, uint64(c.Set))
	dst = binary.AppendUvarint(dst, c.SealIndex)
	dst = binary.AppendVarint(dst, c.Range.Start)
	return binary.AppendVarint(dst, c.Range.End)
}

func readHeader(c *cursor.Cursor) header {
	h := header{kind: kind(c.U8())}
	switch h.kind {
	case kindDelta:
		h.delta = DeltaHeader{Set: quorate.ReplicaSetID(c.Uvarint()), Lo: c.Uvarint(), Hi: c.Uvarint()}
		h.delta.FirstRef = readNumber(c)
	case kindCanonical:
		h.canonical = CanonicalHeader{Set: quorate.ReplicaSetID(c.Uvarint()), SealIndex: c.Uvarint()}
		h.canonical.Range = quorate.TimeRange{Start: c.Varint(), End: c.Varint()}
	default:
		c.Fail()
	}
	return h
}

// readNumber reads the number of a series, pair, shape or row.
func readNumber(c *cursor.Cursor) uint32 {
	u := c.Uvarint()
	if u > math.MaxUint32 {
		c.Fail()
		return 0
	}
	return uint32(u)
}

// describe returns the part of the header that its kind has.
func (h *header) describe() any {
	if h.kind == kindDelta {
		return h.delta
	}
	return h.canonical
}
