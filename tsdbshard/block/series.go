package block

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/quorate/quorate/internal/cursor"
)

// A series page is one of blobs, one for each series in the order of tenant and
// labels: uvarint number of labels, the numbers of its label pairs as uvarints
// (the first counted from the tenant's first pair, the others from the one
// before, less one), then its chunks' shapes as runs of consecutive numbers:
// the first as a uvarint (of later runs the varint distance to the shape after
// the run before) and uvarint length of the run less one.

// seriesTarget is the size at which a page of series is closed, before
// compression.
const seriesTarget = 16 << 10

// appendPairs appends the pair numbers of a series, which rise.
func appendPairs(dst []byte, pairs []uint32) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(pairs)))
	for i, p := range pairs {
		if i > 0 {
			p -= pairs[i-1] + 1
		}
		dst = binary.AppendUvarint(dst, uint64(p))
	}
	return dst
}

// appendShapeRuns appends the shapes of a series' chunks.
func appendShapeRuns(dst []byte, shapes []uint32) []byte {
	next := uint32(0)
	for i := 0; i < len(shapes); {
		run := 1
		for i+run < len(shapes) && shapes[i+run] == shapes[i]+uint32(run) {
			run++
		}
		if i == 0 {
			dst = binary.AppendUvarint(dst, uint64(shapes[i]))
		} else {
			dst = binary.AppendVarint(dst, int64(shapes[i])-int64(next))
		}
		dst = binary.AppendUvarint(dst, uint64(run-1))
		next = shapes[i] + uint32(run)
		i += run
	}
	return dst
}

// readPairs appends the pair numbers of a series of a tenant with n pairs.
func readPairs(c *cursor.Cursor, dst []uint32, n uint32) []uint32 {
	next := uint64(0)
	for range c.Count(1) {
		next += c.Uvarint()
		if next >= uint64(n) {
			c.Fail()
			break
		}
		dst = append(dst, uint32(next))
		next++
	}
	return dst
}

// skipPairs skips the pair numbers of a series.
func skipPairs(c *cursor.Cursor) {
	for range c.Count(1) {
		c.Uvarint()
	}
}

// maxSeriesChunks bounds the chunks of a series: a run of shapes costs a few
// bytes whatever its length, and readers must not believe in any.
const maxSeriesChunks = 1 << 20

// readShapeRuns appends the shapes of a series' chunks.
func readShapeRuns(c *cursor.Cursor, dst []uint32) []uint32 {
	next := uint64(0)
	for first := true; len(c.B) > 0; first = false {
		if first {
			next = c.Uvarint()
		} else {
			next += uint64(c.Varint())
		}
		run := c.Uvarint()
		if next > math.MaxUint32 || run >= maxSeriesChunks || next+run > math.MaxUint32 || uint64(len(dst))+run >= maxSeriesChunks {
			c.Fail()
			break
		}
		for range run + 1 {
			dst = append(dst, uint32(next))
			next++
		}
	}
	return dst
}

// seriesRow returns the row of a series page, by the series' number in the block.
func (f *file) seriesRow(c *Cache, number uint32) (row []byte, page int, err error) {
	row, page, err = f.blob(c, pageSeries, number)
	if err == nil && row == nil {
		err = fmt.Errorf("%w: series %d is in no page", ErrDamaged, number)
	}
	return row, page, err
}
