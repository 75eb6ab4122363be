package raftset

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate"
)

// writesGoOnWithin is how long after a leader's end the others acknowledge
// writes again at the latest (PROTOCOL 27).
const writesGoOnWithin = 3 * defaultHeartbeatTimeout

// hungDisk has the appends of testReplica wait for as long as it hangs: before
// they write anything, or after all is written, as an fsync does that never returns.
type hungDisk struct {
	written bool
	// told is what Fatal was told.
	told chan error

	mu      sync.Mutex
	hanging chan struct{} // nil while the disk is well
}

func newHungDisk(written bool) *hungDisk {
	return &hungDisk{written: written, told: make(chan error, 10)}
}

// under has testReplica's node use the disk.
func (d *hungDisk) under(t *testing.T) func(*node, *HostConfig) {
	return func(n *node, cfg *HostConfig) {
		cfg.Fatal = func(reason error) { t.Errorf("%s: %v", n.member, reason) }
		if n.member.Replica == testReplica {
			cfg.Fatal = func(reason error) { d.told <- reason }
			cfg.LogStore = d.open
		}
	}
}

// hang has appends wait from now on, until the returned function is called or the
// test ends.
func (d *hungDisk) hang(t *testing.T) (release func()) {
	t.Helper()
	hanging := make(chan struct{})
	set := func(c chan struct{}) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.hanging = c
	}
	set(hanging)
	release = sync.OnceFunc(func() {
		set(nil)
		close(hanging)
	})
	t.Cleanup(release)
	return release
}

func (d *hungDisk) wait() {
	d.mu.Lock()
	hanging := d.hanging
	d.mu.Unlock()
	if hanging != nil {
		<-hanging
	}
}

func (d *hungDisk) open(o LogOptions) (LogStore, error) {
	s, err := openWAL(o)
	return &hungLog{LogStore: s, disk: d}, err
}

type hungLog struct {
	LogStore
	disk *hungDisk
}

func (s *hungLog) IsMonotonic() bool { return s.LogStore.(raft.MonotonicLogStore).IsMonotonic() }

func (s *hungLog) StoreLogs(logs []*raft.Log) error {
	if !s.disk.written {
		s.disk.wait()
	}
	err := s.LogStore.StoreLogs(logs)
	if s.disk.written {
		s.disk.wait()
	}
	return err
}

// wantReason checks what Fatal is told of an append that began to hang at begin.
func (d *hungDisk) wantReason(t *testing.T, begin time.Time) {
	t.Helper()
	var reason error
	late := time.NewTimer(2 * defaultStallAfter)
	defer late.Stop()
	select {
	case reason = <-d.told:
	case <-late.C:
		t.Fatal("nobody is told that the disk hangs")
	}
	if took := time.Since(begin); took != defaultStallAfter {
		t.Errorf("the stall was reported after %v, want %v", took, defaultStallAfter)
	}
	if want := "set 7, replica 3: append to the log: a write has been stuck for 5s"; reason.Error() != want {
		t.Errorf("the reason is %q, want %q", reason, want)
	}
}

// wantFound checks that the files which the next process is to find hold the
// append that hangs if it was written, and not if it was not.
func (d *hungDisk) wantFound(t *testing.T, dir, command string) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(replicaDir(dir, testSet, testReplica), logDir, "*.wal"))
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, path := range segments {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		found = found || strings.Contains(string(data), command)
	}
	if found != d.written {
		t.Fatalf("the log that is left holds the append (%t), want %t", found, d.written)
	}
}

// revive starts a node's next process on what the files of the last one, which is
// gone, were at some time.
func (c *cluster) revive(t *testing.T, n *node, dir string) {
	t.Helper()
	if err := n.host.Close(); err != nil {
		t.Fatal(err)
	}
	n.host = newHost(t, HostConfig{Dir: dir, Node: n.member.Node, Messenger: c.network.port(n.member.Node)})
	c.network.attach(n.member.Node, n.host)
	n.open(t)
}

// wantReadRefused checks that a node confirms no read, in the kind that has
// callers ask elsewhere.
func (n *node) wantReadRefused(t *testing.T, when string) {
	t.Helper()
	if _, err := n.group.ConfirmRead(t.Context()); err == nil {
		t.Errorf("%s: the replica confirms a read that misses acknowledged writes", when)
	} else if quorate.KindOf(err) != quorate.Unavailable {
		t.Errorf("%s: the kind of %v is %v", when, err, quorate.KindOf(err))
	}
}

// A leader whose append hangs goes on sending heartbeats and leads nothing. That
// Fatal ends its process is what moves leadership; here it is cut off instead, and
// hangs on. Nothing that was acknowledged is lost, what hung is acknowledged to
// nobody, and whether it has reached the disk or not, the replica catches up when
// it starts anew.
func TestALeaderWhoseDiskHangsIsReplaced(t *testing.T) {
	for name, written := range map[string]bool{"before it writes": false, "after it has written": true} {
		for reads, leases := range map[string]bool{"by round": false, "by lease": true} {
			t.Run(name+", reads "+reads, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { replaceHungLeader(t, newHungDisk(written), leases) })
			})
		}
	}
}

func replaceHungLeader(t *testing.T, d *hungDisk, leases bool) {
	t.Helper()
	c := newCluster(t, d.under(t), func(_ *node, cfg *HostConfig) { cfg.ReadLease = leases })
	old := c.nodes[2]
	c.lead(t, old)
	term, _ := old.group.Leadership()
	lines := proposeAll(t, old.group, "x", 3)
	c.awaitSame(t, lines...)

	release := d.hang(t)
	begin := time.Now()
	answer := make(chan error, 1)
	go func() {
		_, err := old.group.Propose(t.Context(), testKind, []byte("stuck"))
		answer <- err
	}()
	pauseFor(defaultStallAfter - time.Second)
	c.wantLeader(t, old, term)
	confirm(t, old)
	wantLines(t, old.ledger, lines...)
	old.wantUnacknowledged(t)
	d.wantReason(t, begin)
	c.wantLeader(t, old, term)

	c.network.isolate(old.member.Node)
	end := time.Now()
	found := crash(t, old.host.cfg.Dir)
	d.wantFound(t, found, "stuck")
	next := c.leader(t, old)
	lines = append(lines, proposeAll(t, next.group, "y", 3)...)
	took := time.Since(end)
	if took > writesGoOnWithin {
		t.Errorf("writes went on %v after the process' end, want %v at most", took, writesGoOnWithin)
	}
	t.Logf("writes went on %v after the disk began to hang, %v after Fatal was told", time.Since(begin), took)
	if _, leads := old.group.Leadership(); !leads {
		t.Fatal("the hung leader has noticed; the test shows nothing")
	}
	old.wantReadRefused(t, "cut off")

	// The process hangs on and is heard again: it disturbs nobody.
	c.network.heal(old.member.Node)
	term, _ = next.group.Leadership()
	pauseFor(2 * defaultHeartbeatTimeout)
	if _, leads := old.group.Leadership(); !leads {
		t.Fatal("the hung leader has noticed; the test shows nothing")
	}
	old.wantReadRefused(t, "heard again")
	lines = append(lines, proposeAll(t, next.group, "z", 3)...)
	if now, leads := next.group.Leadership(); !leads || now != term {
		t.Errorf("the next leader is in term %d (leads: %t), want to lead in %d still", now, leads, term)
	}

	c.network.isolate(old.member.Node)
	select {
	case err := <-answer:
		t.Errorf("the proposal that hangs got the answer %v", err)
	default:
	}
	release()
	if err := <-answer; !errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("the proposal that hung got %v, want ErrOutcomeUnknown", err)
	}
	c.revive(t, old, found)
	c.network.heal(old.member.Node)
	c.awaitSame(t, lines...)
	c.lead(t, old)
	lines = append(lines, proposeAll(t, old.group, "again", 3)...)
	c.awaitSame(t, lines...)
	if len(d.told) != 0 {
		t.Errorf("Fatal was told again: %v", <-d.told)
	}
}

// wantLeader checks that everybody takes a node for the leader of a term.
func (c *cluster) wantLeader(t *testing.T, leader *node, term uint64) {
	t.Helper()
	for _, n := range c.nodes {
		if s := n.group.Status(); s.Leader != leader.member || s.Term != term || s.Broken != nil {
			t.Errorf("%s takes %s for the leader, in term %d (broken: %v); want %s in %d", n.member, s.Leader, s.Term, s.Broken, leader.member, term)
		}
	}
	if now, leads := leader.group.Leadership(); !leads || now != term {
		t.Errorf("%s is in term %d (leads: %t)", leader.member, now, leads)
	}
}

// wantUnacknowledged checks that a proposal gets nothing but a refusal, soon.
func (n *node) wantUnacknowledged(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second/10)
	defer cancel()
	if _, err := n.group.Propose(ctx, testKind, []byte("waiting")); err == nil || quorate.KindOf(err) != quorate.Unavailable {
		t.Errorf("a proposal behind one that hangs got %v", err)
	}
}

// A follower whose disk hangs holds nobody up, before its process ends and after.
func TestAFollowerWhoseDiskHangsIsNotWaitedFor(t *testing.T) {
	for name, written := range map[string]bool{"before it writes": false, "after it has written": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { goOnBesideHungFollower(t, newHungDisk(written)) })
		})
	}
}

func goOnBesideHungFollower(t *testing.T, d *hungDisk) {
	t.Helper()
	c := newCluster(t, d.under(t))
	leader, hung := c.nodes[0], c.nodes[2]
	c.lead(t, leader)
	term, _ := leader.group.Leadership()
	lines := proposeAll(t, leader.group, "x", 3)
	c.awaitSame(t, lines...)

	release := d.hang(t)
	begin := time.Now()
	var slowest time.Duration
	write := func() {
		t.Helper()
		start := time.Now()
		lines = append(lines, proposeAll(t, leader.group, time.Since(begin).String(), 3)...)
		slowest = max(slowest, time.Since(start))
		confirm(t, leader)
	}
	for time.Since(begin) < defaultStallAfter-time.Second/2 {
		write()
		pauseFor(time.Second / 4)
	}
	d.wantReason(t, begin)
	hung.wantReadRefused(t, "hanging")
	for range 20 { // in which the process does not end
		write()
		pauseFor(time.Second / 4)
	}
	if s := hung.group.Status(); s.Term != term || slices.Contains(hung.ledger.all(), lines[len(lines)-1]) {
		t.Errorf("the hung follower is in term %d, want %d, and must not have applied what it has not stored", s.Term, term)
	}
	c.network.isolate(hung.member.Node)
	found := crash(t, hung.host.cfg.Dir)
	write()
	if slowest > defaultHeartbeatTimeout/10 {
		t.Errorf("a write took %v beside the hung follower", slowest)
	}
	t.Logf("writes took %v at most, of %d", slowest, len(lines)-3)
	if now, leads := leader.group.Leadership(); !leads || now != term {
		t.Errorf("the leader is in term %d (leads: %t), want to lead in %d still", now, leads, term)
	}
	release()
	c.revive(t, hung, found)
	c.network.heal(hung.member.Node)
	c.awaitSame(t, lines...)
	c.lead(t, hung)
	c.awaitSame(t, append(lines, proposeAll(t, hung.group, "again", 3)...)...)
	if len(d.told) != 0 {
		t.Errorf("Fatal was told again: %v", <-d.told)
	}
}
