package metasvc

import (
	"errors"
	"fmt"
	"slices"

	"github.com/quorate/quorate"
)

// The invariants of buckets, sets and deletions; see check.

func (s *state) checkBuckets() error {
	for _, b := range s.buckets {
		if err := s.checkNumber("bucket", uint64(b.ID), s.last.bucket, b.ModIndex); err != nil {
			return err
		}
		if len(b.SetIDs) == 0 || len(b.OverlayIDs) != len(b.SetIDs) || b.HashVersion == 0 || b.Announced > b.ModIndex {
			return fmt.Errorf("bucket %d: %d shards, %d overlays, hash version %d, announced at %d", b.ID, len(b.SetIDs), len(b.OverlayIDs), b.HashVersion, b.Announced)
		}
		if b.State == BucketDropping {
			if err := s.checkDropping(b); err != nil {
				return err
			}
			continue
		}
		for shard, id := range b.SetIDs {
			set := s.sets[id]
			if set == nil || set.Bucket != b.ID || set.Shard != shard || set.State == ReplicaSetDropping || set.Pending {
				return fmt.Errorf("bucket %d shard %d names set %d, which is not that shard", b.ID, shard, id)
			}
			if id := b.OverlayIDs[shard]; id != 0 {
				if err := s.checkOverlay(set, s.sets[id]); err != nil {
					return fmt.Errorf("bucket %d shard %d: overlay %d: %w", b.ID, shard, id, err)
				}
			}
		}
		ready := !b.Pending && s.formed(b)
		if b.State != BucketPlanned && b.State != BucketOpen || ready != (b.State == BucketOpen) {
			return fmt.Errorf("bucket %d is %s, pending %t", b.ID, b.State, b.Pending)
		}
	}
	return nil
}

// checkOverlay checks what is to hold of an overlay and the set under it.
func (s *state) checkOverlay(base, overlay *ReplicaSet) error {
	if overlay == nil || overlay.Bucket != base.Bucket || overlay.Shard != base.Shard || overlay.Base != base.ID {
		return fmt.Errorf("it does not lie over set %d", base.ID)
	}
	if base.State != ReplicaSetSealed || overlay.Generation != base.Generation+1 {
		return fmt.Errorf("it is of generation %d over set %d, which is %s and of generation %d", overlay.Generation, base.ID, base.State, base.Generation)
	}
	switch overlay.State {
	case ReplicaSetForming, ReplicaSetOpen, ReplicaSetDisputed:
	default:
		return fmt.Errorf("it is %s", overlay.State)
	}
	if i := overlay.Sealing(); i != nil {
		if !togetherStill(base, overlay) {
			return errors.New("it is being sealed, and its base lies on other nodes or moves")
		}
		// Whatever was deleted from the base is folded in, or shows again.
		folded, ok := readSealPayload(i.Payload)
		want := s.deletionsOf(base.ID)
		for _, d := range want {
			ok = ok && !d.Pending
		}
		if !ok || !slices.EqualFunc(folded, want, foldedDeletion.is) {
			return fmt.Errorf("its seal folds in deletions %v, and its base has %v or others of these numbers", foldedIDs(folded), deletionIDs(want))
		}
	}
	return nil
}

// checkDropping checks a bucket whose sets go, or are about to.
func (s *state) checkDropping(b *BucketRecord) error {
	if horizon := s.policies[b.Policy].Horizon; b.Range.End > horizon { // PROTOCOL 15
		return fmt.Errorf("bucket %d %v is dropped, and the horizon of its policy is %s", b.ID, b.Range, quorate.FormatTime(horizon))
	}
	sets := s.setsOf(b.ID)
	for _, set := range sets {
		if set.Intent != nil || !b.Pending && set.State != ReplicaSetDropping {
			return fmt.Errorf("bucket %d is dropped, and its set %d is %s", b.ID, set.ID, set.State)
		}
	}
	if len(sets) == 0 {
		return fmt.Errorf("bucket %d is dropped and has no sets any more", b.ID)
	}
	return nil
}

func (s *state) checkSets() error {
	replicas := make(map[uint64]bool)
	intents := make(map[IntentID]bool)
	for _, set := range s.sets {
		if err := s.checkNumber("set", uint64(set.ID), s.last.set, set.ModIndex); err != nil {
			return err
		}
		if err := s.checkPlace(set); err != nil {
			return fmt.Errorf("set %d: %w", set.ID, err)
		}
		if err := set.check(); err != nil {
			return fmt.Errorf("set %d: %w", set.ID, err)
		}
		if err := s.checkMinted(set, replicas, intents); err != nil {
			return fmt.Errorf("set %d: %w", set.ID, err)
		}
	}
	return nil
}

// check checks what is to hold of a set by itself.
func (s *ReplicaSet) check() error {
	for _, check := range []func() error{s.checkState, s.checkMembers, s.checkLeft, s.checkIntents, s.checkChange, s.checkSealed} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// checkMinted checks that the numbers a set names were given out, and to it
// alone (PROTOCOL 1).
func (s *state) checkMinted(set *ReplicaSet, replicas map[uint64]bool, intents map[IntentID]bool) error {
	add, remove, _ := set.memberChange()
	numbered := slices.Concat(set.Members, set.Left)
	for _, m := range []Member{add, remove} {
		if m.Replica != 0 && !set.HasMember(m.Replica) {
			numbered = append(numbered, m)
		}
	}
	for _, m := range numbered {
		switch node := s.nodes[m.Node]; {
		case node == nil:
			return fmt.Errorf("it has a replica on node %s, which does not exist", m.Node)
		case node.State == NodeRemoved && (set.State != ReplicaSetDropping || !slices.Contains(set.Dropped, m.Replica)):
			return fmt.Errorf("it has a replica on node %s, which was removed", m.Node)
		}
		r := uint64(m.Replica)
		if r == 0 || r > s.last.replica || replicas[r] {
			return fmt.Errorf("replica %d was never minted or stands twice", r)
		}
		replicas[r] = true
	}
	for _, id := range set.intentIDs() {
		if id == 0 || uint64(id) > s.last.intent || intents[id] {
			return fmt.Errorf("intent %d was never minted or stands twice", id)
		}
		intents[id] = true
	}
	for _, r := range set.Reports {
		if r.Intent == 0 || r.Intent > s.last.intent || uint64(r.Replica) > s.last.replica {
			return fmt.Errorf("replica %d reports of intent %d, which was never minted", r.Replica, r.Intent)
		}
	}
	return nil
}

// checkPlace checks that a bucket names the set, or that it is on its way out.
func (s *state) checkPlace(set *ReplicaSet) error {
	b := s.buckets[set.Bucket]
	if b == nil || set.Shard >= len(b.SetIDs) {
		return fmt.Errorf("it is shard %d of bucket %d, which has none", set.Shard, set.Bucket)
	}
	if uint64(set.Base) >= uint64(set.ID) || (set.Base == 0) != (set.Generation == 0) {
		return fmt.Errorf("it is of generation %d over set %d", set.Generation, set.Base)
	}
	named := b.SetIDs[set.Shard] == set.ID || b.OverlayIDs[set.Shard] == set.ID
	replaced := set.State == ReplicaSetDropping || set.State == ReplicaSetSealed && set.Pending
	if b.State != BucketDropping && named == replaced {
		return fmt.Errorf("it is %s, pending %t, and named by its bucket: %t", set.State, set.Pending, named)
	}
	if set.State == ReplicaSetOpen && b.State != BucketDropping &&
		(set.Bounds.Range.Start != b.Range.Start || set.Bounds.Range.End < b.Range.End || outOfBounds(set, b) && !b.Cut) {
		return fmt.Errorf("its bounds are %v, and its bucket is %v", set.Bounds.Range, b.Range)
	}
	if set.Reach != 0 && (!b.Cut || set.Reach <= b.Range.End) {
		return fmt.Errorf("it has samples up to %s past its bounds %v, and its bucket was cut: %t", quorate.FormatTime(set.Reach), set.Bounds.Range, b.Cut)
	}
	if want, ok := set.Intent.Bounds(); ok && (want.Version != set.Bounds.Version+1 || !b.Cut ||
		want.Range.Start != b.Range.Start || want.Range.End < b.Range.End || want.Range.End >= set.Bounds.Range.End) {
		return fmt.Errorf("it has bounds %+v, is to have %+v, and its bucket is %v", set.Bounds, want, b.Range)
	}
	if set.State == ReplicaSetDisputed && set.Intent == nil && b.State != BucketDropping {
		return errors.New("it is in dispute over no intent")
	}
	return nil
}

// checkState checks what a set's state says of its other fields.
func (s *ReplicaSet) checkState() error {
	if len(s.Members) == 0 || s.Bounds.Version == 0 || s.Bounds.State != quorate.SetOpen && s.Bounds.State != quorate.SetSealed {
		return fmt.Errorf("%d members, bounds version %d, %s", len(s.Members), s.Bounds.Version, s.Bounds.State)
	}
	formed := len(s.Formed) > len(s.Members)/2
	open := s.Bounds.State == quorate.SetOpen
	overlay := s.Base != 0
	var sound bool
	switch s.State {
	case ReplicaSetForming:
		sound = !formed && open && s.Pending == overlay && s.Announced == 0
	case ReplicaSetOpen:
		sound = formed && open && (overlay || !s.Pending) && overlay == (s.Announced != 0)
	case ReplicaSetSealed:
		sound = !open && s.Sealed != nil // who was formed may have left since
	case ReplicaSetDisputed:
		sound = formed && !open && !s.Pending && s.Sealed == nil
	case ReplicaSetDropping:
		sound = !s.Pending
	}
	if !sound || s.Announced > s.ModIndex || s.SealAsked && s.State != ReplicaSetOpen {
		return fmt.Errorf("it is %s with %d of %d replicas formed, pending %t, announced at %d, seal asked for: %t",
			s.State, len(s.Formed), len(s.Members), s.Pending, s.Announced, s.SealAsked)
	}
	return nil
}

// checkMembers checks the lists of what members have reported. A member that
// reported the seal may have left since.
func (s *ReplicaSet) checkMembers() error {
	for i, list := range [][]quorate.ReplicaID{s.Formed, s.Dropped, s.Joined, s.reporters()} {
		left := i == 3 && s.Sealed != nil
		for i, id := range list {
			if !left && !s.HasMember(id) || i > 0 && list[i-1] >= id {
				return fmt.Errorf("replica %d reported out of turn", id)
			}
		}
	}
	for i, m := range s.Members {
		if slices.ContainsFunc(s.Members[:i], func(other Member) bool { return other.Node == m.Node }) {
			return fmt.Errorf("it has two members on node %s", m.Node)
		}
	}
	if len(s.Joined) > 0 && s.Sealed == nil {
		return fmt.Errorf("replicas %v joined it by its file, and it is %s", s.Joined, s.State)
	}
	if len(s.Dropped) > 0 && (s.State != ReplicaSetDropping || len(s.Dropped) >= len(s.Members) && len(s.Left) == 0) {
		return fmt.Errorf("%d of %d replicas of a set that is %s are dropped", len(s.Dropped), len(s.Members), s.State)
	}
	return nil
}

// checkLeft checks the former members.
func (s *ReplicaSet) checkLeft() error {
	for i, m := range s.Left {
		if i > 0 && s.Left[i-1].Replica >= m.Replica || s.HasMember(m.Replica) {
			return fmt.Errorf("replica %d left out of turn, or is a member", m.Replica)
		}
	}
	return nil
}

// checkChange checks the change of members under way.
func (s *ReplicaSet) checkChange() error {
	if s.Intent == nil || s.Intent.Kind != IntentMembers {
		return nil
	}
	add, remove, ok := s.memberChange()
	if !ok || !s.Moved {
		return fmt.Errorf("intent %d is no change of members, or moved is %t", s.Intent.ID, s.Moved)
	}
	busy := func(m Member) bool {
		_, member := s.MemberOn(m.Node)
		return member || s.HasMember(m.Replica) || slices.ContainsFunc(s.Left, func(left Member) bool { return left.Replica == m.Replica || left.Node == m.Node })
	}
	switch {
	case add.Replica != 0 && busy(add):
		return fmt.Errorf("replica %d joins it on node %s, and is there", add.Replica, add.Node)
	case add.Replica != 0 && remove.Replica != 0 || s.State == ReplicaSetSealed || slices.Contains(s.Members, remove):
		if remove.Replica != 0 && !slices.Contains(s.Members, remove) {
			return fmt.Errorf("replica %d leaves it and is no member", remove.Replica)
		}
	case remove.Replica != 0 && busy(remove): // of a change that was given up
		return fmt.Errorf("replica %d on node %s is to leave again, and is there or has left", remove.Replica, remove.Node)
	}
	after := s.changed(add, remove)
	if len(after.Members) == 0 || s.State == ReplicaSetOpen && len(after.Formed) <= len(after.Members)/2 {
		return fmt.Errorf("after the change %d of %d replicas have formed", len(after.Formed), len(after.Members))
	}
	return nil
}

func (s *ReplicaSet) reporters() (ids []quorate.ReplicaID) {
	for _, r := range s.Reports {
		ids = append(ids, r.Replica)
	}
	return ids
}

func (s *ReplicaSet) checkIntents() error {
	i, d := s.Intent, s.Done
	if i != nil && (!i.Kind.known() || d != nil && d.ID >= i.ID) || d != nil && (!d.Kind.known() || d.LogIndex == 0) {
		return fmt.Errorf("intents %+v and %+v", i, d)
	}
	if i != nil && (s.State == ReplicaSetSealed && i.Kind != IntentMembers || s.State == ReplicaSetForming || s.State == ReplicaSetDropping ||
		s.State == ReplicaSetDisputed && i.Kind != IntentSeal) {
		return fmt.Errorf("it is %s with intent %d (%s) under way", s.State, i.ID, i.Kind)
	}
	if _, ok := i.Bounds(); i != nil && i.Kind == IntentBounds && !ok {
		return fmt.Errorf("intent %d has no bounds", i.ID)
	}
	return nil
}

// checkSealed checks that what the set was sealed as is what a majority of its
// members reported (PROTOCOL 14).
func (s *ReplicaSet) checkSealed() error {
	sealed, d := s.Sealed, s.Done
	for _, r := range s.Reports {
		if r.Index == 0 {
			return fmt.Errorf("replica %d reports a seal at log index 0", r.Replica)
		}
	}
	if sealed == nil {
		if d != nil && d.Kind == IntentSeal {
			return fmt.Errorf("its seal %d is confirmed and not recorded", d.ID)
		}
		return nil
	}
	if s.State != ReplicaSetSealed && s.State != ReplicaSetDropping || d == nil || d.Kind != IntentSeal || d.LogIndex != sealed.Index {
		return fmt.Errorf("it is %s, sealed at %d, confirmed as %+v", s.State, sealed.Index, d)
	}
	votes, built := 0, false
	for _, r := range s.Reports {
		if r.Index == sealed.Index && r.Checksum == sealed.Checksum {
			votes++
			built = built || r.File != nil && *r.File == sealed.File
		}
	}
	if votes <= sealed.Voters/2 || len(s.Reports) > sealed.Voters || !built {
		return fmt.Errorf("it is sealed as %d of %d members reported, and one of them built its file: %t", votes, sealed.Voters, built)
	}
	return nil
}

func (s *ReplicaSet) intentIDs() (ids []IntentID) {
	if s.Intent != nil {
		ids = append(ids, s.Intent.ID)
	}
	if s.Done != nil {
		ids = append(ids, s.Done.ID)
	}
	return ids
}

func (k IntentKind) known() bool { return IntentMembers <= k && k <= IntentSeal }

func (s *state) checkDeletions() error {
	size, sets := 0, 0
	for _, d := range s.deletions {
		if err := s.checkNumber("deletion", d.ID, s.last.deletion, d.ModIndex); err != nil {
			return err
		}
		if _, r := checkDeletion(d.Body); r != nil {
			return fmt.Errorf("deletion %d: %w", d.ID, r)
		}
		if r := checkRising("set", d.Sets); r != nil || len(d.Sets) == 0 || d.Announced > d.ModIndex {
			return fmt.Errorf("deletion %d of sets %v, announced at %d", d.ID, d.Sets, d.Announced)
		}
		for _, id := range d.Sets {
			if set := s.sets[id]; set == nil || set.State != ReplicaSetSealed || set.Pending {
				return fmt.Errorf("deletion %d names set %d, which is not there, not sealed or replaced", d.ID, id)
			}
		}
		size += len(d.Body)
		sets += len(d.Sets)
	}
	if len(s.deletions) > MaxDeletions || size > maxDeletionBytes || sets > MaxDeletionSets {
		return fmt.Errorf("%d deletions of %d bytes on %d sets are over the limits", len(s.deletions), size, sets)
	}
	return nil
}
