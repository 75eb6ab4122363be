package metasvc

import (
	"encoding/binary"
	"slices"

	"github.com/quorate/quorate"
)

// MemberChange is a change of a set's members that is under way: one replica
// joins, or one leaves, or both, in that order.
type MemberChange struct {
	// Add is the replica that joins; its Replica is 0 when none does.
	Add Member
	// Remove is the replica that leaves, 0 when none does. It need not be a
	// member: that of a change that was given up may have joined half.
	Remove quorate.ReplicaID
}

// Changing returns the change of the set's members that is under way, and
// whether one is.
func (s *ReplicaSet) Changing() (change MemberChange, underWay bool) {
	add, remove, ok := s.memberChange()
	return MemberChange{Add: add, Remove: remove.Replica}, ok
}

// memberChange is Changing with the node of whoever leaves.
func (s *ReplicaSet) memberChange() (add, remove Member, underWay bool) {
	if s.Intent == nil || s.Intent.Kind != IntentMembers {
		return Member{}, Member{}, false
	}
	return readMembersPayload(s.Intent.Payload)
}

// MayForm tells whether a replica may make its directory from the set's
// genesis: it is a member that has not reported it, and no change of the members
// has begun since. After that the genesis' configuration is not the set's any
// more (PROTOCOL 2).
func (s *ReplicaSet) MayForm(replica quorate.ReplicaID) bool {
	return !s.Moved && (s.State == ReplicaSetForming || s.State == ReplicaSetOpen) && s.HasMember(replica) && !s.hasFormed(replica)
}

func (s *ReplicaSet) isJoined(replica quorate.ReplicaID) bool {
	_, joined := slices.BinarySearch(s.Joined, replica)
	return joined
}

func (s *ReplicaSet) hasFormed(replica quorate.ReplicaID) bool {
	_, formed := slices.BinarySearch(s.Formed, replica)
	return formed
}

// changed returns the set with its members as a change leaves them. The replica
// that joins takes the place of the one that leaves, so that preferred leaders
// stay as spread as they were.
func (s *ReplicaSet) changed(add, remove Member) *ReplicaSet {
	after := *s
	after.Members = slices.Clone(s.Members)
	at := slices.IndexFunc(after.Members, func(m Member) bool { return m.Replica == remove.Replica })
	switch {
	case at >= 0 && add.Replica != 0:
		after.Members[at] = add
	case at >= 0:
		after.Members = slices.Delete(after.Members, at, at+1)
	case add.Replica != 0:
		after.Members = append(after.Members, add)
	}
	after.Formed = without(s.Formed, remove.Replica)
	after.Joined = without(s.Joined, remove.Replica)
	if add.Replica != 0 {
		after.Formed = with(after.Formed, add.Replica)
	}
	if remove.Replica != 0 {
		after.Left = withMember(s.Left, remove)
	}
	return &after
}

// without returns a list of numbers without one; the list itself is not changed.
func without[ID ~uint64](list []ID, id ID) []ID {
	at, found := slices.BinarySearch(list, id)
	if !found {
		return list
	}
	if len(list) == 1 {
		return nil
	}
	return slices.Delete(slices.Clone(list), at, at+1)
}

// with returns a list of rising numbers with one more.
func with[ID ~uint64](list []ID, id ID) []ID {
	at, found := slices.BinarySearch(list, id)
	if found {
		return list
	}
	return slices.Insert(slices.Clone(list), at, id)
}

// withMember returns a list of members, by rising replica, with one more.
func withMember(list []Member, m Member) []Member {
	at, found := slices.BinarySearchFunc(list, m.Replica, compareReplica)
	if found {
		return list
	}
	return slices.Insert(slices.Clone(list), at, m)
}

func compareReplica(m Member, id quorate.ReplicaID) int {
	switch {
	case m.Replica < id:
		return -1
	case m.Replica > id:
		return 1
	}
	return 0
}

// The payload of IntentMembers is an optional member that joins and an optional
// member that leaves.

func membersPayload(add, remove Member) (dst []byte) {
	for _, m := range []Member{add, remove} {
		dst = appendBool(dst, m.Replica != 0)
		if m.Replica != 0 {
			dst = appendMember(dst, m)
		}
	}
	return dst
}

func readMembersPayload(payload []byte) (add, remove Member, ok bool) {
	r := newReader(payload)
	for _, m := range []*Member{&add, &remove} {
		if r.bool() {
			*m = readMember(r)
			if m.Replica == 0 {
				r.Fail()
			}
		}
	}
	if r.finish("member change") != nil || add.Replica == 0 && remove.Replica == 0 {
		return Member{}, Member{}, false
	}
	return add, remove, true
}

// Bounds returns the bounds that an intent wants its set to have, and whether
// the intent is of that kind. Its payload is the command that goes into the
// set's log: uvarint version, varint start, varint end.
func (i *Intent) Bounds() (b quorate.Bounds, ok bool) {
	if i == nil || i.Kind != IntentBounds {
		return quorate.Bounds{}, false
	}
	r := newReader(i.Payload)
	b = quorate.Bounds{Version: quorate.BoundsVersion(r.Uvarint()), Range: readRange(r), State: quorate.SetOpen}
	if r.finish("bounds") != nil {
		return quorate.Bounds{}, false
	}
	return b, true
}

func appendBoundsPayload(dst []byte, b quorate.Bounds) []byte {
	return appendRange(binary.AppendUvarint(dst, uint64(b.Version)), b.Range)
}
