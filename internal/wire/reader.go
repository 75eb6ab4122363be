package wire

import (
	"encoding/binary"
	"fmt"
	"math"
)

// reader walks encoded bytes. Its first failure sticks, after which every read
// returns a zero value, so that decoders check once, with finish.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) fail() {
	r.bad = true
	r.b = nil
}

// resume goes on after a loop that walked on its own copy of the bytes; nil
// tells that it failed.
func (r *reader) resume(b []byte) {
	r.b = b
	r.bad = r.bad || b == nil
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) u8() uint8 {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) float() float64 {
	if len(r.b) < 8 {
		r.fail()
		return 0
	}
	v := math.Float64frombits(binary.LittleEndian.Uint64(r.b))
	r.b = r.b[8:]
	return v
}

// bytes reads a length and that many bytes, which alias the input.
func (r *reader) bytes() []byte {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

// count reads a number of elements of which each takes at least min bytes (1
// or more), so that no count larger than the input can carry is believed.
func (r *reader) count(min int) int {
	n := r.uvarint()
	if n > uint64(len(r.b)/min) {
		r.fail()
		return 0
	}
	return int(n)
}

// finish reports a failed read or bytes left over.
func (r *reader) finish(what string) error {
	if r.bad {
		return fmt.Errorf("%w: %s ends early or holds an impossible length", ErrCorrupt, what)
	}
	if len(r.b) != 0 {
		return fmt.Errorf("%w: %d bytes after the end of the %s", ErrCorrupt, len(r.b), what)
	}
	return nil
}
