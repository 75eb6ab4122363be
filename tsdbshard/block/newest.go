package block

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"github.com/quorate/quorate/internal/cursor"
)

// The kinds of newest samples.
const (
	newestFloat     = 1
	newestHistogram = 2
)

// Newest is the newest in-order sample of a series, as far as it must be known
// to judge the next one.
type Newest struct {
	// Kind is 0 for none, 1 for a float, 2 for a histogram.
	Kind uint8
	Time int64 // ms
	// Bits are a float's bits, or the identity that the shard gives a histogram.
	Bits  uint64
	Start int64 // ms, 0 for none
}

// newestTarget is the size at which a page of newest samples is closed, before
// compression. They are only ever read one after the other.
const newestTarget = 64 << 10

// The parts of the first number of a newest row.
const (
	newestIsHistogram = 1
	newestHasStart    = 2
	newestFlagBits    = 2
)

// newestWriter gathers newest samples into pages.
type newestWriter struct {
	rows rowsWriter
	ref  uint32 // of the last row
	time int64
}

func (w *newestWriter) add(ref uint32, n Newest) {
	if w.rows.begin(ref) {
		w.ref, w.time = ref, 0
	}
	head := uint64(ref-w.ref) << newestFlagBits
	if n.Kind == newestHistogram {
		head |= newestIsHistogram
	}
	if n.Start != 0 {
		head |= newestHasStart
	}
	b := binary.AppendUvarint(w.rows.body, head)
	b = binary.AppendVarint(b, n.Time-w.time)
	if n.Kind == newestHistogram {
		b = binary.LittleEndian.AppendUint64(b, n.Bits)
	} else {
		// Most floats have few bits in their mantissa; reversed they are small.
		b = binary.AppendUvarint(b, bits.ReverseBytes64(n.Bits))
	}
	if n.Start != 0 {
		b = binary.AppendVarint(b, n.Time-n.Start)
	}
	w.rows.body, w.ref, w.time = b, ref, n.Time
}

// newestReader reads the rows of one page.
type newestReader struct {
	ref  uint32
	time int64
}

func (r *newestReader) row(c *cursor.Cursor, first bool, number uint32) (uint32, Newest, error) {
	if first {
		r.ref, r.time = number, 0
	}
	head := c.Uvarint()
	n := Newest{Kind: newestFloat, Time: r.time + c.Varint()}
	if head&newestIsHistogram != 0 {
		n.Kind, n.Bits = newestHistogram, c.U64()
	} else {
		n.Bits = bits.ReverseBytes64(c.Uvarint())
	}
	if head&newestHasStart != 0 {
		n.Start = n.Time - c.Varint()
	}
	delta := head >> newestFlagBits
	if c.Bad || (delta == 0) != first || delta > math.MaxUint32-uint64(r.ref) {
		return 0, n, fmt.Errorf("%w: bad row after series %d", ErrDamaged, r.ref)
	}
	r.ref, r.time = r.ref+uint32(delta), n.Time
	return r.ref, n, nil
}
