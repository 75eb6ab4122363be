package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
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
	data, err := c.get(ctx, "nodes", nil)
	if err != nil {
		return err
	}
	var nodes []struct {
		Heard string `json:"heard"`
	}
	if err := json.Unmarshal(data, &nodes); err != nil {
		return fmt.Errorf("read the answer of %s: %w", c.URL.Host, err)
	}
	for _, n := range nodes {
		if n.Heard == "unknown" {
			if _, err := fmt.Fprintln(p.stderr, "no metadata leader is known that answers: what the leader hears of the nodes is missing"); err != nil {
				return err
			}
			break
		}
	}
	return c.print(p, data, []column{{"node", "name"}, {"state", "state"}, {"zone", "zone"}, {"roles", "roles"},
		{"address", "address"}, {"meta", "meta"}, {"replicas", "replicas"}, {"leads", "leads"},
		{"heard", "heard"}, {"free bytes", "free_bytes"}, {"space", "space"}, {"incarnation", "incarnation"}})
}

// nodeArgument names a node.
type nodeArgument struct {
	adminFlags
	Node string `arg:"" placeholder:"NODE" help:"The node's name, or name/incarnation where the name alone is not one node's."`
}

// changedNode is what a node's change of state answers.
type changedNode struct {
	Replicas int `json:"replicas"`
	Waiting  int `json:"waiting"`
}

func (c *nodeArgument) do(ctx context.Context, p process, what string, line func(changedNode) string) error {
	var done changedNode
	return c.tell(ctx, p, "nodes/"+what, url.Values{"node": {c.Node}}, &done, func() string { return c.Node + " " + line(done) })
}

// drains says what a drain has begun.
func (n changedNode) drains() string {
	text := fmt.Sprintf("drains: %d replicas to move", n.Replicas)
	if n.Waiting > 0 {
		text += fmt.Sprintf("; %d of them wait for a node that can take them", n.Waiting)
	}
	if n.Replicas > 0 {
		text += `; "quorate ctl nodes list" and "controllers list" show how it goes`
	}
	return text
}

type ctlNodesDescribe struct{ nodeArgument }

func (c *ctlNodesDescribe) run(ctx context.Context, p process) error {
	return c.show(ctx, p, "describe/node", url.Values{"node": {c.Node}})
}

type ctlNodesDrain struct{ nodeArgument }

func (c *ctlNodesDrain) run(ctx context.Context, p process) error {
	return c.do(ctx, p, "drain", changedNode.drains)
}

type ctlNodesUndrain struct{ nodeArgument }

func (c *ctlNodesUndrain) run(ctx context.Context, p process) error {
	return c.do(ctx, p, "undrain", func(n changedNode) string {
		return fmt.Sprintf("drains no more, and can be given replicas; it has %d", n.Replicas)
	})
}

type ctlNodesRemove struct{ nodeArgument }

func (c *ctlNodesRemove) run(ctx context.Context, p process) error {
	return c.do(ctx, p, "remove", func(changedNode) string { return "is removed for ever" })
}

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
	var done struct {
		Already bool `json:"already"`
	}
	return c.tell(ctx, p, "sets/transfer", url.Values{"set": {c.Set}, "replica": {c.Replica}}, &done, func() string {
		if done.Already {
			return fmt.Sprintf("replica %s leads set %s already", c.Replica, c.Set)
		}
		return fmt.Sprintf("replica %s leads set %s now", c.Replica, c.Set)
	})
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
	data, err := c.get(ctx, "sets/checksum", url.Values{"set": {c.Set}})
	if err != nil {
		return err
	}
	var list []replicaChecksum
	if err := json.Unmarshal(data, &list); err != nil {
		return fmt.Errorf("read the answer of %s: %w", c.URL.Host, err)
	}
	if err := c.print(p, data, []column{
		{"replica", "replica"}, {"node", "node"},
		{"applied", "applied_index"}, {"samples", "samples"}, {"checksum", "checksum"}, {"error", "error"},
	}); err != nil {
		return err
	}
	verdict, err := compare(list)
	if err != nil {
		return fmt.Errorf("set %s: %w", c.Set, err)
	}
	if c.Output != "json" {
		_, err = fmt.Fprintln(p.stdout, verdict)
	}
	return err
}

// replicaChecksum is what a replica holds.
type replicaChecksum struct {
	Replica  uint64 `json:"replica"`
	Node     string `json:"node"`
	Applied  uint64 `json:"applied_index"`
	Checksum string `json:"checksum"`
	Sealed   bool   `json:"sealed"`
	Error    string `json:"error"`
}

// compare says whether replicas hold the same. It fails where they do not, one
// could not be asked, or they stand at different entries of the log with different
// samples: those of a set that is written to, or of one that has diverged.
func compare(list []replicaChecksum) (verdict string, err error) {
	var silent []string
	sealed := false
	sums, at := make(map[string]bool), make(map[uint64]string)
	for _, c := range list {
		if c.Error != "" {
			silent = append(silent, fmt.Sprintf("%d on %s", c.Replica, c.Node))
			continue
		}
		if other, known := at[c.Applied]; known && other != c.Checksum {
			return "", fmt.Errorf("replicas differ at the same applied index, %d", c.Applied)
		}
		at[c.Applied] = c.Checksum
		sums[c.Checksum] = true
		sealed = sealed || c.Sealed
	}
	switch {
	case len(silent) > 0:
		return "", fmt.Errorf("replica %s could not be asked, the others do not contradict each other", strings.Join(silent, ", "))
	case len(sums) > 1:
		return "", fmt.Errorf("the replicas answered at different applied indexes, %s, and hold different samples: ask again while nothing is written to the set",
			strings.Trim(fmt.Sprint(slices.Sorted(maps.Keys(at))), "[]"))
	case sealed:
		return "equal by the record of their seal, which their files were checked against when they came; quorate verify reads the files", nil
	case len(at) > 1:
		return "equal, though the replicas answered at different applied indexes", nil
	}
	return "equal", nil
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
	return c.tell(ctx, p, "controllers/pause", url.Values{"loop": {c.Loop}}, nil, func() string {
		return "loop " + c.Loop + " is paused at all nodes that hold metadata"
	})
}

type ctlControllersResume struct{ loopArgument }

func (c *ctlControllersResume) run(ctx context.Context, p process) error {
	return c.tell(ctx, p, "controllers/resume", url.Values{"loop": {c.Loop}}, nil, func() string {
		return "loop " + c.Loop + " goes on"
	})
}

type ctlControllersPlan struct{ adminFlags }

func (c *ctlControllersPlan) run(ctx context.Context, p process) error {
	return c.list(ctx, p, "controllers/plan", nil, column{"loop", "loop"}, column{"why", "why"}, column{"command", "command"}, column{"error", "error"})
}
