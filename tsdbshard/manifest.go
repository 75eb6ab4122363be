package tsdbshard

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/tsdbshard/block"
)

const (
	manifestMagic   = "QSM"
	manifestVersion = 3
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// manifest is what the payload of a replica's manifest says: the state of a
// shard apart from what its files hold. docs/format/shard-manifest.md has the
// bytes.
type manifest struct {
	bounds     quorate.Bounds
	seal       *SealInfo // nil while the set is open
	next       uint32    // the next ref; all below are defined in the files
	lastWrite  uint64    // index of the last entry that stored a sample
	tenants    []tenantRange
	tombstones tombstoneList // those that mask a file
	files      []fileEntry
}

// tenantRange is the range of the samples that were stored for a tenant,
// whatever was deleted of them since.
type tenantRange struct {
	tenant     quorate.TenantID
	mint, maxt int64 // ms, both inclusive
}

// fileEntry names one delta block and what must be found in it.
type fileEntry struct {
	lo, hi     uint64 // the log interval (lo, hi]
	bytes      uint64
	directory  uint32            // CRC32C of its directory and footer
	sha256     [sha256.Size]byte // of the whole file, for transfers
	mint, maxt int64             // of its samples; mint > maxt when there are none
	series     uint32            // series defined in it
	rows       uint32            // series with a newest sample or samples in it
	samples    uint64
}

func entryOf(lo, hi uint64, s block.Summary, hash [sha256.Size]byte) fileEntry {
	return fileEntry{
		lo: lo, hi: hi, bytes: s.Bytes, directory: s.Directory, sha256: hash,
		mint: s.MinTime, maxt: s.MaxTime, series: s.Series, rows: s.Rows, samples: s.Samples,
	}
}

func (e *fileEntry) name() string { return deltaFileName(e.lo, e.hi, e.sha256) }

// GenesisPayload returns the payload of a shard's first manifest: these
// bounds, open, no series, no file.
func GenesisPayload(b quorate.Bounds) []byte {
	b.State = quorate.SetOpen
	return (&manifest{bounds: b}).encode()
}

func (m *manifest) encode() []byte {
	dst := append([]byte(manifestMagic), manifestVersion)
	dst = appendBounds(dst, m.bounds)
	dst = append(dst, byte(m.bounds.State))
	if m.seal != nil {
		dst = binary.AppendUvarint(dst, m.seal.Index)
		dst = cursor.AppendBytes(dst, m.seal.Seal.Append(nil))
	}
	dst = binary.AppendUvarint(dst, uint64(m.next))
	dst = binary.AppendUvarint(dst, m.lastWrite)
	dst = binary.AppendUvarint(dst, uint64(len(m.tenants)))
	for _, r := range m.tenants {
		dst = binary.AppendUvarint(dst, uint64(r.tenant))
		dst = binary.AppendVarint(dst, r.mint)
		dst = binary.AppendVarint(dst, r.maxt)
	}
	dst = binary.AppendUvarint(dst, uint64(len(m.tombstones)))
	for _, t := range m.tombstones {
		dst = t.append(dst)
	}
	dst = binary.AppendUvarint(dst, uint64(len(m.files)))
	for i := range m.files {
		dst = m.files[i].append(dst)
	}
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst, castagnoli))
}

func (t *tombstone) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, t.index)
	dst = binary.AppendVarint(dst, t.mint)
	dst = binary.AppendVarint(dst, t.maxt)
	dst = binary.AppendUvarint(dst, uint64(len(t.series)))
	end := uint32(0)
	for _, run := range t.series {
		dst = binary.AppendUvarint(dst, uint64(run.first-end))
		dst = binary.AppendUvarint(dst, uint64(run.end-run.first))
		end = run.end
	}
	return dst
}

func (e *fileEntry) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, e.lo)
	dst = binary.AppendUvarint(dst, e.hi)
	dst = binary.AppendUvarint(dst, e.bytes)
	dst = binary.LittleEndian.AppendUint32(dst, e.directory)
	dst = append(dst, e.sha256[:]...)
	dst = binary.AppendVarint(dst, e.mint)
	dst = binary.AppendVarint(dst, e.maxt)
	dst = binary.AppendUvarint(dst, uint64(e.series))
	dst = binary.AppendUvarint(dst, uint64(e.rows))
	return binary.AppendUvarint(dst, e.samples)
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
	if m.bounds.State == quorate.SetSealed {
		m.seal = &SealInfo{Index: c.Uvarint()}
		var err error
		if m.seal.Seal, err = wire.DecodeSeal(c.Bytes()); err != nil {
			return nil, fmt.Errorf("shard manifest: %w: %w", ErrDamaged, err)
		}
	}
	next := c.Uvarint()
	if next > uint64(wire.MaxSeriesRef)+1 {
		c.Fail()
	}
	m.next, m.lastWrite = uint32(next), c.Uvarint()
	for n := c.Count(3); n > 0 && !c.Bad; n-- {
		m.tenants = append(m.tenants, tenantRange{tenant: quorate.TenantID(c.Uvarint()), mint: c.Varint(), maxt: c.Varint()})
	}
	for n := c.Count(4); n > 0 && !c.Bad; n-- {
		m.tombstones = append(m.tombstones, c.tombstone(m.next))
	}
	for n := c.Count(44); n > 0 && !c.Bad; n-- {
		m.files = append(m.files, c.fileEntry(m.next))
	}
	if err := c.finish("shard manifest"); err != nil {
		return nil, err
	}
	return m, m.check()
}

// tombstone reads a tombstone over series below next.
func (r *reader) tombstone(next uint32) *tombstone {
	t := &tombstone{index: r.Uvarint(), mint: r.Varint(), maxt: r.Varint()}
	n := r.Count(2)
	t.series = make(refRuns, 0, n)
	end := uint64(0)
	for i := range n {
		gap, length := r.Uvarint(), r.Uvarint()
		if gap > uint64(next) || length > uint64(next) || length == 0 || i > 0 && gap == 0 || end+gap+length > uint64(next) {
			r.Fail()
		}
		if r.Bad {
			break
		}
		t.series = append(t.series, refRun{first: uint32(end + gap), end: uint32(end + gap + length)})
		end += gap + length
	}
	if len(t.series) == 0 || t.mint > t.maxt {
		r.Fail()
	}
	return t
}

func (r *reader) fileEntry(next uint32) fileEntry {
	e := fileEntry{lo: r.Uvarint(), hi: r.Uvarint(), bytes: r.Uvarint(), directory: r.U32()}
	copy(e.sha256[:], r.Take(sha256.Size))
	e.mint, e.maxt = r.Varint(), r.Varint()
	series, rows := r.Uvarint(), r.Uvarint()
	e.series, e.rows, e.samples = uint32(series), uint32(rows), r.Uvarint()
	if series > uint64(next) || rows > uint64(next) {
		r.Fail()
	}
	return e
}

// check checks what the parts of a manifest say of each other.
func (m *manifest) check() error {
	if m.bounds.State != quorate.SetOpen && m.bounds.State != quorate.SetSealed {
		return fmt.Errorf("shard manifest: %w: set state %d", ErrDamaged, m.bounds.State)
	}
	for i, r := range m.tenants {
		if r.mint > r.maxt || i > 0 && m.tenants[i-1].tenant >= r.tenant {
			return fmt.Errorf("shard manifest: %w: tenant %v with samples from %d to %d", ErrDamaged, r.tenant, r.mint, r.maxt)
		}
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
	if defined != uint64(m.next) {
		return fmt.Errorf("shard manifest: %w: its files define %d series, the next ref is %d", ErrDamaged, defined, m.next)
	}
	last := uint64(0)
	for _, t := range m.tombstones {
		if t.index < last || len(m.files) == 0 || t.index <= m.files[0].hi {
			return fmt.Errorf("shard manifest: %w: delete of entry %d after that of %d masks no file", ErrDamaged, t.index, last)
		}
		last = t.index
	}
	return nil
}

// checkIndex checks that nothing in the manifest comes after its own index.
func (m *manifest) checkIndex(index uint64) error {
	if n := len(m.files); n > 0 && m.files[n-1].hi > index {
		return fmt.Errorf("shard manifest: %w: file %s ends after the manifest's index %d", ErrDamaged, m.files[n-1].name(), index)
	}
	if n := len(m.tombstones); n > 0 && m.tombstones[n-1].index > index {
		return fmt.Errorf("shard manifest: %w: delete of entry %d is after the manifest's index %d", ErrDamaged, m.tombstones[n-1].index, index)
	}
	if m.seal != nil && m.seal.Index > index || m.lastWrite > index {
		return fmt.Errorf("shard manifest: %w: it knows of entries after its index %d", ErrDamaged, index)
	}
	return nil
}
