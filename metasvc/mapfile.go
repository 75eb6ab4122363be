package metasvc

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

const (
	mapFileMagic   = "QMAP"
	mapFileVersion = 1
	mapFileHeader  = len(mapFileMagic) + 1 + 8 // magic, version, index
	mapFileCRC     = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encodeMapFile encodes the map file of a state: a header with the state's
// index, the state as in a snapshot, CRC32C of all before it.
// docs/format/metadata.md has the layout.
func encodeMapFile(s *state) []byte {
	b := append([]byte(mapFileMagic), mapFileVersion)
	b = binary.LittleEndian.AppendUint64(b, s.index)
	b = appendState(b, s)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodeMapFile decodes what encodeMapFile encoded. The error wraps
// ErrCorrupt or ErrUnknownVersion.
func decodeMapFile(b []byte) (*state, error) {
	if len(b) < mapFileHeader+mapFileCRC || string(b[:len(mapFileMagic)]) != mapFileMagic {
		return nil, fmt.Errorf("%w: %d bytes are not a map file", ErrCorrupt, len(b))
	}
	body := b[:len(b)-mapFileCRC]
	if got, want := crc32.Checksum(body, castagnoli), binary.LittleEndian.Uint32(b[len(body):]); got != want {
		return nil, fmt.Errorf("%w: map file checksum is %08x, its bytes give %08x", ErrCorrupt, want, got)
	}
	if v := body[len(mapFileMagic)]; v != mapFileVersion {
		return nil, fmt.Errorf("%w: map file version %d (this binary knows %d)", ErrUnknownVersion, v, mapFileVersion)
	}
	payload := body[mapFileHeader:]
	if len(payload) == 0 {
		return nil, fmt.Errorf("%w: map file without a state", ErrCorrupt)
	}
	return decodeState(payload, binary.LittleEndian.Uint64(body[len(mapFileMagic)+1:]))
}
