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

// field is one field of a protobuf message. Its value is in num (varint and
// fixed types) or in bytes, which alias the message. Of a group only the
// number is kept.
type field struct {
	number int32
	wire   uint8
	num    uint64
	bytes  []byte
}

// nextField splits the first field off a message. It accepts whatever the
// generated code of Prometheus accepts, so that no sender notices which of the
// two reads it: overlong varints, numbers cut to 32 bits, groups. It tells
// false for bytes that are no field.
func nextField(b []byte) (f field, rest []byte, ok bool) {
	tag, b, ok := varint(b)
	if !ok {
		return field{}, nil, false
	}
	f.number, f.wire = int32(tag>>3), uint8(tag&7)
	if f.number <= 0 {
		return field{}, nil, false
	}
	switch f.wire {
	case wireVarint:
		f.num, b, ok = varint(b)
	case wireFixed64:
		if len(b) < 8 {
			return field{}, nil, false
		}
		f.num, b = binary.LittleEndian.Uint64(b), b[8:]
	case wireBytes:
		var n uint64
		n, b, ok = varint(b)
		if !ok || n > uint64(len(b)) {
			return field{}, nil, false
		}
		f.bytes, b = b[:n], b[n:]
	case wireFixed32:
		if len(b) < 4 {
			return field{}, nil, false
		}
		f.num, b = uint64(binary.LittleEndian.Uint32(b)), b[4:]
	case wireGroup:
		b, ok = skipGroup(b)
	default:
		return field{}, nil, false
	}
	return f, b, ok
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
	}
	for len(b) > 0 {
		var f field
		if f, b, ok = nextField(b); !ok {
			return sample{}, false
		}
		switch f.number {
		case 1:
			s.value, ok = math.Float64frombits(f.num), f.wire == wireFixed64
		case 2:
			s.timestamp, ok = int64(f.num), f.wire == wireVarint
		case 3:
			s.start, ok = int64(f.num), f.wire == wireVarint
		}
		if !ok {
			return sample{}, false
		}
	}
	return s, true
}
