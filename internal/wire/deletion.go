package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
)

const (
	// MaxDeletionMatchers is the most matchers that one deletion has.
	MaxDeletionMatchers = 64
	// MaxDeletionBytes bounds an encoded deletion.
	MaxDeletionBytes = 64 << 10
)

// Deletion names samples that are to go: those of one tenant whose series match
// all matchers and whose timestamps lie in the closed range [MinTime, MaxTime].
// It is the command of a KindDelete entry, and what metasvc keeps for sealed
// sets (PROTOCOL 19).
type Deletion struct {
	Tenant           quorate.TenantID
	MinTime, MaxTime int64 // ms, both inclusive
	// Matchers are all to match; 1 to MaxDeletionMatchers.
	Matchers []*labels.Matcher
}

// Append appends the encoded deletion: uvarint tenant, varint first and last
// time, uvarint number of matchers, then for each its type as one byte and name
// and value as length-prefixed strings.
func (d *Deletion) Append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(d.Tenant))
	dst = binary.AppendVarint(dst, d.MinTime)
	dst = binary.AppendVarint(dst, d.MaxTime)
	dst = binary.AppendUvarint(dst, uint64(len(d.Matchers)))
	for _, m := range d.Matchers {
		dst = append(dst, byte(m.Type))
		dst = cursor.AppendBytes(dst, m.Name)
		dst = cursor.AppendBytes(dst, m.Value)
	}
	return dst
}

// Check tells whether the deletion keeps the rules that Decode enforces. The
// error has the kind Invalid and names the rule.
func (d *Deletion) Check() error {
	switch {
	case d.MinTime > d.MaxTime:
		return quorate.Errorf(quorate.Invalid, "deletion: start %s is after end %s", quorate.FormatTime(d.MinTime), quorate.FormatTime(d.MaxTime))
	case len(d.Matchers) == 0 || len(d.Matchers) > MaxDeletionMatchers:
		return quorate.Errorf(quorate.Invalid, "deletion: %d matchers are not between 1 and %d", len(d.Matchers), MaxDeletionMatchers)
	}
	if n := len(d.Append(nil)); n > MaxDeletionBytes {
		return quorate.Errorf(quorate.Invalid, "deletion: %d bytes of matchers are over the limit of %d", n, MaxDeletionBytes)
	}
	return nil
}

// DecodeDeletion decodes what Append encoded. The error wraps ErrCorrupt.
func DecodeDeletion(b []byte) (Deletion, error) {
	if len(b) > MaxDeletionBytes {
		return Deletion{}, fmt.Errorf("deletion of %d bytes: %w", len(b), ErrCorrupt)
	}
	r := newReader(b)
	d := Deletion{Tenant: quorate.TenantID(r.Uvarint()), MinTime: r.Varint(), MaxTime: r.Varint()}
	n := r.Uvarint()
	if r.Bad || n == 0 || n > MaxDeletionMatchers || d.MinTime > d.MaxTime {
		return Deletion{}, fmt.Errorf("deletion of %d matchers: %w", n, ErrCorrupt)
	}
	for range n {
		typ, name, value := labels.MatchType(r.U8()), r.String(), r.String()
		if r.Bad {
			break
		}
		if typ > labels.MatchNotRegexp {
			return Deletion{}, fmt.Errorf("deletion: matcher type %d: %w", typ, ErrCorrupt)
		}
		m, err := labels.NewMatcher(typ, name, value)
		if err != nil {
			return Deletion{}, fmt.Errorf("deletion: matcher of %q: %w: %w", name, ErrCorrupt, err)
		}
		d.Matchers = append(d.Matchers, m)
	}
	if r.Bad || len(r.B) > 0 {
		return Deletion{}, fmt.Errorf("deletion: %w", ErrCorrupt)
	}
	return d, nil
}
