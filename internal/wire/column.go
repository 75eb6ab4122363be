package wire

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
)

// The columns of a batch. Measured on 2,000 rows of one scrape (30 % integer
// counters, 10 % counters of seconds, 15 % gauges with 2 or 3 decimals, 8 %
// byte gauges, 34 % constants and idle counters, 3 % full mantissas) on a
// shared 2-core EPYC: Append 13 ns a row and 4.4 bytes a row, Decode 11 ns; as
// an entry with s2 and checksum 17 ns and 3.3 bytes, decoded 12 ns
// (BenchmarkBatchAppend, BenchmarkEntryDecode and so on).

// The modes of a time column.
const (
	timesEqual = 0 // one varint: all rows share it, as a scrape's samples do
	timesDelta = 1 // per row a varint: the difference to the row before (to 0 for the first)
)

// The modes of a start timestamp column.
const (
	startsNone   = 0
	startsBefore = 1 // per row a varint: timestamp minus start timestamp, 0 standing for none, see appendStartColumn
)

// A value is a uvarint v: its low 3 bits are the decimal exponent e of
// mantissa/10^e, the rest the zigzag mantissa; e = rawValue means that 8 bytes
// little-endian follow. A decimal is used only where it gives back every bit.
const (
	valueExponentBits = 3
	rawValue          = 7
	maxExponent       = 6
)

var pow10 = [maxExponent + 1]float64{1, 10, 100, 1e3, 1e4, 1e5, 1e6}

// maxMantissa bounds mantissas so that they are exact as floats and cost at
// most 8 bytes as varints (raw values cost 9).
const maxMantissa = 1 << 52

func zigzag(v int64) uint64   { return uint64(v)<<1 ^ uint64(v>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

func appendSeriesColumn(dst []byte, series []RowSeries) []byte {
	previous := int64(0)
	for _, s := range series {
		dst = appendUvarint(dst, zigzag(int64(s)-previous))
		previous = int64(s)
	}
	return dst
}

func (r *reader) seriesColumn(dst []RowSeries, n, definitions int) []RowSeries {
	b, previous := r.B, int64(0)
	dst = slices.Grow(dst, n)
	for range n {
		var u uint64
		if len(b) > 0 && b[0] < 0x80 {
			u, b = uint64(b[0]), b[1:]
		} else if u, b = uvarint(b); b == nil {
			break
		}
		previous += unzigzag(u)
		if previous < 0 || previous > math.MaxUint32 {
			b = nil
			break
		}
		s := RowSeries(previous)
		if i, ok := s.Definition(); ok && i >= definitions {
			b = nil
			break
		}
		dst = append(dst, s)
	}
	r.Resume(b)
	return dst
}

func appendTimeColumn(dst []byte, times []int64) []byte {
	equal := true
	for _, t := range times {
		if t != times[0] {
			equal = false
			break
		}
	}
	if equal {
		return binary.AppendVarint(append(dst, timesEqual), times[0])
	}
	dst = append(dst, timesDelta)
	previous := int64(0)
	for _, t := range times {
		// Differences wrap around on both sides, so any pair of times works.
		dst = appendUvarint(dst, zigzag(t-previous))
		previous = t
	}
	return dst
}

func (r *reader) timeColumn(dst []int64, n int) []int64 {
	dst = slices.Grow(dst, n)
	switch mode := r.U8(); mode {
	case timesEqual:
		t := r.Varint()
		for range n {
			dst = append(dst, t)
		}
	case timesDelta:
		b, previous := r.B, int64(0)
		for range n {
			var u uint64
			if u, b = uvarint(b); b == nil {
				break
			}
			previous += unzigzag(u)
			dst = append(dst, previous)
		}
		r.Resume(b)
	default:
		r.Fail()
	}
	return dst
}

// appendStartColumn stores, per row, how long before the sample its count
// began, plus one; zero stands for "no start timestamp".
func appendStartColumn(dst []byte, starts, times []int64) []byte {
	some := false
	for _, st := range starts {
		if st != 0 {
			some = true
			break
		}
	}
	if !some {
		return append(dst, startsNone)
	}
	dst = append(dst, startsBefore)
	for i, st := range starts {
		if st == 0 {
			dst = append(dst, 0)
			continue
		}
		before := times[i] - st // wraps around for extreme pairs, and back at decoding
		if u := zigzag(before); u != math.MaxUint64 {
			dst = binary.AppendUvarint(dst, u+1)
			continue
		}
		// The one difference that has no room for "plus one" (a start 2^63 ms
		// after its sample) cannot be a real start timestamp.
		dst = append(dst, 0)
	}
	return dst
}

func (r *reader) startColumn(dst, times []int64) []int64 {
	switch mode := r.U8(); mode {
	case startsNone:
	case startsBefore:
		for _, t := range times {
			u := r.Uvarint()
			if u == 0 {
				dst = append(dst, 0)
				continue
			}
			dst = append(dst, t-unzigzag(u-1))
		}
	default:
		r.Fail()
	}
	return dst
}

func appendValueColumn(dst []byte, values []float64) []byte {
	for _, v := range values {
		dst = appendValue(dst, v)
	}
	return dst
}

func appendValue(dst []byte, v float64) []byte {
	// Most values are integers. Past this branch v is none, so that a product
	// below that comes near an integer came near it by the power of ten.
	if m := int64(v); float64(m) == v && -maxMantissa < m && m < maxMantissa {
		if m == 0 && math.Signbit(v) {
			return appendRaw(dst, v)
		}
		return appendUvarint(dst, zigzag(m)<<valueExponentBits)
	}
	for e := 1; e <= maxExponent; e++ {
		scaled := v * pow10[e]
		if !(scaled > -maxMantissa && scaled < maxMantissa) { // NaN and Inf too
			break
		}
		// Rounded rather than cut, as 0.3*10 is not quite 3.
		m := int64(scaled + math.Copysign(0.5, scaled))
		// The division is what costs. A product of two floats lies within a
		// relative 2^-53 of the truth, so one further off cannot divide back.
		if d := scaled - float64(m); d*d > scaled*scaled*0x1p-100 {
			continue
		}
		if float64(m)/pow10[e] == v {
			return appendUvarint(dst, zigzag(m)<<valueExponentBits|uint64(e))
		}
	}
	return appendRaw(dst, v)
}

func appendRaw(dst []byte, v float64) []byte {
	return binary.LittleEndian.AppendUint64(append(dst, rawValue), math.Float64bits(v))
}

func (r *reader) valueColumn(dst []float64, n int) []float64 {
	b := r.B
	dst = slices.Grow(dst, n)
	for range n {
		var u uint64
		if len(b) >= 8 && ^binary.LittleEndian.Uint64(b)&stopBits != 0 {
			// As in uvarint, by hand: the call costs as much as its body.
			x := binary.LittleEndian.Uint64(b)
			stops := ^x & stopBits
			u = joinVarint(x & (stops ^ (stops - 1)))
			b = b[bits.TrailingZeros64(stops)/8+1:]
		} else if u, b = uvarint(b); b == nil {
			break
		}
		e := u & (1<<valueExponentBits - 1)
		if e == rawValue {
			if len(b) < 8 || u != rawValue {
				b = nil
				break
			}
			dst = append(dst, math.Float64frombits(binary.LittleEndian.Uint64(b)))
			b = b[8:]
			continue
		}
		// Dividing by one is cheaper than a branch that is guessed wrong.
		dst = append(dst, float64(unzigzag(u>>valueExponentBits))/pow10[e])
	}
	r.Resume(b)
	return dst
}

// appendUvarint is binary.AppendUvarint with the one-byte case inline.
func appendUvarint(dst []byte, u uint64) []byte {
	if u < 0x80 {
		return append(dst, byte(u))
	}
	return binary.AppendUvarint(dst, u)
}

// stopBits are the bits of 8 bytes that are clear in a varint's last byte.
const stopBits = 0x8080808080808080

// joinVarint joins the 7-bit groups of a varint of up to 8 bytes, given as the
// little-endian word of its bytes: without a branch for each byte, since
// lengths of neighbouring values differ and a branch on them is guessed wrong.
func joinVarint(x uint64) uint64 {
	x &= ^uint64(stopBits)
	x = x&0x007f007f007f007f | x&0x7f007f007f007f00>>1
	x = x&0x00003fff00003fff | x&0x3fff00003fff0000>>2
	return x&0x000000000fffffff | x&0x0fffffff00000000>>4
}

// uvarint decodes one varint and returns what follows it: nil for a varint
// that is cut off or does not fit, and never nil otherwise.
func uvarint(b []byte) (uint64, []byte) {
	u, k := binary.Uvarint(b)
	if k <= 0 {
		return 0, nil
	}
	return u, b[k:]
}
