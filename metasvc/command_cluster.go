package metasvc

import (
	"encoding/binary"

	"github.com/quorate/quorate"
)

// The commands that only a cluster of several nodes needs: members of sets,
// cuts, nodes that leave, the members of the metadata group.

// BeginMembers begins to change a set's members: one joins, or one leaves, or one
// takes the place of another. The replica that joins gets its number here. The
// same change is answered again while it is under way. Of a sealed set a replica
// that only leaves has left with this. Its result is IntentResult, whose Intent is
// 0 when nothing is left to do.
type BeginMembers struct {
	Set quorate.ReplicaSetID
	// Term is the metadata group's term in which the change was decided; 0 has it
	// filled in by the leader (Controller.Decide), with Well. Applied under another
	// the command is refused.
	Term uint64
	// Add is the node on which a replica joins; zero is none.
	Add quorate.NodeID
	// Remove is the replica that leaves; 0 is none.
	Remove quorate.ReplicaID
	// Well are the members that the leader holds for well, rising: their nodes are
	// heard of and do not say that they are broken. A replica leaves with none in
	// its place only if those of the others that are well are enough (PROTOCOL 16).
	Well []quorate.ReplicaID
}

// ReportJoined says that a replica that joins a sealed set has the set's file,
// which completes the change of members. Its result is ReportJoinedResult.
type ReportJoined struct {
	Set     quorate.ReplicaSetID
	Replica quorate.ReplicaID
}

// ReportLeft says that a replica that has left its set, or never quite joined
// it, has moved its files away. Its result is ReportLeftResult.
type ReportLeft struct {
	Set     quorate.ReplicaSetID
	Replica quorate.ReplicaID
}

// CutBucket ends a bucket of a policy early (PROTOCOL 13): at the first full
// second that no sample can have reached, by clocks as they are to be, and no map
// without the cut can be current at. Its sets are told by intents; what follows is planned as a new
// bucket. Its result is CutBucketResult.
type CutBucket struct {
	Policy quorate.PolicyID
	// Now is the leader's clock, in ms since the epoch.
	Now int64
	// Term is the metadata group's term in which Now was read; 0 has both filled in
	// by the leader (Controller.Decide). Applied under another the command is
	// refused.
	Term uint64
}

// BeginBounds begins to tell a set of its bucket's cut, which another change of
// the set kept it from being told of at once. Its result is IntentResult.
type BeginBounds struct {
	Set quorate.ReplicaSetID
	// Term is the metadata group's term in which it was decided.
	Term uint64
}

// DrainNode has a node's replicas moved away and gives it no new ones. Its result
// is NodeResult.
type DrainNode struct{ Node quorate.NodeID }

// UndrainNode undoes DrainNode; what was moved stays where it is. Its result is
// NodeResult.
type UndrainNode struct{ Node quorate.NodeID }

// RemoveNode takes a node that holds no replica out of the cluster for ever. Files
// of sets that are dropped, and of replicas that left their sets, are not waited
// for. Its result is NodeResult.
type RemoveNode struct{ Node quorate.NodeID }

// JoinMeta records the replica that is to join the metadata group next, and gives
// it its number. Its result is MetaResult.
type JoinMeta struct {
	Node quorate.NodeID
	// Term is the metadata group's term in which it was decided.
	Term uint64
}

// RecordMeta copies the voters from the metadata group's own configuration, which
// is the truth. Its result is MetaResult.
type RecordMeta struct {
	// Voters are the voters by rising replica, each of which was a voter before or
	// was to join.
	Voters []Member
	// Term is the metadata group's term in which they were read.
	Term uint64
}

// GiveUpMeta gives up the replica that is to join the metadata group, which the
// group's configuration has not. Its result is MetaResult.
type GiveUpMeta struct {
	Replica quorate.ReplicaID
	// Term is the metadata group's term in which it was decided.
	Term uint64
}

// ReplanSet gives up a set that has never formed, and never will since its nodes
// are lost: another takes its place, on other nodes. An overlay is planned anew when
// samples for it come. Its result is ReplanSetResult.
type ReplanSet struct {
	Set quorate.ReplicaSetID
	// Term is the metadata group's term in which it was decided.
	Term uint64
	// Nodes are those of the new set's replicas; none for an overlay.
	Nodes []quorate.NodeID
}

// Type implements Command.
func (ReplanSet) Type() CommandType { return TypeReplanSet }

// Type implements Command.
func (BeginMembers) Type() CommandType { return TypeBeginMembers }

// Type implements Command.
func (ReportJoined) Type() CommandType { return TypeReportJoined }

// Type implements Command.
func (ReportLeft) Type() CommandType { return TypeReportLeft }

// Type implements Command.
func (CutBucket) Type() CommandType { return TypeCutBucket }

// Type implements Command.
func (BeginBounds) Type() CommandType { return TypeBeginBounds }

// Type implements Command.
func (DrainNode) Type() CommandType { return TypeDrainNode }

// Type implements Command.
func (UndrainNode) Type() CommandType { return TypeUndrainNode }

// Type implements Command.
func (RemoveNode) Type() CommandType { return TypeRemoveNode }

// Type implements Command.
func (JoinMeta) Type() CommandType { return TypeJoinMeta }

// Type implements Command.
func (RecordMeta) Type() CommandType { return TypeRecordMeta }

// Type implements Command.
func (GiveUpMeta) Type() CommandType { return TypeGiveUpMeta }

// readClusterCommand reads the commands of this file; nil is another type.
func readClusterCommand(t CommandType, r *reader) Command {
	switch t {
	case TypeBeginMembers:
		c := BeginMembers{Set: readSetID(r), Term: r.Uvarint()}
		if add := readOptional(r, readNodeIDPointer); add != nil {
			c.Add = *add
			if c.Add == (quorate.NodeID{}) { // has another encoding
				r.Fail()
			}
		}
		c.Remove = readReplicaID(r)
		c.Well = readList(r, readReplicaID)
		return c
	case TypeReportJoined:
		return ReportJoined{Set: readSetID(r), Replica: readReplicaID(r)}
	case TypeReportLeft:
		return ReportLeft{Set: readSetID(r), Replica: readReplicaID(r)}
	case TypeCutBucket:
		return CutBucket{Policy: quorate.PolicyID(r.Uvarint()), Now: r.Varint(), Term: r.Uvarint()}
	case TypeBeginBounds:
		return BeginBounds{Set: readSetID(r), Term: r.Uvarint()}
	case TypeDrainNode:
		return DrainNode{Node: readNodeID(r)}
	case TypeUndrainNode:
		return UndrainNode{Node: readNodeID(r)}
	case TypeRemoveNode:
		return RemoveNode{Node: readNodeID(r)}
	case TypeJoinMeta:
		return JoinMeta{Node: readNodeID(r), Term: r.Uvarint()}
	case TypeRecordMeta:
		return RecordMeta{Voters: readList(r, readMember), Term: r.Uvarint()}
	case TypeGiveUpMeta:
		return GiveUpMeta{Replica: readReplicaID(r), Term: r.Uvarint()}
	case TypeReplanSet:
		return ReplanSet{Set: readSetID(r), Term: r.Uvarint(), Nodes: readList(r, readNodeID)}
	default:
		return nil
	}
}

func readNodeIDPointer(r *reader) *quorate.NodeID {
	id := readNodeID(r)
	return &id
}

func (c BeginMembers) appendBody(dst []byte) []byte {
	dst = binary.AppendUvarint(appendSetID(dst, c.Set), c.Term)
	dst = appendBool(dst, c.Add != quorate.NodeID{})
	if c.Add != (quorate.NodeID{}) {
		dst = appendNodeID(dst, c.Add)
	}
	return appendList(appendReplicaID(dst, c.Remove), c.Well, appendReplicaID)
}

func (c ReportJoined) appendBody(dst []byte) []byte {
	return appendReplicaID(appendSetID(dst, c.Set), c.Replica)
}

func (c ReportLeft) appendBody(dst []byte) []byte {
	return appendReplicaID(appendSetID(dst, c.Set), c.Replica)
}

func (c CutBucket) appendBody(dst []byte) []byte {
	dst = binary.AppendVarint(binary.AppendUvarint(dst, uint64(c.Policy)), c.Now)
	return binary.AppendUvarint(dst, c.Term)
}

func (c BeginBounds) appendBody(dst []byte) []byte {
	return binary.AppendUvarint(appendSetID(dst, c.Set), c.Term)
}

func (c DrainNode) appendBody(dst []byte) []byte { return appendNodeID(dst, c.Node) }

func (c UndrainNode) appendBody(dst []byte) []byte { return appendNodeID(dst, c.Node) }

func (c RemoveNode) appendBody(dst []byte) []byte { return appendNodeID(dst, c.Node) }

func (c JoinMeta) appendBody(dst []byte) []byte {
	return binary.AppendUvarint(appendNodeID(dst, c.Node), c.Term)
}

func (c RecordMeta) appendBody(dst []byte) []byte {
	return binary.AppendUvarint(appendList(dst, c.Voters, appendMember), c.Term)
}

func (c GiveUpMeta) appendBody(dst []byte) []byte {
	return binary.AppendUvarint(appendReplicaID(dst, c.Replica), c.Term)
}

func (c ReplanSet) appendBody(dst []byte) []byte {
	return appendList(binary.AppendUvarint(appendSetID(dst, c.Set), c.Term), c.Nodes, appendNodeID)
}
