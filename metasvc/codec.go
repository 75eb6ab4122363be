package metasvc

import (
	"encoding/binary"
	"errors"

	"github.com/quorate/quorate/internal/cursor"
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

// appendOptional appends whether there is a value, and the value.
func appendOptional[T any](dst []byte, v *T, appendOne func([]byte, *T) []byte) []byte {
	dst = appendBool(dst, v != nil)
	if v != nil {
		dst = appendOne(dst, v)
	}
	return dst
}

// readOptional reads what appendOptional appended.
func readOptional[T any](r *reader, readOne func(*reader) *T) *T {
	if !r.bool() {
		return nil
	}
	return readOne(r)
}

// reader is a cursor over encoded metadata, which refuses all but the shortest
// form of a number.
type reader struct{ cursor.Cursor }

func newReader(b []byte) *reader {
	return &reader{Cursor: cursor.Cursor{B: b, Shortest: true}}
}

func (r *reader) bool() bool {
	v := r.U8()
	if v > 1 {
		r.Fail()
	}
	return v == 1
}

// fixed fills dst with the next len(dst) bytes.
func (r *reader) fixed(dst []byte) { copy(dst, r.Take(uint64(len(dst)))) }

// finish reports a failed read or bytes left over.
func (r *reader) finish(what string) error { return r.Finish(ErrCorrupt, what) }

// readList reads a count and that many elements. No count larger than the
// input can carry is believed; an empty list is nil.
func readList[T any](r *reader, readOne func(*reader) T) []T {
	n := r.Uvarint()
	if n > uint64(len(r.B)) { // an element takes at least one byte
		r.Fail()
		return nil
	}
	if n == 0 {
		return nil
	}
	// Elements in memory are larger than their shortest encoding; growing as
	// they decode keeps a lying count from allocating a multiple of the input.
	list := make([]T, 0, min(n, 64))
	for range n {
		if r.Bad {
			return nil
		}
		list = append(list, readOne(r))
	}
	return list
}
