package metasvc

import (
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// DeletionRecord is a deletion on sealed sets (PROTOCOL 19): the reads of these
// sets apply it, until the seal of an overlay over each has folded it in.
type DeletionRecord struct {
	// ID is the deletion's number, from 1, never reused.
	ID uint64
	// Body is the encoded wire.Deletion. It stays encoded here because decoding
	// compiles regular expressions: whether one compiles may change with the
	// Go version, and Apply must not.
	Body []byte
	// Sets are the sealed sets that it is to be applied to, rising.
	Sets []quorate.ReplicaSetID
	// Pending marks a deletion that not every node is known to apply; its
	// success is answered when it is not pending any more (PROTOCOL 8).
	Pending bool
	// Announced is the index of the entry that created the deletion.
	Announced uint64
	ModIndex  uint64
}

// decode returns the deletion as readers take it. One that does not decode was
// accepted by a binary whose matchers know more than this one's; it hides
// everything of its tenant in its range, since what is deleted must not show.
func (d *DeletionRecord) decode() wire.NumberedDeletion {
	decoded, err := wire.DecodeDeletion(d.Body)
	if err != nil {
		r := newReader(d.Body)
		decoded = wire.Deletion{Tenant: quorate.TenantID(r.Uvarint()), MinTime: r.Varint(), MaxTime: r.Varint()}
		// Label values are UTF-8, so no series has this name.
		decoded.Matchers = []*labels.Matcher{{Type: labels.MatchNotEqual, Name: labels.MetricName, Value: "\xff"}}
	}
	return wire.NumberedDeletion{ID: d.ID, Deletion: decoded}
}

// checkDeletion checks the form of an encoded deletion, without compiling its
// matchers, and returns its tenant.
func checkDeletion(body []byte) (quorate.TenantID, *Refusal) {
	if len(body) > wire.MaxDeletionBytes {
		return 0, refuse(ReasonLimit, "a deletion of %d bytes is over the limit of %d", len(body), wire.MaxDeletionBytes)
	}
	r := newReader(body)
	tenant, mint, maxt, n := quorate.TenantID(r.Uvarint()), r.Varint(), r.Varint(), r.Uvarint()
	if mint > maxt || n == 0 || n > wire.MaxDeletionMatchers {
		r.Fail()
	}
	for ; n > 0 && !r.Bad; n-- {
		r.U8()
		r.Bytes()
		r.Bytes()
	}
	if r.finish("deletion") != nil {
		return 0, refuse(ReasonInvalid, "%d bytes are not a deletion", len(body))
	}
	return tenant, nil
}

// names tells whether the deletion is to be applied to a set.
func (d *DeletionRecord) names(set quorate.ReplicaSetID) bool {
	_, found := slices.BinarySearch(d.Sets, set)
	return found
}

// deletionsOf returns the deletions that name a set, by ID.
func (s *state) deletionsOf(set quorate.ReplicaSetID) (list []*DeletionRecord) {
	for _, d := range byKey(s.deletions) {
		if d.names(set) {
			list = append(list, d)
		}
	}
	return list
}
