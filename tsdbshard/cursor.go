package tsdbshard

import (
	"encoding/binary"
	"fmt"
)

// cursor walks encoded bytes of a manifest or a page. Its first failure
// sticks, after which every read returns a zero value; finish reports it.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) fail() {
	c.bad = true
	c.b = nil
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.fail()
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) varint() int64 {
	v, n := binary.Varint(c.b)
	if n <= 0 {
		c.fail()
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) u8() uint8 {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if b := c.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) u64() uint64 {
	if b := c.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// take returns the next n bytes, which alias the input; nil when they are not there.
func (c *cursor) take(n int) []byte {
	if n < 0 || n > len(c.b) {
		c.fail()
		return nil
	}
	b := c.b[:n:n]
	c.b = c.b[n:]
	return b
}

// bytes returns a length-prefixed byte string, which aliases the input.
func (c *cursor) bytes() []byte {
	n := c.uvarint()
	if n > uint64(len(c.b)) {
		c.fail()
		return nil
	}
	return c.take(int(n))
}

func (c *cursor) string() string { return string(c.bytes()) }

// finish reports a failed read, or bytes that are left over.
func (c *cursor) finish(what string) error {
	if c.bad {
		return fmt.Errorf("%w: %s ends early or holds an impossible number", ErrDamaged, what)
	}
	if len(c.b) != 0 {
		return fmt.Errorf("%w: %d bytes after the end of the %s", ErrDamaged, len(c.b), what)
	}
	return nil
}

func appendLengthAndBytes[T ~string | ~[]byte](dst []byte, b T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}
