package raftset

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/internal/durable"
)

// recorder copies a host's directory before and after every durable step, which
// is what a crash there would leave.
type recorder struct {
	t   *testing.T
	dir string

	mu       sync.Mutex
	proposed []string
	acked    int
	crashes  []crashPoint
}

type crashPoint struct {
	step            string
	dir             string
	acked, proposed int
}

func (r *recorder) record(step string) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	p := crashPoint{step: fmt.Sprintf("%d: %s", len(r.crashes), step), acked: r.acked, proposed: len(r.proposed)}
	p.dir = crash(r.t, r.dir)
	r.crashes = append(r.crashes, p)
}

func (r *recorder) around(step string, do func() error) error {
	r.record("before " + step)
	err := do()
	r.record("after " + step)
	return err
}

func (r *recorder) publish(path string, data []byte) error {
	return r.around("the "+filepath.Base(path)+" is published", func() error { return durable.WriteFile(path, data) })
}

func (r *recorder) open(o LogOptions) (LogStore, error) {
	s, err := openWAL(o)
	return &recordedLog{LogStore: s, recorder: r}, err
}

func (r *recorder) propose(g *Group, command string) {
	r.t.Helper()
	r.mu.Lock()
	r.proposed = append(r.proposed, command)
	r.mu.Unlock()
	propose(r.t, g, command)
	r.mu.Lock()
	r.acked = len(r.proposed)
	r.mu.Unlock()
}

type recordedLog struct {
	LogStore
	recorder *recorder
}

func (s *recordedLog) IsMonotonic() bool { return s.LogStore.(raft.MonotonicLogStore).IsMonotonic() }

func (s *recordedLog) StoreLogs(logs []*raft.Log) error {
	return s.recorder.around(fmt.Sprintf("entry %d is stored", logs[0].Index), func() error { return s.LogStore.StoreLogs(logs) })
}

func (s *recordedLog) DeleteRange(from, to uint64) error {
	return s.recorder.around(fmt.Sprintf("entries %d to %d are deleted", from, to), func() error { return s.LogStore.DeleteRange(from, to) })
}

// Whatever durable step a crash comes before or after: every acknowledged
// command is there, in order, nothing else is, and the replica goes on.
func TestACrashAtAnyStepLosesNothing(t *testing.T) {
	r := &recorder{t: t, dir: t.TempDir()}
	h := newHost(t, HostConfig{Dir: r.dir, LogStore: r.open, publish: r.publish})
	form(t, h, testSet)
	g, _ := openLeader(t, h, testSet)
	// Large enough that segments of 64 KiB are sealed in between.
	filler := strings.Repeat("f", 9000)
	for round := range 3 {
		for i := range 3 {
			r.propose(g, fmt.Sprint(round, i, filler))
		}
		if round != 1 {
			if err := g.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if round == 0 {
			closeGroup(t, g)
			g, _ = openLeader(t, h, testSet)
		}
	}
	closeGroup(t, g)
	r.record("the end")

	for _, p := range r.crashes {
		recoverFrom(t, p, r.proposed)
	}
	t.Logf("recovered from %d crashes", len(r.crashes))
}

func recoverFrom(t *testing.T, p crashPoint, proposed []string) {
	t.Helper()
	h, err := NewHost(HostConfig{Dir: p.dir, SegmentBytes: minSegmentBytes})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Close(); err != nil {
			t.Errorf("%s: %v", p.step, err)
		}
	}()
	form(t, h, testSet)
	l := &ledger{}
	g, err := h.Open(t.Context(), testSet, testReplica, l)
	if err != nil {
		t.Errorf("a crash %s: %v", p.step, err)
		return
	}
	awaitLeader(t, g)
	got := l.all()[1:]
	if len(got) < p.acked || len(got) > p.proposed || !slices.Equal(got, proposed[:len(got)]) {
		t.Errorf("a crash %s: %d commands are left of %d acknowledged and %d proposed", p.step, len(got), p.acked, p.proposed)
	}
	propose(t, g, "going on")
}
