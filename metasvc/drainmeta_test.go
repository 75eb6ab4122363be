package metasvc

import "testing"

// A drain that cannot go on costs the metadata group nothing; one that can takes
// the vote as soon as another node has come for it, or the replicas are gone.
func TestADrainingNodeVotesUntilItsReplicasAreGone(t *testing.T) {
	w, _ := newMetaWard(t, "a", "b", "c")
	w.settle(planMeta)
	w.bucket(hours(0, 24), "n1 n2 n3")
	w.must(t, DrainNode{testNode("n2", 1)})
	if _, err := w.run(planDrain); err == nil {
		t.Error("a drain without a node for the replicas tells nothing")
	}
	w.settle(planMeta)
	if got := w.voters(); got != "n1 n2 n3" {
		t.Errorf("while nothing can be moved %s hold metadata", got)
	}
	w.silent["n2"] = true // for long: it is lost, draining or not
	w.settle(planMeta)
	if got := w.voters(); got != "n1 n3" {
		t.Errorf("without the draining node %s hold metadata", got)
	}
	w.silent["n2"] = false
	w.must(t, UndrainNode{testNode("n2", 1)})
	w.settle(planMeta)
	w.must(t, DrainNode{testNode("n2", 1)}, AdmitNode{testNodeSpec("n4", "b")})
	w.settle(planMeta)
	if got := w.voters(); got != "n1 n3 n4" {
		t.Errorf("with another node %s hold metadata", got)
	}
	w.settle(planDrain)
	w.must(t, RemoveNode{testNode("n2", 1)})
}

func TestOfFiveVotersADrainingNodeIsNotMissed(t *testing.T) {
	w, _ := newMetaWard(t, "a", "b", "c", "a", "b")
	w.settle(planMeta)
	w.bucket(hours(0, 24), "n1 n2 n3")
	w.must(t, DrainNode{testNode("n2", 1)})
	w.settle(planMeta)
	if got := w.voters(); got != "n1 n2 n3 n4 n5" {
		t.Errorf("while the replicas move %s hold metadata", got)
	}
	w.settle(planDrain, planMeta)
	if got := w.voters(); got != "n1 n3 n4 n5" {
		t.Errorf("when they have moved %s hold metadata", got)
	}
}
