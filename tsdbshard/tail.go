package tsdbshard

import (
	"encoding/binary"
	"math"
)

const (
	// tailRows is how many floats of a series wait uncompressed. More make
	// longer chunks, fewer cost less memory for series that rarely come.
	tailRows = 16
	// maxTailBytes bounds a tail: 16 samples of noise take 136.
	maxTailBytes = 240
	// maxTailSample is the most that one sample takes.
	maxTailSample = 8 + 2*binary.MaxVarintLen64
	// tailTimeBytes stand before a tail's first value.
	tailTimeBytes = 8
)

// A tail is the floats of a series that wait to be compressed into a chunk, as
// bytes that are only appended to: the first sample's timestamp, 8 bytes, and
// then for each sample
//
//	value     the upper 8, 6 or 4 bytes of its bits, little-endian, where the
//	          lower are zero, or none where it is that of the sample before
//	step      varint, if the sample is odd: how much longer it took than the
//	          tail's step, which is that from the first sample to the second
//	start     varint, in tails with start timestamps, whose samples are all odd:
//	          the difference to the one before
//
// So a whole number below two million takes 4 bytes, a constant none, and time
// none while samples come as regularly as scrapes do. Arrays of time and value
// took 256 B a series and were no faster; bytes with the leading zeros of the
// difference to the value before left out as well took as much as this, and 15
// ns more a sample.
type tail struct {
	data []byte
	tailShape
}

// tailShape is what must be known to read a tail.
type tailShape struct {
	kinds   uint32 // of the values, 2 bits each: an index into valueBytes
	step    uint32 // ms
	odd     uint16 // 1 bit each
	rows    uint8
	started bool // with start timestamps
}

var valueBytes = [4]uint{0, 4, 6, 8}

// kindOf returns how a value is kept that comes after another.
func kindOf(bits, before uint64) (kind uint) {
	kind = 3
	if uint16(bits) == 0 {
		kind = 2
	}
	if uint32(bits) == 0 {
		kind = 1
	}
	if bits == before {
		kind = 0
	}
	return kind
}

// putValue writes the bytes of a value and returns how many there are. There
// must be room for them.
func putValue(room []byte, kind uint, bits uint64) uint {
	n := valueBytes[kind&3]
	bits >>= 64 - 8*n
	if len(room) >= 8 {
		binary.LittleEndian.PutUint64(room, bits)
		return n
	}
	for i := range room[:n] {
		room[i] = byte(bits >> (8 * i))
	}
	return n
}

// getValue reads a value.
func getValue(b []byte, kind uint, before uint64) (bits uint64, n uint) {
	n = valueBytes[kind&3]
	if len(b) >= 8 {
		bits = binary.LittleEndian.Uint64(b)
	} else {
		for i, c := range b[:n] {
			bits |= uint64(c) << (8 * i)
		}
	}
	bits <<= 64 - 8*n
	if n == 0 {
		bits = before
	}
	return bits, n
}

// tailReader reads a tail's samples.
type tailReader struct {
	tail

	at int  // bytes read
	i  uint // samples read

	time, start int64
	bits        uint64
}

func (t tail) read() tailReader { return tailReader{tail: t} }

// next moves to the next sample.
func (r *tailReader) next() bool {
	if r.i == uint(r.rows) {
		return false
	}
	if r.i == 0 {
		r.time = int64(binary.LittleEndian.Uint64(r.data))
		r.at = tailTimeBytes
	} else {
		r.time += int64(r.step)
	}
	bits, n := getValue(r.data[r.at:], uint(r.kinds>>(2*r.i)), r.bits)
	r.bits = bits
	r.at += int(n)
	if r.odd>>r.i&1 != 0 {
		r.time += r.varint()
		if r.started {
			r.start += r.varint()
		}
	}
	r.i++
	return true
}

func (r *tailReader) varint() int64 {
	v, n := binary.Varint(r.data[r.at:])
	r.at += n
	return v
}

func (r *tailReader) sample() sample {
	return sample{T: r.time, ST: r.start, V: math.Float64frombits(r.bits)}
}

// bounds returns the timestamps of the first and the last sample.
func (t tail) bounds() (mint, maxt int64) {
	return int64(binary.LittleEndian.Uint64(t.data)), t.last().time
}

// last returns the last sample.
func (t tail) last() newestSample {
	r := t.read()
	for r.next() {
	}
	return newestSample{time: r.time, bits: r.bits, start: r.start, kind: kindFloat}
}
