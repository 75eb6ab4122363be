package metasvc

import (
	"encoding/binary"
	"fmt"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
)

// resultVersion is the version of an encoded result, its first byte.
const resultVersion = 1

// The types of results in their encoding, its second byte. Numbers are never
// reused.
const (
	resultNone byte = iota // the entry had been applied before: nothing is known of its results
	resultRefusal
	resultBootstrap
	resultAdmitNode
	resultPolicy
	resultTenant
	resultDeleteTenant
	resultPlanBucket
	resultReportFormed
	resultEffectBucket
	resultIntent
	resultRequestSeal
	resultReportSeal
	resultJudgeSeal
	resultPlanOverlay
	resultEffectSet
	resultDelete
	resultDrop
	resultReportDropped
	resultReportJoined
	resultReportLeft
	resultCutBucket
	resultNode
	resultMeta
	resultReplanSet
)

// AppendResult appends the encoded result of a command, as it travels from the
// metadata leader to the node that proposed it. What is no result of a command,
// nil among it, is encoded as none.
func AppendResult(dst []byte, result any) []byte {
	dst = append(dst, resultVersion)
	number := func(kind byte, fields ...uint64) []byte {
		dst = append(dst, kind)
		for _, f := range fields {
			dst = binary.AppendUvarint(dst, f)
		}
		return dst
	}
	switch r := result.(type) {
	case *Refusal:
		return cursor.AppendBytes(append(dst, resultRefusal, byte(r.Reason)), r.Rule)
	case BootstrapResult:
		return append(number(resultBootstrap, r.Index), r.Cluster[:]...)
	case AdmitNodeResult:
		return number(resultAdmitNode, r.Index, r.Number)
	case PolicyResult:
		return appendBool(number(resultPolicy, r.Index, uint64(r.Policy)), r.Created)
	case TenantResult:
		return appendBool(number(resultTenant, r.Index, uint64(r.Tenant)), r.Created)
	case DeleteTenantResult:
		return number(resultDeleteTenant, r.Index)
	case PlanBucketResult:
		return appendBool(appendList(number(resultPlanBucket, r.Index, uint64(r.Bucket)), r.Sets, appendSetID), r.Created)
	case ReportFormedResult:
		return append(number(resultReportFormed, r.Index), byte(r.Set), byte(r.Bucket))
	case EffectBucketResult:
		return append(number(resultEffectBucket, r.Index), byte(r.Bucket))
	case IntentResult:
		return number(resultIntent, r.Index, uint64(r.Intent))
	case RequestSealResult:
		return number(resultRequestSeal, r.Index)
	case ReportSealResult:
		return append(number(resultReportSeal, r.Index), byte(r.State))
	case JudgeSealResult:
		return append(number(resultJudgeSeal, r.Index), byte(r.State))
	case PlanOverlayResult:
		return appendBool(number(resultPlanOverlay, r.Index, uint64(r.Overlay)), r.Created)
	case EffectSetResult:
		return append(number(resultEffectSet, r.Index), byte(r.State))
	case DeleteResult:
		return number(resultDelete, r.Index, r.Deletion)
	case DropResult:
		return appendBool(number(resultDrop, r.Index), r.Pending)
	case ReportDroppedResult:
		return appendBool(number(resultReportDropped, r.Index), r.Gone)
	case ReportJoinedResult:
		return number(resultReportJoined, r.Index)
	case ReportLeftResult:
		return appendBool(number(resultReportLeft, r.Index), r.Gone)
	case CutBucketResult:
		return binary.AppendVarint(number(resultCutBucket, r.Index, uint64(r.Bucket)), r.At)
	case NodeResult:
		return append(number(resultNode, r.Index), byte(r.State))
	case MetaResult:
		return number(resultMeta, r.Index, uint64(r.Replica))
	case ReplanSetResult:
		return number(resultReplanSet, r.Index, uint64(r.Set))
	}
	return append(dst, resultNone)
}

// DecodeResult decodes what AppendResult appended: the typed result, a *Refusal,
// or nil. The error wraps ErrCorrupt or ErrUnknownVersion.
func DecodeResult(b []byte) (any, error) {
	if len(b) < 2 {
		return nil, fmt.Errorf("%w: a result of %d bytes", ErrCorrupt, len(b))
	}
	if b[0] != resultVersion {
		return nil, fmt.Errorf("%w: version %d of a result (this binary knows %d)", ErrUnknownVersion, b[0], resultVersion)
	}
	r := newReader(b[2:])
	result, known := readResult(b[1], r)
	if !known {
		return nil, fmt.Errorf("%w: result type %d", ErrUnknownVersion, b[1])
	}
	if err := r.finish("result"); err != nil {
		return nil, fmt.Errorf("result type %d: %w", b[1], err)
	}
	return result, nil
}

func readResult(kind byte, r *reader) (result any, known bool) {
	switch kind {
	case resultNone:
		return nil, true
	case resultRefusal:
		return &Refusal{Reason: Reason(r.U8()), Rule: r.String()}, true
	case resultBootstrap:
		result := BootstrapResult{Index: r.Uvarint()}
		r.fixed(result.Cluster[:])
		return result, true
	case resultAdmitNode:
		return AdmitNodeResult{Index: r.Uvarint(), Number: r.Uvarint()}, true
	case resultPolicy:
		return PolicyResult{Index: r.Uvarint(), Policy: quorate.PolicyID(r.Uvarint()), Created: r.bool()}, true
	case resultTenant:
		return TenantResult{Index: r.Uvarint(), Tenant: quorate.TenantID(r.Uvarint()), Created: r.bool()}, true
	case resultDeleteTenant:
		return DeleteTenantResult{Index: r.Uvarint()}, true
	case resultPlanBucket:
		return PlanBucketResult{Index: r.Uvarint(), Bucket: quorate.BucketID(r.Uvarint()), Sets: readList(r, readSetID), Created: r.bool()}, true
	case resultReportFormed:
		return ReportFormedResult{Index: r.Uvarint(), Set: ReplicaSetState(r.U8()), Bucket: BucketState(r.U8())}, true
	case resultEffectBucket:
		return EffectBucketResult{Index: r.Uvarint(), Bucket: BucketState(r.U8())}, true
	case resultIntent:
		return IntentResult{Index: r.Uvarint(), Intent: IntentID(r.Uvarint())}, true
	case resultRequestSeal:
		return RequestSealResult{Index: r.Uvarint()}, true
	case resultReportSeal:
		return ReportSealResult{Index: r.Uvarint(), State: ReplicaSetState(r.U8())}, true
	case resultJudgeSeal:
		return JudgeSealResult{Index: r.Uvarint(), State: ReplicaSetState(r.U8())}, true
	case resultPlanOverlay:
		return PlanOverlayResult{Index: r.Uvarint(), Overlay: readSetID(r), Created: r.bool()}, true
	case resultEffectSet:
		return EffectSetResult{Index: r.Uvarint(), State: ReplicaSetState(r.U8())}, true
	case resultDelete:
		return DeleteResult{Index: r.Uvarint(), Deletion: r.Uvarint()}, true
	case resultDrop:
		return DropResult{Index: r.Uvarint(), Pending: r.bool()}, true
	case resultReportDropped:
		return ReportDroppedResult{Index: r.Uvarint(), Gone: r.bool()}, true
	case resultReportJoined:
		return ReportJoinedResult{Index: r.Uvarint()}, true
	case resultReportLeft:
		return ReportLeftResult{Index: r.Uvarint(), Gone: r.bool()}, true
	case resultCutBucket:
		return CutBucketResult{Index: r.Uvarint(), Bucket: quorate.BucketID(r.Uvarint()), At: r.Varint()}, true
	case resultNode:
		return NodeResult{Index: r.Uvarint(), State: NodeState(r.U8())}, true
	case resultMeta:
		return MetaResult{Index: r.Uvarint(), Replica: readReplicaID(r)}, true
	case resultReplanSet:
		return ReplanSetResult{Index: r.Uvarint(), Set: readSetID(r)}, true
	}
	return nil, false
}
