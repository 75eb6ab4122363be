package chunk

import (
	"encoding/binary"
	"math"

	"github.com/prometheus/prometheus/model/value"

	"github.com/quorate/quorate/internal/cursor"
)

// Rare values are those that the numbers of a column cannot stand for: stale
// markers, NaNs, infinities, -0, and values with more digits than the others.
// They are taken out of the column and kept before it as runs: how many other
// values lie between a run and the one before it, and its length and code.

// rareCodes are the values that have a code. What has none is followed by its
// bits.
var rareCodes = [...]uint64{
	value.StaleNaN,
	value.NormalNaN,
	0x7ff8000000000000, // NaN as C and most languages make it
	0x7ff0000000000000, // +Inf
	0xfff0000000000000, // -Inf
	1 << 63,            // -0
	0,                  // among the bits of floats 0 is far away
}

const (
	rareBits     = 7 // the code of any other value
	rareCodeBits = 3
)

// rareCode returns the code of a value's bits.
func rareCode(b uint64) uint64 {
	for code, c := range rareCodes {
		if b == c {
			return uint64(code)
		}
	}
	return rareBits
}

// isSpecial tells whether a value is NaN, infinite or -0: never a number that
// can be scaled, and never among others in the order of their bits.
func isSpecial(v float64) bool {
	return v-v != 0 || v == 0 && math.Signbit(v) // NaN for NaN and infinities
}

// rareRun is a run of equal rare values.
type rareRun struct {
	gap, length int
	bits        uint64
}

// rareList gathers rare values in their order.
type rareList struct {
	runs []rareRun
	// next is the place after the last run.
	next int
	// values is their number, raw that of runs that have no code.
	values, raw int
}

func (l *rareList) reset() { *l = rareList{runs: l.runs[:0]} }

// add adds the value at a place, and tells whether it begins a run.
func (l *rareList) add(at int, v float64) bool {
	b := math.Float64bits(v)
	l.values++
	n := len(l.runs)
	if n > 0 && at == l.next && l.runs[n-1].bits == b {
		l.runs[n-1].length++
		l.next++
		return false
	}
	l.runs = append(l.runs, rareRun{gap: at - l.next, length: 1, bits: b})
	if rareCode(b) == rareBits {
		l.raw++
	}
	l.next = at + 1
	return true
}

// append appends the number of runs and the runs.
func (l *rareList) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(l.runs)))
	for _, r := range l.runs {
		code := rareCode(r.bits)
		dst = binary.AppendUvarint(dst, uint64(r.gap))
		dst = binary.AppendUvarint(dst, uint64(r.length-1)<<rareCodeBits|code)
		if code == rareBits {
			dst = binary.LittleEndian.AppendUint64(dst, r.bits)
		}
	}
	return dst
}

// read reads the runs of a column of n values.
func (l *rareList) read(c *cursor.Cursor, n int) {
	l.reset()
	for range c.Count(2) {
		gap, head := c.Uvarint(), c.Uvarint()
		length, code := head>>rareCodeBits, head&(1<<rareCodeBits-1)
		left := uint64(n - l.next)
		if c.Bad || gap > left || length >= left-gap {
			c.Fail()
			return
		}
		r := rareRun{gap: int(gap), length: int(length) + 1}
		if code == rareBits {
			r.bits = c.U64()
		} else {
			r.bits = rareCodes[code]
		}
		l.runs = append(l.runs, r)
		l.next += r.gap + r.length
		l.values += r.length
	}
}

// spread moves the values of a column to their places among the rare ones:
// values has room for all, of which the first are the others.
func (l *rareList) spread(values []float64) {
	to, from := len(values), len(values)-l.values
	move := func(n int) {
		to, from = to-n, from-n
		copy(values[to:to+n], values[from:from+n])
	}
	move(to - l.next)
	for i := len(l.runs) - 1; i >= 0; i-- {
		r := &l.runs[i]
		v := math.Float64frombits(r.bits)
		for range r.length {
			to--
			values[to] = v
		}
		move(r.gap)
	}
}
