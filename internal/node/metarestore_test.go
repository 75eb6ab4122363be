package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/metasvc"
)

// Two of three replicas of the metadata are lost for ever. The third node is made
// their only holder from what it has; the others come back, keep their samples,
// and hold metadata again.
func TestTheMetadataAreRestoredFromOneReplica(t *testing.T) {
	settings := founders(t, 3)
	nodes := startNodes(t, settings...)
	now := time.Now()
	old := now.Add(-48 * time.Hour).Truncate(24 * time.Hour).Add(time.Hour)
	nodes[0].mustWrite(t, now, 1)
	nodes[1].mustWrite(t, old, 2)
	nodes[1].sealAt(t, old)
	asked := []int64{now.Add(time.Second).UnixMilli(), old.Add(time.Second).UnixMilli()}
	answers := func(n *Node) (all string) {
		for _, at := range asked {
			all += fmt.Sprint(n.query(t, "", perJob, at))
		}
		return all
	}
	before := answers(nodes[0])
	cluster := nodes[0].identity.Cluster
	known := nodes[0].awaitMetaVoters(t, 3)
	ids := make(map[quorate.ReplicaSetID]bool)
	for _, set := range nodes[0].meta.client.Map().Sets() {
		ids[set.ID] = true
	}
	for i, n := range nodes {
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		settings[i].Cluster.Expect = 0
	}
	for _, s := range settings[:2] {
		lost, err := filepath.Glob(filepath.Join(s.DataDir, raftDirName, "0-*"))
		if err != nil || len(lost) != 1 {
			t.Fatalf("the metadata replica of %s: %q, %v", s.NodeName, lost, err)
		}
		if err := os.RemoveAll(lost[0]); err != nil {
			t.Fatal(err)
		}
	}

	for name, o := range map[string]RestoreOptions{
		"belongs to cluster": {Dir: settings[2].DataDir, Cluster: quorate.NewClusterID()},
		"is no node's":       {Dir: t.TempDir(), Cluster: cluster},
	} {
		if _, err := RestoreMeta(t.Context(), o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%+v: %v, want %q", o, err, name)
		}
	}
	done, err := RestoreMeta(t.Context(), RestoreOptions{Dir: settings[2].DataDir, Cluster: cluster})
	if err != nil {
		t.Fatal(err)
	}
	if done.Epoch != 1 || done.From == 0 || done.Index <= done.From || done.Node.Name != "node-3" {
		t.Errorf("restored %+v", done)
	}
	for _, m := range known {
		if m.Replica >= done.Replica {
			t.Errorf("replica %d was one of the lost group's: %+v", done.Replica, known)
		}
	}

	third := startUnready(t, settings[2])[0]
	nodes = append(startNodes(t, settings[:2]...), third)
	testwait.Until(t, "the third node to be ready", third.ready)
	for _, n := range nodes {
		if got := answers(n); got != before {
			t.Errorf("%s after the restore: %s, before: %s", n.settings.NodeName, got, before)
		}
		if version := n.meta.client.Map().Version; metasvc.Epoch(version) != 1 {
			t.Errorf("%s has a map of version %d", n.settings.NodeName, version)
		}
		for _, l := range n.replicas.Sets() {
			if ids[l.Record.ID] && l.Broken != nil {
				t.Errorf("%s lost a replica: %+v", n.settings.NodeName, l)
			}
		}
	}
	nodes[0].mustWrite(t, now.Add(time.Second), 4)
	asked = []int64{now.Add(2 * time.Second).UnixMilli()}
	if got := answers(nodes[1]); !strings.Contains(got, "2005") {
		t.Errorf("what was written after the restore: %s", got)
	}
	for _, m := range nodes[1].awaitMetaVoters(t, 3) {
		if m.Replica < done.Replica {
			t.Errorf("replica %d votes again", m.Replica)
		}
	}

	// The group lives, so that a restore of it now would be a second one.
	if err := third.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := RestoreMeta(t.Context(), RestoreOptions{Dir: settings[2].DataDir, Cluster: cluster}); err != nil {
		t.Fatal(err)
	}
	if n, err := Start(t.Context(), settings[2], third.optionsAgain()); err == nil || !strings.Contains(err.Error(), "from before the restore") {
		if n != nil {
			_ = n.Close()
		}
		t.Errorf("a second metadata group began: %v", err)
	}
	if got := answers(nodes[0]); !strings.Contains(got, "2005") {
		t.Errorf("after the second restore: %s", got)
	}
}
