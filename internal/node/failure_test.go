package node

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/prompb"

	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/internal/wire"
)

var metricM = map[string]string{"__name__": "m"}

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
	testwait.For(t, "the replica to fail", func() bool { return testutil.ToFloat64(n.replicas.counts.broken) == 1 })
	removeAll(t, blocked)
	if text := <-done; text != "" {
		t.Errorf("the write that waited for the set got %s", text)
	}
	if broken := testutil.ToFloat64(n.replicas.counts.broken); broken != 0 {
		t.Errorf("%v replicas count as broken after it was opened", broken)
	}
}

func TestASetThatCannotApplyItsLogAnswersWithTheReasonAndTheOthersGoOn(t *testing.T) {
	s := settingsIn(t.TempDir())
	n := startNode(t, s)
	now := time.Now()
	sick := n.meta.client.Map().Bucket(1, now.UnixMilli()).Sets[0]
	replica, err := n.replicas.open.Get(sick.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := replica.Group().Propose(t.Context(), wire.KindMeta, []byte("not for a shard")); err == nil {
		t.Fatal("the shard took a metadata command")
	}
	testwait.For(t, "the replica to be given up", func() bool {
		return testutil.ToFloat64(n.replicas.counts.broken) == 1 && testutil.ToFloat64(n.replicas.counts.failures) == 2
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
	if err := n.ready(t.Context()); err == nil || !strings.Contains(err.Error(), "is broken") {
		t.Errorf("readiness says %v", err)
	}
}

func TestANodeWhoseMetadataReplicaStoppedFailsAsAWhole(t *testing.T) {
	n := startNode(t, settingsIn(t.TempDir()))
	if _, err := n.meta.group.Propose(t.Context(), wire.KindWrite, []byte("not for metadata")); err == nil {
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
	if err := n.ready(t.Context()); err == nil || !strings.Contains(err.Error(), "metadata replica stopped") {
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

func TestTheLogIsCutAlsoWhenItGrowsByDuplicatesAndMetadata(t *testing.T) {
	s := settingsIn(t.TempDir())
	s.Buckets.Shards = 1
	n := startNode(t, s)
	now := time.Now()
	f := newFlusher(flushLimits{memcacheBytes: 1 << 40, logBytes: 1, age: time.Hour}, n.meta.group, n.replicas.open, n.logger)
	n.write(t, "", metricM, sampleAt(now))
	f.pass(t.Context(), now)
	n.write(t, "", metricM, sampleAt(now)) // a duplicate: nothing in the memcache
	current := n.meta.client.Map().Bucket(1, now.UnixMilli()).Sets[0].ID
	for _, target := range f.targets() {
		if status := target.group.Status(); status.Set == current && status.LogBytes == 0 {
			t.Fatalf("the duplicate left no log: %+v", status)
		}
	}
	f.pass(t.Context(), now)
	for _, target := range f.targets() {
		status := target.group.Status()
		if status.LogBytes != 0 || status.Set == 0 && status.ManifestIndex <= 1 {
			t.Errorf("set %v still has %d bytes of log after manifest %d", status.Set, status.LogBytes, status.ManifestIndex)
		}
	}
}

func TestAReplicaWithOldEntriesIsFlushedForTheirAge(t *testing.T) {
	n := startNode(t, settingsIn(t.TempDir()))
	now := time.Now()
	n.write(t, "", metricM, sampleAt(now))
	f := newFlusher(flushLimits{memcacheBytes: 1 << 40, logBytes: 1 << 40, age: time.Hour}, n.meta.group, n.replicas.open, n.logger)
	grown := func() (sets int) {
		for _, target := range f.targets() {
			if target.group.Status().LogBytes > 0 && target.group.Set() != 0 {
				sets++
			}
		}
		return sets
	}
	f.pass(t.Context(), now)
	f.pass(t.Context(), now.Add(29*time.Minute))
	if grown() != 1 {
		t.Fatalf("%d sets have entries to flush, want the one written to", grown())
	}
	f.pass(t.Context(), now.Add(time.Hour+time.Second))
	if grown() != 0 {
		t.Error("entries older than the age were not flushed")
	}
}
