package block

import (
	"encoding/binary"
	"fmt"
)

// The footer ends every file: where the directory is, then what tells which
// format this is. Its length, its checksum and the places of version and magic
// never change, so that a binary can always tell a foreign version from damage.
const (
	footerBytes = 32
	version     = 1
	magic       = "QRBLOCK\x00"
)

// footer is the last bytes of a file.
type footer struct {
	directoryOffset int64
	directoryLength uint32 // of the whole page
}

// append appends: offset of the directory (8), its length (4), 4 bytes of 0,
// version (4), CRC32C of the bytes so far (4), magic (8).
func (f *footer) append(dst []byte) []byte {
	from := len(dst)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(f.directoryOffset))
	dst = binary.LittleEndian.AppendUint32(dst, f.directoryLength)
	dst = binary.LittleEndian.AppendUint32(dst, 0)
	dst = binary.LittleEndian.AppendUint32(dst, version)
	dst = binary.LittleEndian.AppendUint32(dst, checksum(dst[from:]))
	return append(dst, magic...)
}

// readFooter decodes the footer of a file of size bytes.
func readFooter(b []byte, size int64) (footer, error) {
	if len(b) != footerBytes || string(b[24:]) != magic {
		return footer{}, fmt.Errorf("%w: it does not end as a block does", ErrDamaged)
	}
	if got, want := checksum(b[:20]), binary.LittleEndian.Uint32(b[20:]); got != want {
		return footer{}, fmt.Errorf("%w: checksum is %08x, its bytes give %08x", ErrDamaged, want, got)
	}
	if v := binary.LittleEndian.Uint32(b[16:]); v != version {
		return footer{}, fmt.Errorf("%w: version %d (this binary knows %d)", ErrFormat, v, version)
	}
	f := footer{directoryOffset: int64(binary.LittleEndian.Uint64(b)), directoryLength: binary.LittleEndian.Uint32(b[8:])}
	if f.directoryOffset < 0 || f.directoryLength < pageFrameBytes || binary.LittleEndian.Uint32(b[12:]) != 0 ||
		f.directoryOffset > size-footerBytes || int64(f.directoryLength) != size-footerBytes-f.directoryOffset {
		return footer{}, fmt.Errorf("%w: directory of %d bytes at offset %d in a file of %d", ErrDamaged, f.directoryLength, f.directoryOffset, size)
	}
	return f, nil
}
