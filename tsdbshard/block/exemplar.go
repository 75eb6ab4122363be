package block

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"

	"github.com/quorate/quorate/internal/cursor"
)

// Exemplar is one exemplar of a series.
type Exemplar struct {
	T      int64  // ms
	Bits   uint64 // of the value
	Labels []byte // canonical, may be empty
}

// Compare orders exemplars by time, value bits and label bytes; a series has
// no two that are equal by it.
func (e Exemplar) Compare(o Exemplar) int {
	return cmp.Or(cmp.Compare(e.T, o.T), cmp.Compare(e.Bits, o.Bits), bytes.Compare(e.Labels, o.Labels))
}

// exemplarsTarget is the size at which a page of exemplars is closed, before
// compression.
const exemplarsTarget = 32 << 10

// appendExemplarsRow appends the exemplars of one series, which must be in order.
func appendExemplarsRow(dst []byte, list []Exemplar) []byte {
	last := int64(0)
	for i := range list {
		e := &list[i]
		dst = binary.AppendVarint(dst, e.T-last)
		dst = binary.LittleEndian.AppendUint64(dst, e.Bits)
		dst = cursor.AppendBytes(dst, e.Labels)
		last = e.T
	}
	return dst
}

// checkExemplars checks that exemplars are in order and none is there twice.
func checkExemplars(list []Exemplar) error {
	for i := 1; i < len(list); i++ {
		if list[i-1].Compare(list[i]) >= 0 {
			return fmt.Errorf("exemplar %d at %d: %w", i, list[i].T, errOrder)
		}
	}
	return nil
}

// readExemplars appends the exemplars of one series, which alias the row.
func readExemplars(dst []Exemplar, row []byte) ([]Exemplar, error) {
	c := cursor.Cursor{B: row}
	from, last := len(dst), int64(0)
	for len(c.B) > 0 {
		e := Exemplar{T: last + c.Varint(), Bits: c.U64(), Labels: c.Bytes()}
		if c.Bad || len(dst) > from && dst[len(dst)-1].Compare(e) >= 0 {
			c.Fail()
			break
		}
		last = e.T
		dst = append(dst, e)
	}
	if err := c.Finish(ErrDamaged, "row of exemplars"); err != nil {
		return dst[:from], err
	}
	return dst, nil
}

// appendExemplars appends the exemplars that a block has under a number.
func (f *file) appendExemplars(dst []Exemplar, c *Cache, number uint32) ([]Exemplar, error) {
	row, at, err := f.blob(c, pageExemplars, number)
	if err != nil || row == nil {
		return dst, err
	}
	dst, err = readExemplars(dst, row)
	if err != nil {
		return dst, f.at(pageExemplars, at, fmt.Errorf("series %d: %w", number, err))
	}
	return dst, nil
}
