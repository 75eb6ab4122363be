package node

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/metasvc"
)

// clusterAdmin serves what an operator sees of a cluster and changes about it,
// at any node: quorate ctl asks it.
type clusterAdmin struct {
	*adminAPI

	node *Node
}

// register adds the endpoints to a listener's.
func (a *clusterAdmin) register(mux *http.ServeMux) {
	a.serve(mux, map[string]func(*http.Request) (any, error){
		"GET /api/v1/admin/nodes":               a.nodes,
		"POST /api/v1/admin/nodes/drain":        a.changeNode((*metasvc.Client).DrainNode, metasvc.NodeDraining),
		"POST /api/v1/admin/nodes/undrain":      a.changeNode((*metasvc.Client).UndrainNode, metasvc.NodeActive),
		"POST /api/v1/admin/nodes/remove":       a.changeNode((*metasvc.Client).RemoveNode, metasvc.NodeRemoved),
		"GET /api/v1/admin/tenants":             a.tenants,
		"GET /api/v1/admin/policies":            a.policies,
		"POST /api/v1/admin/policies/alter":     a.alterPolicy,
		"GET /api/v1/admin/buckets":             a.buckets,
		"POST /api/v1/admin/cut":                a.cut,
		"GET /api/v1/admin/cluster/sets":        a.clusterSets,
		"GET /api/v1/admin/checksums":           a.checksums,
		"GET /api/v1/admin/sets/checksum":       a.setChecksums,
		"GET /api/v1/admin/replicas":            a.replicas,
		"GET /api/v1/admin/describe/node":       a.describeNode,
		"GET /api/v1/admin/describe/tenant":     a.describeTenant,
		"GET /api/v1/admin/describe/policy":     a.describePolicy,
		"GET /api/v1/admin/describe/bucket":     a.describeBucket,
		"GET /api/v1/admin/describe/set":        a.describeSet,
		"POST /api/v1/admin/sets/repair":        a.repair,
		"GET /api/v1/admin/meta":                a.showDump,
		"POST /api/v1/admin/sets/transfer":      a.transfer,
		"POST /api/v1/admin/sets/members":       a.members,
		"GET /api/v1/admin/controllers":         a.fromLeader("list"),
		"GET /api/v1/admin/controllers/plan":    a.fromLeader("plan"),
		"POST /api/v1/admin/controllers/pause":  a.atAll("pause"),
		"POST /api/v1/admin/controllers/resume": a.atAll("resume"),
	})
	mux.HandleFunc("GET /api/v1/admin/meta/dump", a.serveDump)
}

// heardUnknown stands for when a node was heard of where no metadata leader can be
// asked.
const heardUnknown = "unknown"

// listedNode is one node, as GET /api/v1/admin/nodes shows it.
type listedNode struct {
	Name        string `json:"name"`
	Incarnation string `json:"incarnation"`
	Number      uint64 `json:"number"`
	State       string `json:"state"`
	Roles       string `json:"roles"`
	Zone        string `json:"zone"`
	Address     string `json:"address"`
	// Meta tells what the node is in the metadata group: leader, voter, or joining.
	Meta     string `json:"meta,omitempty"`
	Replicas int    `json:"replicas"`
	// What follows the metadata leader knows of heartbeats: missing where it has
	// heard none, but for Heard, which then tells for how long, or is unknown where
	// no leader can be asked.
	Leads     *int   `json:"leads,omitempty"`
	Heard     string `json:"heard,omitempty"`
	FreeBytes uint64 `json:"free_bytes,omitempty"`
	Space     string `json:"space,omitempty"`
}

func (a *clusterAdmin) nodes(r *http.Request) (any, error) {
	return a.listNodes(r.Context(), a.node.clusterBeats(r.Context())), nil
}

func (a *clusterAdmin) listNodes(ctx context.Context, beats map[quorate.NodeID]metasvc.Heartbeat) []listedNode {
	leads, known := a.node.leaderSince(ctx)
	m := a.client.Map()
	replicas := make(map[quorate.NodeID]int)
	for _, set := range m.Sets() {
		for _, member := range set.Members {
			replicas[member.Node]++
		}
	}
	leader := a.node.meta.link.Leader()
	list := []listedNode{}
	for _, node := range m.Nodes() {
		l := listedNode{
			Name: node.ID.Name, Incarnation: node.ID.Incarnation.String(), Number: node.Number, State: node.State.String(),
			Roles: node.Roles.String(), Zone: node.Zone, Address: node.Address, Replicas: replicas[node.ID],
		}
		switch _, voter := m.Cluster.Replica(node.ID); {
		case node.ID == leader:
			l.Meta = "leader"
		case voter && slices.ContainsFunc(m.Cluster.Meta, func(v metasvc.Member) bool { return v.Node == node.ID }):
			l.Meta = "voter"
		case voter:
			l.Meta = "joining"
		}
		beat, heard := beats[node.ID]
		switch {
		case heard:
			leads := 0
			for _, s := range beat.Sets {
				if s.Leads {
					leads++
				}
			}
			l.Leads, l.FreeBytes, l.Space = &leads, beat.Free, beat.Space.String()
			l.Heard = time.Since(beat.Received).Round(100*time.Millisecond).String() + " ago"
		case node.State == metasvc.NodeRemoved:
		case !known:
			l.Heard = heardUnknown
		default: // since the leader leads, or since before that
			l.Heard = "not for " + leads.Round(100*time.Millisecond).String()
		}
		list = append(list, l)
	}
	return list
}

// findNode is the node that a parameter names, by its name or, where several
// lived under it, by name/incarnation.
func (a *clusterAdmin) findNode(text string) (quorate.NodeID, error) {
	if text == "" {
		return quorate.NodeID{}, quorate.Errorf(quorate.Invalid, "the parameter node is missing")
	}
	var found []quorate.NodeID
	for _, node := range a.client.Map().Nodes() {
		if node.ID.String() == text || node.ID.Name == text && node.State != metasvc.NodeRemoved {
			found = append(found, node.ID)
		}
	}
	switch len(found) {
	case 0:
		return quorate.NodeID{}, quorate.Errorf(quorate.NotFound, "the cluster has no node %q", text)
	case 1:
		return found[0], nil
	}
	names := make([]string, len(found))
	for i, id := range found {
		names[i] = id.String()
	}
	return quorate.NodeID{}, quorate.Errorf(quorate.Invalid, "node %q is one of %s: say which", text, strings.Join(names, ", "))
}

// changedNode is what a change of a node's state answers: the replicas that it
// has, and how many of them wait, since no other node could take them.
type changedNode struct {
	Node     string `json:"node"`
	State    string `json:"state"`
	Replicas int    `json:"replicas"`
	Waiting  int    `json:"waiting"`
}

// stranded tells whether no node could take a set's replica in place of a member.
func stranded(m *metasvc.Map, set *metasvc.ReplicaSet) bool {
	return !slices.ContainsFunc(m.Nodes(), func(n *metasvc.Node) bool {
		_, member := set.MemberOn(n.ID)
		return !member && n.State == metasvc.NodeActive && n.Roles&metasvc.RoleData != 0
	})
}

func (a *clusterAdmin) changeNode(change func(*metasvc.Client, context.Context, quorate.NodeID) error, to metasvc.NodeState) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		id, err := a.findNode(r.FormValue("node"))
		if err != nil {
			return nil, err
		}
		if err := change(a.client, r.Context(), id); err != nil {
			return nil, err
		}
		m, done := a.client.Map(), changedNode{Node: id.Name, State: to.String()}
		for _, set := range m.Sets() {
			if _, member := set.MemberOn(id); !member || to == metasvc.NodeRemoved {
				continue
			}
			done.Replicas++
			if to == metasvc.NodeDraining && stranded(m, set) {
				done.Waiting++
			}
		}
		return done, nil
	}
}

// listedTenant is one tenant, as GET /api/v1/admin/tenants shows it.
type listedTenant struct {
	ID        quorate.TenantID `json:"id"`
	Name      string           `json:"name"`
	Policy    string           `json:"policy"`
	Retention string           `json:"retention,omitempty"`
	Created   string           `json:"created"`
}

func listTenant(m *metasvc.Map, t metasvc.Tenant) listedTenant {
	l := listedTenant{ID: t.ID, Name: t.Name, Created: quorate.FormatTime(t.Created)}
	if p := m.Policy(t.Placements[len(t.Placements)-1].Policy); p != nil {
		l.Policy = p.Name
	}
	if t.Retention > 0 {
		l.Retention = model.Duration(t.Retention).String()
	}
	return l
}

func (a *clusterAdmin) tenants(*http.Request) (any, error) {
	m, list := a.client.Map(), []listedTenant{}
	for _, t := range a.client.Tenants() {
		list = append(list, listTenant(m, t))
	}
	return list, nil
}

// listedPolicy is one policy, as GET /api/v1/admin/policies shows it.
type listedPolicy struct {
	ID          quorate.PolicyID `json:"id"`
	Name        string           `json:"name"`
	Span        string           `json:"span"`
	Shards      int              `json:"shards"`
	Replicas    int              `json:"replicas"`
	LateWindow  string           `json:"late_window"`
	Retention   string           `json:"retention"`
	FutureBound string           `json:"future_bound"`
	Zones       []string         `json:"zones"`
}

func listPolicy(p *metasvc.Policy) listedPolicy {
	return listedPolicy{
		ID: p.ID, Name: p.Name, Span: model.Duration(p.Span).String(), Shards: p.Shards, Replicas: p.Replicas,
		LateWindow: model.Duration(p.LateWindow).String(), Retention: model.Duration(p.Retention).String(),
		FutureBound: model.Duration(p.FutureBound).String(), Zones: p.Zones,
	}
}

func (a *clusterAdmin) policies(*http.Request) (any, error) {
	list := []listedPolicy{}
	for _, p := range a.client.Map().Policies() {
		list = append(list, listPolicy(p))
	}
	return list, nil
}

// listedBucket is one bucket, as GET /api/v1/admin/buckets shows it.
type listedBucket struct {
	Bucket   quorate.BucketID `json:"bucket"`
	Policy   string           `json:"policy"`
	Start    string           `json:"start"`
	End      string           `json:"end"`
	State    string           `json:"state"`
	Sets     int              `json:"sets"`
	Sealed   int              `json:"sealed"`
	Overlays int              `json:"overlays"`
	Samples  uint64           `json:"samples"` // of those that are sealed
}

func listBucket(p *metasvc.Policy, b *metasvc.Bucket) listedBucket {
	l := listedBucket{
		Bucket: b.ID, Policy: p.Name, Start: quorate.FormatTime(b.Range.Start), End: quorate.FormatTime(b.Range.End),
		State: b.State.String(), Sets: len(b.Sets),
	}
	for shard, set := range b.Sets {
		if set.Sealed != nil {
			l.Sealed++
			l.Samples += set.Sealed.File.Samples
		}
		if b.Overlays[shard] != nil {
			l.Overlays++
		}
	}
	return l
}

func (a *clusterAdmin) buckets(*http.Request) (any, error) {
	m, list := a.client.Map(), []listedBucket{}
	for _, p := range m.Policies() {
		for _, b := range m.Buckets(p.ID) {
			list = append(list, listBucket(p, b))
		}
	}
	return list, nil
}

// cut ends the current bucket of a policy early.
func (a *clusterAdmin) cut(r *http.Request) (any, error) {
	p, err := a.findPolicy(r.FormValue("policy"))
	if err != nil {
		return nil, err
	}
	at, err := a.client.CutBucket(r.Context(), p.ID)
	if err != nil {
		return nil, err
	}
	return struct {
		Policy string `json:"policy"`
		At     string `json:"at"`
	}{p.Name, quorate.FormatTime(at)}, nil
}

// listedMember is one replica of a set.
func listedMember(m metasvc.Member) string { return fmt.Sprintf("%d@%s", m.Replica, m.Node.Name) }

// listedClusterSet is one set of the cluster, as GET /api/v1/admin/cluster/sets
// shows it.
type listedClusterSet struct {
	Set     quorate.ReplicaSetID `json:"set"`
	Bucket  quorate.BucketID     `json:"bucket"`
	Shard   int                  `json:"shard"`
	Start   string               `json:"start"`
	End     string               `json:"end"`
	State   string               `json:"state"`
	Base    quorate.ReplicaSetID `json:"base,omitempty"`
	Members []string             `json:"members"`
	Leader  string               `json:"leader,omitempty"`
	Change  string               `json:"change,omitempty"`
	Broken  []string             `json:"broken"`
}

func listClusterSet(set *metasvc.ReplicaSet, leaders map[quorate.ReplicaSetID]string, broken map[quorate.ReplicaSetID][]string) listedClusterSet {
	l := listedClusterSet{
		Set: set.ID, Bucket: set.Bucket, Shard: set.Shard, Start: quorate.FormatTime(set.Bounds.Range.Start),
		End: quorate.FormatTime(set.Bounds.Range.End), State: set.State.String(), Base: set.Base,
		Leader: leaders[set.ID], Broken: broken[set.ID], Members: []string{},
	}
	for _, m := range set.Members {
		l.Members = append(l.Members, listedMember(m))
	}
	if set.Intent != nil {
		l.Change = set.Intent.Kind.String()
	}
	if change, changing := set.Changing(); changing {
		l.Change = strings.TrimSpace(describeChange(change))
	}
	return l
}

// listClusterSets lists the sets that are wanted; nil wants all.
func (a *clusterAdmin) listClusterSets(ctx context.Context, wanted func(*metasvc.ReplicaSet) bool) []listedClusterSet {
	leaders, broken := leadersOf(a.node.clusterBeats(ctx))
	list := []listedClusterSet{}
	for _, set := range a.client.Map().Sets() {
		if wanted == nil || wanted(set) {
			list = append(list, listClusterSet(set, leaders, broken))
		}
	}
	return list
}

func (a *clusterAdmin) clusterSets(r *http.Request) (any, error) {
	var node quorate.NodeID
	if text := r.FormValue("node"); text != "" {
		var err error
		if node, err = a.findNode(text); err != nil {
			return nil, err
		}
	}
	bucket := r.FormValue("bucket")
	return a.listClusterSets(r.Context(), func(set *metasvc.ReplicaSet) bool {
		_, here := set.MemberOn(node)
		return (bucket == "" || bucket == set.Bucket.String()) && (here || node == quorate.NodeID{})
	}), nil
}

func describeChange(c metasvc.MemberChange) (text string) {
	if c.Add.Replica != 0 {
		text = "adds " + listedMember(c.Add)
	}
	if c.Remove != 0 {
		text += fmt.Sprintf(" removes %d", c.Remove)
	}
	return text
}

// members adds a replica of a set, removes one, or both.
func (a *clusterAdmin) members(r *http.Request) (any, error) {
	set, err := parseNumber[quorate.ReplicaSetID](r, "set")
	if err != nil {
		return nil, err
	}
	var add quorate.NodeID
	if text := r.FormValue("add"); text != "" {
		if add, err = a.findNode(text); err != nil {
			return nil, err
		}
	}
	var remove quorate.ReplicaID
	if r.FormValue("remove") != "" {
		if remove, err = parseNumber[quorate.ReplicaID](r, "remove"); err != nil {
			return nil, err
		}
	}
	intent, err := a.client.BeginMembers(r.Context(), set, add, remove)
	if err != nil {
		return nil, err
	}
	return struct {
		Set    quorate.ReplicaSetID `json:"set"`
		Intent metasvc.IntentID     `json:"intent"`
	}{set, intent}, nil
}

func parseNumber[N ~uint64](r *http.Request, name string) (N, error) {
	n, err := strconv.ParseUint(r.FormValue(name), 10, 64)
	if err != nil {
		return 0, quorate.Errorf(quorate.Invalid, "the parameter %s is %q, not a number", name, r.FormValue(name))
	}
	return N(n), nil
}
