package chunk

import (
	"slices"

	"github.com/quorate/quorate/internal/cursor"
)

// progression is a column of numbers of which the residuals were read.
type progression struct {
	shape shape
	first int64
	// factor is that of all steps, second the first step of deltas2.
	factor, second int64
	base           int64
}

// readProgression reads the rest of a column of n numbers, n at least 1, whose
// head byte and first number were read, and its residuals into r, of which it
// uses the first n. What is wrong with the column makes c bad.
func readProgression(c *cursor.Cursor, head byte, first int64, r []int64) progression {
	p := progression{shape: shape(head & shapeMask), first: first, factor: 1}
	if p.shape == constant {
		return p
	}
	layout := c.U8()
	if head&headFactor != 0 {
		p.factor = int64(c.Uvarint())
	}
	skip := 1
	if p.shape == deltas2 {
		p.second = c.Varint()
		skip = 2
	}
	p.base = c.Varint()
	if c.Bad || len(r) < skip {
		c.Fail()
		return p
	}
	if layout&^layoutZigzag > layoutClasses {
		readClasses(r[skip:], c, layout)
	} else {
		readFixed(r[skip:], c, layout)
	}
	return p
}

// ints puts the numbers in the place of the residuals.
func (p *progression) ints(r []int64) {
	x, factor, base := p.first, p.factor, p.base
	r[0] = x
	switch p.shape {
	case constant:
		for i := range r {
			r[i] = x
		}
	case offsets:
		for i, v := range r[1:] {
			r[i+1] = x + factor*(v+base)
		}
	case deltas:
		for i, v := range r[1:] {
			x += factor * (v + base)
			r[i+1] = x
		}
	case deltas2:
		step := p.second
		x += factor * step
		r[1] = x
		for i, v := range r[2:] {
			step += v + base
			x += factor * step
			r[i+2] = x
		}
	}
}

// floats divides the numbers by a power of ten into out, which is as long as
// r. Shapes that are frequent take one pass.
func (p *progression) floats(out []float64, r []int64, power float64) {
	x, factor, base := p.first, p.factor, p.base
	out = out[:len(r)]
	out[0] = float64(x) / power
	switch {
	case p.shape == constant:
		v := out[0]
		for i := range out {
			out[i] = v
		}
	case p.shape == offsets && power == 1:
		for i := 1; i < len(r); i++ {
			out[i] = float64(x + factor*(r[i]+base))
		}
	case p.shape == deltas && power == 1:
		for i := 1; i < len(r); i++ {
			x += factor * (r[i] + base)
			out[i] = float64(x)
		}
	case p.shape == deltas:
		for i := 1; i < len(r); i++ {
			x += factor * (r[i] + base)
			out[i] = float64(x) / power
		}
	default:
		p.ints(r)
		for i, n := range r {
			out[i] = float64(n) / power
		}
	}
}

// readFixed reads residuals of one width.
func readFixed(r []int64, c *cursor.Cursor, layout byte) {
	width := int(layout &^ layoutPatched)
	if width > maxWidth && width != fullWidth {
		c.Fail()
		return
	}
	if layout&layoutPatched == 0 {
		if packed := c.Take(uint64(packedBytes(len(r), width))); !c.Bad {
			unpack(r, packed, width)
		}
		return
	}
	// The patches stand first, but are put in last.
	at := *c
	readPatches(nil, c)
	packed := c.Take(uint64(packedBytes(len(r), width)))
	if c.Bad {
		return
	}
	unpack(r, packed, width)
	if !readPatches(r, &at) {
		c.Fail()
	}
}

// readPatches reads patches and puts them among the residuals, if there are
// any given. It returns false if one's place is not among these.
func readPatches(r []int64, c *cursor.Cursor) bool {
	head := c.Uvarint()
	n := head >> 1
	if head&1 == 0 {
		for next := uint64(0); n > 0 && !c.Bad; n-- {
			gap, value := c.Uvarint(), c.Uvarint()
			if r == nil {
				continue
			}
			left := uint64(len(r)) - next
			if gap >= left {
				return false
			}
			next += gap
			r[next] = unzigzag(value)
			next++
		}
		return true
	}
	gapWidth, valueWidth, least := int(c.U8()), int(c.U8()), c.Uvarint()
	if n > MaxRows || gapWidth > maxWidth || valueWidth > maxWidth && valueWidth != fullWidth {
		c.Fail()
		return false
	}
	gaps := c.Take(uint64(packedBytes(int(n), gapWidth)))
	values := c.Take(uint64(packedBytes(int(n), valueWidth)))
	if r == nil || c.Bad {
		return false
	}
	const block = 32 // whole bytes of any width
	var gap, value [block]int64
	next := uint64(0)
	for left := int(n); left > 0; left -= block {
		k := min(left, block)
		gapBytes, valueBytes := packedBytes(k, gapWidth), packedBytes(k, valueWidth)
		unpack(gap[:k], gaps[:gapBytes], gapWidth)
		unpack(value[:k], values[:valueBytes], valueWidth)
		gaps, values = gaps[gapBytes:], values[valueBytes:]
		for i, g := range gap[:k] {
			next += uint64(g)
			if next >= uint64(len(r)) {
				return false
			}
			r[next] = unzigzag(least + uint64(value[i]))
			next++
		}
	}
	return true
}

// readClasses reads residuals with a class each.
func readClasses(r []int64, c *cursor.Cursor, layout byte) {
	classBits := int(layout&^layoutZigzag - layoutClasses)
	if classBits > maxClassBits {
		c.Fail()
		return
	}
	var widths [maxClasses]uint8
	copy(widths[:], c.Take(1<<uint(classBits)))
	classes := c.Take(uint64(packedBytes(len(r), classBits)))
	if c.Bad || slices.Max(widths[:]) > fullWidth {
		c.Fail()
		return
	}
	unpack(r, classes, classBits)
	total := 0
	for _, class := range r {
		total += int(widths[class&(maxClasses-1)])
	}
	packed := c.Take(uint64(total+7) / 8)
	if c.Bad {
		return
	}
	unpackClasses(r, packed, &widths)
	if layout&layoutZigzag != 0 {
		for i, v := range r {
			r[i] = unzigzag(uint64(v))
		}
	}
}
