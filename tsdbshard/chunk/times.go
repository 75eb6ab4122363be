package chunk

import (
	"fmt"
	"slices"

	"github.com/quorate/quorate/internal/cursor"
)

// appendTimes appends the column of at least one timestamp or start timestamp.
func (e *intEncoder) appendTimes(dst []byte, times []int64) []byte {
	return e.append(dst, 0, times, nil, appendNumber)
}

// readTimes appends the n timestamps of a column.
func readTimes(dst []int64, column []byte, n int, what string) ([]int64, error) {
	c := cursor.Cursor{B: column}
	head := c.U8()
	first := c.Varint()
	if c.Bad || head&^(shapeMask|headFactor) != 0 {
		return nil, fmt.Errorf("%w: the %s begins with %#x", ErrDamaged, what, head)
	}
	from := len(dst)
	dst = slices.Grow(dst, n)[:from+n]
	p := readProgression(&c, head, first, dst[from:])
	if err := c.Finish(ErrDamaged, what); err != nil {
		return nil, err
	}
	p.ints(dst[from:])
	return dst, nil
}

// checkAscending checks that timestamps ascend from mint to maxt.
func checkAscending(times []int64, mint, maxt int64) error {
	before := mint
	for i, t := range times[1:] {
		if t <= before {
			return fmt.Errorf("%w: timestamp %d of row %d after %d", ErrDamaged, t, i+1, before)
		}
		before = t
	}
	if times[0] != mint || before != maxt {
		return fmt.Errorf("%w: timestamps from %d to %d in a chunk from %d to %d", ErrDamaged, times[0], before, mint, maxt)
	}
	return nil
}
