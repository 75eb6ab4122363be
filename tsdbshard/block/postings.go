package block

import (
	"encoding/binary"
	"math/bits"

	"github.com/quorate/quorate/internal/cursor"
)

// A postings page is one of blobs: the series of each label pair, under the
// pair's number, as rising numbers counted from the tenant's first series. A
// list is cut into pieces of at most postingsPiece, which may stand in several
// pages. A piece is its first number, last minus first and how many numbers
// there are less one, as uvarints, an encoding, and what that needs.
const (
	postingsPiece  = 16 << 10
	postingsTarget = 32 << 10

	postingsDeltas = 0 // for each number but the first: uvarint distance less one
	postingsRuns   = 1 // uvarint length of the run less one, uvarint gap less one, by turns
	postingsBitmap = 2 // a bit for each number after the first, lowest bit first
)

// appendPiece appends a piece in the encoding that takes the fewest bytes.
func appendPiece(dst []byte, list []uint32) []byte {
	first, last := list[0], list[len(list)-1]
	dst = binary.AppendUvarint(dst, uint64(first))
	dst = binary.AppendUvarint(dst, uint64(last-first))
	dst = binary.AppendUvarint(dst, uint64(len(list)-1))
	deltas, runs, run := 0, 0, uint32(0)
	for i, n := range list[1:] {
		gap := n - list[i] - 1
		deltas += uvarintBytes(gap)
		if gap == 0 {
			run++
			continue
		}
		runs += uvarintBytes(run) + uvarintBytes(gap-1)
		run = 0
	}
	runs += uvarintBytes(run)
	bitmap := int(last-first+7) / 8
	switch {
	case bitmap < deltas && bitmap < runs:
		return appendBitmap(append(dst, postingsBitmap), list)
	case runs < deltas:
		return appendRuns(append(dst, postingsRuns), list)
	}
	dst = append(dst, postingsDeltas)
	for i, n := range list[1:] {
		dst = binary.AppendUvarint(dst, uint64(n-list[i]-1))
	}
	return dst
}

func uvarintBytes(u uint32) int { return (bits.Len32(u|1) + 6) / 7 }

func appendRuns(dst []byte, list []uint32) []byte {
	run := uint64(0)
	for i, n := range list[1:] {
		gap := n - list[i] - 1
		if gap == 0 {
			run++
			continue
		}
		dst = binary.AppendUvarint(dst, run)
		dst = binary.AppendUvarint(dst, uint64(gap-1))
		run = 0
	}
	return binary.AppendUvarint(dst, run)
}

func appendBitmap(dst []byte, list []uint32) []byte {
	from, first := len(dst), list[0]
	dst = append(dst, make([]byte, (list[len(list)-1]-first+7)/8)...)
	for _, n := range list[1:] {
		at := n - first - 1
		dst[from+int(at/8)] |= 1 << (at % 8)
	}
	return dst
}

// pieceHead is what a piece says before its numbers.
type pieceHead struct {
	first, last uint32
	count       int
	encoding    uint8
}

func readPieceHead(c *cursor.Cursor) pieceHead {
	h := pieceHead{first: readNumber(c)}
	last, count := uint64(h.first)+c.Uvarint(), c.Uvarint()
	h.encoding = c.U8()
	if last > 1<<32-1 || count >= postingsPiece || count > last-uint64(h.first) {
		c.Fail()
	}
	h.last, h.count = uint32(last), int(count)+1
	return h
}

// appendPieceNumbers decodes a piece.
func appendPieceNumbers(dst []uint32, piece []byte) ([]uint32, error) {
	c := cursor.Cursor{B: piece}
	h := readPieceHead(&c)
	from := len(dst)
	if !c.Bad {
		dst = append(dst, h.first)
		switch h.encoding {
		case postingsDeltas:
			dst = readDeltas(&c, dst, h)
		case postingsRuns:
			dst = readRuns(&c, dst, h)
		case postingsBitmap:
			dst = readBitmap(&c, dst, h)
		default:
			c.Fail()
		}
	}
	if !c.Bad && (len(dst)-from != h.count || dst[len(dst)-1] != h.last) {
		c.Fail()
	}
	return dst, c.Finish(ErrDamaged, "piece of postings")
}

func readDeltas(c *cursor.Cursor, dst []uint32, h pieceHead) []uint32 {
	n := uint64(h.first)
	for range h.count - 1 {
		n += c.Uvarint() + 1
		if c.Bad || n > uint64(h.last) {
			c.Fail()
			return dst
		}
		dst = append(dst, uint32(n))
	}
	return dst
}

func readRuns(c *cursor.Cursor, dst []uint32, h pieceHead) []uint32 {
	n, left := uint64(h.first), uint64(h.count-1)
	for {
		run := c.Uvarint()
		if run > left || n+run > uint64(h.last) {
			c.Fail()
			return dst
		}
		for range run {
			n++
			dst = append(dst, uint32(n))
		}
		if left -= run; left == 0 || c.Bad {
			return dst
		}
		gap := c.Uvarint()
		if gap > uint64(h.last) || n+gap+2 > uint64(h.last) {
			c.Fail()
			return dst
		}
		n += gap + 2
		dst = append(dst, uint32(n))
		left--
	}
}

func readBitmap(c *cursor.Cursor, dst []uint32, h pieceHead) []uint32 {
	left := h.count - 1
	for i, b := range c.Take((uint64(h.last-h.first) + 7) / 8) {
		for ; b != 0; b &= b - 1 {
			n := uint64(h.first) + 1 + uint64(i)*8 + uint64(bits.TrailingZeros8(b))
			if left == 0 || n > uint64(h.last) {
				c.Fail()
				return dst
			}
			dst = append(dst, uint32(n))
			left--
		}
	}
	return dst
}
