package lifecycle

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/tsdbshard"
)

func (r *rig) fetched() float64 { return testutil.ToFloat64(r.manager.metrics.fetched) }

func TestReplicasAreSealedAsOneFile(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.start(t)
	leader := c.awaitOpen(t)
	set := c.set()
	c.write(t, early)
	c.awaitApplied(t, set.ID, c.nodes...)
	if _, err := c.nodes[1].manager.FlushAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.write(t, later)
	leader.seal(t, set)
	c.awaitSettled(t, set.ID, c.nodes...)
	files := 0.
	for _, r := range c.nodes {
		c.wantFile(t, r, set, wroteAll)
		files += r.fetched()
	}
	if files != 2 {
		t.Errorf("%v files were fetched, want the leader's by each other replica", files)
	}
	for _, r := range c.nodes {
		r.close(t)
		r.start(t, nil)
	}
	c.awaitSettled(t, set.ID, c.nodes...)
	for _, r := range c.nodes {
		c.wantFile(t, r, set, wroteAll)
	}
}

// A majority opens a set; who comes later forms as the others have.
func TestAReplicaFormsAfterItsSetHasOpened(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.start(t, c.nodes[:2]...)
	c.awaitOpen(t)
	c.write(t, early)
	third := c.nodes[2]
	third.start(t, nil)
	set := c.set()
	testwait.For(t, "the third replica to open", func() bool { _, ok := third.host.Group(set.ID); return ok })
	c.awaitApplied(t, set.ID, third)
	if err := third.manager.Ready(bucketStart); err != nil {
		t.Errorf("a follower that knows its leader is not ready: %v", err)
	}
	record := c.one().client.Map().Set(set.ID)
	if len(record.Formed) != 3 {
		t.Errorf("formed are %v", record.Formed)
	}
	// With it, another may go.
	c.nodes[1].close(t)
	c.write(t, later)
}

func TestAReplicaThatWasAwayAtTheSealFetchesTheFile(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.start(t)
	c.awaitOpen(t)
	set := c.set()
	c.write(t, early)
	c.awaitApplied(t, set.ID, c.nodes...)
	away := c.nodes[2]
	away.close(t)
	c.write(t, later)
	c.one().seal(t, set)
	c.awaitSettled(t, set.ID, c.nodes[:2]...)
	away.start(t, nil)
	c.awaitSettled(t, set.ID, away)
	c.wantFile(t, away, set, wroteAll)
	if got := away.fetched(); got != 1 {
		t.Errorf("%v files were fetched", got)
	}
}

func TestALostFileIsFetchedFromAnotherNode(t *testing.T) {
	for name, harm := range map[string]func(path string) error{
		"missing":   os.Remove,
		"truncated": func(path string) error { return os.Truncate(path, 100) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 3)
			c.start(t)
			c.awaitOpen(t)
			set := c.set()
			c.write(t, early)
			c.one().seal(t, set)
			c.awaitSettled(t, set.ID, c.nodes...)
			r := c.nodes[1]
			r.close(t)
			member, _ := set.MemberOn(r.node)
			dir := setDir(r.dir, set.ID, member.Replica)
			file := tsdbshard.SealedFileName(r.client.Map().Set(set.ID).Sealed.File)
			if err := harm(filepath.Join(dir, file)); err != nil {
				t.Fatal(err)
			}
			r.start(t, nil)
			c.awaitSettled(t, set.ID, r)
			if got := r.read(t); got != wroteEarly {
				t.Errorf("read\n%s", got)
			}
			for _, left := range r.files(t, SetsDir, filepath.Base(dir)) {
				if left != file && left != file+damagedSuffix {
					t.Errorf("the directory holds %s", left)
				}
			}
		})
	}
}

// One node's file has a wrong byte that only its hash can show: it is not taken,
// and the next node asked.
func TestAWrongByteOfAPeerIsNotTaken(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.start(t)
	c.awaitOpen(t)
	set := c.set()
	c.write(t, early)
	c.one().seal(t, set)
	c.awaitSettled(t, set.ID, c.nodes...)
	r := c.nodes[1]
	r.close(t)
	member, _ := set.MemberOn(r.node)
	file := tsdbshard.SealedFileName(r.client.Map().Set(set.ID).Sealed.File)
	if err := os.Remove(filepath.Join(setDir(r.dir, set.ID, member.Replica), file)); err != nil {
		t.Fatal(err)
	}
	harmed := map[quorate.NodeID]bool{}
	var bad quorate.NodeID
	c.network.harm = func(from, _ quorate.NodeID, message []byte) []byte {
		c.network.mu.Lock()
		defer c.network.mu.Unlock()
		if bad == (quorate.NodeID{}) {
			bad = from // whoever is asked first
		}
		if from == bad && len(message) > 50 {
			message[20] ^= 1
			harmed[from] = true
		}
		return message
	}
	r.start(t, nil)
	c.awaitSettled(t, set.ID, r)
	c.wantFile(t, r, set, wroteEarly)
	if got := testutil.ToFloat64(r.manager.metrics.fetchFailures.WithLabelValues("damaged")); got != 1 || len(harmed) != 1 {
		t.Errorf("%v damages were counted, and %d nodes sent some", got, len(harmed))
	}
}

func TestASwapThatFetchesAndIsCutShortAnywhereIsFinishedAfterARestart(t *testing.T) {
	for _, at := range []moment{momentPiece, momentReceived, momentVerified, momentServed, momentStopped, momentLogGone, momentCleared} {
		t.Run(strings.ReplaceAll(string(at), " ", "-"), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 3)
			c.start(t)
			leader := c.awaitOpen(t)
			set := c.set()
			c.write(t, early)
			c.awaitApplied(t, set.ID, c.nodes...)
			follower := c.nodes[0]
			if follower == leader {
				follower = c.nodes[1]
			}
			follower.close(t)
			crash := crashAt(at)
			follower.start(t, crash.reach)
			c.await(t, "the follower to open", func() bool { _, ok := follower.host.Group(set.ID); return ok })
			c.one().seal(t, set)
			c.await(t, "the crash", crash.isHit)
			follower.close(t)
			follower.start(t, nil)
			c.awaitSettled(t, set.ID, c.nodes...)
			c.wantFile(t, follower, set, wroteEarly)
		})
	}
}

// lagFar starts a cluster in which the last node is away, and lacks entries that
// the others have flushed and deleted.
func lagFar(t *testing.T) (c *cluster, set *metasvc.ReplicaSet, away *rig) {
	t.Helper()
	c = newCluster(t, 3)
	c.start(t)
	c.awaitOpen(t)
	set = c.set()
	c.write(t, early)
	c.awaitApplied(t, set.ID, c.nodes...)
	away = c.nodes[2]
	away.close(t)
	for second := range int64(40) {
		c.write(t, floats{"x", map[int64]float64{100 + second: float64(second)}})
	}
	c.awaitApplied(t, set.ID, c.nodes[:2]...)
	for _, r := range c.nodes[:2] {
		if _, err := r.manager.FlushAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		group, _ := r.host.Group(set.ID)
		if s := group.Status(); s.FirstIndex != 0 && s.FirstIndex <= 20 {
			t.Fatalf("the log was not cut: it begins at %d", s.FirstIndex)
		}
		// What the leader was about to send is forgotten.
		r.close(t)
		r.start(t, nil)
	}
	c.write(t, later)
	return c, set, away
}

// A follower that lags behind the log's start takes the leader's manifest, with
// the files.
func TestAReplicaThatLagsFarTakesFilesAndManifest(t *testing.T) {
	t.Parallel()
	c, set, away := lagFar(t)
	leader := c.leading(t, set.ID)
	away.start(t, nil)
	testwait.For(t, "the replica to open", func() bool { _, ok := away.host.Group(set.ID); return ok })
	c.awaitApplied(t, set.ID, away)
	if got := away.fetched(); got == 0 {
		t.Error("no file was fetched")
	}
	want := leader.read(t)
	// It leads alone with one other, and has everything.
	leader.close(t)
	now := c.leading(t, set.ID)
	if got := now.read(t); got != want {
		t.Errorf("read\n%swant\n%s", got, want)
	}
	c.one().seal(t, set)
	running := []*rig{}
	for _, r := range c.nodes {
		if r != leader {
			running = append(running, r)
		}
	}
	c.awaitSettled(t, set.ID, running...)
	c.wantFile(t, away, set, want)
}

// What comes after these, the installation itself, raftset and tsdbshard cut
// short at each of their own steps.
func TestAReplicaThatLagsFarAndDiesAnywhereInTheFetchCatchesUp(t *testing.T) {
	for _, at := range []moment{momentPiece, momentReceived, momentStaged} {
		t.Run(strings.ReplaceAll(string(at), " ", "-"), func(t *testing.T) {
			t.Parallel()
			c, set, away := lagFar(t)
			crash := crashAt(at)
			away.start(t, crash.reach)
			c.await(t, "the crash", crash.isHit)
			away.close(t)
			away.start(t, nil)
			testwait.For(t, "the replica to open", func() bool { _, ok := away.host.Group(set.ID); return ok })
			c.awaitApplied(t, set.ID, away)
			want := c.leading(t, set.ID).read(t)
			c.one().seal(t, set)
			c.awaitSettled(t, set.ID, c.nodes...)
			c.wantFile(t, away, set, want)
		})
	}
}

func TestAHeartbeatTellsOfBrokenReplicas(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 4)
	c.start(t)
	c.awaitOpen(t)
	set := c.set()
	c.write(t, early)
	c.awaitApplied(t, set.ID, c.nodes[:3]...)
	beats := func(r *rig) metasvc.SetBeat {
		all := r.manager.Beats()
		if len(all) != 1 {
			return metasvc.SetBeat{}
		}
		return all[0]
	}
	leads := 0
	for _, r := range c.nodes[:3] {
		b := beats(r)
		if b.Leads {
			leads++
		}
		if b.Set != set.ID || b.Applied == 0 || b.LastWrite == 0 || b.Broken {
			t.Errorf("the heartbeat of %s says %+v", r.node.Name, b)
		}
	}
	if leads != 1 {
		t.Errorf("%d replicas say that they lead", leads)
	}
	r := c.nodes[1]
	r.close(t)
	member, _ := set.MemberOn(r.node)
	if err := os.Remove(filepath.Join(r.dir, "raft", filepath.Base(setDir("", set.ID, member.Replica)), "vote")); err != nil {
		t.Fatal(err)
	}
	r.start(t, nil)
	testwait.For(t, "the replica to be told as broken", func() bool { b := beats(r); return b.Broken && b.Why != "" && b.Replica == member.Replica })
	if err := r.manager.Ready(bucketStart); err == nil {
		t.Error("the node says that it is ready")
	}

	// It is replaced, and what was quarantined goes to the trash.
	c.change(t, set.ID, c.nodes[3].node, member.Replica)
	c.awaitChanged(t, set.ID)
	c.wantMembers(t, set.ID, c.nodes[0], c.nodes[2], c.nodes[3])
	r.wantGone(t, set.ID)
	c.awaitApplied(t, set.ID, c.nodes[3])
}

func TestProtocol14AReplicaThatDiffersTakesTheFileThatTheOthersAgreedOn(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.start(t)
	leader := c.awaitOpen(t)
	set := c.set()
	c.write(t, early)
	c.awaitApplied(t, set.ID, c.nodes...)
	differing := c.nodes[0]
	if differing == leader {
		differing = c.nodes[1]
	}
	differing.close(t)
	crash := crashAt(momentReported)
	differing.start(t, crash.reach)
	member, _ := set.MemberOn(differing.node)
	c.one().seal(t, set)
	testwait.For(t, "the report", crash.isHit)   // without a verdict
	record := differing.client.Map().Set(set.ID) // it has seen its own report
	report := *reportOf(record, member.Replica)
	report.Checksum[0] ^= 1
	if err := c.one().client.ReportSeal(t.Context(), set.ID, member.Replica, report); err != nil {
		t.Fatal(err)
	}
	differing.close(t)
	c.awaitSettled(t, set.ID, slices.DeleteFunc(slices.Clone(c.nodes), func(r *rig) bool { return r == differing })...)
	differing.start(t, nil)
	c.awaitSettled(t, set.ID, differing)
	c.wantFile(t, differing, set, wroteEarly)
	if got := testutil.ToFloat64(differing.manager.metrics.differing); got != 1 {
		t.Errorf("%v replicas were counted as differing", got)
	}
}
