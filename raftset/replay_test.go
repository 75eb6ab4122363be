package raftset

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
)

// heldLedger applies nothing before it is released.
type heldLedger struct {
	ledger
	hold chan struct{}
}

func (h *heldLedger) ApplyBatch(entries []quorate.LogEntry) ([][]any, error) {
	<-h.hold
	return h.ledger.ApplyBatch(entries)
}

func TestTheLogIsReadNoFasterThanItIsApplied(t *testing.T) {
	h, g, _ := start(t, HostConfig{Dir: t.TempDir(), SegmentBytes: defaultSegmentBytes})
	const n, size = 40, 1 << 20
	random := rand.NewChaCha8([32]byte{})
	command := make([]byte, size)
	for range n {
		if _, err := random.Read(command); err != nil {
			t.Fatal(err)
		}
		if _, err := g.Propose(t.Context(), testKind, command); err != nil {
			t.Fatal(err)
		}
	}
	closeGroup(t, g)

	l := &heldLedger{hold: make(chan struct{})}
	g, err := h.Open(t.Context(), testSet, testReplica, l)
	if err != nil {
		t.Fatal(err)
	}
	brake := g.log.replay
	testwait.For(t, "the reader to be held back", func() bool { return brake.full(brake.upTo) })
	brake.mu.Lock()
	read, entries := brake.bytes, brake.entries
	brake.mu.Unlock()
	if read > replayBytes+2*size || entries >= n {
		t.Errorf("%d MiB in %d entries were read ahead of a state machine that stands still", read>>20, entries)
	}
	close(l.hold)
	awaitLeader(t, g)
	if got := len(l.all()); got != n+1 {
		t.Errorf("%d commands were replayed, want %d", got-1, n)
	}
	if brake.entries != 0 || brake.bytes != 0 {
		t.Errorf("%d entries of %d bytes count as not applied", brake.entries, brake.bytes)
	}
}

func TestCloseEndsAReplayUnderWay(t *testing.T) {
	h, g, _ := start(t, HostConfig{Dir: t.TempDir()})
	lines := proposeAll(t, g, "x", 3)
	closeGroup(t, g)
	l := &heldLedger{hold: make(chan struct{})}
	g, err := h.Open(t.Context(), testSet, testReplica, l)
	if err != nil {
		t.Fatal(err)
	}
	answer := make(chan error, 1)
	testwait.For(t, "leadership", func() bool { _, leader := g.Leadership(); return leader })
	go func() {
		_, err := g.ConfirmRead(context.WithoutCancel(t.Context()))
		answer <- err
	}()
	testwait.For(t, "the read to wait", func() bool { return g.pending() == 1 })
	closed := make(chan error, 1)
	go func() { closed <- g.Close() }()
	close(l.hold)
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if err := <-answer; err != nil && !errors.Is(err, ErrOutcomeUnknown) && !errors.Is(err, ErrStopped) {
		t.Errorf("the read got %v", err)
	}
	_, again := openLeader(t, h, testSet)
	wantLines(t, again, lines...)
}
