package raftset

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/internal/testwait"
)

func TestAFlushDeletesTheLogAndARestartContinuesPastTheManifest(t *testing.T) {
	dir := t.TempDir()
	h, g, l := start(t, HostConfig{Dir: dir})
	lines := proposeAll(t, g, "a", 10)
	before := g.Status()
	if before.LogBytes == 0 {
		t.Error("the log past the manifest holds no bytes")
	}
	if err := g.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := g.Status()
	if s.ManifestIndex != before.AppliedIndex || s.FirstIndex != 0 || s.LastIndex != 0 || s.LogBytes != 0 {
		t.Errorf("after the flush of entry %d the status is %+v", before.AppliedIndex, s)
	}
	if l.published != 1 || l.discarded != 0 {
		t.Errorf("%d published, %d discarded", l.published, l.discarded)
	}
	closeGroup(t, g)

	g, l = openLeader(t, h, testSet)
	wantLines(t, l, lines...)
	if first := g.Status().FirstIndex; first != s.ManifestIndex+1 {
		t.Errorf("the log starts at %d, want %d", first, s.ManifestIndex+1)
	}
	lines = append(lines, proposeAll(t, g, "b", 3)...)
	closeGroup(t, g)
	_, l = openLeader(t, h, testSet)
	wantLines(t, l, lines...)
}

func TestAFlushOfNothingNewDoesNothing(t *testing.T) {
	h, g, l := start(t, HostConfig{Dir: t.TempDir()})
	for range 3 {
		if err := g.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if l.published != 0 && g.Status().ManifestIndex == genesisIndex {
		t.Errorf("%d flushes were published", l.published)
	}
	propose(t, g, "x")
	for range 3 {
		if err := g.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	published := l.published
	closeGroup(t, g)
	g, l = open(t, h, testSet)
	if err := g.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitLeader(t, g)
	wantLines(t, l, "x")
	if published > 2 {
		t.Errorf("%d flushes were published", published)
	}
}

func TestAFailedFlushKeepsTheStateAndTheLog(t *testing.T) {
	dir := t.TempDir()
	h, g, l := start(t, HostConfig{Dir: dir})
	propose(t, g, "x")
	noSpace := errors.New("no space left for blocks")
	l.with(func(l *ledger) { l.persistErr = noSpace })
	if err := g.Flush(t.Context()); err == nil || !strings.Contains(err.Error(), noSpace.Error()) {
		t.Fatalf("flush gives %v", err)
	}
	if l.published != 0 || l.discarded != 1 {
		t.Errorf("%d published, %d discarded", l.published, l.discarded)
	}
	propose(t, g, "y") // ingestion goes on
	if s := g.Status(); s.ManifestIndex != genesisIndex || s.Broken != nil {
		t.Errorf("status is %+v", s)
	}
	l.with(func(l *ledger) { l.persistErr = nil })
	if err := g.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	closeGroup(t, g)
	_, l = openLeader(t, h, testSet)
	wantLines(t, l, "x", "y")
}

func TestWritesGoOnDuringAFlush(t *testing.T) {
	h, g, l := start(t, HostConfig{Dir: t.TempDir()})
	lines := proposeAll(t, g, "a", 3)
	hold := make(chan struct{})
	l.with(func(l *ledger) { l.holdPersist = hold })
	flushed := make(chan error, 1)
	go func() { flushed <- g.Flush(context.WithoutCancel(t.Context())) }()
	testwait.For(t, "the flush to begin", func() bool { return len(g.flushing) == 1 })
	lines = append(lines, proposeAll(t, g, "b", 3)...)
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Flush(impatient); !errors.Is(err, context.Canceled) {
		t.Errorf("a flush that may not wait gives %v", err)
	}
	close(hold)
	if err := <-flushed; err != nil {
		t.Fatal(err)
	}
	closeGroup(t, g)
	_, l = openLeader(t, h, testSet)
	wantLines(t, l, lines...)
}

func TestCloseEndsAFlushUnderWay(t *testing.T) {
	h, g, l := start(t, HostConfig{Dir: t.TempDir()})
	propose(t, g, "x")
	l.with(func(l *ledger) { l.holdPersist = make(chan struct{}) })
	flushed := make(chan error, 1)
	go func() { flushed <- g.Flush(context.WithoutCancel(t.Context())) }()
	testwait.For(t, "the flush to begin", func() bool { return len(g.flushing) == 1 })
	closeGroup(t, g)
	if err := <-flushed; err == nil {
		t.Error("the flush was published by a closed replica")
	}
	if l.published != 0 {
		t.Error("the state machine was told of a publication")
	}
	_, l = openLeader(t, h, testSet)
	wantLines(t, l, "x")
}

// PROTOCOL 21: compare-and-swap on the manifest the flush started from, and an
// index that never falls.
func TestProtocol21TheManifestIsSwappedNotOverwritten(t *testing.T) {
	dir := t.TempDir()
	h, g, _ := start(t, HostConfig{Dir: dir})
	configuration := toConfiguration(g.manifests.current().servers)
	create := func(index uint64, payload string) raft.SnapshotSink {
		t.Helper()
		k, err := g.manifests.Create(1, index, 2, configuration, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Write([]byte(payload)); err != nil {
			t.Fatal(err)
		}
		return k
	}
	slow, quick, cancelled := create(9, "slow"), create(5, "quick"), create(6, "cancelled")
	if err := quick.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := slow.Close(); err == nil {
			t.Error("a flush that started from a replaced manifest was published")
		}
	}
	if err := cancelled.Cancel(); err != nil {
		t.Error(err)
	}
	if err := cancelled.Close(); err == nil {
		t.Error("a cancelled flush was published")
	}
	if err := quick.Close(); err != nil {
		t.Errorf("a second Close gives %v", err)
	}
	if err := quick.Cancel(); err != nil {
		t.Error(err)
	}
	if _, err := g.manifests.Create(1, 4, 2, configuration, 1, nil); !errors.Is(err, ErrSuperseded) {
		t.Errorf("a manifest of a lower index gives %v, want ErrSuperseded", err)
	}
	if m := g.manifests.current(); m.index != 5 || string(m.payload) != "quick" {
		t.Errorf("the manifest is at %d with %q", m.index, m.payload)
	}
	stored, err := openManifestStore(replicaPath(dir, manifestFile), nil)
	if err != nil || stored.now.index != 5 {
		t.Errorf("stored is %+v, %v", stored, err)
	}
	_ = h
}

func TestARewritePublishesEvenWhenNothingIsNew(t *testing.T) {
	h, g, l := start(t, HostConfig{Dir: t.TempDir()})
	propose(t, g, "x")
	index := uint64(0)
	for round := range 4 {
		if round == 2 { // also right after a start, when Raft has applied nothing yet
			closeGroup(t, g)
			g, l = openLeader(t, h, testSet)
		}
		before := l.published
		if err := g.Rewrite(t.Context()); err != nil {
			t.Fatal(err)
		}
		now := g.Status().ManifestIndex
		if l.published != before+1 || now <= index {
			t.Errorf("round %d: %d publications, and the manifest went from %d to %d", round, l.published-before, index, now)
		}
		index = now
	}
	closeGroup(t, g)
	_, l = openLeader(t, h, testSet)
	wantLines(t, l, "x")
}
