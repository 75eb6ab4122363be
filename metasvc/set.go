package metasvc

import (
	"fmt"
	"slices"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// Member is one member of a ReplicaSet.
type Member struct {
	Node    quorate.NodeID
	Replica quorate.ReplicaID
}

// ReplicaSetState is the state of a ReplicaSet as metasvc knows it. The fact
// is in the set's own log (PROTOCOL 4); see quorate.SetState.
type ReplicaSetState uint8

const (
	// ReplicaSetForming has members that have not all persisted the genesis (PROTOCOL 2).
	ReplicaSetForming ReplicaSetState = iota + 1
	// ReplicaSetOpen was persisted by a majority of its members.
	ReplicaSetOpen
	// ReplicaSetSealed has one canonical file, which a majority of its members
	// agreed on (PROTOCOL 14).
	ReplicaSetSealed
	// ReplicaSetDisputed is to be sealed, and its members' samples differ so
	// that no majority agrees. Nothing of it is deleted until its bucket is.
	ReplicaSetDisputed
	// ReplicaSetDropping is dropped: its members move their files away and
	// report it. This is the record that PROTOCOL 16 asks for.
	ReplicaSetDropping
)

// String prints the state's name.
func (s ReplicaSetState) String() string {
	switch s {
	case ReplicaSetForming:
		return "forming"
	case ReplicaSetOpen:
		return "open"
	case ReplicaSetSealed:
		return "sealed"
	case ReplicaSetDisputed:
		return "disputed"
	case ReplicaSetDropping:
		return "dropping"
	}
	return fmt.Sprintf("ReplicaSetState(%d)", uint8(s))
}

// ReplicaSet is one shard of one bucket: one Raft group.
type ReplicaSet struct {
	ID     quorate.ReplicaSetID
	Bucket quorate.BucketID
	Shard  int
	State  ReplicaSetState
	// Bounds are those that metasvc last confirmed; Version 1 is the genesis.
	Bounds quorate.Bounds
	// Reach is the end (ms, exclusive) of the samples that the set had taken past
	// its bounds before a cut gave it these, 0 when there are none; see ReadRange.
	Reach int64
	// Members are the set's replicas as they were last confirmed. The first is
	// the preferred leader.
	Members []Member
	// Formed are the members that have files of the set: they reported the
	// genesis as persisted, or joined. Rising.
	Formed []quorate.ReplicaID
	// Moved tells that a change of the members has begun since the genesis: who
	// has not formed by then never will (PROTOCOL 2).
	Moved bool
	// Joined are the members that joined after the set was sealed, by taking
	// its file. Rising.
	Joined []quorate.ReplicaID
	// Left are former members whose files are not reported as gone yet, by
	// rising replica.
	Left []Member
	// Base is the sealed set that an overlay lies over, 0 for a first set. It
	// stays when the overlay is sealed and the base gone.
	Base quorate.ReplicaSetID
	// Generation is 0 for a first set, and an overlay's base's plus one.
	Generation int
	// Pending marks a change that takes effect only once every node has a map
	// of version Announced (PROTOCOL 8): an overlay takes writes, or a sealed
	// set that an overlay has replaced is dropped.
	Pending bool
	// Announced is the index of the entry that opened the pending overlay, or
	// sealed what replaced the set; 0 while the overlay is forming.
	Announced uint64
	// SealAsked tells that somebody asked for the seal (RequestSeal) before it
	// was due.
	SealAsked bool
	// Intent is the structural change under way, nil when there is none.
	Intent *Intent
	// Done is the last intent that was confirmed, nil when none was.
	Done *Confirmation
	// Reports are what the replicas report of the seal, by rising replica.
	Reports []SealReport
	// Sealed is what the set was sealed as, nil before.
	Sealed *SealRecord
	// Dropped are the replicas that reported their files as gone, rising.
	Dropped  []quorate.ReplicaID
	ModIndex uint64
}

// MemberOn returns the set's member on a node.
func (s *ReplicaSet) MemberOn(node quorate.NodeID) (Member, bool) {
	for _, m := range s.Members {
		if m.Node == node {
			return m, true
		}
	}
	return Member{}, false
}

// HasMember tells whether a replica is a member of the set.
func (s *ReplicaSet) HasMember(replica quorate.ReplicaID) bool {
	return slices.ContainsFunc(s.Members, func(m Member) bool { return m.Replica == replica })
}

// Writable tells whether the set takes writes as far as metasvc knows: it is
// open, and known to every node if it is an overlay.
func (s *ReplicaSet) Writable() bool { return s.State == ReplicaSetOpen && !s.Pending }

// ReadRange is the time of which the set may have samples: that of its bounds and,
// past their end, what it had taken before they were cut. A set that is still to be
// told of its bucket's cut has the old bounds here, up to whose end it is read.
func (s *ReplicaSet) ReadRange() quorate.TimeRange {
	r := s.Bounds.Range
	if s.Reach != 0 {
		r.End = max(r.End, s.Reach)
	}
	return r
}

// NeedsFile tells whether the set's samples are whole only in its sealed file:
// it was sealed as an overlay and has taken its base's place, whose samples are
// in that file and not in the set's log. A replica that has not taken the file
// yet must not be read, and keeps its base until it has.
func (s *ReplicaSet) NeedsFile() bool { return s.State == ReplicaSetSealed && s.Base != 0 }

// Sealing returns the seal that is under way, nil when none is.
func (s *ReplicaSet) Sealing() *Intent {
	if s.Intent != nil && s.Intent.Kind == IntentSeal {
		return s.Intent
	}
	return nil
}

// SealReport is what one replica reports of the seal of its set: where in the
// set's log it stands, and what the replica's own samples are (PROTOCOL 14).
type SealReport struct {
	// Replica reports.
	Replica quorate.ReplicaID
	// Intent is the number of the intent that the set's log made a fact.
	Intent uint64
	// Index is where in the set's log the seal stands, from 1.
	Index uint64
	// Checksum is the logical checksum over the replica's own samples.
	Checksum [32]byte
	// File is the canonical file of a replica that has built it, else nil.
	File *wire.SealedFile
}

func (r SealReport) equal(o SealReport) bool {
	return r.Replica == o.Replica && r.Intent == o.Intent && r.agrees(o) &&
		(r.File == nil) == (o.File == nil) && (r.File == nil || *r.File == *o.File)
}

// agrees tells whether two replicas have sealed the same samples.
func (r SealReport) agrees(o SealReport) bool { return r.Index == o.Index && r.Checksum == o.Checksum }

// SealRecord is what a set was sealed as.
type SealRecord struct {
	// Voters is how many members the set had when it was sealed; the reports of
	// a majority of them made the verdict.
	Voters int
	// Index is where in the set's log the seal stands.
	Index uint64
	// Checksum is the logical checksum that a majority of the members reported.
	Checksum [32]byte
	// File is the canonical file, which every replica takes.
	File wire.SealedFile
}

// IntentID is the number of an intent, from 1, never reused. Of two intents
// for one set the larger is the newer.
type IntentID uint64

// IntentKind is what an intent wants done to its set.
type IntentKind uint8

// The structural changes of a set (PROTOCOL 4). Dropping is none of them: a
// set is dropped with its bucket (BeginDrop), or by the seal of its overlay.
const (
	// IntentMembers has a change of members; see ReplicaSet.Changing.
	IntentMembers IntentKind = iota + 1
	// IntentBounds has new bounds; see Intent.Bounds.
	IntentBounds
	// IntentSeal has an encoded wire.Seal as payload, whose Intent is 0: the
	// executor puts the intent's number there.
	IntentSeal
)

// String prints the kind's name.
func (k IntentKind) String() string {
	switch k {
	case IntentMembers:
		return "members"
	case IntentBounds:
		return "bounds"
	case IntentSeal:
		return "seal"
	}
	return fmt.Sprintf("IntentKind(%d)", uint8(k))
}

// Intent is a structural change that metasvc has committed and the set's
// leader is to execute (PROTOCOL 4).
type Intent struct {
	ID   IntentID
	Kind IntentKind
	// Term is the metadata group's term in which it was decided.
	Term uint64
	// Payload is the kind's own argument.
	Payload []byte
}

// Confirmation is an intent that its set's log made a fact.
type Confirmation struct {
	ID   IntentID
	Kind IntentKind
	// LogIndex is where in the set's own log it stands.
	LogIndex uint64
}
