package metasvc

import (
	"encoding/binary"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
)

// The commands of a bucket's later life: seal, late data, deletion, retention.

// RequestSeal asks for sets to be sealed before it is due. Sets that are sealed
// or are being sealed stay as they are. Its result is RequestSealResult.
type RequestSeal struct {
	// Sets are to be sealed, rising.
	Sets []quorate.ReplicaSetID
}

// ReportSeal says what a replica made of the seal of its set (PROTOCOL 14 c).
// A later report of the same replica replaces the earlier one until the set is
// sealed. Its result is ReportSealResult, which has the verdict.
type ReportSeal struct {
	Set    quorate.ReplicaSetID
	Report SealReport
}

// JudgeSeal has the reports of a seal judged (PROTOCOL 14 d). Its result is
// JudgeSealResult.
type JudgeSeal struct {
	Set    quorate.ReplicaSetID
	Intent IntentID
	// Term is the metadata group's term in which the heartbeats were heard.
	Term uint64
	// Live are the members that the metadata leader holds for alive, rising;
	// each of them must have reported.
	Live []quorate.ReplicaID
}

// PlanOverlay records a set for the late data of a sealed one (PROTOCOL 15),
// on the same nodes. An overlay that is there is answered again. Its result is
// PlanOverlayResult.
type PlanOverlay struct {
	Base quorate.ReplicaSetID
	// Budget is how many overlays there may be that are not sealed.
	Budget int
}

// EffectSet says that every node knows of what a set announces, or has lost
// its map lease (PROTOCOL 8): an overlay takes writes then, a sealed set that
// an overlay has replaced is dropped. Its result is EffectSetResult.
type EffectSet struct {
	Set quorate.ReplicaSetID
	// Announced is the version that every node knows. The command is refused
	// when the set has announced another since; 0 is whatever it announces.
	Announced uint64
}

// CreateDelete records a deletion on sealed sets (PROTOCOL 19). One of the same
// samples on no other sets is answered again. Its result is DeleteResult.
type CreateDelete struct {
	// Body is the encoded wire.Deletion.
	Body []byte
	// Sets are those to apply it to, rising; all sealed.
	Sets []quorate.ReplicaSetID
}

// EffectDelete says that every node knows of a deletion, or has lost its map
// lease (PROTOCOL 8). Its result is DeleteResult.
type EffectDelete struct{ Deletion uint64 }

// BeginDrop begins to drop a bucket that is past retention: from here on
// nothing reads or writes it (PROTOCOL 8, 17). It is refused while no open
// bucket of the policy covers Now that was planned before it began: then the
// clock may have jumped. Its result is DropResult.
type BeginDrop struct {
	Bucket quorate.BucketID
	// Term is the metadata group's term in which it was decided.
	Term uint64
	// Now is the metadata leader's clock, in ms since the epoch.
	Now int64
}

// EffectDrop says that every node knows of a bucket's drop, or has lost its map
// lease: its sets are dropped. Its result is DropResult.
type EffectDrop struct{ Bucket quorate.BucketID }

// ReportDropped says that a replica of a dropped set has moved its files away.
// With the last one the set's record goes, and with the last set its bucket's.
// Its result is ReportDroppedResult.
type ReportDropped struct {
	Set     quorate.ReplicaSetID
	Replica quorate.ReplicaID
}

// SetTenantRetention sets a tenant's own retention. Its result is TenantResult.
type SetTenantRetention struct {
	Tenant quorate.TenantID
	// Retention is 1 ms to MaxRetention in whole ms, or 0 for the policy's. One
	// that is longer than the policy's is kept and has no effect: the policy's
	// may change, and a tenant may move.
	Retention time.Duration
}

// Type implements Command.
func (RequestSeal) Type() CommandType { return TypeRequestSeal }

// Type implements Command.
func (ReportSeal) Type() CommandType { return TypeReportSeal }

// Type implements Command.
func (JudgeSeal) Type() CommandType { return TypeJudgeSeal }

// Type implements Command.
func (PlanOverlay) Type() CommandType { return TypePlanOverlay }

// Type implements Command.
func (EffectSet) Type() CommandType { return TypeEffectSet }

// Type implements Command.
func (CreateDelete) Type() CommandType { return TypeCreateDelete }

// Type implements Command.
func (EffectDelete) Type() CommandType { return TypeEffectDelete }

// Type implements Command.
func (BeginDrop) Type() CommandType { return TypeBeginDrop }

// Type implements Command.
func (EffectDrop) Type() CommandType { return TypeEffectDrop }

// Type implements Command.
func (ReportDropped) Type() CommandType { return TypeReportDropped }

// Type implements Command.
func (SetTenantRetention) Type() CommandType { return TypeSetTenantRetention }

// readLifeCommand reads the commands of this file and of command_cluster.go; nil
// is an unknown type.
func readLifeCommand(t CommandType, r *reader) Command {
	switch t {
	case TypeRequestSeal:
		return RequestSeal{Sets: readList(r, readSetID)}
	case TypeReportSeal:
		return ReportSeal{Set: readSetID(r), Report: readSealReport(r)}
	case TypeJudgeSeal:
		return JudgeSeal{Set: readSetID(r), Intent: IntentID(r.Uvarint()), Term: r.Uvarint(), Live: readList(r, readReplicaID)}
	case TypePlanOverlay:
		return PlanOverlay{Base: readSetID(r), Budget: readSmall(r)}
	case TypeEffectSet:
		return EffectSet{Set: readSetID(r), Announced: r.Uvarint()}
	case TypeCreateDelete:
		c := CreateDelete{}
		c.Body = append(c.Body, r.Bytes()...) // the log entry's bytes are not ours to keep
		c.Sets = readList(r, readSetID)
		return c
	case TypeEffectDelete:
		return EffectDelete{Deletion: r.Uvarint()}
	case TypeBeginDrop:
		return BeginDrop{Bucket: quorate.BucketID(r.Uvarint()), Term: r.Uvarint(), Now: r.Varint()}
	case TypeEffectDrop:
		return EffectDrop{Bucket: quorate.BucketID(r.Uvarint())}
	case TypeReportDropped:
		return ReportDropped{Set: readSetID(r), Replica: readReplicaID(r)}
	case TypeSetTenantRetention:
		return SetTenantRetention{Tenant: quorate.TenantID(r.Uvarint()), Retention: readDuration(r)}
	default:
		return readClusterCommand(t, r)
	}
}

func (c RequestSeal) appendBody(dst []byte) []byte { return appendList(dst, c.Sets, appendSetID) }

func (c ReportSeal) appendBody(dst []byte) []byte {
	return appendSealReport(appendSetID(dst, c.Set), c.Report)
}

func (c JudgeSeal) appendBody(dst []byte) []byte {
	dst = appendSetID(dst, c.Set)
	dst = binary.AppendUvarint(dst, uint64(c.Intent))
	dst = binary.AppendUvarint(dst, c.Term)
	return appendList(dst, c.Live, appendReplicaID)
}

func (c PlanOverlay) appendBody(dst []byte) []byte {
	return binary.AppendUvarint(appendSetID(dst, c.Base), uint64(c.Budget))
}

func (c EffectSet) appendBody(dst []byte) []byte {
	return binary.AppendUvarint(appendSetID(dst, c.Set), c.Announced)
}

func (c CreateDelete) appendBody(dst []byte) []byte {
	return appendList(cursor.AppendBytes(dst, c.Body), c.Sets, appendSetID)
}

func (c EffectDelete) appendBody(dst []byte) []byte { return binary.AppendUvarint(dst, c.Deletion) }

func (c BeginDrop) appendBody(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(c.Bucket))
	dst = binary.AppendUvarint(dst, c.Term)
	return binary.AppendVarint(dst, c.Now)
}

func (c EffectDrop) appendBody(dst []byte) []byte {
	return binary.AppendUvarint(dst, uint64(c.Bucket))
}

func (c ReportDropped) appendBody(dst []byte) []byte {
	return appendReplicaID(appendSetID(dst, c.Set), c.Replica)
}

func (c SetTenantRetention) appendBody(dst []byte) []byte {
	return appendDuration(binary.AppendUvarint(dst, uint64(c.Tenant)), c.Retention)
}
