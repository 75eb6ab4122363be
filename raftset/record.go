package raftset

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"os"
)

// A record is how every small file of a replica is framed: a magic of four
// bytes, a version of one, the payload, and the CRC32C of all of it. Records
// are published whole by internal/durable, so a bad one is never a torn write.
const (
	recordHeaderLen = 5
	recordCRCLen    = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// beginRecord starts a record; the payload is appended to what it returns.
func beginRecord(magic string, version byte) []byte {
	return append(append(make([]byte, 0, 128), magic...), version)
}

// sealRecord ends a record.
func sealRecord(record []byte) []byte {
	return binary.LittleEndian.AppendUint32(record, crc32.Checksum(record, castagnoli))
}

// openRecord checks a record's frame and returns its payload.
func openRecord(data []byte, magic string, version byte) (*cursor, error) {
	if len(data) < recordHeaderLen+recordCRCLen {
		return nil, damaged("record %q of %d bytes is shorter than its frame", magic, len(data))
	}
	body := data[:len(data)-recordCRCLen]
	if got, want := crc32.Checksum(body, castagnoli), binary.LittleEndian.Uint32(data[len(body):]); got != want {
		return nil, damaged("record %q: checksum is %08x, its bytes give %08x", magic, want, got)
	}
	if string(body[:4]) != magic {
		return nil, damaged("record %q starts with %q", magic, body[:4])
	}
	if body[4] != version {
		// Not damage: the checksum is right, so some other version wrote it.
		return nil, &versionError{magic: magic, got: body[4], want: version}
	}
	return &cursor{b: body[recordHeaderLen:]}, nil
}

// readRecord reads a file of the replica's directory. A file that is missing
// where one must be is damage.
func readRecord(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, damaged("file %s is missing", path)
	}
	return data, err
}

// cursor walks a payload. Its first failure sticks, after which every read
// returns a zero value, so that decoders check once, with finish.
type cursor struct {
	b   []byte
	bad bool
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

// take reads n bytes, which alias the input.
func (c *cursor) take(n uint64) []byte {
	if n > uint64(len(c.b)) {
		c.fail()
		return nil
	}
	v := c.b[:n:n]
	c.b = c.b[n:]
	return v
}

// bytes reads a length and that many bytes, which alias the input.
func (c *cursor) bytes() []byte { return c.take(c.uvarint()) }

// count reads a number of elements that take at least least bytes each, so
// that no number larger than the input can carry is believed.
func (c *cursor) count(least int) int {
	n := c.uvarint()
	if n > uint64(len(c.b)/least) {
		c.fail()
		return 0
	}
	return int(n)
}

func (c *cursor) fail() {
	c.bad = true
	c.b = nil
}

func (c *cursor) finish(what string) error {
	if c.bad {
		return damaged("the %s ends early or holds an impossible length", what)
	}
	if len(c.b) != 0 {
		return damaged("%d bytes after the end of the %s", len(c.b), what)
	}
	return nil
}

func appendBytes(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}
