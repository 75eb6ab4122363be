package node

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/metasvc"
)

// hasMeta tells whether the node runs a metadata replica that votes.
func (n *Node) hasMeta() bool {
	group := n.meta.here.Load()
	if group == nil {
		return false
	}
	for _, m := range n.meta.client.Map().Cluster.Meta {
		if m.Node == n.identity.Node && m.Replica == group.Replica() {
			return n.controllerHere.Load() != nil
		}
	}
	return false
}

func (n *Node) isUp() bool {
	select {
	case <-n.Failed():
		return false
	default:
		return true
	}
}

// A node that is drained gives its metadata replica up and goes on: its samples
// move, it can be undrained, and it can have another one.
func TestADrainedNodeWithAMetadataReplicaGoesOn(t *testing.T) {
	nodes := startNodes(t, founders(t, 4)...)
	var voters []*Node
	testwait.For(t, "three metadata replicas", func() bool {
		voters = voters[:0]
		for _, n := range nodes {
			if n.hasMeta() {
				voters = append(voters, n)
			}
		}
		return len(voters) == 3
	})
	leaves, other := voters[0], voters[1]
	group := leaves.meta.here.Load()
	admin := func(by *Node, what string, node *Node) {
		t.Helper()
		path := "/api/v1/admin/nodes/" + what + "?node=" + url.QueryEscape(node.identity.Node.Name)
		testwait.Until(t, what, func() error {
			if status, text := by.requestAt(t, by.AdminAddr(), http.MethodPost, path, nil); status != http.StatusOK {
				return fmt.Errorf("%s: %d %s", path, status, text)
			}
			return nil
		})
	}
	admin(other, "drain", leaves)
	testwait.For(t, "the drained node to have no metadata replica", func() bool {
		if !leaves.isUp() {
			t.Fatalf("the drained node has ended: %v", leaves.failure)
		}
		return leaves.meta.here.Load() == nil && leaves.controllerHere.Load() == nil
	})
	testwait.For(t, "its samples to have moved", func() bool { return len(leaves.open.All()) == 0 })
	id, err := openIdentity(leaves.settings.DataDir, leaves.settings.NodeName)
	if err != nil || id.MetaReplica != 0 {
		t.Errorf("its identity is %+v, %v", id, err)
	}
	dir := fmt.Sprint("0-", group.Replica())
	testwait.For(t, "its metadata replica to be in the trash", func() bool {
		_, err := os.Stat(filepath.Join(leaves.settings.DataDir, raftDirName, dir))
		return os.IsNotExist(err)
	})
	if status, text := leaves.write(t, "", metricM, sampleAt(time.Now())); status != http.StatusNoContent {
		t.Errorf("a write at the drained node got %d %s", status, text)
	}
	admin(leaves, "undrain", leaves)
	admin(leaves, "drain", other) // so that one is wanted that has none
	testwait.For(t, "the node to have a metadata replica again", func() bool {
		return leaves.hasMeta() && leaves.meta.here.Load().Replica() > group.Replica()
	})
	if !leaves.isUp() || !other.isUp() {
		t.Errorf("a drained node has ended: %v, %v", leaves.failure, other.failure)
	}
}

// A crash after the identity has noted a metadata replica that was then never
// made, as older releases could leave it, and before it is noted.
func TestANodeWhoseMetadataReplicaWasNeverMadeStartsWithout(t *testing.T) {
	settings := founders(t, 2)
	for i := range settings {
		settings[i].Cluster.Expect, settings[i].Buckets.Replicas = 2, 1
	}
	settings[1].Cluster.Roles = "data,gateway"
	nodes := startNodes(t, settings...)
	second := nodes[1]
	if second.hasMeta() {
		t.Fatal("a node without the role has a metadata replica")
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if err := second.identity.holdMeta(settings[1].DataDir, 77); err != nil {
		t.Fatal(err)
	}
	again := startNodes(t, settings[1:]...)[0]
	id, err := openIdentity(settings[1].DataDir, settings[1].NodeName)
	if err != nil || id.MetaReplica != 0 || again.identity.MetaReplica != 0 {
		t.Errorf("its identity is %+v, %v", id, err)
	}
	// One that is a voter of the group by this node's own map has voted: what it
	// lacks was lost.
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if !votes(&metasvc.Cluster{Meta: []metasvc.Member{{Node: quorate.NodeID{Name: "x"}, Replica: 77}}}, 77) || votes(nil, 77) {
		t.Error("voters are not known for what they are")
	}
}

func TestThePlanShowsChangesOfTheMetadataGroup(t *testing.T) {
	list := listActions([]metasvc.Action{{Loop: metasvc.LoopMeta, Why: "add a learner"}, {Loop: metasvc.LoopMeta, Command: metasvc.GiveUpMeta{}}})
	if len(list) != 2 || list[0].Command != onMetaGroup || list[1].Command == onMetaGroup || list[1].Command == "" {
		t.Errorf("planned are %+v", list)
	}
}
