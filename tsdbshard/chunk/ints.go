package chunk

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// A column of numbers is a head byte, the first number, and the steps from one
// number to the next as one of the shapes below. All arithmetic wraps around at
// 64 bits, so that any int64s can be steps of each other.
//
// The head byte of columns: what the numbers are in its upper half (see
// floats.go), then headRare, headFactor and the shape in its lowest bits.
const (
	shapeMask  = 3
	headFactor = 1 << 2 // a common factor of all steps follows
	headRare   = 1 << 3 // rare values were taken out, see rare.go
)

// shape is what of the numbers is packed.
type shape uint8

const (
	offsets  shape = 0 // differences from the first number
	deltas   shape = 1 // differences from the number before
	deltas2  shape = 2 // differences of these
	constant shape = 3 // nothing: all are as the first
)

// The second byte of columns that are not constant says how the residuals,
// what of the differences remains above their base, are packed: below
// layoutClasses it is the width of them all. Otherwise each residual has one of
// 2, 4 or 8 widths.
const (
	layoutPatched = 1 << 7 // fixed width, and some residuals that do not fit it follow
	layoutZigzag  = 1 << 7 // classes, and residuals are signed
	layoutClasses = 64     // plus 1 to maxClassBits
	maxClassBits  = 3
)

// intEncoder encodes columns of numbers and keeps its scratch space.
type intEncoder struct {
	steps []int64 // from the number before, the common factor divided out
	planner
}

// zigzag maps signed numbers to unsigned ones, small to small.
func zigzag(v int64) uint64 { return uint64(v<<1) ^ uint64(v>>63) }

// unzigzag is the inverse of zigzag.
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

// append appends the column of at least one number. head is the upper half of
// the head byte and headRare; first writes the first number, for which the
// kinds of columns have their own ways.
func (e *intEncoder) append(dst []byte, head byte, x []int64, rare []byte, first func([]byte, int64) []byte) []byte {
	at := len(dst)
	dst = append(dst, head)
	dst = append(dst, rare...)
	dst = first(dst, x[0])
	factor := e.step(x)
	if factor == 0 {
		dst[at] |= byte(constant)
		return dst
	}
	p := e.plan(x, e.steps, factor)
	dst[at] |= byte(p.shape)
	if factor > 1 && p.packed() {
		dst[at] |= headFactor
	} else if factor > 1 {
		// A progression: its one difference says it shorter.
		p.base *= int64(factor)
		p.second *= int64(factor)
		factor = 1
	}
	dst = append(dst, p.layout)
	if factor > 1 {
		dst = binary.AppendUvarint(dst, factor)
	}
	if p.shape == deltas2 {
		dst = binary.AppendVarint(dst, p.second)
	}
	dst = binary.AppendVarint(dst, p.base)
	if p.layout&^layoutZigzag > layoutClasses {
		return e.appendClasses(dst, &p)
	}
	return e.appendFixed(dst, &p)
}

// step computes the steps and what follows from them, and returns their common
// factor; 0 when all are 0.
func (e *intEncoder) step(x []int64) (factor uint64) {
	n := len(x) - 1
	e.steps = slices.Grow(e.steps[:0], n)[:n]
	steps := e.steps
	before, all := x[0], uint64(0)
	for i, v := range x[1:] {
		d := v - before
		steps[i] = d
		all |= uint64(d)
		before = v
	}
	if all == 0 {
		return 0
	}
	// Powers of two are found at once. Without them most columns have steps
	// among the first that have no common factor.
	shift := uint(bits.TrailingZeros64(all)) & 63
	for _, d := range steps {
		if d == 0 {
			continue
		}
		if factor = gcd(factor, magnitude(d)>>shift); factor == 1 {
			break
		}
	}
	if shift > 0 {
		for i := range steps {
			steps[i] >>= shift
		}
	}
	if factor > 1 {
		for i := range steps {
			steps[i] /= int64(factor)
		}
	}
	return factor << shift
}

func magnitude(d int64) uint64 {
	if d < 0 {
		return -uint64(d)
	}
	return uint64(d)
}

// gcd returns the greatest common divisor; that of 0 and b is b.
func gcd(a, b uint64) uint64 {
	for a != 0 {
		a, b = b%a, a
	}
	return b
}
