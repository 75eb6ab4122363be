package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/klauspost/compress/s2"
)

// Kind tells what the commands of a log entry are.
type Kind uint8

// The kinds of format version 1. Bounds, seal, delete and activate entries are
// named here so that their numbers stay theirs; a replica that meets a kind it
// does not know stops (PROTOCOL 22).
const (
	KindWrite    Kind = 1 // commands are write batches
	KindBounds   Kind = 2
	KindSeal     Kind = 3
	KindDelete   Kind = 4
	KindActivate Kind = 5
	KindMeta     Kind = 6 // commands are metadata commands
)

const (
	entryMagic0, entryMagic1 = 'Q', 'E'
	entryVersion             = 1
	entryHeaderLen           = 5 // magic, version, kind, flags
	entryCRCLen              = 4

	entryFlagS2 = 1 << 0

	// MaxEntryBytes bounds the decoded payload of one entry. Proposers stay
	// far below it (1 MiB batches); it exists so that a damaged length cannot
	// make a decoder allocate without bound.
	MaxEntryBytes = 128 << 20

	// compressFrom is the payload size from which an entry is compressed.
	compressFrom = 128
)

var (
	// ErrCorrupt is wrapped by every error about bytes that do not decode.
	ErrCorrupt = errors.New("corrupt bytes")
	// ErrUnknownVersion is wrapped when an entry has a version this binary does not know.
	ErrUnknownVersion = errors.New("unknown format version")
	// ErrUnknownKind is wrapped when an entry has a kind this binary does not know.
	ErrUnknownKind = errors.New("unknown entry kind")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Encoder builds log entries and keeps its scratch space between them. It is
// not safe for concurrent use.
type Encoder struct {
	payload []byte
}

// Append appends to dst one entry of the given kind that holds the commands in
// order. Payloads that s2 makes smaller are stored compressed.
func (e *Encoder) Append(dst []byte, kind Kind, commands ...[]byte) []byte {
	e.payload = binary.AppendUvarint(e.payload[:0], uint64(len(commands)))
	for _, c := range commands {
		e.payload = binary.AppendUvarint(e.payload, uint64(len(c)))
		e.payload = append(e.payload, c...)
	}
	start := len(dst)
	dst = append(dst, entryMagic0, entryMagic1, entryVersion, byte(kind), 0)
	dst = e.appendPayload(dst, start)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

func (e *Encoder) appendPayload(dst []byte, start int) []byte {
	if len(e.payload) < compressFrom {
		return append(dst, e.payload...)
	}
	body := len(dst)
	need := s2.MaxEncodedLen(len(e.payload))
	if cap(dst)-body < need {
		grown := make([]byte, body, body+need+entryCRCLen)
		copy(grown, dst)
		dst = grown
	}
	packed := s2.Encode(dst[body:body+need], e.payload)
	if len(packed) >= len(e.payload) {
		return append(dst[:body], e.payload...)
	}
	dst[start+4] |= entryFlagS2
	return dst[:body+len(packed)]
}

// Entry is a decoded log entry. Its commands alias the decoder's scratch space
// or the bytes decoded and are valid until the next Decode.
type Entry struct {
	Kind     Kind
	Commands [][]byte
}

// Decoder decodes log entries and keeps its scratch space between them. It is
// not safe for concurrent use.
type Decoder struct {
	payload []byte
	entry   Entry
}

// Decode checks an entry's magic, version and checksum and splits it into its
// commands. The result is valid until the next call.
func (d *Decoder) Decode(data []byte) (*Entry, error) {
	if err := CheckEntry(data); err != nil {
		return nil, err
	}
	payload := data[entryHeaderLen : len(data)-entryCRCLen]
	if data[4]&^entryFlagS2 != 0 {
		return nil, fmt.Errorf("%w: entry flags %#x", ErrCorrupt, data[4])
	}
	if data[4]&entryFlagS2 != 0 {
		n, err := s2.DecodedLen(payload)
		if err != nil || n > MaxEntryBytes {
			return nil, fmt.Errorf("%w: entry payload declares %d decoded bytes (limit %d): %w", ErrCorrupt, n, MaxEntryBytes, err)
		}
		if cap(d.payload) < n {
			d.payload = make([]byte, n)
		}
		if payload, err = s2.Decode(d.payload[:cap(d.payload)], payload); err != nil {
			return nil, fmt.Errorf("%w: entry payload: %w", ErrCorrupt, err)
		}
	}
	d.entry.Kind = Kind(data[3])
	r := newReader(payload)
	n := r.Count(1)
	d.entry.Commands = d.entry.Commands[:0]
	for range n {
		d.entry.Commands = append(d.entry.Commands, r.Bytes())
	}
	if err := r.finish("entry"); err != nil {
		return nil, err
	}
	return &d.entry, nil
}

// CheckEntry checks an entry's magic, version, kind and checksum without
// decoding its payload: what a replica does before it serves its log to a peer
// and when it opens one.
func CheckEntry(data []byte) error {
	if len(data) < entryHeaderLen+entryCRCLen {
		return fmt.Errorf("%w: entry of %d bytes is shorter than its frame", ErrCorrupt, len(data))
	}
	if data[0] != entryMagic0 || data[1] != entryMagic1 {
		return fmt.Errorf("%w: entry starts with %#x %#x", ErrCorrupt, data[0], data[1])
	}
	body := data[:len(data)-entryCRCLen]
	if got, want := crc32.Checksum(body, castagnoli), binary.LittleEndian.Uint32(data[len(body):]); got != want {
		return fmt.Errorf("%w: entry checksum is %08x, its bytes give %08x", ErrCorrupt, want, got)
	}
	if data[2] != entryVersion {
		return fmt.Errorf("%w: entry version %d (this binary knows %d)", ErrUnknownVersion, data[2], entryVersion)
	}
	if k := Kind(data[3]); k < KindWrite || k > KindMeta {
		return fmt.Errorf("%w: %d", ErrUnknownKind, k)
	}
	return nil
}
