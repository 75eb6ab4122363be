package raftset

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
)

func TestManyGroupsLeaveNothingBehind(t *testing.T) {
	dir := t.TempDir()
	h := newHost(t, HostConfig{Dir: dir})
	const groups = 50
	for set := quorate.ReplicaSetID(1); set <= groups; set++ {
		form(t, h, set)
	}
	before := runtime.NumGoroutine()
	for round := range 2 {
		begin := time.Now()
		open := make([]*Group, 0, groups)
		for set := quorate.ReplicaSetID(1); set <= groups; set++ {
			g, _ := openLeader(t, h, set)
			propose(t, g, fmt.Sprintf("round %d", round))
			open = append(open, g)
		}
		t.Logf("%d groups opened and wrote in %v; %d goroutines each", groups, time.Since(begin), (runtime.NumGoroutine()-before)/groups)
		for _, g := range open {
			if round == 0 {
				closeGroup(t, g)
			}
		}
		if round == 1 {
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		}
		testwait.For(t, "the groups' goroutines to end", func() bool { return runtime.NumGoroutine() <= before })
	}
	for set := quorate.ReplicaSetID(1); set <= groups; set++ {
		if _, ok := h.Group(set); ok {
			t.Errorf("set %d is still there", set)
		}
	}
	if _, err := h.Open(t.Context(), 1, testReplica, &ledger{}); !errors.Is(err, ErrStopped) {
		t.Errorf("a closed host opens: %v", err)
	}
}

func TestASetIsOpenOnce(t *testing.T) {
	h, g, _ := start(t, HostConfig{Dir: t.TempDir()})
	if _, err := h.Open(t.Context(), testSet, testReplica, &ledger{}); !errors.Is(err, errOpen) {
		t.Errorf("got %v", err)
	}
	if got, ok := h.Group(testSet); !ok || got != g {
		t.Error("the group is not to be found")
	}
	if _, ok := h.Group(99); ok {
		t.Error("a group that never was is found")
	}
	for range 2 {
		closeGroup(t, g)
	}
	if _, ok := h.Group(testSet); ok {
		t.Error("a closed group is found")
	}
}

// failing is a state machine that does not open.
type failing struct{ ledger }

func TestAStateMachineThatDoesNotOpenLeavesTheReplicaAlone(t *testing.T) {
	h := newHost(t, HostConfig{Dir: t.TempDir()})
	form(t, h, testSet)
	broken := &failing{}
	broken.opened = true // makes Open fail
	if _, err := h.Open(t.Context(), testSet, testReplica, broken); err == nil || errors.Is(err, ErrQuarantined) {
		t.Errorf("got %v", err)
	}
	if broken.closed {
		t.Error("it was closed, though it never opened")
	}
	_, l := openLeader(t, h, testSet)
	wantLines(t, l)
}

func TestMemoryLogsLiveAsLongAsTheirFactory(t *testing.T) {
	dir, logs := t.TempDir(), MemoryLogs()
	h, g, _ := start(t, HostConfig{Dir: dir, LogStore: logs})
	propose(t, g, "flushed")
	if err := g.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	propose(t, g, "in memory")
	closeGroup(t, g)
	g, l := openLeader(t, h, testSet)
	wantLines(t, l, "flushed", "in memory")
	closeGroup(t, g)
	_, l = openLeader(t, newHost(t, HostConfig{Dir: dir, LogStore: MemoryLogs()}), testSet)
	wantLines(t, l, "flushed")
}

func TestTheMetricsAreWellFormed(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	_, g, _ := start(t, HostConfig{Dir: t.TempDir(), Registerer: r})
	propose(t, g, "x")
	if err := g.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	problems, err := testutil.GatherAndLint(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	want := `
# HELP quorate_raft_groups Replicas that are open on this node, broken ones included.
# TYPE quorate_raft_groups gauge
quorate_raft_groups 1
# HELP quorate_raft_queued_bytes Bytes of the commands that wait to be proposed.
# TYPE quorate_raft_queued_bytes gauge
quorate_raft_queued_bytes 0
`
	if err := testutil.GatherAndCompare(r, strings.NewReader(want), "quorate_raft_groups", "quorate_raft_queued_bytes"); err != nil {
		t.Error(err)
	}
	if _, err := NewHost(HostConfig{Dir: t.TempDir(), Registerer: r}); err == nil {
		t.Error("the same metrics were registered twice")
	}
}

func TestAWrongConfigurationIsRefused(t *testing.T) {
	for name, cfg := range map[string]HostConfig{
		"no directory":         {},
		"a tiny segment":       {Dir: "x", SegmentBytes: 1},
		"a huge segment":       {Dir: "x", SegmentBytes: 1 << 30},
		"a negative queue":     {Dir: "x", QueueBytes: -1},
		"a huge batch":         {Dir: "x", BatchBytes: maxCommandBytes + 1},
		"a negative stall":     {Dir: "x", StallAfter: -1},
		"a hasty heartbeat":    {Dir: "x", HeartbeatTimeout: time.Millisecond},
		"no entries in flight": {Dir: "x", InFlight: -1},
	} {
		if _, err := NewHost(cfg); err == nil {
			t.Errorf("%s: it was accepted", name)
		}
	}
}

func TestMembersPrintAndParse(t *testing.T) {
	for _, m := range []Member{member(1), {Replica: 1 << 60, Node: quorate.NodeID{Name: "a/b@c"}}} {
		if got, err := ParseMember(m.String()); err != nil || got != m {
			t.Errorf("%s parses to %v, %v", m, got, err)
		}
	}
	for _, s := range []string{"", "1", "1@", "1@node", "x@node/" + strings.Repeat("0", 32), "1@node/xyz"} {
		if m, err := ParseMember(s); err == nil {
			t.Errorf("%q parses to %v", s, m)
		}
	}
}
