package raftset

import (
	"errors"
	"testing"

	"github.com/quorate/quorate/internal/testwait"
)

// A group that goes on leads from where it was told to begin, also after a
// restart, beside the directory of the replica that it follows.
func TestARefoundedGroupGoesOn(t *testing.T) {
	h, g, _ := start(t, HostConfig{Dir: t.TempDir()})
	proposeAll(t, g, "x", 3)
	if err := g.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	payload := g.manifests.current().payload
	closeGroup(t, g)

	r := Refounding{Set: testSet, Voter: Member{Node: member(1).Node, Replica: 1 << 32}, Index: 1 << 40, Term: 1 << 32, Payload: payload}
	for range 2 { // it is idempotent
		if err := h.Refound(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	other := r
	other.Index++
	if err := h.Refound(t.Context(), other); !errors.Is(err, ErrFormedOtherwise) {
		t.Errorf("refounded otherwise: %v", err)
	}
	for range 2 {
		g, err := h.Open(t.Context(), testSet, r.Voter.Replica, &ledger{})
		if err != nil {
			t.Fatal(err)
		}
		testwait.For(t, "the refounded replica to lead", func() bool { _, leads := g.Leadership(); return leads })
		proposeAll(t, g, "y", 2)
		if s := g.Status(); s.AppliedIndex <= r.Index || s.Term <= r.Term || len(g.Configuration().Voters) != 1 {
			t.Errorf("it stands at %+v", s)
		}
		closeGroup(t, g)
	}
	for _, bad := range []Refounding{{Set: testSet, Voter: r.Voter, Index: 1, Term: 9}, {Set: testSet, Voter: r.Voter, Index: 9, Term: 1}, {Set: testSet, Index: 9, Term: 9}} {
		if err := h.Refound(t.Context(), bad); err == nil {
			t.Errorf("refounded %+v", bad)
		}
	}
}
