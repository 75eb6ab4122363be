package node

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/internal/testwait"
)

// A node whose disk is full answers writes with 503, when to come back, and the
// reason, goes on answering queries, and takes writes again when there is space.
func TestAFullDiskRefusesWritesUntilThereIsSpace(t *testing.T) {
	var free atomic.Int64
	free.Store(int64(config.GiB) * 10)
	s := settingsIn(t.TempDir())
	n := startNodeWith(t, s, Options{Free: func(string) (int64, error) { return free.Load(), nil }})
	now := time.Now()
	n.mustWrite(t, now, 1)

	free.Store(int64(config.MiB) * 300)
	var text string
	testwait.For(t, "writes to be refused", func() bool {
		var status int
		status, text = n.write(t, "", metricM, sampleAt(now.Add(time.Second)))
		return status == http.StatusServiceUnavailable
	})
	for _, want := range []string{s.DataDir, "314572800 bytes free", "storage.full_space_bytes"} {
		if !strings.Contains(text, want) {
			t.Errorf("the refusal %q does not say %q", text, want)
		}
	}
	if got := n.query(t, "", "count({__name__!=''})", now.UnixMilli()); len(got) != 1 {
		t.Errorf("a query on a full disk found %v", got)
	}
	var nodes []listedNode
	testwait.For(t, "the node to be listed as full", func() bool {
		n.admin200(t, http.MethodGet, "/api/v1/admin/nodes", &nodes)
		return len(nodes) == 1 && nodes[0].Space == "full" && nodes[0].FreeBytes == 300<<20
	})
	free.Store(int64(config.GiB) * 10)
	testwait.For(t, "writes to be taken again", func() bool {
		status, _ := n.write(t, "", metricM, sampleAt(now.Add(time.Second)))
		return status == http.StatusNoContent
	})
}
