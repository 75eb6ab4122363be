package metasvc

import (
	"encoding/binary"
	"fmt"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
)

// CommandType numbers the commands in their encoding. Numbers are never reused.
type CommandType uint8

// The commands of format version 4.
const (
	TypeBootstrap          CommandType = 1
	TypeAdmitNode          CommandType = 2
	TypeCreatePolicy       CommandType = 3
	TypeAlterPolicy        CommandType = 4
	TypeCreateTenant       CommandType = 5
	TypeMoveTenant         CommandType = 6
	TypeDeleteTenant       CommandType = 7
	TypePlanBucket         CommandType = 8
	TypeReportFormed       CommandType = 9
	TypeEffectBucket       CommandType = 10
	TypeBeginIntent        CommandType = 11
	TypeConfirmIntent      CommandType = 12
	TypeCancelIntent       CommandType = 13
	TypeRequestSeal        CommandType = 14
	TypeReportSeal         CommandType = 15
	TypeJudgeSeal          CommandType = 16
	TypePlanOverlay        CommandType = 17
	TypeEffectSet          CommandType = 18
	TypeCreateDelete       CommandType = 19
	TypeEffectDelete       CommandType = 20
	TypeBeginDrop          CommandType = 21
	TypeEffectDrop         CommandType = 22
	TypeReportDropped      CommandType = 23
	TypeSetTenantRetention CommandType = 24
	TypeBeginMembers       CommandType = 25
	TypeReportJoined       CommandType = 26
	TypeReportLeft         CommandType = 27
	TypeCutBucket          CommandType = 28
	TypeBeginBounds        CommandType = 29
	TypeDrainNode          CommandType = 30
	TypeUndrainNode        CommandType = 31
	TypeRemoveNode         CommandType = 32
	TypeJoinMeta           CommandType = 33
	TypeRecordMeta         CommandType = 34
	TypeGiveUpMeta         CommandType = 35
	TypeReplanSet          CommandType = 36
)

// commandVersion is the version of all commands' bodies and of what Apply
// makes of them. Version 1 knew nothing of sealing, version 2 of member changes,
// version 3 took operators' clocks for cuts; no release wrote them. A new version of either is proposed only after every
// member is known to support it (PROTOCOL 22).
const commandVersion = 4

// Command is one change of the metadata, as a proposer puts it into the log.
// Whatever Apply must not find out by itself (the time, the placement) is
// carried in it.
type Command interface {
	// Type is the command's number in its encoding.
	Type() CommandType
	appendBody(dst []byte) []byte
	// apply changes s, or refuses and leaves s untouched.
	apply(s *state, term uint64) any
}

// Bootstrap records a new cluster with its first node, which holds the first
// replica of the metadata group. Its result is BootstrapResult.
type Bootstrap struct {
	Cluster quorate.ClusterID
	// Created is the proposer's clock, in ms since the epoch.
	Created int64
	Node    NodeSpec
	// MetaReplica is the node's replica of the metadata group. The group's
	// genesis fixed it before there was a log to mint it.
	MetaReplica quorate.ReplicaID
}

// AdmitNode records a node, or what changed about one. Its result is AdmitNodeResult.
type AdmitNode struct{ Node NodeSpec }

// CreatePolicy records a policy. One with the same name and fields is
// answered again. Its result is PolicyResult.
type CreatePolicy struct{ Policy PolicySpec }

// AlterPolicy replaces what a policy says; its name stays. Shards, span and
// zones act on buckets not planned yet (PROTOCOL 11). Its result is PolicyResult.
type AlterPolicy struct {
	ID     quorate.PolicyID
	Policy PolicySpec
	// Term is the metadata group's term in which Now was read; 0 has it filled in
	// by the leader (Controller.Decide). Applied under another the command is
	// refused.
	Term uint64
	// Now is the leader's clock, in ms since the epoch; see Policy.Reach.
	Now int64
}

// CreateTenant records a tenant under a policy. A tenant that exists is
// answered again, whatever its policy. Its result is TenantResult.
type CreateTenant struct {
	Name   string
	Policy quorate.PolicyID
	// Created is the proposer's clock, in ms since the epoch.
	Created int64
}

// MoveTenant puts a tenant's samples from From on under another policy. From
// must not lie before the end of the old policy's last planned bucket
// (PROTOCOL 11). Its result is TenantResult.
type MoveTenant struct {
	Tenant quorate.TenantID
	Policy quorate.PolicyID
	From   int64
}

// DeleteTenant removes a tenant. Its result is DeleteTenantResult.
type DeleteTenant struct{ Tenant quorate.TenantID }

// PlanBucket records a bucket with its ReplicaSets. A bucket of the same
// policy and start is answered again (PROTOCOL 10). Its result is PlanBucketResult.
type PlanBucket struct {
	Policy      quorate.PolicyID
	Range       quorate.TimeRange
	HashVersion uint8
	OnDemand    bool
	// Pending makes the bucket wait for EffectBucket before it opens (PROTOCOL 8).
	Pending bool
	// Now is the proposer's clock, in ms since the epoch. A bucket that starts
	// after it was planned ahead; see BeginDrop.
	Now int64
	// Placement has for each shard the nodes of its replicas.
	Placement [][]quorate.NodeID
}

// ReportFormed says that a replica has persisted its set's genesis
// (PROTOCOL 2). Its result is ReportFormedResult.
type ReportFormed struct {
	Set     quorate.ReplicaSetID
	Replica quorate.ReplicaID
}

// EffectBucket says that every node knows of a pending bucket, or has lost
// its map lease (PROTOCOL 8). Its result is EffectBucketResult.
type EffectBucket struct{ Bucket quorate.BucketID }

// BeginIntent commits the seal of a set (PROTOCOL 4); BeginMembers, CutBucket
// and BeginBounds begin the changes of other kinds. The same intent of the same
// term is answered again. Its result is IntentResult.
type BeginIntent struct {
	Set  quorate.ReplicaSetID
	Kind IntentKind
	// Term is the metadata group's term in which the change was decided;
	// applied under a later one the command is refused.
	Term    uint64
	Payload []byte
}

// ConfirmIntent says that the set's log made an intent a fact: a change of its
// members or bounds. Its result is IntentResult.
type ConfirmIntent struct {
	Set    quorate.ReplicaSetID
	Intent IntentID
	// LogIndex is where in the set's own log the fact stands, from 1.
	LogIndex uint64
	// Newest is, of a change of bounds, the time (ms) of the newest sample that
	// the set had then, 0 for none or for a change of another kind: it may lie at
	// or past the new end (PROTOCOL 13).
	Newest int64
}

// CancelIntent gives up a change of members that adds a replica. The set's leader
// may have added it already, so that it has to be removed again: an intent to do
// that takes the place of the first. Its result is IntentResult, which names that
// one, or the first where nothing is left to do.
type CancelIntent struct {
	Set    quorate.ReplicaSetID
	Intent IntentID
}

// Type implements Command.
func (Bootstrap) Type() CommandType { return TypeBootstrap }

// Type implements Command.
func (AdmitNode) Type() CommandType { return TypeAdmitNode }

// Type implements Command.
func (CreatePolicy) Type() CommandType { return TypeCreatePolicy }

// Type implements Command.
func (AlterPolicy) Type() CommandType { return TypeAlterPolicy }

// Type implements Command.
func (CreateTenant) Type() CommandType { return TypeCreateTenant }

// Type implements Command.
func (MoveTenant) Type() CommandType { return TypeMoveTenant }

// Type implements Command.
func (DeleteTenant) Type() CommandType { return TypeDeleteTenant }

// Type implements Command.
func (PlanBucket) Type() CommandType { return TypePlanBucket }

// Type implements Command.
func (ReportFormed) Type() CommandType { return TypeReportFormed }

// Type implements Command.
func (EffectBucket) Type() CommandType { return TypeEffectBucket }

// Type implements Command.
func (BeginIntent) Type() CommandType { return TypeBeginIntent }

// Type implements Command.
func (ConfirmIntent) Type() CommandType { return TypeConfirmIntent }

// Type implements Command.
func (CancelIntent) Type() CommandType { return TypeCancelIntent }

// EncodeCommand encodes a command: type, version, body.
// docs/format/metadata.md has the layouts.
func EncodeCommand(c Command) []byte {
	return c.appendBody([]byte{byte(c.Type()), commandVersion})
}

// DecodeCommand decodes what EncodeCommand encoded. The error wraps
// ErrUnknownVersion for a type or version this binary does not know, and
// ErrCorrupt for anything else that EncodeCommand did not write.
func DecodeCommand(b []byte) (Command, error) {
	if len(b) < 2 {
		return nil, fmt.Errorf("%w: a command of %d bytes", ErrCorrupt, len(b))
	}
	if b[1] != commandVersion {
		return nil, fmt.Errorf("%w: version %d of command type %d (this binary knows %d)", ErrUnknownVersion, b[1], b[0], commandVersion)
	}
	r := newReader(b[2:])
	c := readCommand(CommandType(b[0]), r)
	if c == nil {
		return nil, fmt.Errorf("%w: command type %d", ErrUnknownVersion, b[0])
	}
	if err := r.finish("command"); err != nil {
		return nil, fmt.Errorf("command type %d: %w", b[0], err)
	}
	return c, nil
}

func readCommand(t CommandType, r *reader) Command {
	switch t {
	case TypeBootstrap:
		c := Bootstrap{}
		r.fixed(c.Cluster[:])
		c.Created = r.Varint()
		c.Node = readNodeSpec(r)
		c.MetaReplica = quorate.ReplicaID(r.Uvarint())
		return c
	case TypeAdmitNode:
		return AdmitNode{Node: readNodeSpec(r)}
	case TypeCreatePolicy:
		return CreatePolicy{Policy: readPolicySpec(r)}
	case TypeAlterPolicy:
		return AlterPolicy{ID: quorate.PolicyID(r.Uvarint()), Policy: readPolicySpec(r), Term: r.Uvarint(), Now: r.Varint()}
	case TypeCreateTenant:
		return CreateTenant{Name: r.String(), Policy: quorate.PolicyID(r.Uvarint()), Created: r.Varint()}
	case TypeMoveTenant:
		return MoveTenant{Tenant: quorate.TenantID(r.Uvarint()), Policy: quorate.PolicyID(r.Uvarint()), From: r.Varint()}
	case TypeDeleteTenant:
		return DeleteTenant{Tenant: quorate.TenantID(r.Uvarint())}
	case TypePlanBucket:
		return PlanBucket{
			Policy:      quorate.PolicyID(r.Uvarint()),
			Range:       readRange(r),
			HashVersion: r.U8(),
			OnDemand:    r.bool(),
			Pending:     r.bool(),
			Now:         r.Varint(),
			Placement: readList(r, func(r *reader) []quorate.NodeID {
				return readList(r, readNodeID)
			}),
		}
	case TypeReportFormed:
		return ReportFormed{Set: quorate.ReplicaSetID(r.Uvarint()), Replica: quorate.ReplicaID(r.Uvarint())}
	case TypeEffectBucket:
		return EffectBucket{Bucket: quorate.BucketID(r.Uvarint())}
	case TypeBeginIntent:
		c := BeginIntent{Set: quorate.ReplicaSetID(r.Uvarint()), Kind: IntentKind(r.U8()), Term: r.Uvarint()}
		c.Payload = append(c.Payload, r.Bytes()...) // the log entry's bytes are not ours to keep
		return c
	case TypeConfirmIntent:
		return ConfirmIntent{Set: quorate.ReplicaSetID(r.Uvarint()), Intent: IntentID(r.Uvarint()), LogIndex: r.Uvarint(), Newest: r.Varint()}
	case TypeCancelIntent:
		return CancelIntent{Set: quorate.ReplicaSetID(r.Uvarint()), Intent: IntentID(r.Uvarint())}
	default:
		return readLifeCommand(t, r)
	}
}

func (c Bootstrap) appendBody(dst []byte) []byte {
	dst = append(dst, c.Cluster[:]...)
	dst = binary.AppendVarint(dst, c.Created)
	dst = appendNodeSpec(dst, c.Node)
	return binary.AppendUvarint(dst, uint64(c.MetaReplica))
}

func (c AdmitNode) appendBody(dst []byte) []byte { return appendNodeSpec(dst, c.Node) }

func (c CreatePolicy) appendBody(dst []byte) []byte { return appendPolicySpec(dst, c.Policy) }

func (c AlterPolicy) appendBody(dst []byte) []byte {
	dst = appendPolicySpec(binary.AppendUvarint(dst, uint64(c.ID)), c.Policy)
	return binary.AppendVarint(binary.AppendUvarint(dst, c.Term), c.Now)
}

func (c CreateTenant) appendBody(dst []byte) []byte {
	dst = cursor.AppendBytes(dst, c.Name)
	dst = binary.AppendUvarint(dst, uint64(c.Policy))
	return binary.AppendVarint(dst, c.Created)
}

func (c MoveTenant) appendBody(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(c.Tenant))
	dst = binary.AppendUvarint(dst, uint64(c.Policy))
	return binary.AppendVarint(dst, c.From)
}

func (c DeleteTenant) appendBody(dst []byte) []byte {
	return binary.AppendUvarint(dst, uint64(c.Tenant))
}

func (c PlanBucket) appendBody(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(c.Policy))
	dst = appendRange(dst, c.Range)
	dst = append(dst, c.HashVersion)
	dst = appendBool(dst, c.OnDemand)
	dst = appendBool(dst, c.Pending)
	dst = binary.AppendVarint(dst, c.Now)
	return appendList(dst, c.Placement, func(dst []byte, nodes []quorate.NodeID) []byte {
		return appendList(dst, nodes, appendNodeID)
	})
}

func (c ReportFormed) appendBody(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(c.Set))
	return binary.AppendUvarint(dst, uint64(c.Replica))
}

func (c EffectBucket) appendBody(dst []byte) []byte {
	return binary.AppendUvarint(dst, uint64(c.Bucket))
}

func (c BeginIntent) appendBody(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(c.Set))
	dst = append(dst, byte(c.Kind))
	dst = binary.AppendUvarint(dst, c.Term)
	return cursor.AppendBytes(dst, c.Payload)
}

func (c ConfirmIntent) appendBody(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(c.Set))
	dst = binary.AppendUvarint(dst, uint64(c.Intent))
	dst = binary.AppendUvarint(dst, c.LogIndex)
	return binary.AppendVarint(dst, c.Newest)
}

func (c CancelIntent) appendBody(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(c.Set))
	return binary.AppendUvarint(dst, uint64(c.Intent))
}

// String prints the type's name.
func (t CommandType) String() string {
	names := [...]string{
		TypeBootstrap:          "bootstrap",
		TypeAdmitNode:          "admit_node",
		TypeCreatePolicy:       "create_policy",
		TypeAlterPolicy:        "alter_policy",
		TypeCreateTenant:       "create_tenant",
		TypeMoveTenant:         "move_tenant",
		TypeDeleteTenant:       "delete_tenant",
		TypePlanBucket:         "plan_bucket",
		TypeReportFormed:       "report_formed",
		TypeEffectBucket:       "effect_bucket",
		TypeBeginIntent:        "begin_intent",
		TypeConfirmIntent:      "confirm_intent",
		TypeCancelIntent:       "cancel_intent",
		TypeRequestSeal:        "request_seal",
		TypeReportSeal:         "report_seal",
		TypeJudgeSeal:          "judge_seal",
		TypePlanOverlay:        "plan_overlay",
		TypeEffectSet:          "effect_set",
		TypeCreateDelete:       "create_delete",
		TypeEffectDelete:       "effect_delete",
		TypeBeginDrop:          "begin_drop",
		TypeEffectDrop:         "effect_drop",
		TypeReportDropped:      "report_dropped",
		TypeSetTenantRetention: "set_tenant_retention",
		TypeBeginMembers:       "begin_members",
		TypeReportJoined:       "report_joined",
		TypeReportLeft:         "report_left",
		TypeCutBucket:          "cut_bucket",
		TypeBeginBounds:        "begin_bounds",
		TypeDrainNode:          "drain_node",
		TypeUndrainNode:        "undrain_node",
		TypeRemoveNode:         "remove_node",
		TypeJoinMeta:           "join_meta",
		TypeRecordMeta:         "record_meta",
		TypeGiveUpMeta:         "give_up_meta",
		TypeReplanSet:          "replan_set",
	}
	if int(t) < len(names) && names[t] != "" {
		return names[t]
	}
	return fmt.Sprintf("CommandType(%d)", uint8(t))
}
