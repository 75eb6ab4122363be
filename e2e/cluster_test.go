package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/testwait"
)

// cluster is several servers on this machine.
type cluster struct {
	nodes []*server
	join  string
}

// startCluster starts nodes that found a cluster together, and waits until it is
// whole.
func startCluster(t *testing.T, size int, settings string) *cluster {
	t.Helper()
	c := &cluster{}
	peers := make([]string, size)
	for i := range peers {
		peers[i] = freeAddress(t)
	}
	c.join = strings.Join(peers, ",")
	for i := range size {
		s := c.newNode(t, i+1, settings)
		s.peer = peers[i]
		s.args = append(s.args, fmt.Sprintf("--cluster.expect=%d", size))
		c.nodes = append(c.nodes, s)
		s.start(t)
	}
	c.awaitWhole(t)
	return c
}

// newNode makes a node that is to be started.
func (c *cluster) newNode(t *testing.T, number int, settings string) *server {
	t.Helper()
	s := &server{
		binary: buildQuorate(t), dir: t.TempDir(), address: freeAddress(t), admin: freeAddress(t), peer: freeAddress(t),
		args: []string{fmt.Sprintf("--node.name=node-%d", number), "--cluster.join=" + c.join, "--buckets.replicas=3"},
	}
	if err := os.WriteFile(filepath.Join(s.dir, "quorate.yml"), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// add starts a node that joins the cluster.
func (c *cluster) add(t *testing.T, settings string) *server {
	t.Helper()
	s := c.newNode(t, len(c.nodes)+1, settings)
	c.nodes = append(c.nodes, s)
	s.start(t)
	s.waitReady(t, s.url("/-/ready"))
	return s
}

// awaitReady waits until the given nodes, or all, are ready.
func (c *cluster) awaitReady(t *testing.T, nodes ...*server) {
	t.Helper()
	if len(nodes) == 0 {
		nodes = c.nodes
	}
	for _, s := range nodes {
		s.waitReady(t, s.url("/-/ready"))
	}
}

// awaitWhole waits until all nodes are ready and the metadata kept by three. A
// new cluster takes writes when two have them; while so, it endures no loss.
func (c *cluster) awaitWhole(t *testing.T) {
	t.Helper()
	c.awaitReady(t)
	c.awaitMeta(t, "three replicas of the metadata", func(nodes []metaNode) bool {
		keepers := 0
		for _, n := range nodes {
			if n.Meta == "leader" || n.Meta == "voter" {
				keepers++
			}
		}
		return keepers >= 3
	})
}

// metaLeader is the node that leads the metadata.
func (c *cluster) metaLeader(t *testing.T) (leader *server) {
	t.Helper()
	c.awaitMeta(t, "a leader of the metadata", func(nodes []metaNode) bool {
		i := slices.IndexFunc(nodes, func(n metaNode) bool { return n.Meta == "leader" })
		if i < 0 {
			return false
		}
		leader = c.nodes[slices.IndexFunc(c.nodes, func(s *server) bool { return s.name() == nodes[i].Name })]
		return true
	})
	return leader
}

// metaNode is what a node is to the metadata.
type metaNode struct{ Name, Meta string }

// awaitMeta waits until what the first node says of all is as it is to be.
func (c *cluster) awaitMeta(t *testing.T, what string, as func([]metaNode) bool) {
	t.Helper()
	testwait.Until(t, what, every(100*time.Millisecond, func() error {
		var nodes []metaNode
		if err := c.nodes[0].adminData(t, "nodes", &nodes); err != nil {
			return err
		}
		if !as(nodes) {
			return fmt.Errorf("the nodes are %v", nodes)
		}
		return nil
	}))
}

// writeURLs are where the nodes take writes.
func (c *cluster) writeURLs() []string {
	urls := make([]string, len(c.nodes))
	for i, s := range c.nodes {
		urls[i] = s.url("/api/v1/write")
	}
	return urls
}

// adminData gets an answer's data from the admin listener of a node.
func (s *server) adminData(t *testing.T, path string, data any) error {
	t.Helper()
	address := s.admin
	if s.netns != "" {
		address = s.address
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/api/v1/admin/"+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Status != "success" {
		return errors.New(answer.Error)
	}
	return nil
}

// replicaChecksum is what GET /api/v1/admin/checksums says of one replica.
type replicaChecksum struct {
	Set      uint64 `json:"set"`
	Replica  uint64 `json:"replica"`
	Applied  uint64 `json:"applied_index"`
	Samples  uint64 `json:"samples"`
	Checksum string `json:"checksum"`
}

// awaitEqualReplicas waits until all replicas of each set have the same checksum,
// and returns how many sets were compared. At one index it must not differ.
func (c *cluster) awaitEqualReplicas(t *testing.T, replicas int) (sets int) {
	t.Helper()
	testwait.Until(t, "the replicas to be equal", every(100*time.Millisecond, func() error {
		bySet := map[uint64][]replicaChecksum{}
		for _, s := range c.nodes {
			if s.hasExited() {
				continue
			}
			var list []replicaChecksum
			if err := s.adminData(t, "checksums", &list); err != nil {
				return err
			}
			for _, r := range list {
				bySet[r.Set] = append(bySet[r.Set], r)
			}
		}
		for set, list := range bySet {
			if len(list) != replicas {
				return fmt.Errorf("set %d has %d replicas, want %d", set, len(list), replicas)
			}
			for _, r := range list[1:] {
				if r.Applied == list[0].Applied && r.Checksum != list[0].Checksum {
					t.Fatalf("set %d: replicas differ at index %d: %+v", set, r.Applied, list)
				}
				// One that was made from a manifest counts entries that hold no
				// command; what it holds is what tells.
				if r.Checksum != list[0].Checksum {
					return fmt.Errorf("set %d: the replicas stand at %+v", set, list)
				}
			}
		}
		sets = len(bySet)
		return nil
	}))
	return sets
}

// check reads everything back from each node that runs and reports what is wrong.
func (c *cluster) check(t *testing.T, l *load) (found readBack) {
	t.Helper()
	for _, s := range c.nodes {
		if s.hasExited() {
			continue
		}
		found = l.check(t, s.url(""))
		found.report(t)
		if t.Failed() {
			t.Fatalf("read from %s", s.args[0])
		}
	}
	return found
}
