package chunk

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// Residuals of much the same length are packed with one width. The few that it
// does not hold are patches: their places and their differences from the base
// stand before the packed bits, where they leave zeros.

// patch is a residual that does not fit the width.
type patch struct {
	gap   uint64 // numbers between it and the patch before
	value uint64 // difference less base, zigzagged
}

// appendFixed appends the residuals of a plan with one width.
func (e *planner) appendFixed(dst []byte, p *plan) []byte {
	if p.layout == 0 {
		return dst
	}
	n, width := len(p.differences), uint(p.width)
	e.residuals = slices.Grow(e.residuals[:0], n)[:n]
	residuals, base := e.residuals, p.base
	if p.layout&layoutPatched == 0 {
		for i, v := range p.differences {
			residuals[i] = uint64(v - base)
		}
		return appendPacked(dst, residuals, p.width)
	}
	e.patches = e.patches[:0]
	next := 0
	for i, v := range p.differences {
		r := uint64(v - base)
		if r>>width != 0 {
			e.patches = append(e.patches, patch{gap: uint64(i - next), value: zigzag(int64(r))})
			r, next = 0, i+1
		}
		residuals[i] = r
	}
	dst = e.appendPatches(dst)
	return appendPacked(dst, residuals, p.width)
}

// appendPatches appends the number of patches, shifted by one bit, and the
// patches: as varints, or packed if that is shorter, as which the bit tells.
func (e *planner) appendPatches(dst []byte) []byte {
	n := len(e.patches)
	varints, gaps, longest := 0, uint64(0), uint64(0)
	least := e.patches[0].value
	for _, p := range e.patches {
		varints += varintBytes(bits.Len64(p.gap)) + varintBytes(bits.Len64(p.value))
		gaps |= p.gap
		least = min(least, p.value)
		longest = max(longest, p.value)
	}
	gapWidth, valueWidth := bits.Len64(gaps), widthOf(bits.Len64(longest-least))
	packed := 2 + varintBytes(bits.Len64(least)) + packedBytes(n, gapWidth) + packedBytes(n, valueWidth)
	if varints <= packed {
		dst = binary.AppendUvarint(dst, uint64(n)<<1)
		for _, p := range e.patches {
			dst = binary.AppendUvarint(dst, p.gap)
			dst = binary.AppendUvarint(dst, p.value)
		}
		return dst
	}
	dst = binary.AppendUvarint(dst, uint64(n)<<1|1)
	dst = append(dst, byte(gapWidth), byte(valueWidth))
	dst = binary.AppendUvarint(dst, least)
	w := bitWriter{dst: dst}
	for _, p := range e.patches {
		w.put(p.gap, uint(gapWidth))
	}
	w = bitWriter{dst: w.finish()}
	for _, p := range e.patches {
		w.put(p.value-least, uint(valueWidth))
	}
	return w.finish()
}
