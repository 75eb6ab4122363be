package raftset

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"os"

	"github.com/quorate/quorate/internal/cursor"
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
	return binary.LittleEndian.AppendUint32(record, checksum(record))
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// openRecord checks a record's frame and returns its payload.
func openRecord(data []byte, magic string, version byte) (*recordReader, error) {
	if len(data) < recordHeaderLen+recordCRCLen {
		return nil, damaged("record %q of %d bytes is shorter than its frame", magic, len(data))
	}
	body := data[:len(data)-recordCRCLen]
	if got, want := checksum(body), binary.LittleEndian.Uint32(data[len(body):]); got != want {
		return nil, damaged("record %q: checksum is %08x, its bytes give %08x", magic, want, got)
	}
	if string(body[:4]) != magic {
		return nil, damaged("record %q starts with %q", magic, body[:4])
	}
	if body[4] != version {
		// Not damage: the checksum is right, so some other version wrote it.
		return nil, &versionError{magic: magic, got: body[4], want: version}
	}
	return &recordReader{cursor.Cursor{B: body[recordHeaderLen:]}}, nil
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

// recordReader walks a record's payload.
type recordReader struct{ cursor.Cursor }

// finish reports a failed read or bytes left over.
func (c *recordReader) finish(what string) error { return c.Finish(ErrDamaged, what) }
