// Package cursor walks encoded bytes for the decoders of this project: numbers,
// byte strings and counts, none of which is believed beyond what the bytes that
// are there can carry.
package cursor

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Cursor walks encoded bytes. Its first failure sticks, after which every read
// returns a zero value, so that a decoder checks once, with Finish.
type Cursor struct {
	// B is what is left to read.
	B []byte
	// Bad is set by the first failure, which also drops what was left.
	Bad bool
	// Shortest refuses numbers that are not in their shortest form, so that a
	// value has one encoding.
	Shortest bool
}

// Fail marks the bytes as bad.
func (c *Cursor) Fail() {
	c.Bad = true
	c.B = nil
}

// Resume goes on after a loop that walked on its own copy of B; nil tells that
// it failed.
func (c *Cursor) Resume(b []byte) {
	c.B = b
	c.Bad = c.Bad || b == nil
}

// Uvarint reads an unsigned varint.
func (c *Cursor) Uvarint() uint64 {
	v, n := binary.Uvarint(c.B)
	if n <= 0 || c.Shortest && n > 1 && c.B[n-1] == 0 {
		c.Fail()
		return 0
	}
	c.B = c.B[n:]
	return v
}

// Varint reads a signed varint: zigzag over Uvarint.
func (c *Cursor) Varint() int64 {
	u := c.Uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// U8 reads one byte.
func (c *Cursor) U8() uint8 {
	if b := c.Take(1); b != nil {
		return b[0]
	}
	return 0
}

// U32 reads 4 bytes, little-endian.
func (c *Cursor) U32() uint32 {
	if b := c.Take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// U64 reads 8 bytes, little-endian.
func (c *Cursor) U64() uint64 {
	if b := c.Take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// Float reads a float64 as 8 bytes, little-endian, every bit of it.
func (c *Cursor) Float() float64 { return math.Float64frombits(c.U64()) }

// Take reads n bytes, which alias the input; it returns nil when they are not
// there.
func (c *Cursor) Take(n uint64) []byte {
	if n > uint64(len(c.B)) {
		c.Fail()
		return nil
	}
	b := c.B[:n:n]
	c.B = c.B[n:]
	return b
}

// Bytes reads a length and that many bytes, which alias the input.
func (c *Cursor) Bytes() []byte { return c.Take(c.Uvarint()) }

// String reads a length and that many bytes.
func (c *Cursor) String() string { return string(c.Bytes()) }

// Count reads a number of elements of which each takes at least least bytes (1
// or more).
func (c *Cursor) Count(least int) int {
	n := c.Uvarint()
	if n > uint64(len(c.B)/least) {
		c.Fail()
		return 0
	}
	return int(n)
}

// Finish reports a failed read, or bytes left over, in an error that wraps
// sentinel and names what was read.
func (c *Cursor) Finish(sentinel error, what string) error {
	if c.Bad {
		return fmt.Errorf("%w: the %s ends early or holds an impossible value", sentinel, what)
	}
	if len(c.B) != 0 {
		return fmt.Errorf("%w: %d bytes after the end of the %s", sentinel, len(c.B), what)
	}
	return nil
}

// AppendBytes appends what Bytes and String read.
func AppendBytes[T ~string | ~[]byte](dst []byte, b T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}
