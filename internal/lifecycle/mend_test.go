package lifecycle

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/tsdbshard"
)

// harmFile changes bytes in the first half of a file, which has its pages of
// samples and series.
func harmFile(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := len(data) / 8; at < len(data)/2; at += 4 {
		data[at] ^= 1
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// readError returns what a query on a node fails with; nil when it does not.
func (r *rig) readError(t *testing.T) error {
	t.Helper()
	q, err := r.router.Querier(t.Context(), r.tenant, 0, r.now.at.UnixMilli())
	if err != nil {
		return err
	}
	defer q.Close()
	set := q.Select(t.Context(), true, nil, labels.MustNewMatcher(labels.MatchNotEqual, "__name__", ""))
	for set.Next() {
		it := set.At().Iterator(nil)
		for it.Next() != 0 {
			continue
		}
		if it.Err() != nil {
			return it.Err()
		}
	}
	return set.Err()
}

// A query on a damaged sealed file fails and names it; the file is replaced by
// another node's, and the next query finds everything.
func TestADamagedSealedFileThatAQueryMeetsIsReplaced(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.start(t)
	c.awaitOpen(t)
	set := c.set()
	c.write(t, early)
	c.one().seal(t, set)
	c.awaitSettled(t, set.ID, c.nodes...)
	sick := c.nodes[1]
	sick.close(t)
	member, _ := set.MemberOn(sick.node)
	name := tsdbshard.SealedFileName(sick.client.Map().Set(set.ID).Sealed.File)
	harmFile(t, filepath.Join(setDir(sick.dir, set.ID, member.Replica), name))
	sick.start(t, nil)
	c.awaitSettled(t, set.ID, sick)
	if err := sick.readError(t); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("a query on a damaged file fails with %v, want one that names %s", err, name)
	}
	testwait.For(t, "the file to be replaced", func() bool { return testutil.ToFloat64(sick.manager.metrics.mended) == 1 })
	if got := sick.read(t); got != wroteEarly {
		t.Errorf("read\n%s", got)
	}
	if left := sick.files(t, SetsDir, filepath.Base(setDir("", set.ID, member.Replica))); !slices.Contains(left, name+damagedSuffix) {
		t.Errorf("the damaged file was not set aside: %v", left)
	}
}

// harmDelta flushes a replica, stops its node, damages the block, and starts the
// node again.
func (r *rig) harmDelta(t *testing.T, set setID, replica quorate.ReplicaID) {
	t.Helper()
	if _, err := r.manager.FlushAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.close(t)
	blocks, err := filepath.Glob(filepath.Join(setDir(r.dir, set, replica), "*.qdelta"))
	if err != nil || len(blocks) != 1 {
		t.Fatalf("blocks %v, %v", blocks, err)
	}
	data, err := os.ReadFile(blocks[0])
	if err != nil {
		t.Fatal(err)
	}
	// A page of samples (docs/format/block.md), which Open does not read.
	at := 24 // behind the header page
	for data[at] != 4 {
		at += 6 + int(binary.LittleEndian.Uint32(data[at+2:])) + 4
	}
	data[at+6] ^= 1
	if err := os.WriteFile(blocks[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	r.start(t, nil)
}

// A replica that is found damaged by the background check is quarantined once the
// others can go on without it, and made anew.
func TestADamagedDeltaIsFoundAndItsReplicaMadeAnew(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.start(t)
	c.awaitOpen(t)
	set := c.set()
	c.write(t, early)
	c.awaitApplied(t, set.ID, c.nodes...)
	sick, other := c.nodes[1], c.nodes[2]
	member, _ := set.MemberOn(sick.node)
	// While another member is away it stays: without it there would be no quorum.
	other.close(t)
	sick.scrub = ScrubLimits{BytesPerSecond: 1 << 30, Every: 50 * time.Millisecond}
	sick.harmDelta(t, set.ID, member.Replica)
	testwait.For(t, "the damage to be found", func() bool { return testutil.ToFloat64(sick.manager.metrics.damaged) > 0 })
	c.write(t, later)
	if sick.tellsBroken(set.ID) {
		t.Error("a replica was given up that its set needs for a quorum")
	}
	other.start(t, nil)
	testwait.For(t, "the replica to be told as broken", func() bool { return sick.tellsBroken(set.ID) })
	c.change(t, set.ID, quorate.NodeID{}, member.Replica)
	c.awaitChanged(t, set.ID)
	c.change(t, set.ID, sick.node, 0)
	c.awaitChanged(t, set.ID)
	c.awaitApplied(t, set.ID, c.nodes...)
	c.nodes[0].close(t)
	if got := c.leading(t, set.ID).read(t); got != wroteAll {
		t.Errorf("read\n%s", got)
	}
}

// Of the only replica that there is nothing is given up.
func TestTheOnlyReplicaStaysWhereItIsDamaged(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	set := r.set()
	r.write(t, early)
	r.scrub = ScrubLimits{BytesPerSecond: 1 << 30, Every: 50 * time.Millisecond}
	r.harmDelta(t, set.ID, set.Members[0].Replica)
	testwait.For(t, "the damage to be found", func() bool { return testutil.ToFloat64(r.manager.metrics.damaged) > 0 })
	r.awaitOpen(t)
	if err := r.readError(t); err == nil || !strings.Contains(err.Error(), ".qdelta") {
		t.Errorf("a query on a damaged block fails with %v", err)
	}
	r.write(t, later)
	if r.tellsBroken(set.ID) {
		t.Error("the only replica is told as broken")
	}
}
