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
