package chunk

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/quorate/quorate/internal/cursor"
)

// What the numbers of a column of values are, in the upper half of its head
// byte: up to maxScale the values times 10 to this power.
const (
	headShift     = 4
	headMantissas = 14 // the bits of the values, in the order of the values
	headNone      = 15 // there are no numbers: all values are rare
)

// valueEncoder encodes columns of values and keeps its scratch space.
type valueEncoder struct {
	scaler
	intEncoder
	rareBytes []byte
	other     []byte
}

// append appends the column of at least one value.
func (e *valueEncoder) append(dst []byte, values []float64) []byte {
	if isConstant(values) {
		return e.appendConstant(dst, values)
	}
	if e.integers(values) {
		return e.intEncoder.append(dst, 0, e.numbers, nil, appendNumber)
	}
	scale, ok := e.decimals(values)
	if !ok {
		return e.appendMantissas(dst, values)
	}
	from := len(dst)
	dst = e.appendNumbers(dst, byte(scale))
	if scale < 9 && e.rare.raw*32 < len(values) {
		return dst
	}
	// Hardly decimals: the bits may be shorter.
	e.other = e.appendMantissas(e.other[:0], values)
	if len(e.other) < len(dst)-from {
		dst = append(dst[:from], e.other...)
	}
	return dst
}

func isConstant(values []float64) bool {
	first := math.Float64bits(values[0])
	for _, v := range values[1:] {
		if math.Float64bits(v) != first {
			return false
		}
	}
	return true
}

func (e *valueEncoder) appendConstant(dst []byte, values []float64) []byte {
	v := values[0]
	if isSpecial(v) {
		e.rare.reset()
		for i := range values {
			e.rare.add(i, v)
		}
		e.numbers = e.numbers[:0]
		return e.appendNumbers(dst, headNone)
	}
	if scale, ok := scaleOf(v, -1); ok {
		n, _ := toInteger(v)
		if scale > 0 {
			n, _ = scaled(v, scale)
		}
		return appendNumber(append(dst, byte(scale)<<headShift|byte(constant)), n)
	}
	return appendBits(append(dst, headMantissas<<headShift|byte(constant)), orderedBits(v))
}

func (e *valueEncoder) appendMantissas(dst []byte, values []float64) []byte {
	e.mantissas(values)
	return e.appendNumbers(dst, headMantissas)
}

// appendNumbers appends the column of what was scaled.
func (e *valueEncoder) appendNumbers(dst []byte, kind byte) []byte {
	head, rare := kind<<headShift, []byte(nil)
	if e.rare.values > 0 {
		head |= headRare
		e.rareBytes = e.rare.append(e.rareBytes[:0])
		rare = e.rareBytes
	}
	if len(e.numbers) == 0 {
		return append(append(dst, headNone<<headShift|headRare), rare...)
	}
	first := appendNumber
	if kind == headMantissas {
		first = appendBits
	}
	return e.intEncoder.append(dst, head, e.numbers, rare, first)
}

func appendNumber(dst []byte, n int64) []byte { return binary.AppendVarint(dst, n) }

func appendBits(dst []byte, n int64) []byte {
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(fromOrderedBits(n)))
}

// valueDecoder decodes columns of values and keeps its scratch space.
type valueDecoder struct {
	numbers []int64
	rare    rareList
}

// append appends the n values of a column.
func (d *valueDecoder) append(dst []float64, column []byte, n int) ([]float64, error) {
	c := cursor.Cursor{B: column}
	head := c.U8()
	d.rare.reset()
	if head&headRare != 0 {
		d.rare.read(&c, n)
	}
	kind, m := head>>headShift, n-d.rare.values
	if c.Bad || (m == 0) != (kind == headNone) {
		c.Fail()
		return nil, c.Finish(ErrDamaged, "column of values")
	}
	from := len(dst)
	dst = slices.Grow(dst, n)[:from+n]
	values := dst[from:]
	if m > 0 {
		var first int64
		if kind == headMantissas {
			first = orderedBits(c.Float())
		} else {
			first = c.Varint()
		}
		d.numbers = slices.Grow(d.numbers[:0], m)[:m]
		p := readProgression(&c, head, first, d.numbers)
		if c.Bad {
			m = 0
		} else if kind == headMantissas {
			p.ints(d.numbers)
			for i, v := range d.numbers {
				values[i] = fromOrderedBits(v)
			}
		} else {
			p.floats(values[:m], d.numbers, powersOfTen[kind])
		}
	}
	if err := c.Finish(ErrDamaged, "column of values"); err != nil {
		return nil, err
	}
	if d.rare.values > 0 {
		d.rare.spread(values)
	}
	return dst, nil
}
