package remote

import (
	"encoding/binary"
	"math"
)

// The wire types of protobuf.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireGroup   = 3
	wireFixed32 = 5
)

// field is one field of a protobuf message: its bytes alias the message and are
// nil for the wire types that hold a number. It is kept to 32 bytes, since the
// compiler keeps no larger struct in registers, which costs the walkers a
// third of their time.
type field struct {
	number int32
	wire   uint8
	bytes  []byte
}

// nextField reads the first field of a message, with the number that a varint
// or fixed one holds, and tells its size, 0 for bytes that are no field. It
// accepts whatever the generated code of Prometheus accepts, so that no sender
// notices which of the two reads it: overlong varints, numbers cut to 32 bits,
// groups.
func nextField(b []byte) (f field, num uint64, size int) {
	tag, rest, ok := varint(b)
	if !ok {
		return field{}, 0, 0
	}
	f.number, f.wire = int32(tag>>3), uint8(tag&7)
	if f.number <= 0 {
		return field{}, 0, 0
	}
	switch f.wire {
	case wireBytes:
		var n uint64
		n, rest, ok = varint(rest)
		if !ok || n > uint64(len(rest)) {
			return field{}, 0, 0
		}
		f.bytes, rest = rest[:n], rest[n:]
	case wireVarint:
		num, rest, ok = varint(rest)
	case wireFixed64:
		if len(rest) < 8 {
			return field{}, 0, 0
		}
		num, rest = binary.LittleEndian.Uint64(rest), rest[8:]
	case wireFixed32:
		if len(rest) < 4 {
			return field{}, 0, 0
		}
		num, rest = uint64(binary.LittleEndian.Uint32(rest)), rest[4:]
	case wireGroup:
		rest, ok = skipGroup(rest)
	default:
		return field{}, 0, 0
	}
	if !ok {
		return field{}, 0, 0
	}
	return f, num, len(b) - len(rest)
}

// varint splits a varint off b. As in the generated code, bits past the 64th
// are dropped, and only a varint of more than ten bytes is refused.
func varint(b []byte) (v uint64, rest []byte, ok bool) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), b[1:], true
	}
	return longVarint(b)
}

func longVarint(b []byte) (v uint64, rest []byte, ok bool) {
	for i := range min(len(b), 10) {
		v |= uint64(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return v, b[i+1:], true
		}
	}
	return 0, nil, false
}

// skipGroup skips the fields of a group up to its end. It looks at wire types
// only, as the generated code does, and keeps a depth where that would recurse.
func skipGroup(b []byte) (rest []byte, ok bool) {
	for depth := 1; depth > 0; {
		var tag uint64
		if tag, b, ok = varint(b); !ok {
			return nil, false
		}
		skip := uint64(0)
		switch tag & 7 {
		case wireVarint:
			_, b, ok = varint(b)
		case wireFixed64:
			skip = 8
		case wireBytes:
			skip, b, ok = varint(b)
		case wireFixed32:
			skip = 4
		case wireGroup:
			depth++
		case wireGroup + 1:
			depth--
		default:
			return nil, false
		}
		if !ok || skip > uint64(len(b)) {
			return nil, false
		}
		b = b[skip:]
	}
	return b, true
}

// sample is a Sample of either protocol version: 1.0 knows no start timestamp.
type sample struct {
	timestamp, start int64
	value            float64
}

// parseSample reads a Sample message of either version.
func parseSample(b []byte) (s sample, ok bool) {
	// All senders write value, then timestamp: 9 bytes, a tag and a varint.
	if len(b) > 10 && b[0] == 1<<3|wireFixed64 && b[9] == 2<<3|wireVarint {
		s.value = math.Float64frombits(binary.LittleEndian.Uint64(b[1:]))
		var t uint64
		if t, b, ok = longVarint(b[10:]); !ok {
			return sample{}, false
		}
		s.timestamp = int64(t)
		if len(b) > 1 && b[0] == 3<<3|wireVarint {
			if t, b, ok = longVarint(b[1:]); !ok {
				return sample{}, false
			}
			s.start = int64(t)
		}
	}
	for len(b) > 0 {
		f, num, n := nextField(b)
		if n == 0 {
			return sample{}, false
		}
		b, ok = b[n:], true
		switch f.number {
		case 1:
			s.value, ok = math.Float64frombits(num), f.wire == wireFixed64
		case 2:
			s.timestamp, ok = int64(num), f.wire == wireVarint
		case 3:
			s.start, ok = int64(num), f.wire == wireVarint
		}
		if !ok {
			return sample{}, false
		}
	}
	return s, true
}
