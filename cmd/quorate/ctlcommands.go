package main

import (
	"context"
	"net/url"
)

// The commands of quorate ctl. Each asks one endpoint of a node's admin
// listener; docs/operations.md lists them.

type ctlNodes struct {
	List     ctlNodesList     `cmd:"" help:"List the nodes."`
	Describe ctlNodesDescribe `cmd:"" help:"Show a node, and the replicas that it has."`
	Drain    ctlNodesDrain    `cmd:"" help:"Move all replicas off a node, and give it no new ones."`
	Undrain  ctlNodesUndrain  `cmd:"" help:"Let a node that was drained have replicas again."`
	Remove   ctlNodesRemove   `cmd:"" help:"Remove a node that is drained, or dead, for ever."`
}

type ctlNodesList struct{ adminFlags }

func (c *ctlNodesList) run(ctx context.Context, p process) error {
	return c.list(ctx, p, "nodes", nil, column{"node", "name"}, column{"state", "state"}, column{"zone", "zone"}, column{"roles", "roles"},
		column{"address", "address"}, column{"meta", "meta"}, column{"replicas", "replicas"}, column{"leads", "leads"},
		column{"heard", "heard"}, column{"free bytes", "free_bytes"}, column{"space", "space"}, column{"incarnation", "incarnation"})
}

// nodeArgument names a node.
type nodeArgument struct {
	adminFlags
	Node string `arg:"" placeholder:"NODE" help:"The node's name, or name/incarnation where the name alone is not one node's."`
}

func (c *nodeArgument) do(ctx context.Context, p process, what string) error {
	return c.change(ctx, p, "nodes/"+what, url.Values{"node": {c.Node}})
}

type ctlNodesDescribe struct{ nodeArgument }

func (c *ctlNodesDescribe) run(ctx context.Context, p process) error {
	return c.show(ctx, p, "describe/node", url.Values{"node": {c.Node}})
}

type ctlNodesDrain struct{ nodeArgument }

func (c *ctlNodesDrain) run(ctx context.Context, p process) error { return c.do(ctx, p, "drain") }

type ctlNodesUndrain struct{ nodeArgument }

func (c *ctlNodesUndrain) run(ctx context.Context, p process) error { return c.do(ctx, p, "undrain") }

type ctlNodesRemove struct{ nodeArgument }

func (c *ctlNodesRemove) run(ctx context.Context, p process) error { return c.do(ctx, p, "remove") }

type ctlTenants struct {
	List     ctlTenantsList     `cmd:"" help:"List the tenants."`
	Describe ctlTenantsDescribe `cmd:"" help:"Show a tenant, and the policies that its samples lie under."`
}

type ctlTenantsDescribe struct {
	adminFlags
	Tenant string `arg:"" placeholder:"TENANT" help:"The tenant's name."`
}

func (c *ctlTenantsDescribe) run(ctx context.Context, p process) error {
	return c.show(ctx, p, "describe/tenant", url.Values{"tenant": {c.Tenant}})
}

type ctlTenantsList struct{ adminFlags }

func (c *ctlTenantsList) run(ctx context.Context, p process) error {
	return c.list(ctx, p, "tenants", nil, column{"tenant", "name"}, column{"id", "id"}, column{"policy", "policy"},
		column{"retention", "retention"}, column{"created", "created"})
}

type ctlPolicies struct {
	List     ctlPoliciesList     `cmd:"" help:"List the policies."`
	Describe ctlPoliciesDescribe `cmd:"" help:"Show a policy, and its buckets."`
	Alter    ctlPoliciesAlter    `cmd:"" help:"Change what a policy says, for the whole cluster."`
}

type ctlPoliciesDescribe struct {
	adminFlags
	Policy string `arg:"" optional:"" default:"default" placeholder:"POLICY" help:"The policy's name (default ${default})."`
}

func (c *ctlPoliciesDescribe) run(ctx context.Context, p process) error {
	return c.show(ctx, p, "describe/policy", url.Values{"policy": {c.Policy}})
}

type ctlPoliciesList struct{ adminFlags }

func (c *ctlPoliciesList) run(ctx context.Context, p process) error {
	return c.list(ctx, p, "policies", nil, column{"policy", "name"}, column{"span", "span"}, column{"shards", "shards"},
		column{"replicas", "replicas"}, column{"late window", "late_window"}, column{"retention", "retention"},
		column{"future bound", "future_bound"}, column{"zones", "zones"})
}

type ctlBuckets struct {
	List     ctlBucketsList     `cmd:"" help:"List the buckets."`
	Describe ctlBucketsDescribe `cmd:"" help:"Show a bucket, and its sets."`
	Cut      ctlBucketsCut      `cmd:"" help:"End the current bucket early, so that new samples use the nodes that there are now."`
	Seal     ctlBucketsSeal     `cmd:"" help:"Seal a bucket whose time is over."`
}

type ctlBucketsDescribe struct {
	adminFlags
	Bucket string `arg:"" placeholder:"BUCKET" help:"The bucket's number."`
}

func (c *ctlBucketsDescribe) run(ctx context.Context, p process) error {
	return c.show(ctx, p, "describe/bucket", url.Values{"bucket": {c.Bucket}})
}

type ctlBucketsList struct{ adminFlags }

func (c *ctlBucketsList) run(ctx context.Context, p process) error {
	return c.list(ctx, p, "buckets", nil, column{"bucket", "bucket"}, column{"policy", "policy"}, column{"start", "start"}, column{"end", "end"},
		column{"state", "state"}, column{"sets", "sets"}, column{"sealed", "sealed"}, column{"overlays", "overlays"}, column{"samples", "samples"})
}

type ctlBucketsCut struct {
	adminFlags
	Policy string `name:"policy" default:"default" placeholder:"NAME" help:"The policy (default ${default})."`
}

func (c *ctlBucketsCut) run(ctx context.Context, p process) error {
	return c.change(ctx, p, "cut", url.Values{"policy": {c.Policy}})
}

type ctlBucketsSeal struct {
	adminFlags
	Start  string `arg:"" placeholder:"TIME" help:"A time in the bucket (RFC 3339, or seconds since 1970)."`
	Policy string `name:"policy" default:"default" placeholder:"NAME" help:"The policy (default ${default})."`
}

func (c *ctlBucketsSeal) run(ctx context.Context, p process) error {
	return c.change(ctx, p, "seal", url.Values{"start": {c.Start}, "policy": {c.Policy}})
}

type ctlSets struct {
	List     ctlSetsList     `cmd:"" help:"List the sets."`
	Describe ctlSetsDescribe `cmd:"" help:"Show a set: its replicas, its leader, what is under way, what it was sealed as."`
	Transfer ctlSetsTransfer `cmd:"" help:"Hand the leadership of a set to another of its replicas."`
	Add      ctlSetsAdd      `cmd:"" help:"Add a replica of a set on a node."`
	Remove   ctlSetsRemove   `cmd:"" help:"Remove a replica of a set."`
	Move     ctlSetsMove     `cmd:"" help:"Move a replica of a set to another node."`
	Checksum ctlSetsChecksum `cmd:"" help:"Compare the samples of a set's replicas."`
	Repair   ctlSetsRepair   `cmd:"" help:"Make a replica of a set anew, from the others."`
}

type ctlSetsList struct {
	adminFlags
	Bucket string `name:"bucket" placeholder:"ID" help:"Only the sets of this bucket."`
	Node   string `name:"node" placeholder:"NODE" help:"Only the sets that have a replica on this node."`
}

func (c *ctlSetsList) run(ctx context.Context, p process) error {
	return c.list(ctx, p, "cluster/sets", given(map[string]string{"bucket": c.Bucket, "node": c.Node}), column{"set", "set"}, column{"bucket", "bucket"}, column{"shard", "shard"},
		column{"start", "start"}, column{"end", "end"}, column{"state", "state"}, column{"replicas", "members"}, column{"leader", "leader"},
		column{"change", "change"}, column{"broken", "broken"})
}

// setArgument names a set.
type setArgument struct {
	adminFlags
	Set string `arg:"" placeholder:"SET" help:"The set's number."`
}

type ctlSetsDescribe struct{ setArgument }

func (c *ctlSetsDescribe) run(ctx context.Context, p process) error {
	return c.show(ctx, p, "describe/set", url.Values{"set": {c.Set}})
}

type ctlSetsTransfer struct {
	setArgument
	Replica string `arg:"" placeholder:"REPLICA" help:"The number of the replica that is to lead."`
}

func (c *ctlSetsTransfer) run(ctx context.Context, p process) error {
	return c.change(ctx, p, "sets/transfer", url.Values{"set": {c.Set}, "replica": {c.Replica}})
}

type ctlSetsAdd struct {
	setArgument
	Node string `arg:"" placeholder:"NODE" help:"The node that is to have the replica."`
}

func (c *ctlSetsAdd) run(ctx context.Context, p process) error {
	return c.change(ctx, p, "sets/members", url.Values{"set": {c.Set}, "add": {c.Node}})
}

type ctlSetsRemove struct {
	setArgument
	Replica string `arg:"" placeholder:"REPLICA" help:"The number of the replica."`
}

func (c *ctlSetsRemove) run(ctx context.Context, p process) error {
	return c.change(ctx, p, "sets/members", url.Values{"set": {c.Set}, "remove": {c.Replica}})
}

type ctlSetsMove struct {
	setArgument
	Replica string `arg:"" placeholder:"REPLICA" help:"The number of the replica that goes."`
	Node    string `arg:"" placeholder:"NODE" help:"The node that is to have one instead."`
}

func (c *ctlSetsMove) run(ctx context.Context, p process) error {
	return c.change(ctx, p, "sets/members", url.Values{"set": {c.Set}, "remove": {c.Replica}, "add": {c.Node}})
}

type ctlSetsChecksum struct{ setArgument }

func (c *ctlSetsChecksum) run(ctx context.Context, p process) error {
	return c.list(ctx, p, "sets/checksum", url.Values{"set": {c.Set}}, column{"replica", "replica"}, column{"node", "node"},
		column{"applied", "applied_index"}, column{"samples", "samples"}, column{"checksum", "checksum"}, column{"error", "error"})
}

type ctlSetsRepair struct {
	setArgument
	Replica string `arg:"" optional:"" placeholder:"REPLICA" help:"The number of the replica to make anew (default: one that is broken or cannot be reached, or one more where the set has too few)."`
	Node    string `name:"node" placeholder:"NODE" help:"Where the new replica is made (default: the node that suits best)."`
}

func (c *ctlSetsRepair) run(ctx context.Context, p process) error {
	return c.change(ctx, p, "sets/repair", given(map[string]string{"set": c.Set, "replica": c.Replica, "node": c.Node}))
}

type ctlReplicas struct {
	List ctlReplicasList `cmd:"" help:"List the replicas."`
}

type ctlReplicasList struct {
	adminFlags
	Node   string `name:"node" placeholder:"NODE" help:"Only those on this node."`
	Set    string `name:"set" placeholder:"SET" help:"Only those of this set."`
	Broken bool   `name:"broken" help:"Only those that are broken, or whose node does not answer."`
}

func (c *ctlReplicasList) run(ctx context.Context, p process) error {
	parameters := given(map[string]string{"node": c.Node, "set": c.Set})
	if c.Broken {
		parameters.Set("broken", "true")
	}
	return c.list(ctx, p, "replicas", parameters, column{"set", "set"}, column{"replica", "replica"}, column{"node", "node"},
		column{"role", "role"}, column{"leader", "leader"}, column{"state", "state"}, column{"serving", "serving"},
		column{"applied", "applied_index"}, column{"lag", "lag"}, column{"files", "files"}, column{"bytes", "file_bytes"},
		column{"log bytes", "log_bytes"}, column{"broken", "broken"})
}

// given are the parameters that have a value.
func given(values map[string]string) url.Values {
	parameters := url.Values{}
	for name, value := range values {
		if value != "" {
			parameters.Set(name, value)
		}
	}
	return parameters
}

type ctlControllers struct {
	List   ctlControllersList   `cmd:"" help:"List the loops and how they fare."`
	Pause  ctlControllersPause  `cmd:"" help:"Make a loop do nothing, whoever leads, until it is resumed or the nodes that hold metadata have restarted."`
	Resume ctlControllersResume `cmd:"" help:"Undo a pause."`
	Plan   ctlControllersPlan   `cmd:"" help:"Show what the loops would do now."`
}

type ctlControllersList struct{ adminFlags }

func (c *ctlControllersList) run(ctx context.Context, p process) error {
	return c.list(ctx, p, "controllers", nil, column{"loop", "name"}, column{"paused", "paused"}, column{"last run", "last_run"},
		column{"actions", "actions"}, column{"error", "error"})
}

// loopArgument names a loop.
type loopArgument struct {
	adminFlags
	Loop string `arg:"" placeholder:"LOOP" help:"The loop's name."`
}

type ctlControllersPause struct{ loopArgument }

func (c *ctlControllersPause) run(ctx context.Context, p process) error {
	return c.change(ctx, p, "controllers/pause", url.Values{"loop": {c.Loop}})
}

type ctlControllersResume struct{ loopArgument }

func (c *ctlControllersResume) run(ctx context.Context, p process) error {
	return c.change(ctx, p, "controllers/resume", url.Values{"loop": {c.Loop}})
}

type ctlControllersPlan struct{ adminFlags }

func (c *ctlControllersPlan) run(ctx context.Context, p process) error {
	return c.list(ctx, p, "controllers/plan", nil, column{"loop", "loop"}, column{"why", "why"}, column{"command", "command"})
}
