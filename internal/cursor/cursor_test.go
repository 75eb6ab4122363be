package cursor

import (
	"encoding/binary"
	"errors"
	"math"
	"testing"
)

var errSentinel = errors.New("sentinel")

func TestWhatWasAppendedIsReadBack(t *testing.T) {
	b := binary.AppendUvarint(nil, 300)
	b = binary.AppendVarint(b, -5)
	b = append(b, 7)
	b = binary.LittleEndian.AppendUint32(b, 0xdeadbeef)
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(math.Copysign(0, -1)))
	b = AppendBytes(b, "name")
	b = AppendBytes(b, []byte(nil))
	b = append(binary.AppendUvarint(b, 2), 1, 2)
	c := Cursor{B: b}
	if v := c.Uvarint(); v != 300 {
		t.Errorf("uvarint %d", v)
	}
	if v := c.Varint(); v != -5 {
		t.Errorf("varint %d", v)
	}
	if v := c.U8(); v != 7 {
		t.Errorf("byte %d", v)
	}
	if v := c.U32(); v != 0xdeadbeef {
		t.Errorf("u32 %x", v)
	}
	if v := c.Float(); v != 0 || !math.Signbit(v) {
		t.Errorf("float %v, want -0", v)
	}
	if v := c.String(); v != "name" {
		t.Errorf("string %q", v)
	}
	if v := c.Bytes(); len(v) != 0 {
		t.Errorf("bytes %q", v)
	}
	if n := c.Count(1); n != 2 || len(c.Take(2)) != 2 {
		t.Errorf("count %d", n)
	}
	if err := c.Finish(errSentinel, "test"); err != nil {
		t.Error(err)
	}
}

func TestTheFirstFailureSticks(t *testing.T) {
	for name, read := range map[string]func(*Cursor){
		"a varint that goes on":          func(c *Cursor) { c.B = []byte{0x80}; c.Uvarint() },
		"a byte that is not there":       func(c *Cursor) { c.B = nil; c.U8() },
		"a length past the end":          func(c *Cursor) { c.B = []byte{5, 1}; c.Bytes() },
		"a length of 2^64-1":             func(c *Cursor) { c.B = binary.AppendUvarint(nil, math.MaxUint64); c.Bytes() },
		"more elements than bytes":       func(c *Cursor) { c.B = []byte{3, 1, 1, 1, 1, 1}; c.Count(2) },
		"a longer form than the minimum": func(c *Cursor) { c.B, c.Shortest = []byte{0x81, 0}, true; c.Uvarint() },
		"a loop that failed":             func(c *Cursor) { c.Resume(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			var c Cursor
			read(&c)
			if !c.Bad || c.Uvarint() != 0 || c.Take(1) != nil || c.Count(1) != 0 {
				t.Errorf("the failure did not stick: %+v", c)
			}
			if err := c.Finish(errSentinel, "test"); !errors.Is(err, errSentinel) {
				t.Errorf("Finish says %v", err)
			}
		})
	}
}

func TestFinishReportsWhatIsLeftOver(t *testing.T) {
	c := Cursor{B: []byte{1}}
	if err := c.Finish(errSentinel, "test"); !errors.Is(err, errSentinel) {
		t.Errorf("Finish says %v", err)
	}
}
