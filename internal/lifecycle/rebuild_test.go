package lifecycle

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/metasvc"
)

// harmLog flips a bit of an entry in a replica's log, of a node that does not run.
func (r *rig) harmLog(t *testing.T, set setID, replica replicaID) {
	t.Helper()
	dir := filepath.Join(r.dir, "raft", filepath.Base(setDir("", set, replica)), "log")
	segments, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("segments %v, %v", segments, err)
	}
	data, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(data, []byte("__name__"))
	if at < 0 {
		t.Fatalf("%s has no series", segments[0])
	}
	data[at] ^= 1
	if err := os.WriteFile(segments[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) tellsBroken(set setID) bool {
	return slices.ContainsFunc(r.manager.Beats(), func(b metasvc.SetBeat) bool { return b.Set == set && b.Broken })
}

// In a cluster of three a member finds its log damaged. It never votes again,
// the others go on, and it is made anew where it was.
func TestAReplicaWithADamagedLogIsMadeAnewOnItsNode(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.start(t)
	c.awaitOpen(t)
	set := c.set()
	c.write(t, early)
	c.awaitApplied(t, set.ID, c.nodes...)
	sick := c.nodes[1]
	member, _ := set.MemberOn(sick.node)
	sick.close(t)
	sick.harmLog(t, set.ID, member.Replica)
	sick.start(t, nil)
	testwait.For(t, "the replica to be told as broken", func() bool { return sick.tellsBroken(set.ID) })
	c.write(t, later)

	// As the repair loop has it where no other node can take one.
	c.change(t, set.ID, quorate.NodeID{}, member.Replica)
	c.awaitChanged(t, set.ID)
	c.change(t, set.ID, sick.node, 0)
	c.awaitChanged(t, set.ID)
	c.wantMembers(t, set.ID, c.nodes...)
	fresh, _ := c.one().client.Map().Set(set.ID).MemberOn(sick.node)
	if fresh.Replica == member.Replica {
		t.Fatalf("replica %d was damaged and is a member still", fresh.Replica)
	}
	c.awaitApplied(t, set.ID, c.nodes...)
	if left := sick.files(t, "raft"); len(left) != 1 {
		t.Errorf("the node has the logs %v", left)
	}
	if got := sick.files(t, TrashDir); len(got) != 1 {
		t.Errorf("the trash has %v", got)
	}
	// It counts: with it and one other the set goes on.
	other := c.nodes[0]
	other.close(t)
	if got := c.leading(t, set.ID).read(t); got != wroteAll {
		t.Errorf("read\n%s", got)
	}
	// Through a restart as well.
	sick.close(t)
	sick.start(t, nil)
	if got := c.leading(t, set.ID).read(t); got != wroteAll {
		t.Errorf("after a restart read\n%s", got)
	}
}
