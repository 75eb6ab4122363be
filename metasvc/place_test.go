package metasvc

import (
	"fmt"
	"testing"

	"github.com/quorate/quorate"
)

// paperState returns a state with nodes of the given zones, n1 in the first.
func paperState(t *testing.T, zones ...string) *fakeLeader {
	t.Helper()
	leader := newFakeLeader(openMachine(t))
	leader.must(t, Bootstrap{Cluster: testCluster, Node: testNodeSpec("n1", zones[0]), MetaReplica: 1})
	for i, zone := range zones[1:] {
		leader.must(t, AdmitNode{testNodeSpec(fmt.Sprint("n", i+2), zone)})
	}
	return leader
}

func (l *fakeLeader) place(t *testing.T, p PolicySpec) [][]quorate.NodeID {
	t.Helper()
	placement, err := l.machine.snapshot().place(&Policy{PolicySpec: p}, fitness{})
	if err != nil {
		t.Fatal(err)
	}
	return placement
}

func TestReplicasLieOnDistinctNodesAndZones(t *testing.T) {
	zone := map[string]string{"n1": "a", "n2": "a", "n3": "b", "n4": "b", "n5": "c", "n6": "c"}
	leader := paperState(t, "a", "a", "b", "b", "c", "c")
	load := make(map[string]int)
	for shard, nodes := range leader.place(t, policy("p", func(p *PolicySpec) { p.Shards, p.Replicas = 4, 3 })) {
		zones := make(map[string]bool)
		for _, n := range nodes {
			zones[zone[n.Name]] = true
			load[n.Name]++
		}
		if len(nodes) != 3 || len(zones) != 3 {
			t.Errorf("shard %d lies on %v, want three zones", shard, nodes)
		}
	}
	for n, replicas := range load {
		if replicas != 2 {
			t.Errorf("node %s has %d of 12 replicas on six nodes", n, replicas)
		}
	}
}

func TestMoreReplicasThanZonesStillSpread(t *testing.T) {
	leader := paperState(t, "a", "a", "a", "b")
	for _, nodes := range leader.place(t, policy("p", func(p *PolicySpec) { p.Shards, p.Replicas = 3, 3 })) {
		seen := make(map[quorate.NodeID]bool)
		for _, n := range nodes {
			seen[n] = true
		}
		if len(seen) != 3 || !seen[testNode("n4", 1)] {
			t.Errorf("a shard lies on %v, want three nodes, zone b's among them", nodes)
		}
	}
}

func TestNewBucketsGoToTheEmptiestNodes(t *testing.T) {
	leader := paperState(t, "a", "a")
	leader.must(t, CreatePolicy{Policy: DefaultPolicy()}, planOn(hours(0, 24), "n1"), planOn(hours(24, 48), "n1"))
	leader.must(t, AdmitNode{testNodeSpec("n3", "a")}, planOn(hours(48, 72), "n2"))
	placement := leader.place(t, policy("p", func(p *PolicySpec) { p.Shards = 1 }))
	if got := placement[0][0].Name; got != "n3" {
		t.Errorf("one shard goes to %s, want the empty n3", got)
	}
}

func TestOnlyFittingNodesAreTaken(t *testing.T) {
	leader := paperState(t, "a", "b", "c")
	gateway := testNodeSpec("gw", "b")
	gateway.Roles = RoleGateway
	leader.must(t, AdmitNode{gateway})
	inB := policy("p", func(p *PolicySpec) { p.Zones = []string{"b"} })
	for _, nodes := range leader.place(t, inB) {
		if nodes[0].Name != "n2" {
			t.Errorf("a policy of zone b is placed on %v", nodes)
		}
	}
	inB.Replicas = 2
	if _, err := leader.machine.snapshot().place(&Policy{PolicySpec: inB}, fitness{}); quorate.KindOf(err) != quorate.Unavailable {
		t.Errorf("two replicas on one fitting node were placed: %v", err)
	}
}

func TestBucketBordersAlignAlsoBeforeTheEpoch(t *testing.T) {
	for _, c := range []struct{ ts, want int64 }{{0, 0}, {9, 0}, {10, 10}, {-1, -10}, {-10, -10}, {-11, -20}} {
		if got := floor(c.ts, 10); got != c.want {
			t.Errorf("floor(%d, 10) is %d, want %d", c.ts, got, c.want)
		}
	}
}

func TestBucketsFillGapsExactly(t *testing.T) {
	leader := paperState(t, "a")
	leader.must(t, CreatePolicy{Policy: DefaultPolicy()}, planOn(hours(3, 20), "n1"), planOn(hours(40, 48), "n1"))
	for _, c := range []struct{ at, start, end int64 }{
		{0, 0, 3}, {2, 0, 3}, {20, 20, 24}, {23, 20, 24}, {24, 24, 40}, {39, 24, 40}, {48, 48, 72}, {-1, -24, 0},
	} {
		s := leader.machine.snapshot()
		if got, want := s.bucketRange(s.policies[1], c.at*hour), hours(c.start, c.end); got != want {
			t.Errorf("the bucket around hour %d is %v, want %v", c.at, got, want)
		}
	}
}

// Nodes that are short of space get replicas only where there are too few others,
// and lead none that another can.
func TestNodesShortOfSpaceAreTakenLast(t *testing.T) {
	leader := paperState(t, "a", "b", "c", "c")
	short := func(space Space, names ...string) fitness {
		f := fitness{space: make(map[quorate.NodeID]Space)}
		for _, name := range names {
			f.space[testNode(name, 1)] = space
		}
		return f
	}
	p := &Policy{PolicySpec: policy("p", func(p *PolicySpec) { p.Shards, p.Replicas = 4, 3 })}
	placement, err := leader.machine.snapshot().place(p, short(SpaceLow, "n2"))
	if err != nil {
		t.Fatal(err)
	}
	for shard, nodes := range placement {
		for _, n := range nodes {
			if n.Name == "n2" {
				t.Errorf("shard %d lies on %v, n2 among them, which is short of space", shard, nodes)
			}
		}
	}
	if placement, err = leader.machine.snapshot().place(p, short(SpaceFull, "n1", "n2")); err != nil {
		t.Fatal(err)
	}
	for shard, nodes := range placement {
		if len(nodes) != 3 || nodes[0].Name != "n3" && nodes[0].Name != "n4" {
			t.Errorf("shard %d lies on %v, want three nodes, one with space to lead", shard, nodes)
		}
	}
}
