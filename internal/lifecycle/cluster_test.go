package lifecycle

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/metasvc"
)

// cluster is some nodes over one metadata service, that does what a test has it
// do, and a network in memory.
type cluster struct {
	network *network
	nodes   []*rig
}

// newCluster starts so many nodes, on the first three of which lies the one set
// of an open bucket.
func newCluster(t *testing.T, nodes int) *cluster {
	t.Helper()
	c := &cluster{network: newNetwork(t)}
	first, leader := newMetadata(t, (&clockAt{clock}).now)
	for i := range nodes {
		r := &rig{
			dir: t.TempDir(), now: &clockAt{clock}, leader: leader,
			node: quorate.NodeID{Name: fmt.Sprintf("n%d", i+1), Incarnation: quorate.NewIncarnation()},
		}
		r.client = first
		if i > 0 {
			r.client = clientOf(t, leader, r.now.now)
		}
		r.port = c.network.port(r.node)
		r.live = c.live
		c.nodes = append(c.nodes, r)
	}
	one := c.nodes[0]
	policy := metasvc.DefaultPolicy()
	policy.Span, policy.LateWindow, policy.Replicas = time.Hour, time.Minute, 3
	one.do(t, metasvc.Bootstrap{Cluster: quorate.NewClusterID(), Node: one.spec(), MetaReplica: 1})
	for _, r := range c.nodes[1:] {
		one.do(t, metasvc.AdmitNode{Node: r.spec()})
	}
	one.do(t, metasvc.CreatePolicy{Policy: policy})
	tenant := one.do(t, metasvc.CreateTenant{Name: "team", Policy: 1}).(metasvc.TenantResult).Tenant
	one.do(t, metasvc.PlanBucket{
		Policy: 1, Range: quorate.TimeRange{Start: bucketStart, End: bucketStart + time.Hour.Milliseconds()},
		HashVersion: wire.ShardHashVersion, Placement: [][]quorate.NodeID{{c.nodes[0].node, c.nodes[1].node, c.nodes[2].node}},
	})
	for _, r := range c.nodes {
		r.tenant = tenant
		t.Cleanup(func() { r.close(t) })
	}
	return c
}

func (r *rig) spec() metasvc.NodeSpec {
	return metasvc.NodeSpec{ID: r.node, Roles: metasvc.AllRoles, Address: r.node.Name + ":1"}
}

// start starts nodes, all when none is named.
func (c *cluster) start(t *testing.T, nodes ...*rig) {
	t.Helper()
	if len(nodes) == 0 {
		nodes = c.nodes
	}
	for _, r := range nodes {
		r.start(t, nil)
	}
}

// live lists the members on nodes that run.
func (c *cluster) live(set *metasvc.ReplicaSet) (ids []quorate.ReplicaID) {
	for _, r := range c.nodes {
		if m, ok := set.MemberOn(r.node); ok && r.host != nil {
			ids = append(ids, m.Replica)
		}
	}
	slices.Sort(ids)
	return ids
}

func (c *cluster) one() *rig { return c.nodes[0] }

func (c *cluster) set() *metasvc.ReplicaSet { return c.one().set() }

// leading waits for a node that leads a set and has confirmed it.
func (c *cluster) leading(t *testing.T, set setID) (leader *rig) {
	t.Helper()
	c.await(t, "a leader", func() bool {
		for _, r := range c.nodes {
			if r.host == nil {
				continue
			}
			if g, ok := r.host.Group(set); ok {
				if _, err := g.ConfirmRead(t.Context()); err == nil {
					leader = r
					return true
				}
			}
		}
		return false
	})
	return leader
}

func (c *cluster) await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	c.one().await(t, what, condition)
}

// awaitOpen waits until the bucket is open and some node leads its set.
func (c *cluster) awaitOpen(t *testing.T) (leader *rig) {
	t.Helper()
	c.await(t, "the bucket to be open", func() bool {
		b := c.one().bucket()
		return b != nil && b.State == metasvc.BucketOpen
	})
	return c.leading(t, c.set().ID)
}

// write writes at the node that leads.
func (c *cluster) write(t *testing.T, f floats) {
	t.Helper()
	c.leading(t, c.set().ID).write(t, f)
}

// awaitApplied waits until the replicas of a set on some nodes have applied what
// the leader has.
func (c *cluster) awaitApplied(t *testing.T, set setID, nodes ...*rig) {
	t.Helper()
	leader := c.leading(t, set)
	g, _ := leader.host.Group(set)
	index := g.Status().AppliedIndex
	defer func() {
		if t.Failed() {
			t.Logf("to have applied %d: leader %+v, configuration %+v", index, g.Status(), g.Configuration())
			for _, r := range nodes {
				if own, ok := r.host.Group(set); ok {
					entries, contact, known := g.Lag(own.Replica())
					t.Logf("%s: %+v, lag %d, contact %v ago, %v", r.node.Name, own.Status(), entries, time.Since(contact), known)
				}
			}
		}
	}()
	for _, r := range nodes {
		testwait.For(t, r.node.Name+" to have applied all", func() bool {
			own, ok := r.host.Group(set)
			return ok && own.Status().AppliedIndex >= index
		})
	}
}

func (c *cluster) awaitSettled(t *testing.T, set setID, nodes ...*rig) {
	t.Helper()
	for _, r := range nodes {
		c.await(t, fmt.Sprintf("set %v to be served from its file on %s", set, r.node.Name), func() bool { return r.manager.Settled(set) })
	}
}

// wantFile checks that a sealed set is served on a node from its file, which is
// all there is.
func (c *cluster) wantFile(t *testing.T, r *rig, set *metasvc.ReplicaSet, want string) {
	t.Helper()
	member, ok := r.client.Map().Set(set.ID).MemberOn(r.node)
	if !ok {
		t.Fatalf("node %s has no replica of set %v", r.node.Name, set.ID)
	}
	r.wantSealedAs(t, set, member.Replica, want)
}

// change has the members of the set changed.
func (c *cluster) change(t *testing.T, set setID, add quorate.NodeID, remove quorate.ReplicaID) {
	t.Helper()
	var well []quorate.ReplicaID
	for _, m := range c.one().client.Map().Set(set).Members {
		if m.Replica != remove {
			well = append(well, m.Replica)
		}
	}
	slices.Sort(well)
	c.one().do(t, metasvc.BeginMembers{Set: set, Term: term, Add: add, Remove: remove, Well: well})
}

func (c *cluster) awaitChanged(t *testing.T, set setID) {
	t.Helper()
	c.await(t, "the members to be changed", func() bool {
		record := c.one().client.Map().Set(set)
		_, changing := record.Changing()
		return !changing && len(record.Left) == 0
	})
}
