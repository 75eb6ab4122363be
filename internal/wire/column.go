package wire

import (
	"encoding/binary"
	"math"
)

// The columns of a batch. Measured on 2,000 rows of one scrape (mixed counters
// and gauges), a shared 2-core machine: see BenchmarkBatchAppend and
// BenchmarkBatchDecode.

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
	previous := int64(0)
	for range n {
		previous += unzigzag(r.uvarint())
		if previous < 0 || previous > math.MaxUint32 {
			r.fail()
			return dst
		}
		s := RowSeries(previous)
		if i, ok := s.Definition(); ok && i >= definitions {
			r.fail()
			return dst
		}
		dst = append(dst, s)
	}
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
	switch mode := r.u8(); mode {
	case timesEqual:
		t := r.varint()
		for range n {
			dst = append(dst, t)
		}
	case timesDelta:
		previous := int64(0)
		for range n {
			previous += unzigzag(r.uvarint())
			dst = append(dst, previous)
		}
	default:
		r.fail()
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
	switch mode := r.u8(); mode {
	case startsNone:
	case startsBefore:
		for _, t := range times {
			u := r.uvarint()
			if u == 0 {
				dst = append(dst, 0)
				continue
			}
			dst = append(dst, t-unzigzag(u-1))
		}
	default:
		r.fail()
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
	for e, p := range pow10 {
		scaled := v * p
		if !(scaled > -maxMantissa && scaled < maxMantissa) { // NaN and Inf too
			break
		}
		m := int64(scaled)
		if d := scaled - float64(m); d != 0 {
			m = int64(math.Round(scaled)) // 0.3*10 is not quite 3
		}
		if math.Float64bits(float64(m)/p) == math.Float64bits(v) { // -0 fails here
			return appendUvarint(dst, zigzag(m)<<valueExponentBits|uint64(e))
		}
	}
	return binary.LittleEndian.AppendUint64(append(dst, rawValue), math.Float64bits(v))
}

func (r *reader) valueColumn(dst []float64, n int) []float64 {
	b := r.b
	for range n {
		var u uint64
		if len(b) > 0 && b[0] < 0x80 {
			u, b = uint64(b[0]), b[1:]
		} else {
			var k int
			if u, k = binary.Uvarint(b); k <= 0 {
				r.fail()
				return dst
			}
			b = b[k:]
		}
		e := u & (1<<valueExponentBits - 1)
		if e == rawValue {
			if len(b) < 8 || u != rawValue {
				r.fail()
				return dst
			}
			dst = append(dst, math.Float64frombits(binary.LittleEndian.Uint64(b)))
			b = b[8:]
			continue
		}
		dst = append(dst, float64(unzigzag(u>>valueExponentBits))/pow10[e])
	}
	r.b = b
	return dst
}

// appendUvarint is binary.AppendUvarint with the one-byte case inline.
func appendUvarint(dst []byte, u uint64) []byte {
	if u < 0x80 {
		return append(dst, byte(u))
	}
	return binary.AppendUvarint(dst, u)
}
