package metasvc

import (
	"encoding/binary"
	"errors"
	"fmt"
)

var (
	// ErrCorrupt is wrapped by every error about metadata bytes that do not decode.
	ErrCorrupt = errors.New("corrupt metadata")
	// ErrUnknownVersion is wrapped when bytes have a format version, or a
	// command a type, that this binary does not know (PROTOCOL 22).
	ErrUnknownVersion = errors.New("unknown metadata format")
)

// The encoding is written out by hand, not left to JSON, because a replica
// stops on bytes it cannot decode and all replicas must read the same from the
// same bytes, whatever Go version built them. Every value has exactly one
// encoding, so that encode(decode(b)) is b for all b that decode.

func appendString(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

func appendBytes(dst, b []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}

func appendBool(dst []byte, b bool) []byte {
	if b {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// appendList appends a count and each element in order.
func appendList[T any](dst []byte, list []T, appendOne func([]byte, T) []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(list)))
	for _, v := range list {
		dst = appendOne(dst, v)
	}
	return dst
}

// reader walks encoded bytes. Its first failure sticks and every later read
// returns a zero value, so that a decoder checks once, with finish.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) fail() {
	r.bad = true
	r.b = nil
}

// uvarint reads a number in its shortest form; a longer form is a failure.
func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || (n > 1 && r.b[n-1] == 0) {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// varint reads a signed number: zigzag over uvarint.
func (r *reader) varint() int64 {
	u := r.uvarint()
	return int64(u>>1) ^ -int64(u&1)
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

func (r *reader) bool() bool {
	v := r.u8()
	if v > 1 {
		r.fail()
	}
	return v == 1
}

// fixed fills dst with the next len(dst) bytes.
func (r *reader) fixed(dst []byte) {
	if len(r.b) < len(dst) {
		r.fail()
		return
	}
	r.b = r.b[copy(dst, r.b):]
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

func (r *reader) string() string { return string(r.bytes()) }

// finish reports a failed read or bytes left over.
func (r *reader) finish(what string) error {
	if r.bad {
		return fmt.Errorf("%w: %s ends early or holds an impossible value", ErrCorrupt, what)
	}
	if len(r.b) != 0 {
		return fmt.Errorf("%w: %d bytes after the end of the %s", ErrCorrupt, len(r.b), what)
	}
	return nil
}

// readList reads a count and that many elements. No count larger than the
// input can carry is believed; an empty list is nil.
func readList[T any](r *reader, readOne func(*reader) T) []T {
	n := r.uvarint()
	if n > uint64(len(r.b)) { // an element takes at least one byte
		r.fail()
		return nil
	}
	if n == 0 {
		return nil
	}
	// Elements in memory are larger than their shortest encoding; growing as
	// they decode keeps a lying count from allocating a multiple of the input.
	list := make([]T, 0, min(n, 64))
	for range n {
		if r.bad {
			return nil
		}
		list = append(list, readOne(r))
	}
	return list
}
