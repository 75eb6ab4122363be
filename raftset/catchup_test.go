package raftset

import (
	"testing"

	"github.com/quorate/quorate/internal/testwait"
)

func isReplayed(g *Group) bool {
	select {
	case <-g.Replayed():
		return true
	default:
		return false
	}
}

func TestAReplicaTellsWhenItsLogIsReplayed(t *testing.T) {
	h, g, _ := start(t, HostConfig{Dir: t.TempDir()})
	if !isReplayed(g) {
		t.Error("a replica that was just born has something to replay")
	}
	lines := proposeAll(t, g, "x", 5)
	closeGroup(t, g)

	l := &heldLedger{hold: make(chan struct{})}
	g, err := h.Open(t.Context(), testSet, testReplica, l)
	if err != nil {
		t.Fatal(err)
	}
	testwait.For(t, "leadership", func() bool { _, leads := g.Leadership(); return leads })
	if isReplayed(g) {
		t.Error("the log counts as replayed before it was applied")
	}
	close(l.hold)
	testwait.For(t, "the replay", func() bool { return isReplayed(g) })
	wantLines(t, &l.ledger, lines...)

	if err := g.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	closeGroup(t, g)
	if g, _ = open(t, h, testSet); !isReplayed(g) {
		t.Error("after a flush something is left to replay")
	}
}
