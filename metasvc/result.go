package metasvc

import "github.com/quorate/quorate"

// The results of the commands. Index is the index of the entry in which the
// command was applied: a reader that has seen it sees the command's effect.

// BootstrapResult answers Bootstrap.
type BootstrapResult struct {
	Index   uint64
	Cluster quorate.ClusterID
}

// AdmitNodeResult answers AdmitNode.
type AdmitNodeResult struct {
	Index  uint64
	Number uint64
}

// PolicyResult answers CreatePolicy and AlterPolicy.
type PolicyResult struct {
	Index   uint64
	Policy  quorate.PolicyID
	Created bool
}

// TenantResult answers CreateTenant and MoveTenant.
type TenantResult struct {
	Index   uint64
	Tenant  quorate.TenantID
	Created bool
}

// DeleteTenantResult answers DeleteTenant.
type DeleteTenantResult struct{ Index uint64 }

// PlanBucketResult answers PlanBucket.
type PlanBucketResult struct {
	Index  uint64
	Bucket quorate.BucketID
	Sets   []quorate.ReplicaSetID
	// Created is false when the bucket was there already.
	Created bool
}

// ReportFormedResult answers ReportFormed.
type ReportFormedResult struct {
	Index  uint64
	Set    ReplicaSetState
	Bucket BucketState
}

// EffectBucketResult answers EffectBucket.
type EffectBucketResult struct {
	Index  uint64
	Bucket BucketState
}

// IntentResult answers BeginIntent, ConfirmIntent and CancelIntent.
type IntentResult struct {
	Index  uint64
	Intent IntentID
}

// RequestSealResult answers RequestSeal.
type RequestSealResult struct{ Index uint64 }

// ReportSealResult answers ReportSeal.
type ReportSealResult struct {
	Index uint64
	// State is the set's: sealed or disputed once the reports were judged.
	State ReplicaSetState
}

// JudgeSealResult answers JudgeSeal.
type JudgeSealResult struct {
	Index uint64
	// State is the verdict, and that of the set; open when there is none yet.
	State ReplicaSetState
}

// PlanOverlayResult answers PlanOverlay.
type PlanOverlayResult struct {
	Index   uint64
	Overlay quorate.ReplicaSetID
	// Created is false when the overlay was there already.
	Created bool
}

// EffectSetResult answers EffectSet.
type EffectSetResult struct {
	Index uint64
	State ReplicaSetState
}

// DeleteResult answers CreateDelete and EffectDelete.
type DeleteResult struct {
	Index    uint64
	Deletion uint64
}

// DropResult answers BeginDrop and EffectDrop.
type DropResult struct {
	Index uint64
	// Pending is true until the bucket's sets are dropped.
	Pending bool
}

// ReportDroppedResult answers ReportDropped.
type ReportDroppedResult struct {
	Index uint64
	// Gone tells that the set's record was removed.
	Gone bool
}

// ReportJoinedResult answers ReportJoined.
type ReportJoinedResult struct{ Index uint64 }

// ReportLeftResult answers ReportLeft.
type ReportLeftResult struct {
	Index uint64
	// Gone tells that the set's record was removed: it was dropped, and this was
	// the last replica of which files were left.
	Gone bool
}

// CutBucketResult answers CutBucket.
type CutBucketResult struct {
	Index  uint64
	Bucket quorate.BucketID
	// At is the bucket's new end, in ms since the epoch.
	At int64
}

// NodeResult answers DrainNode, UndrainNode and RemoveNode.
type NodeResult struct {
	Index uint64
	State NodeState
}

// MetaResult answers JoinMeta, RecordMeta and GiveUpMeta.
type MetaResult struct {
	Index uint64
	// Replica is the replica that is to join the metadata group, 0 when none is.
	Replica quorate.ReplicaID
}

// ReplanSetResult answers ReplanSet.
type ReplanSetResult struct {
	Index uint64
	// Set takes the old one's place; 0 when that was an overlay.
	Set quorate.ReplicaSetID
}
