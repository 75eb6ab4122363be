package tsdbshard

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

const (
	manifestMagic   = "QSM"
	manifestVersion = 1
)

// manifest is what the payload of a replica's manifest says: the state of a
// shard apart from what its files hold. docs/format/shard-manifest.md has the
// bytes.
type manifest struct {
	bounds quorate.Bounds
	next   uint32 // the next ref; all below are defined in the files
	files  []fileEntry
}

// fileEntry names one flush file and what must be found in it.
type fileEntry struct {
	lo, hi     uint64 // the log interval (lo, hi]
	bytes      uint64
	rollup     uint32            // CRC32C over the checksums of the file's pages
	sha256     [sha256.Size]byte // of the whole file, for transfers
	mint, maxt int64             // of its samples; mint > maxt when there are none
	series     uint32            // series defined in it
	rows       uint32            // series with samples in it
	samples    uint64
}

func (e *fileEntry) name() string { return flushFileName(e.lo, e.hi) }

// GenesisPayload returns the payload of a shard's first manifest: these
// bounds, open unless they say otherwise, no series, no file.
func GenesisPayload(b quorate.Bounds) []byte {
	if b.State == 0 {
		b.State = quorate.SetOpen
	}
	return (&manifest{bounds: b}).encode()
}

func (m *manifest) encode() []byte {
	dst := append([]byte(manifestMagic), manifestVersion)
	dst = appendBounds(dst, m.bounds)
	dst = append(dst, byte(m.bounds.State))
	dst = binary.AppendUvarint(dst, uint64(m.next))
	dst = binary.AppendUvarint(dst, uint64(len(m.files)))
	for i := range m.files {
		f := &m.files[i]
		dst = binary.AppendUvarint(dst, f.lo)
		dst = binary.AppendUvarint(dst, f.hi)
		dst = binary.AppendUvarint(dst, f.bytes)
		dst = binary.LittleEndian.AppendUint32(dst, f.rollup)
		dst = append(dst, f.sha256[:]...)
		dst = binary.AppendVarint(dst, f.mint)
		dst = binary.AppendVarint(dst, f.maxt)
		dst = binary.AppendUvarint(dst, uint64(f.series))
		dst = binary.AppendUvarint(dst, uint64(f.rows))
		dst = binary.AppendUvarint(dst, f.samples)
	}
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst, castagnoli))
}

// decodeManifest decodes and checks a payload.
func decodeManifest(b []byte) (*manifest, error) {
	if len(b) < len(manifestMagic)+1+4 || string(b[:len(manifestMagic)]) != manifestMagic {
		return nil, fmt.Errorf("shard manifest of %d bytes: %w: no magic", len(b), ErrDamaged)
	}
	body := b[:len(b)-4]
	if got, want := crc32.Checksum(body, castagnoli), binary.LittleEndian.Uint32(b[len(body):]); got != want {
		return nil, fmt.Errorf("shard manifest: %w: checksum is %08x, its bytes give %08x", ErrDamaged, want, got)
	}
	if v := body[len(manifestMagic)]; v != manifestVersion {
		return nil, fmt.Errorf("shard manifest: %w: %d (this binary knows %d)", ErrFormat, v, manifestVersion)
	}
	c := newReader(body[len(manifestMagic)+1:])
	m := &manifest{bounds: c.bounds()}
	m.bounds.State = quorate.SetState(c.U8())
	next := c.Uvarint()
	for n := c.Uvarint(); n > 0 && !c.Bad; n-- {
		f := fileEntry{lo: c.Uvarint(), hi: c.Uvarint(), bytes: c.Uvarint(), rollup: c.U32()}
		copy(f.sha256[:], c.Take(sha256.Size))
		f.mint, f.maxt = c.Varint(), c.Varint()
		series, rows := c.Uvarint(), c.Uvarint()
		f.series, f.rows, f.samples = uint32(series), uint32(rows), c.Uvarint()
		if series > next || rows > next {
			c.Fail()
		}
		m.files = append(m.files, f)
	}
	if err := c.finish("shard manifest"); err != nil {
		return nil, err
	}
	m.next = uint32(next)
	return m, m.check(next)
}

func (m *manifest) check(next uint64) error {
	if m.bounds.State != quorate.SetOpen && m.bounds.State != quorate.SetSealed {
		return fmt.Errorf("shard manifest: %w: set state %d", ErrDamaged, m.bounds.State)
	}
	if next > uint64(wire.MaxSeriesRef)+1 {
		return fmt.Errorf("shard manifest: %w: next ref %d", ErrDamaged, next)
	}
	defined, hi := uint64(0), uint64(0)
	for i := range m.files {
		f := &m.files[i]
		if f.lo < hi || f.hi <= f.lo {
			return fmt.Errorf("shard manifest: %w: file of (%d, %d] after one that ends at %d", ErrDamaged, f.lo, f.hi, hi)
		}
		hi = f.hi
		defined += uint64(f.series)
	}
	if defined != next {
		return fmt.Errorf("shard manifest: %w: its files define %d series, the next ref is %d", ErrDamaged, defined, next)
	}
	return nil
}
