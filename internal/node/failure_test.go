package node

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"

	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/internal/wire"
)

var metricM = map[string]string{"__name__": "m"}

const (
	brokenReplicas  = "quorate_node_broken_replicas"
	replicaFailures = "quorate_node_replica_failures_total"
)

// metric returns the sum of a counter's or gauge's values.
func (n *Node) metric(t *testing.T, name string) (sum float64) {
	t.Helper()
	families, err := n.options.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

func sampleAt(at time.Time) prompb.Sample { return prompb.Sample{Timestamp: at.UnixMilli(), Value: 1} }

func TestAReplicaThatCouldNotBeOpenedIsTriedAgain(t *testing.T) {
	s := settingsIn(t.TempDir())
	s.Buckets.Shards = 1
	n := startNode(t, s)
	// The next set and replica that metasvc mints are those of the bucket that
	// the write below asks for; a file in the place of its directory blocks it.
	sets := n.meta.client.Map().Sets()
	last := sets[len(sets)-1]
	blocked := filepath.Join(s.DataDir, raftDirName, (last.ID+1).String()+"-"+(last.Members[0].Replica+1).String())
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan string, 1)
	go func() {
		status, text := n.write(t, "", metricM, sampleAt(time.Now().Add(-10*24*time.Hour)))
		if status != http.StatusNoContent {
			done <- text
		}
		close(done)
	}()
	testwait.For(t, "the replica to fail", func() bool { return n.metric(t, brokenReplicas) == 1 })
	removeAll(t, blocked)
	if text := <-done; text != "" {
		t.Errorf("the write that waited for the set got %s", text)
	}
	if broken := n.metric(t, brokenReplicas); broken != 0 {
		t.Errorf("%v replicas count as broken after it was opened", broken)
	}
}

func TestASetThatCannotApplyItsLogAnswersWithTheReasonAndTheOthersGoOn(t *testing.T) {
	s := settingsIn(t.TempDir())
	n := startNode(t, s)
	now := time.Now()
	sick := n.meta.client.Map().Bucket(1, now.UnixMilli()).Sets[0]
	replica, err := n.open.Get(sick.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := replica.Group().Propose(t.Context(), wire.KindMeta, []byte("not for a shard")); err == nil {
		t.Fatal("the shard took a metadata command")
	}
	testwait.For(t, "the replica to be given up", func() bool {
		return n.metric(t, brokenReplicas) == 1 && n.metric(t, replicaFailures) == 2
	})
	stored, refused := 0, ""
	for _, job := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} { // over both shards
		status, text := n.write(t, "", map[string]string{"__name__": "m", "job": job}, sampleAt(now))
		switch status {
		case http.StatusNoContent:
			stored++
		case http.StatusServiceUnavailable:
			refused = text
		default:
			t.Errorf("a write got %d %s", status, text)
		}
	}
	if stored == 0 || !strings.Contains(refused, "is broken on this node") || !strings.Contains(refused, "is not for this version of the shard") {
		t.Errorf("%d of 8 series were stored, the others refused with %q", stored, refused)
	}
	if err := n.ready(); err == nil || !strings.Contains(err.Error(), "is broken") {
		t.Errorf("readiness says %v", err)
	}
}

func TestANodeWhoseMetadataReplicaStoppedFailsAsAWhole(t *testing.T) {
	n := startNode(t, settingsIn(t.TempDir()))
	if _, err := n.meta.replica.group.Propose(t.Context(), wire.KindWrite, []byte("not for metadata")); err == nil {
		t.Fatal("the metadata took a write")
	}
	testwait.For(t, "the node to fail", func() bool {
		select {
		case <-n.Failed():
			return true
		default:
			return false
		}
	})
	if err := n.ready(); err == nil || !strings.Contains(err.Error(), "metadata replica stopped") {
		t.Errorf("readiness says %v", err)
	}
	if err := n.closeExpectingFailure(); err == nil || !strings.Contains(err.Error(), "metadata replica stopped") {
		t.Errorf("Close says %v", err)
	}
}

// closeExpectingFailure closes the node and lets the second Close, of the
// test's cleanup, succeed.
func (n *Node) closeExpectingFailure() error {
	err := n.Close()
	n.closeErr = nil
	return err
}
