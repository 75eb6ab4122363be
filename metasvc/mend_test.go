package metasvc

import (
	"strings"
	"testing"

	"github.com/quorate/quorate"
)

// ill has a node say that its replica of a set is broken, and returns the replica.
func (w *ward) ill(node string, set quorate.ReplicaSetID) quorate.ReplicaID {
	w.t.Helper()
	member, ok := w.state().sets[set].MemberOn(testNode(node, 1))
	if !ok {
		w.t.Fatalf("set %d has no replica on %s", set, node)
	}
	w.sick[node] = append(w.sick[node], SetBeat{Set: set, Replica: member.Replica, Broken: true, Why: "its log is damaged"})
	return member.Replica
}

// TestABrokenReplicaIsMadeAnewOnItsNode: with as many nodes as replicas no other
// node can take one.
func TestABrokenReplicaIsMadeAnewOnItsNode(t *testing.T) {
	for _, kind := range []string{"open", "sealed", "overlay"} {
		t.Run(kind, func(t *testing.T) {
			w := newWard(t, "a", "b", "c")
			base := w.bucket(hours(0, 24), "n1 n2 n3")[0]
			id := base
			if kind != "open" {
				w.seal(base)
			}
			if kind == "overlay" {
				id = w.overlay(base)
			}
			healthy := w.state().sets[base].Members
			broken := w.ill("n2", id)
			actions, err := w.run(planRepair)
			if err != nil || len(actions) != 1 || !strings.Contains(actions[0].Why, "its log is damaged") {
				t.Fatalf("%v is wanted, %v", actions, err)
			}
			w.settle(planRepair)
			set := w.state().sets[id]
			member, _ := set.MemberOn(testNode("n2", 1))
			if w.on(id) != "n1 n2 n3" || member.Replica == broken || set.HasMember(broken) || len(set.Left) != 0 {
				t.Errorf("set %d lies on %s, its replica on n2 is %d in place of %d", id, w.on(id), member.Replica, broken)
			}
			for _, m := range healthy {
				if m.Replica != broken && !w.state().sets[base].HasMember(m.Replica) {
					t.Errorf("replica %d of set %d was well and is gone", m.Replica, base)
				}
			}
			if kind == "overlay" {
				w.seal(id)
			}
		})
	}
}

func TestABrokenReplicaStaysWhileTheOthersAreNoMajority(t *testing.T) {
	w := newWard(t, "a", "b", "c")
	open := w.bucket(hours(0, 24), "n1 n2 n3")[0]
	sealed := w.bucket(hours(24, 48), "n1 n2 n3")[0]
	w.seal(sealed)
	for _, node := range []string{"n2", "n3"} {
		w.ill(node, open)
		w.ill(node, sealed)
	}
	w.ill("n1", sealed)
	actions, err := w.run(planRepair)
	if len(actions) != 0 || err == nil || !strings.Contains(err.Error(), "too many replicas") {
		t.Errorf("%v is wanted, %v", actions, err)
	}
}

// TestABrokenReplicaOfASilentNodeStays: it may be well when its node is back, and
// cannot be made anew there before.
func TestABrokenReplicaOfASilentNodeStays(t *testing.T) {
	w := newWard(t, "a", "b", "c")
	w.bucket(hours(0, 24), "n1 n2 n3")
	w.silent["n2"] = true
	actions, err := w.run(planRepair)
	if len(actions) != 0 || err == nil || !strings.Contains(err.Error(), "wait for a node") {
		t.Errorf("%v is wanted, %v", actions, err)
	}
}

// TestWhoMissedToFormIsMadeAnewOnItsNode: after a change of the members it forms
// never (PROTOCOL 2).
func TestWhoMissedToFormIsMadeAnewOnItsNode(t *testing.T) {
	w := newWard(t, "a", "b", "c", "d")
	w.silent["n3"] = true
	id := w.bucket(hours(0, 24), "n1 n2 n3")[0]
	w.must(t, AlterPolicy{ID: 1, Policy: policy(DefaultPolicyName, func(p *PolicySpec) { p.Replicas = 4 })},
		BeginMembers{Set: id, Add: testNode("n4", 1)})
	w.carryOut()
	w.silent["n3"] = false
	w.settle(planRepair)
	if set := w.state().sets[id]; w.on(id) != "n1 n2 n3 n4" || len(set.Formed) != 4 {
		t.Errorf("the set lies on %s, formed %v", w.on(id), set.Formed)
	}
}

// TestProtocol11SetsGetAsManyReplicasAsTheirPolicySays: PROTOCOL 11.
func TestProtocol11SetsGetAsManyReplicasAsTheirPolicySays(t *testing.T) {
	w := newWard(t, "a", "b", "c", "d")
	open := w.bucket(hours(0, 24), "n1 n2 n3")[0]
	base := w.bucket(hours(24, 48), "n1 n2 n3")[0]
	w.seal(base)
	overlay := w.overlay(base)
	w.must(t, BeginMembers{Set: open, Remove: w.state().sets[open].Members[1].Replica})
	w.carryOut()
	w.settle(planRepair)
	if got := w.on(open); len(strings.Fields(got)) != 3 {
		t.Errorf("after a replica was removed the set lies on %s", got)
	}
	w.must(t, AlterPolicy{ID: 1, Policy: policy(DefaultPolicyName, func(p *PolicySpec) { p.Replicas = 4 })})
	w.settle(planRepair)
	for _, id := range []quorate.ReplicaSetID{open, base, overlay} {
		if got := w.on(id); got != "n1 n2 n3 n4" {
			t.Errorf("set %d lies on %s", id, got)
		}
	}
	// Fewer are not taken away: a copy that is there costs less than its loss.
	w.must(t, AlterPolicy{ID: 1, Policy: policy(DefaultPolicyName, func(p *PolicySpec) { p.Replicas = 2 })})
	if actions, err := w.run(planRepair); len(actions) != 0 || err != nil {
		t.Errorf("%v is wanted, %v", actions, err)
	}
}
