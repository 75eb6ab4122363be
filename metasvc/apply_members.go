package metasvc

import (
	"slices"

	"github.com/quorate/quorate"
)

// The members of a set change by one at a time (PROTOCOL 4):
//
//	BeginMembers  -> the intent, with the number of the replica that joins
//	ConfirmIntent <- an open set's leader: the group's configuration is so
//	ReportJoined  <- a sealed set's new replica: it has the file
//	ReportLeft    <- the replica that left: its files are out of the way
//
// A set and the overlay over it are changed apart: each has a log, or a file, of
// its own, and one of them may be past mending. The repair loop has the overlay
// follow its base, and no overlay is sealed while the two differ (checkSeal).

func (c BeginMembers) apply(s *state, term uint64) any {
	set := s.sets[c.Set]
	none := quorate.NodeID{}
	switch {
	case set == nil:
		return refuse(ReasonNotFound, "set %d does not exist", c.Set)
	case c.Term != term:
		return refuse(ReasonOutdated, "set %d: a change of its members was decided in term %d, this is term %d", c.Set, c.Term, term)
	case c.Add == none && c.Remove == 0:
		return refuse(ReasonInvalid, "set %d: the change of members adds and removes nothing", c.Set)
	}
	if r := checkRising("replica", c.Well); r != nil {
		return r
	}
	if add, remove, underWay := set.memberChange(); underWay && add.Node == c.Add && remove.Replica == c.Remove {
		return IntentResult{Index: s.index, Intent: set.Intent.ID}
	}
	if r := s.checkMovable(set); r != nil {
		return r
	}
	if c.Add != none {
		if r := s.checkJoins(set, c.Add); r != nil {
			return r
		}
	}
	at := slices.IndexFunc(set.Members, func(m Member) bool { return m.Replica == c.Remove })
	var remove Member
	if c.Remove != 0 {
		if at < 0 {
			return refuse(ReasonNotFound, "replica %d is not a member of set %d", c.Remove, c.Set)
		}
		remove = set.Members[at]
		if r := set.checkLeaves(remove, c.Add != none, c.Well); r != nil {
			return r
		}
	}
	if c.Remove == 0 && len(set.Members) >= MaxReplicas {
		return refuse(ReasonLimit, "set %d has %d members, the most there may be", c.Set, MaxReplicas)
	}
	if set.State == ReplicaSetSealed && c.Add == none {
		// There is no log to change the configuration of: the map is the truth.
		s.putSet(set.changed(Member{}, remove))
		return IntentResult{Index: s.index}
	}
	var add Member
	if c.Add != none {
		s.last.replica++
		add = Member{Node: c.Add, Replica: quorate.ReplicaID(s.last.replica)}
	}
	begun := *set
	begun.Moved = true
	return s.begin(&begun, IntentMembers, term, membersPayload(add, remove))
}

// begin puts a set with a new intent.
func (s *state) begin(set *ReplicaSet, kind IntentKind, term uint64, payload []byte) IntentResult {
	s.last.intent++
	set.Intent = &Intent{ID: IntentID(s.last.intent), Kind: kind, Term: term, Payload: payload}
	s.putSet(set)
	return IntentResult{Index: s.index, Intent: set.Intent.ID}
}

// checkMovable tells whether a set's members may change now.
func (s *state) checkMovable(set *ReplicaSet) *Refusal {
	bucket := s.buckets[set.Bucket]
	switch {
	case set.State == ReplicaSetDropping || set.State == ReplicaSetSealed && set.Pending || bucket.State == BucketDropping:
		return refuse(ReasonOutdated, "set %d was replaced or is dropped", set.ID)
	case set.Intent != nil:
		return refuse(ReasonBusy, "set %d has intent %d (%s) under way", set.ID, set.Intent.ID, set.Intent.Kind)
	case set.State == ReplicaSetForming:
		return refuse(ReasonBusy, "set %d is still forming", set.ID)
	}
	if overlay := s.sets[bucket.OverlayIDs[set.Shard]]; overlay != nil && overlay.ID != set.ID && overlay.Sealing() != nil {
		return refuse(ReasonBusy, "set %d: its overlay %d is being sealed", set.ID, overlay.ID)
	}
	return nil
}

// checkJoins tells whether a replica of the set may join on a node.
func (s *state) checkJoins(set *ReplicaSet, id quorate.NodeID) *Refusal {
	if r := s.checkHolder(id); r != nil {
		return refuse(r.Reason, "set %d: %s", set.ID, r.Rule)
	}
	if m, member := set.MemberOn(id); member {
		return refuse(ReasonConflict, "set %d has replica %d on node %s already", set.ID, m.Replica, id)
	}
	if at := slices.IndexFunc(set.Left, func(m Member) bool { return m.Node == id }); at >= 0 {
		return refuse(ReasonBusy, "set %d: node %s has not moved the files of replica %d away yet, which left the set", set.ID, id, set.Left[at].Replica)
	}
	return nil
}

// checkHolder tells whether a node may get a replica.
func (s *state) checkHolder(id quorate.NodeID) *Refusal {
	node := s.nodes[id]
	switch {
	case node == nil:
		return refuse(ReasonNotFound, "node %s does not exist", id)
	case node.Roles&RoleData == 0:
		return refuse(ReasonInvalid, "node %s holds no data", id)
	case node.State != NodeActive:
		return refuse(ReasonOutdated, "node %s is %s", id, node.State)
	}
	return nil
}

// checkLeaves tells whether the set can do without a member (PROTOCOL 16), of whose
// others those are well.
func (s *ReplicaSet) checkLeaves(leaves Member, replaced bool, well []quorate.ReplicaID) *Refusal {
	if replaced {
		return nil // it goes only when the other is there
	}
	if len(s.Members) == 1 {
		return refuse(ReasonInvalid, "replica %d is the last member of set %d", leaves.Replica, s.ID)
	}
	formed, standing := 0, 0
	verified := false
	for _, m := range s.Members {
		if m.Replica == leaves.Replica {
			continue
		}
		_, isWell := slices.BinarySearch(well, m.Replica)
		verified = verified || isWell && s.verified(m.Replica)
		if s.hasFormed(m.Replica) {
			formed++
			if isWell {
				standing++
			}
		}
	}
	rest := len(s.Members) - 1
	switch {
	case s.State == ReplicaSetSealed && !verified:
		return refuse(ReasonBusy, "replica %d is the last of set %d that is known to have what the set was sealed as, and whose node is well", leaves.Replica, s.ID)
	case s.State == ReplicaSetSealed:
	case formed <= rest/2:
		return refuse(ReasonBusy, "set %d: without replica %d only %d of its %d members have formed", s.ID, leaves.Replica, formed, rest)
	case standing <= rest/2:
		return refuse(ReasonBusy, "set %d: without replica %d only %d of its %d members are well", s.ID, leaves.Replica, standing, rest)
	}
	return nil
}

// verified tells whether a member of a sealed set is known to have what it was
// sealed as: it reported the same samples, or joined by taking the file.
func (s *ReplicaSet) verified(replica quorate.ReplicaID) bool {
	if s.isJoined(replica) {
		return true
	}
	return s.Sealed != nil && slices.ContainsFunc(s.Reports, func(r SealReport) bool {
		return r.Replica == replica && r.Index == s.Sealed.Index && r.Checksum == s.Sealed.Checksum
	})
}

// confirmMembers makes the change under way of an open set the set's members.
func (s *state) confirmMembers(set *ReplicaSet, logIndex uint64) {
	add, remove, _ := set.memberChange()
	after := set.changed(add, remove)
	after.Intent = nil
	after.Done = &Confirmation{ID: set.Intent.ID, Kind: IntentMembers, LogIndex: logIndex}
	s.putSet(after)
}

func (c ReportJoined) apply(s *state, _ uint64) any {
	set := s.sets[c.Set]
	if set == nil {
		return refuse(ReasonNotFound, "set %d does not exist", c.Set)
	}
	if set.isJoined(c.Replica) {
		return ReportJoinedResult{Index: s.index} // reported again
	}
	add, remove, underWay := set.memberChange()
	switch {
	case !underWay || add.Replica != c.Replica || c.Replica == 0:
		return refuse(ReasonOutdated, "replica %d does not join set %d, or not any more", c.Replica, c.Set)
	case set.State != ReplicaSetSealed:
		return refuse(ReasonInvalid, "set %d is %s: its leader confirms the change of its members", c.Set, set.State)
	}
	after := set.changed(add, remove)
	after.Joined = with(after.Joined, add.Replica)
	after.Intent = nil
	s.putSet(after)
	return ReportJoinedResult{Index: s.index}
}

func (c ReportLeft) apply(s *state, _ uint64) any {
	set := s.sets[c.Set]
	switch {
	case set == nil && c.Set != 0 && uint64(c.Set) <= s.last.set:
		return ReportLeftResult{Index: s.index, Gone: true} // reported again
	case set == nil:
		return refuse(ReasonNotFound, "set %d does not exist", c.Set)
	case set.HasMember(c.Replica):
		return refuse(ReasonConflict, "replica %d is a member of set %d, and says that it has left", c.Replica, c.Set)
	}
	at, found := slices.BinarySearchFunc(set.Left, c.Replica, compareReplica)
	if !found {
		return ReportLeftResult{Index: s.index}
	}
	after := *set
	after.Left = slices.Delete(slices.Clone(set.Left), at, at+1)
	if len(after.Left) == 0 {
		after.Left = nil
	}
	return ReportLeftResult{Index: s.index, Gone: s.putOrRemove(&after)}
}

// putOrRemove puts a set, or removes it when it is dropped and all files of it
// are out of the way; with a dropped bucket's last set the bucket goes.
func (s *state) putOrRemove(set *ReplicaSet) (gone bool) {
	if set.State != ReplicaSetDropping || len(set.Left) > 0 || len(set.Dropped) < len(set.Members) {
		s.putSet(set)
		return false
	}
	s.removeSet(set)
	if bucket := s.buckets[set.Bucket]; bucket.State == BucketDropping && !s.hasSets(bucket.ID) {
		s.removeBucket(bucket)
	}
	return true
}

// cancelMembers gives up the change of members under way.
func (s *state) cancelMembers(set *ReplicaSet, term uint64) any {
	add, _, _ := set.memberChange()
	if add.Replica == 0 {
		return refuse(ReasonInvalid, "set %d: that a replica leaves cannot be given up, its leader may have removed it", set.ID)
	}
	if set.State == ReplicaSetSealed {
		cancelled := *set
		cancelled.Intent = nil
		cancelled.Left = withMember(set.Left, add) // it may have taken the file
		id := set.Intent.ID
		s.putSet(&cancelled)
		return IntentResult{Index: s.index, Intent: id}
	}
	undone := *set
	return s.begin(&undone, IntentMembers, term, membersPayload(Member{}, add))
}

// dropIntent takes the intent out of a set that is dropped. A replica that was
// joining has files perhaps.
func (s *ReplicaSet) dropIntent() {
	if add, remove, underWay := s.memberChange(); underWay {
		for _, m := range []Member{add, remove} {
			if m.Replica != 0 && !s.HasMember(m.Replica) {
				s.Left = withMember(s.Left, m)
			}
		}
	}
	s.Intent = nil
}
