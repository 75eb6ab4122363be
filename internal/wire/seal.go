package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
)

// Seal is the command of a KindSeal entry, and the payload of the intent that
// asks for it: whatever the canonical block depends on besides the set's log,
// so that every replica makes the same of it (PROTOCOL 14, 17).
type Seal struct {
	// Intent is the number of metasvc's intent (PROTOCOL 4).
	Intent uint64
	// Horizons are the tenants whose own retention is shorter than their
	// policy's, by rising tenant: their samples before Oldest are left out.
	Horizons []Horizon
	// Deletions are those kept by metasvc for the sealed base of an overlay,
	// by rising ID: they apply to the base's samples alone.
	Deletions []NumberedDeletion
}

// Horizon is the oldest time (ms) of which a tenant's samples are kept.
type Horizon struct {
	Tenant quorate.TenantID
	Oldest int64
}

// NumberedDeletion is a deletion that metasvc keeps, by its number.
type NumberedDeletion struct {
	ID       uint64
	Deletion Deletion
}

const sealVersion = 1

// Append appends the encoded command: version, uvarint intent, the horizons
// (uvarint count; uvarint tenant, varint oldest), the deletions (uvarint
// count; uvarint ID, the deletion as length-prefixed bytes).
func (s *Seal) Append(dst []byte) []byte {
	dst = append(dst, sealVersion)
	dst = binary.AppendUvarint(dst, s.Intent)
	dst = binary.AppendUvarint(dst, uint64(len(s.Horizons)))
	for _, h := range s.Horizons {
		dst = binary.AppendUvarint(dst, uint64(h.Tenant))
		dst = binary.AppendVarint(dst, h.Oldest)
	}
	dst = binary.AppendUvarint(dst, uint64(len(s.Deletions)))
	for i := range s.Deletions {
		dst = binary.AppendUvarint(dst, s.Deletions[i].ID)
		dst = cursor.AppendBytes(dst, s.Deletions[i].Deletion.Append(nil))
	}
	return dst
}

// DecodeSeal decodes what Append encoded. The error wraps ErrCorrupt or
// ErrUnknownVersion.
func DecodeSeal(b []byte) (Seal, error) {
	r := newReader(b)
	if v := r.U8(); !r.Bad && v != sealVersion {
		return Seal{}, fmt.Errorf("seal command: %w: %d (this binary knows %d)", ErrUnknownVersion, v, sealVersion)
	}
	s := Seal{Intent: r.Uvarint()}
	for n := r.Uvarint(); n > 0 && !r.Bad; n-- {
		h := Horizon{Tenant: quorate.TenantID(r.Uvarint()), Oldest: r.Varint()}
		if k := len(s.Horizons); k > 0 && s.Horizons[k-1].Tenant >= h.Tenant {
			r.Fail()
		}
		s.Horizons = append(s.Horizons, h)
	}
	for n := r.Uvarint(); n > 0 && !r.Bad; n-- {
		d := NumberedDeletion{ID: r.Uvarint()}
		body := r.Bytes()
		if r.Bad {
			break
		}
		var err error
		if d.Deletion, err = DecodeDeletion(body); err != nil {
			return Seal{}, fmt.Errorf("seal command: %w", err)
		}
		s.Deletions = append(s.Deletions, d)
	}
	return s, r.finish("seal command")
}

// SealedFile says what the canonical block of a sealed set is.
type SealedFile struct {
	// Hash is the SHA-256 of the file; replicas fetch and check it by that.
	Hash [32]byte
	// Bytes is the file's length.
	Bytes uint64
	// Series and Samples are what it holds; a histogram is one sample.
	Series, Samples uint64
	// MinTime and MaxTime (ms) are the first and last sample's; MinTime is
	// greater than MaxTime when there are none.
	MinTime, MaxTime int64
}

// Append appends the 32 bytes of the hash, then uvarint bytes, series,
// samples, varint first and last time.
func (f *SealedFile) Append(dst []byte) []byte {
	dst = append(dst, f.Hash[:]...)
	dst = binary.AppendUvarint(dst, f.Bytes)
	dst = binary.AppendUvarint(dst, f.Series)
	dst = binary.AppendUvarint(dst, f.Samples)
	dst = binary.AppendVarint(dst, f.MinTime)
	return binary.AppendVarint(dst, f.MaxTime)
}

// DecodeSealedFile decodes what Append encoded. The error wraps ErrCorrupt.
func DecodeSealedFile(b []byte) (SealedFile, error) {
	r := newReader(b)
	var f SealedFile
	copy(f.Hash[:], r.Take(uint64(len(f.Hash))))
	f.Bytes, f.Series, f.Samples = r.Uvarint(), r.Uvarint(), r.Uvarint()
	f.MinTime, f.MaxTime = r.Varint(), r.Varint()
	return f, r.finish("sealed file")
}
