package metasvc

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/quorate/quorate"
)

// TestMapFindsBuckets holds the map's search against walking all buckets.
func TestMapFindsBuckets(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		mirror := newMirror()
		var all []*BucketRecord
		var changes []Change
		for _, policy := range []quorate.PolicyID{7, 3} {
			at := rapid.Int64Range(-50, 0).Draw(rt, "start")
			for range rapid.IntRange(0, 12).Draw(rt, "buckets") {
				at += rapid.Int64Range(0, 5).Draw(rt, "gap")
				end := at + rapid.Int64Range(1, 10).Draw(rt, "span")
				b := &BucketRecord{ID: quorate.BucketID(len(all) + 1), Policy: policy, Range: quorate.TimeRange{Start: at, End: end}}
				all = append(all, b)
				changes = append(changes, Change{Index: 1, Kind: KindBucket, ID: uint64(b.ID), Record: b})
				at = end
			}
		}
		mirror.apply(Batch{To: 1, Changes: changes})
		m := mirror.build()
		for range 20 {
			policy := rapid.SampledFrom([]quorate.PolicyID{3, 7, 9}).Draw(rt, "policy")
			mint := rapid.Int64Range(-60, 140).Draw(rt, "mint")
			maxt := mint + rapid.Int64Range(-1, 60).Draw(rt, "width")
			var at quorate.BucketID
			var overlapping []quorate.BucketID
			for _, b := range all {
				if b.Policy == policy && b.Range.Contains(mint) {
					at = b.ID
				}
				if b.Policy == policy && mint <= maxt && b.Range.Overlaps(mint, maxt) {
					overlapping = append(overlapping, b.ID)
				}
			}
			var gotAt quorate.BucketID
			if b := m.Bucket(policy, mint); b != nil {
				gotAt = b.ID
			}
			if gotAt != at {
				rt.Fatalf("policy %d has bucket %d at %d, want %d", policy, gotAt, mint, at)
			}
			var got []quorate.BucketID
			for _, b := range m.BucketsOverlapping(policy, mint, maxt) {
				got = append(got, b.ID)
			}
			if !slices.Equal(got, overlapping) {
				rt.Fatalf("policy %d has buckets %v in [%d, %d], want %v", policy, got, mint, maxt, overlapping)
			}
		}
	})
}

func TestMapServesWhatWasRecorded(t *testing.T) {
	machine := openMachine(t)
	leader := newFakeLeader(machine)
	leader.must(t, bootstrap(), AdmitNode{testNodeSpec("n2", "b")}, CreatePolicy{Policy: DefaultPolicy()}, planOn(hours(0, 24), "n1", "n2"), planOn(hours(24, 48), "n2"))
	before := mapOf(machine.snapshot())
	leader.must(t, ReportFormed{Set: 2, Replica: 4}, CreateTenant{Name: "a", Policy: 1})
	m := mapOf(machine.snapshot())

	if b := m.Bucket(1, 30*hour); b == nil || b.State != BucketOpen || len(b.Sets) != 1 || b.Sets[0].State != ReplicaSetOpen {
		t.Errorf("the second bucket is %+v, want it open with its set", b)
	}
	if b := before.Bucket(1, 30*hour); b.State != BucketPlanned || b.Sets[0].State != ReplicaSetForming {
		t.Errorf("the map from before changed: %+v", b)
	}
	if s := m.Set(2); s == nil || s.Bounds != (quorate.Bounds{Version: 1, Range: hours(24, 48), State: quorate.SetOpen}) {
		t.Errorf("set 2 is %+v", s)
	}
	if m.Set(3) != nil || m.Set(quorate.MetaReplicaSet) != nil {
		t.Error("the map has sets that are none of its own")
	}
	var on []quorate.ReplicaID
	for _, replica := range m.SetsOn(testNode("n2", 1)) {
		on = append(on, replica)
	}
	if !slices.Equal(on, []quorate.ReplicaID{3, 4}) {
		t.Errorf("n2 has replicas %v, want 3 and 4", on)
	}
	if m.PolicyNamed(DefaultPolicyName) == nil || m.Policy(1) == nil || m.Policy(2) != nil || len(m.Policies()) != 1 {
		t.Error("the map does not have the default policy alone")
	}
	if n := m.Node(testNode("n2", 1)); n == nil || n.Zone != "b" || len(m.Nodes()) != 2 {
		t.Errorf("node n2 is %+v", n)
	}
	if m.Cluster.ID != testCluster || len(m.Buckets(1)) != 2 || len(m.Sets()) != 2 {
		t.Error("the map lacks cluster, buckets or sets")
	}
}

func TestEmptyMapAnswersNothing(t *testing.T) {
	m := newMap()
	if m.Bucket(1, 0) != nil || m.BucketsOverlapping(1, 0, 1) != nil || m.Buckets(1) != nil || m.Set(1) != nil || m.Policy(1) != nil || m.Loaded() {
		t.Error("the empty map answers something")
	}
}

// TestANewTenantCostsNoNewTables: tenants come with the first sample of a
// name, so they must not rebuild the map of all buckets.
func TestANewTenantCostsNoNewTables(t *testing.T) {
	mirror := newMirror()
	mirror.apply(Batch{To: 5, Changes: []Change{{Index: 5, Kind: KindPolicy, ID: 1, Record: &Policy{ID: 1}}}})
	first := mirror.build()
	tenant := &Tenant{ID: 1, Name: "a"}
	mirror.apply(Batch{To: 6, Changes: []Change{{Index: 6, Kind: KindTenant, ID: 1, Record: tenant}}})
	second := mirror.build()
	if first.tables != second.tables {
		t.Error("a new tenant made new tables")
	}
	slot := tenantSlot("a")
	if first.slots[slot] != 0 || second.slots[slot] != 6 || second.Version != 6 {
		t.Errorf("the tenant's slot went from %d to %d, want 0 and 6", first.slots[slot], second.slots[slot])
	}
}
