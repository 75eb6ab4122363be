package main

import (
	"context"
	"net/url"
)

// The commands of quorate ctl. Each asks one endpoint of a node's admin
// listener; docs/operations.md lists them.

type ctlNodes struct {
	List    ctlNodesList    `cmd:"" help:"List the nodes."`
	Drain   ctlNodesDrain   `cmd:"" help:"Move all replicas off a node, and give it no new ones."`
	Undrain ctlNodesUndrain `cmd:"" help:"Let a node that was drained have replicas again."`
	Remove  ctlNodesRemove  `cmd:"" help:"Remove a node that is drained, or dead, for ever."`
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

type ctlNodesDrain struct{ nodeArgument }

func (c *ctlNodesDrain) run(ctx context.Context, p process) error { return c.do(ctx, p, "drain") }

type ctlNodesUndrain struct{ nodeArgument }

func (c *ctlNodesUndrain) run(ctx context.Context, p process) error { return c.do(ctx, p, "undrain") }

type ctlNodesRemove struct{ nodeArgument }

func (c *ctlNodesRemove) run(ctx context.Context, p process) error { return c.do(ctx, p, "remove") }

type ctlTenants struct {
	List ctlTenantsList `cmd:"" help:"List the tenants."`
}

type ctlTenantsList struct{ adminFlags }

func (c *ctlTenantsList) run(ctx context.Context, p process) error {
	return c.list(ctx, p, "tenants", nil, column{"tenant", "name"}, column{"id", "id"}, column{"policy", "policy"},
		column{"retention", "retention"}, column{"created", "created"})
}

type ctlPolicies struct {
	List ctlPoliciesList `cmd:"" help:"List the policies."`
}

type ctlPoliciesList struct{ adminFlags }

func (c *ctlPoliciesList) run(ctx context.Context, p process) error {
	return c.list(ctx, p, "policies", nil, column{"policy", "name"}, column{"span", "span"}, column{"shards", "shards"},
		column{"replicas", "replicas"}, column{"late window", "late_window"}, column{"retention", "retention"}, column{"zones", "zones"})
}

type ctlBuckets struct {
	List ctlBucketsList `cmd:"" help:"List the buckets."`
	Cut  ctlBucketsCut  `cmd:"" help:"End the current bucket early, so that new samples use the nodes that there are now."`
	Seal ctlBucketsSeal `cmd:"" help:"Seal a bucket whose time is over."`
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
	Transfer ctlSetsTransfer `cmd:"" help:"Hand the leadership of a set to another of its replicas."`
	Add      ctlSetsAdd      `cmd:"" help:"Add a replica of a set on a node."`
	Remove   ctlSetsRemove   `cmd:"" help:"Remove a replica of a set."`
	Move     ctlSetsMove     `cmd:"" help:"Move a replica of a set to another node."`
	Checksum ctlSetsChecksum `cmd:"" help:"Compare the samples of a set's replicas."`
}

type ctlSetsList struct {
	adminFlags
	Bucket string `name:"bucket" placeholder:"ID" help:"Only the sets of this bucket."`
	Node   string `name:"node" placeholder:"NODE" help:"Only the sets that have a replica on this node."`
}

func (c *ctlSetsList) run(ctx context.Context, p process) error {
	parameters := url.Values{}
	if c.Bucket != "" {
		parameters.Set("bucket", c.Bucket)
	}
	if c.Node != "" {
		parameters.Set("node", c.Node)
	}
	return c.list(ctx, p, "cluster/sets", parameters, column{"set", "set"}, column{"bucket", "bucket"}, column{"shard", "shard"},
		column{"start", "start"}, column{"end", "end"}, column{"state", "state"}, column{"replicas", "members"}, column{"leader", "leader"},
		column{"change", "change"}, column{"broken", "broken"})
}

// setArgument names a set.
type setArgument struct {
	adminFlags
	Set string `arg:"" placeholder:"SET" help:"The set's number."`
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

type ctlControllers struct {
	List   ctlControllersList   `cmd:"" help:"List the loops and how they fare."`
	Pause  ctlControllersPause  `cmd:"" help:"Make a loop do nothing, on the node that is asked, until it is resumed."`
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
