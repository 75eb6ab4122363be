package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/quorate/quorate"
)

// ShardHashVersion is the version of ShardHash that bucket records name.
const ShardHashVersion = 1

// AppendLabel appends one label to a canonical label encoding: for each label,
// in order of name, uvarint length and bytes of the name, then of the value.
// Callers append in strictly ascending order of name, with no empty name or
// value (PROTOCOL 12).
func AppendLabel[T string | []byte](dst []byte, name, value T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(name)))
	dst = append(dst, name...)
	dst = binary.AppendUvarint(dst, uint64(len(value)))
	return append(dst, value...)
}

// ShardHash is the hash that places a series: xxhash64 with seed 0 over the
// tenant's number as 8 bytes big-endian and the canonical label bytes. It is
// part of the protocol (PROTOCOL 12): its golden vectors must never change.
func ShardHash(tenant quorate.TenantID, canonical []byte) uint64 {
	var d xxhash.Digest
	d.Reset()
	var head [8]byte
	binary.BigEndian.PutUint64(head[:], uint64(tenant))
	d.Write(head[:])   //nolint:errcheck // never fails
	d.Write(canonical) //nolint:errcheck // never fails
	return d.Sum64()
}

// LabelIter walks canonical label bytes without copying them.
type LabelIter struct {
	r           reader
	name, value []byte
}

// IterLabels starts a walk over canonical label bytes.
func IterLabels(canonical []byte) LabelIter { return LabelIter{r: newReader(canonical)} }

// Next moves to the next label and tells whether there is one. It ends early
// on damaged bytes; CheckLabels tells that apart.
func (it *LabelIter) Next() bool {
	if len(it.r.B) == 0 {
		return false
	}
	it.name = it.r.Bytes()
	it.value = it.r.Bytes()
	return !it.r.Bad
}

// Name returns the current label's name, aliasing the bytes walked.
func (it *LabelIter) Name() []byte { return it.name }

// Value returns the current label's value, aliasing the bytes walked.
func (it *LabelIter) Value() []byte { return it.value }

// CheckLabels checks that bytes are a canonical label encoding: well formed,
// at least one label, names strictly ascending, nothing empty.
func CheckLabels(canonical []byte) error {
	it := IterLabels(canonical)
	var previous []byte
	n := 0
	for ; it.Next(); n++ {
		if len(it.name) == 0 || len(it.value) == 0 {
			return fmt.Errorf("%w: label %d has an empty name or value", ErrCorrupt, n)
		}
		if n > 0 && string(previous) >= string(it.name) {
			return fmt.Errorf("%w: label %q comes after %q", ErrCorrupt, it.name, previous)
		}
		previous = it.name
	}
	if n == 0 && !it.r.Bad {
		return fmt.Errorf("%w: a series without labels", ErrCorrupt)
	}
	return it.r.finish("label set")
}
