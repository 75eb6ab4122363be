package metasvc

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate"
)

// paperMeta is a metadata group on paper.
type paperMeta struct {
	voters, learners []Member
	// lag is how far the learner is behind.
	lag uint64
	now func() time.Time
}

func (g *paperMeta) Voters() []Member   { return slices.Clone(g.voters) }
func (g *paperMeta) Learners() []Member { return slices.Clone(g.learners) }

func (g *paperMeta) AddLearner(_ context.Context, m Member) error {
	if len(g.learners) > 0 {
		return errors.New("one at a time")
	}
	g.learners = append(g.learners, m)
	return nil
}

func (g *paperMeta) Promote(_ context.Context, replica quorate.ReplicaID) error {
	i := slices.IndexFunc(g.learners, func(m Member) bool { return m.Replica == replica })
	g.voters = append([]Member{g.learners[i]}, g.voters...) // in no order
	g.learners = nil
	return nil
}

func (g *paperMeta) Remove(_ context.Context, replica quorate.ReplicaID) error {
	is := func(m Member) bool { return m.Replica == replica }
	g.voters, g.learners = slices.DeleteFunc(g.voters, is), slices.DeleteFunc(g.learners, is)
	return nil
}

func (g *paperMeta) Lag(quorate.ReplicaID) (uint64, time.Time, bool) { return g.lag, g.now(), true }

func newMetaWard(t *testing.T, zones ...string) (*ward, *paperMeta) {
	w := newWard(t, zones...)
	group := &paperMeta{voters: []Member{{testNode("n1", 1), 1}}, now: func() time.Time { return w.now }}
	w.cfg.MetaGroup = group
	return w, group
}

func (w *ward) voters() string {
	var names []string
	for _, m := range w.state().cluster.Meta {
		names = append(names, m.Node.Name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func TestTheMetadataGroupGrows(t *testing.T) {
	for _, c := range []struct {
		zones []string
		want  string
	}{
		{[]string{"a"}, "n1"},
		{[]string{"a", "a", "b", "a"}, "n1 n2 n3"},
		{[]string{"a", "a", "a", "b", "c", "a"}, "n1 n2 n3 n4 n5"},
	} {
		w, group := newMetaWard(t, c.zones...)
		w.settle(planMeta)
		if got := w.voters(); got != c.want || len(group.voters) != len(w.state().cluster.Meta) || w.state().cluster.MetaJoining != nil {
			t.Errorf("of %d nodes %s hold metadata, want %s", len(c.zones), got, c.want)
		}
	}
}

func TestALearnerOfMetadataIsPromotedWhenItHasLearned(t *testing.T) {
	w, group := newMetaWard(t, "a", "b", "c")
	group.lag = learnedEntries + 1
	w.settle(planMeta)
	if w.voters() != "n1" || len(group.learners) != 1 {
		t.Fatalf("%s hold metadata, and %v learn", w.voters(), group.learners)
	}
	group.lag = learnedEntries
	w.settle(planMeta)
	if w.voters() != "n1 n2 n3" {
		t.Errorf("%s hold metadata", w.voters())
	}
}

func TestALostMemberOfTheMetadataGroupIsReplaced(t *testing.T) {
	w, _ := newMetaWard(t, "a", "b", "c", "c")
	w.settle(planMeta)
	if w.voters() != "n1 n2 n3" {
		t.Fatalf("%s hold metadata", w.voters())
	}
	w.silent["n2"] = true
	w.settle(planMeta)
	if w.voters() != "n1 n3 n4" {
		t.Errorf("without n2 %s hold metadata", w.voters())
	}
	w.must(t, DrainNode{testNode("n3", 1)})
	w.settle(planMeta)
	if w.voters() != "n1 n4" { // there is no other
		t.Errorf("without n3 %s hold metadata", w.voters())
	}
	w.must(t, RemoveNode{testNode("n3", 1)})
}

func TestTheMetadataGroupKeepsItsMajority(t *testing.T) {
	w, group := newMetaWard(t, "a", "b", "c")
	w.settle(planMeta)
	w.silent["n2"], w.silent["n3"] = true, true
	if actions, err := w.run(planMeta); len(actions) != 0 || err == nil || len(group.voters) != 3 {
		t.Errorf("of a group that has lost its majority %v is wanted, %v", actions, err)
	}
}

func TestALostLearnerOfMetadataIsGivenUp(t *testing.T) {
	w, group := newMetaWard(t, "a", "b", "c")
	group.lag = 1e6
	w.settle(planMeta)
	first := w.state().cluster.MetaJoining.Node.Name
	w.silent[first] = true
	w.settle(planMeta)
	if j := w.state().cluster.MetaJoining; j == nil || j.Node.Name == first || len(group.learners) != 1 || group.learners[0] != *j {
		t.Errorf("%s is lost, %+v joins, and %v learn", first, j, group.learners)
	}
}

func TestTheRecordOfTheMetadataGroupFollowsItsConfiguration(t *testing.T) {
	w, group := newMetaWard(t, "a", "b", "c")
	w.settle(planMeta)
	// A leader removed one and was lost before it said so.
	if err := group.Remove(t.Context(), w.state().cluster.Meta[2].Replica); err != nil {
		t.Fatal(err)
	}
	w.silent["n3"] = true
	w.settle(planMeta)
	if w.voters() != "n1 n2" {
		t.Errorf("the record has %s", w.voters())
	}
}
