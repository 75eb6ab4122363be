package metasvc

import (
	"bytes"
	"slices"

	"github.com/quorate/quorate"
)

func (c CreateDelete) apply(s *state, _ uint64) any {
	tenant, r := checkDeletion(c.Body)
	if r == nil {
		r = checkRising("set", c.Sets)
	}
	switch {
	case r != nil:
		return r
	case s.tenants[tenant] == nil:
		return refuse(ReasonNotFound, "tenant %d of the deletion does not exist", tenant)
	case len(c.Sets) == 0:
		return refuse(ReasonInvalid, "the deletion names no set")
	}
	for _, id := range c.Sets {
		if r := s.checkDeletable(id); r != nil {
			return r
		}
	}
	total, sets := len(c.Body), len(c.Sets)
	for _, d := range byKey(s.deletions) {
		// A sealed set gets no new samples, so deleting them again changes
		// nothing, and a deletion that is repeated for ever fills nothing.
		if bytes.Equal(d.Body, c.Body) && !slices.ContainsFunc(c.Sets, func(id quorate.ReplicaSetID) bool { return !d.names(id) }) {
			return DeleteResult{Index: s.index, Deletion: d.ID}
		}
		total += len(d.Body)
		sets += len(d.Sets)
	}
	if len(s.deletions) >= MaxDeletions {
		return refuse(ReasonBudget, "%d deletions on sealed data are kept already, the most there may be, until tombstones are cleaned", len(s.deletions))
	}
	if total > maxDeletionBytes {
		return refuse(ReasonBudget, "the deletions on sealed data would take %d bytes, over the limit of %d, until tombstones are cleaned", total, maxDeletionBytes)
	}
	if sets > MaxDeletionSets {
		return refuse(ReasonBudget, "the deletions on sealed data would name %d sets, over the limit of %d, until tombstones are cleaned", sets, MaxDeletionSets)
	}
	s.last.deletion++
	s.putDeletion(&DeletionRecord{
		ID:        s.last.deletion,
		Body:      c.Body,
		Sets:      c.Sets,
		Pending:   true,
		Announced: s.index,
	})
	return DeleteResult{Index: s.index, Deletion: s.last.deletion}
}

// checkDeletable tells whether metasvc keeps deletions for a set. A set that is
// not sealed has its own log for them. While an overlay is being sealed into
// it none are taken: its samples after the deletion must not be deleted, and
// those before must, and the seal's place in the log parts them only if the
// deletion is known before the intent.
func (s *state) checkDeletable(id quorate.ReplicaSetID) *Refusal {
	set := s.sets[id]
	if set == nil {
		if id == 0 || uint64(id) > s.last.set {
			return refuse(ReasonNotFound, "set %d does not exist", id)
		}
		return refuse(ReasonOutdated, "set %d is gone", id)
	}
	bucket := s.buckets[set.Bucket]
	switch {
	case set.State == ReplicaSetDropping || set.Pending && set.State == ReplicaSetSealed || bucket.State == BucketDropping:
		return refuse(ReasonOutdated, "set %d was replaced or is dropped", id)
	case set.State != ReplicaSetSealed:
		return refuse(ReasonBusy, "set %d is %s: it has no deletions but those in its log", id, set.State)
	}
	if overlay := s.sets[bucket.OverlayIDs[set.Shard]]; overlay != nil && overlay.Sealing() != nil {
		return refuse(ReasonBusy, "set %d: its overlay %d is being sealed", id, overlay.ID)
	}
	return nil
}

func (c EffectDelete) apply(s *state, _ uint64) any {
	d := s.deletions[c.Deletion]
	if d == nil {
		return refuse(ReasonNotFound, "deletion %d does not exist", c.Deletion)
	}
	if d.Pending {
		effective := *d
		effective.Pending = false
		s.putDeletion(&effective)
	}
	return DeleteResult{Index: s.index, Deletion: d.ID}
}

// forgetDeletions takes sets, rising, out of all deletions, and removes those
// that are left with none. It takes all sets of a bucket at once: a deletion may
// name thousands, and each change of it copies them.
func (s *state) forgetDeletions(sets ...quorate.ReplicaSetID) {
	for _, d := range byKey(s.deletions) {
		kept := make([]quorate.ReplicaSetID, 0, len(d.Sets))
		for _, id := range d.Sets {
			if _, gone := slices.BinarySearch(sets, id); !gone {
				kept = append(kept, id)
			}
		}
		switch len(kept) {
		case len(d.Sets):
		case 0:
			s.removeDeletion(d)
		default:
			rest := *d
			rest.Sets = slices.Clip(kept)
			s.putDeletion(&rest)
		}
	}
}
