package node

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/metasvc"
)

// describeSet asks a node for everything about a set.
func (n *Node) describeSet(t *testing.T, id quorate.ReplicaSetID) (d describedSet) {
	t.Helper()
	n.admin200(t, http.MethodGet, fmt.Sprintf("/api/v1/admin/describe/set?set=%d", id), &d)
	return d
}

// await describes a set until its replicas are as they are to be.
func (n *Node) awaitSet(t *testing.T, id quorate.ReplicaSetID, what string, good func(describedSet) bool) (d describedSet) {
	t.Helper()
	testwait.Until(t, what, func() error {
		if d = n.describeSet(t, id); !good(d) {
			return fmt.Errorf("set %d is %+v", id, d)
		}
		return nil
	})
	return d
}

func allWell(d describedSet) bool {
	leaders := 0
	for _, r := range d.Replicas {
		if r.Role != roleVoter && r.Role != roleCopy || r.Broken != "" || r.Serving == "nothing" || r.Serving == "unknown" {
			return false
		}
		if r.Leader {
			leaders++
		}
	}
	return len(d.Replicas) == 3 && (d.State == "sealed" || leaders == 1)
}

func TestEverythingAboutAClusterIsShownAtAnyNode(t *testing.T) {
	settings := founders(t, 3)
	nodes := startNodes(t, settings...)
	nodes[0].mustWrite(t, time.Now(), 1)
	id := nodes[0].meta.client.Map().Sets()[0].ID
	for _, n := range nodes {
		d := n.awaitSet(t, id, "the set to have a leader", func(d describedSet) bool { return allWell(d) && d.Term > 0 && d.Leader != "" })
		if d.State != "open" || d.Policy != "default" || d.BoundsVersion != 1 || len(d.Formed) == 0 || d.Intent != nil || d.Sealed != nil {
			t.Errorf("%s shows the set as %+v", n.settings.NodeName, d)
		}
		var node describedNode
		n.admin200(t, http.MethodGet, "/api/v1/admin/describe/node?node=node-2", &node)
		if node.Name != "node-2" || node.State != "active" || len(node.Sets) != node.Replicas || node.Replicas == 0 {
			t.Errorf("%s shows node-2 as %+v", n.settings.NodeName, node)
		}
		for _, r := range node.Sets {
			if r.Node != "node-2" {
				t.Errorf("replica %+v is listed on node-2", r)
			}
		}
		var list []listedReplica
		n.admin200(t, http.MethodGet, "/api/v1/admin/replicas?node=node-3", &list)
		if len(list) != node.Replicas {
			t.Errorf("node-3 has %d replicas, node-2 %d", len(list), node.Replicas)
		}
		n.admin200(t, http.MethodGet, "/api/v1/admin/replicas?broken=true", &list)
		if len(list) != 0 {
			t.Errorf("broken: %+v", list)
		}
	}
	n := nodes[1]
	testwait.For(t, "the node to know of the tenant", func() bool { return len(n.meta.client.Tenants()) == 1 })
	var policy describedPolicy
	n.admin200(t, http.MethodGet, "/api/v1/admin/describe/policy", &policy)
	if policy.Replicas != 3 || policy.Tenants != 1 || len(policy.Buckets) < 2 {
		t.Errorf("the policy is %+v", policy)
	}
	var bucket describedBucket
	n.admin200(t, http.MethodGet, fmt.Sprintf("/api/v1/admin/describe/bucket?bucket=%d", policy.Buckets[0].Bucket), &bucket)
	if bucket.Sets != 2 || len(bucket.List) != 2 || len(bucket.List[0].Members) != 3 {
		t.Errorf("the bucket is %+v", bucket)
	}
	tenant := n.meta.client.Tenants()[0].Name
	var described describedTenant
	n.admin200(t, http.MethodGet, "/api/v1/admin/describe/tenant?tenant="+tenant, &described)
	if described.Policy != "default" || len(described.Placements) != 1 || described.Placements[0].From != "the beginning" {
		t.Errorf("the tenant is %+v", described)
	}
	for _, path := range []string{"describe/set?set=999999", "describe/bucket?bucket=999", "describe/tenant?tenant=z", "describe/policy?policy=z", "describe/node?node=z", "replicas?set=999999"} {
		if status, text := n.requestAt(t, n.AdminAddr(), http.MethodGet, "/api/v1/admin/"+path, nil); status != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}

	// A loop is paused wherever it might run, as far as the asked node knows.
	for _, n := range nodes {
		n.awaitMetaVoters(t, 3)
	}
	paused := func(n *Node, want bool) {
		t.Helper()
		testwait.Until(t, "the loops", func() error {
			var loops []listedLoop
			n.admin200(t, http.MethodGet, "/api/v1/admin/controllers", &loops)
			for _, l := range loops {
				if l.Name == metasvc.LoopRepair && l.Paused == want {
					return nil
				}
			}
			return fmt.Errorf("the loops are %+v", loops)
		})
	}
	testwait.For(t, "a controller at each node", func() bool {
		return !slices.ContainsFunc(nodes, func(n *Node) bool { return n.controllerHere.Load() == nil })
	})
	nodes[2].admin200(t, http.MethodPost, "/api/v1/admin/controllers/pause?loop="+metasvc.LoopRepair, nil)
	for _, n := range nodes {
		paused(n, true)
		for _, l := range listLoops(n.controllerHere.Load()) {
			if l.Paused != (l.Name == metasvc.LoopRepair) {
				t.Errorf("at %s: %+v", n.settings.NodeName, l)
			}
		}
	}
	nodes[1].admin200(t, http.MethodPost, "/api/v1/admin/controllers/resume?loop="+metasvc.LoopRepair, nil)
	paused(nodes[0], false)
	if status, text := nodes[1].requestAt(t, nodes[1].AdminAddr(), http.MethodPost, "/api/v1/admin/controllers/pause?loop=zzz", nil); status != http.StatusNotFound {
		t.Errorf("pause of nothing: %d %s", status, text)
	}
	var planned []listedAction
	nodes[2].admin200(t, http.MethodGet, "/api/v1/admin/controllers/plan", &planned)

	// A node that is away shows as such, at the others.
	if err := nodes[2].Close(); err != nil {
		t.Fatal(err)
	}
	var broken []listedReplica
	n.admin200(t, http.MethodGet, "/api/v1/admin/replicas?broken=true", &broken)
	if len(broken) == 0 || broken[0].Node != "node-3" || broken[0].Serving != "unknown" || !strings.Contains(broken[0].Broken, "does not answer") {
		t.Errorf("with node-3 away: %+v", broken)
	}
}

func TestAReplicaOfASealedSetIsMadeAnew(t *testing.T) {
	nodes := startNodes(t, founders(t, 3)...)
	old := time.Now().Add(-48 * time.Hour).Truncate(24 * time.Hour).Add(time.Hour)
	nodes[0].mustWrite(t, old, 1)
	asked := old.Add(time.Second).UnixMilli()
	before := fmt.Sprint(nodes[0].query(t, "", perJob, asked))
	sealed := nodes[0].sealAt(t, old).Sets[0].Set
	swapped := func(d describedSet) bool {
		for _, r := range d.Replicas {
			if r.Serving != "file" || r.Role != roleCopy {
				return false
			}
		}
		return allWell(d) && d.Sealed != nil && d.Sealed.Checksum != "" && len(d.Reports) > 1
	}
	d := nodes[0].awaitSet(t, sealed, "all replicas to have the file", swapped)
	var done repaired
	nodes[1].admin200(t, http.MethodPost, fmt.Sprintf("/api/v1/admin/sets/repair?set=%d&replica=%d", sealed, d.Replicas[0].Replica), &done)
	after := nodes[1].awaitSet(t, sealed, "the copy", func(d describedSet) bool { return len(d.Replicas) == 3 && d.Replicas[2].Serving == "file" })
	if after.Replicas[2].Replica != done.Added || after.Replicas[2].Files != 1 || after.Replicas[2].FileBytes != int64(after.Sealed.Bytes) {
		t.Errorf("%+v was added: %+v", done, after.Replicas)
	}
	for _, n := range nodes {
		if got := fmt.Sprint(n.query(t, "", perJob, asked)); got != before {
			t.Errorf("%s after the repair: %s, before: %s", n.settings.NodeName, got, before)
		}
	}
}

// The last good copy is never removed (PROTOCOL 16), and what nobody could agree
// to is not begun.
func TestWhichRepairsAreRefused(t *testing.T) {
	member := func(id quorate.ReplicaID) metasvc.Member { return metasvc.Member{Replica: id} }
	for name, tc := range map[string]struct {
		state   metasvc.ReplicaSetState
		members []quorate.ReplicaID
		old     quorate.ReplicaID
		well    []quorate.ReplicaID
		refused string
	}{
		"one of three is broken":            {metasvc.ReplicaSetOpen, []quorate.ReplicaID{1, 2, 3}, 3, []quorate.ReplicaID{1, 2}, ""},
		"two of three are broken":           {metasvc.ReplicaSetOpen, []quorate.ReplicaID{1, 2, 3}, 3, []quorate.ReplicaID{1}, "no majority"},
		"the last good one":                 {metasvc.ReplicaSetOpen, []quorate.ReplicaID{1, 2, 3}, 1, []quorate.ReplicaID{1}, "last copy"},
		"sealed, one good copy is left":     {metasvc.ReplicaSetSealed, []quorate.ReplicaID{1, 2, 3}, 3, []quorate.ReplicaID{1}, ""},
		"sealed, the last good copy":        {metasvc.ReplicaSetSealed, []quorate.ReplicaID{1, 2, 3}, 1, []quorate.ReplicaID{1}, "last copy"},
		"sealed, no good copy":              {metasvc.ReplicaSetSealed, []quorate.ReplicaID{1, 2}, 1, nil, "last copy"},
		"a set of one":                      {metasvc.ReplicaSetOpen, []quorate.ReplicaID{1}, 1, []quorate.ReplicaID{1}, ""},
		"a set of one that is broken":       {metasvc.ReplicaSetSealed, []quorate.ReplicaID{1}, 1, nil, "nothing to copy"},
		"a set that never formed":           {metasvc.ReplicaSetForming, []quorate.ReplicaID{1, 2, 3}, 1, []quorate.ReplicaID{2, 3}, "forming"},
		"a replica is lacking, all is well": {metasvc.ReplicaSetOpen, []quorate.ReplicaID{1, 2}, 0, []quorate.ReplicaID{1, 2}, ""},
	} {
		set := &metasvc.ReplicaSet{ID: 7, State: tc.state}
		var replicas []listedReplica
		for _, id := range tc.members {
			set.Members = append(set.Members, member(id))
			r := listedReplica{replicaStatus: replicaStatus{Replica: id, Serving: "log", Broken: "disk"}, Role: roleVoter}
			if slices.Contains(tc.well, id) {
				r.Broken = ""
			}
			replicas = append(replicas, r)
		}
		err := checkRepair(set, member(tc.old), replicas)
		if tc.refused == "" && err != nil || tc.refused != "" && (err == nil || !strings.Contains(err.Error(), tc.refused)) {
			t.Errorf("%s: %v, want %q", name, err, tc.refused)
		}
	}
}

func TestAReplicaIsMadeAnew(t *testing.T) {
	settings := founders(t, 3)
	nodes := startNodes(t, settings...)
	now := time.Now()
	nodes[0].mustWrite(t, now, 1)
	asked := now.Add(time.Second).UnixMilli()
	before := fmt.Sprint(nodes[0].query(t, "", perJob, asked))
	var id quorate.ReplicaSetID
	for _, r := range nodes[0].listSets(t) {
		if r.State == "open" && r.AppliedIndex > 1 && r.Start <= quorate.FormatTime(now.UnixMilli()) {
			id = r.Set
		}
	}
	d := nodes[0].awaitSet(t, id, "the set to be well", allWell)
	if status, text := nodes[0].requestAt(t, nodes[0].AdminAddr(), http.MethodPost, fmt.Sprintf("/api/v1/admin/sets/repair?set=%d", id), nil); status != http.StatusBadRequest || !strings.Contains(text, "all replicas of set") {
		t.Errorf("repair of what is well: %d %s", status, text)
	}

	// The loop would do the same, and come first.
	nodes[0].awaitMetaVoters(t, 3)
	pause := func() {
		t.Helper()
		testwait.For(t, "a controller at each node", func() bool {
			return !slices.ContainsFunc(nodes, func(n *Node) bool { return n.controllerHere.Load() == nil })
		})
		nodes[0].admin200(t, http.MethodPost, "/api/v1/admin/controllers/pause?loop="+metasvc.LoopRepair, nil)
	}
	pause()

	// All three nodes have a replica: the new one takes the old one's node.
	var done repaired
	old := d.Replicas[1]
	nodes[0].admin200(t, http.MethodPost, fmt.Sprintf("/api/v1/admin/sets/repair?set=%d&replica=%d", id, old.Replica), &done)
	if done.Removed != old.Replica || done.Added <= old.Replica || done.Node != old.Node {
		t.Errorf("repaired %+v, the old one was %+v", done, old)
	}
	nodes[0].awaitSet(t, id, "the set to be well again", allWell)
	for _, n := range nodes {
		if got := fmt.Sprint(n.query(t, "", perJob, asked)); got != before {
			t.Errorf("%s after the repair: %s, before: %s", n.settings.NodeName, got, before)
		}
	}

	// A replica whose log is lost is found without being named.
	at := 2
	lost, _ := nodes[at].meta.client.Map().Set(id).MemberOn(nodes[at].identity.Node)
	if err := nodes[at].Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(settings[at].DataDir, raftDirName, fmt.Sprintf("%d-%d", id, lost.Replica))); err != nil {
		t.Fatal(err)
	}
	settings[at].Cluster.Expect = 0
	nodes[at] = startUnready(t, settings[at])[0]
	// The node that was started anew does not know that the loop is paused: if it
	// leads, the loop is at it too.
	testwait.Until(t, "the lost replica to be made anew", func() error {
		status, text := nodes[0].requestAt(t, nodes[0].AdminAddr(), http.MethodPost, fmt.Sprintf("/api/v1/admin/sets/repair?set=%d", id), nil)
		if set := nodes[0].meta.client.Map().Set(id); set.HasMember(lost.Replica) {
			return fmt.Errorf("replica %d is still there: %d %s", lost.Replica, status, text)
		}
		return nil
	})
	nodes[0].awaitSet(t, id, "the set to be well after the loss", allWell)
	for _, n := range nodes {
		if got := fmt.Sprint(n.query(t, "", perJob, asked)); got != before {
			t.Errorf("%s after the loss: %s, before: %s", n.settings.NodeName, got, before)
		}
	}
}
