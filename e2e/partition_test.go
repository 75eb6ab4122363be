package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// partitionSettings let others reach the nodes, in namespaces of the test's own.
const partitionSettings = killSettings + `
http: {allow_insecure: true, enable_admin_api: true}
peer: {allow_insecure: true}
`

// startClusterOn starts a cluster of one node a host.
func startClusterOn(t *testing.T, h *hosts, settings string) *cluster {
	t.Helper()
	c := &cluster{}
	var peers []string
	for i := 1; i <= h.count; i++ {
		peers = append(peers, h.address(i)+":9241")
	}
	for i := 1; i <= h.count; i++ {
		s := &server{
			binary: buildQuorate(t), dir: t.TempDir(), netns: h.name(i),
			address: h.address(i) + ":9240", admin: "127.0.0.1:9242", peer: peers[i-1],
			args: []string{
				fmt.Sprintf("--node.name=node-%d", i), "--cluster.join=" + strings.Join(peers, ","),
				fmt.Sprintf("--cluster.expect=%d", h.count), "--buckets.replicas=3",
			},
		}
		if err := os.WriteFile(filepath.Join(s.dir, "quorate.yml"), []byte(settings), 0o600); err != nil {
			t.Fatal(err)
		}
		c.nodes = append(c.nodes, s)
		s.start(t)
	}
	c.awaitWhole(t)
	return c
}

// Every partition of three nodes, both ways and one way: the majority goes on,
// the others acknowledge nothing that is lost and answer nothing that is stale,
// and after it has healed all is as it was.
func TestProtocol24PartitionsLoseNothingAndShowNothingStale(t *testing.T) {
	for name, settings := range readSettings(partitionSettings) {
		t.Run(name, func(t *testing.T) {
			n := 1
			if atLength(t) {
				n = rounds(t)
			}
			for round := range n {
				t.Run(fmt.Sprint("round ", round), func(t *testing.T) { partitionNodes(t, settings, name == byLease) })
			}
		})
	}
}

// partitionNodes goes through all partitions, or some of each kind.
func partitionNodes(t *testing.T, settings string, some bool) {
	t.Helper()
	h := newHosts(t, 3)
	c := startClusterOn(t, h, settings)
	l := clusterLoad(c)
	stale, refused, answered := 0, 0, 0
	const split = "nobody sees anybody"
	for name, cut := range map[string]func(){
		"node 1 alone": func() { isolate(t, h, 1) },
		"node 2 alone": func() { isolate(t, h, 2) },
		"node 3 alone": func() { isolate(t, h, 3) },
		"node 1 cannot send": func() {
			h.cut(t, 1, 2)
			h.cut(t, 1, 3)
		},
		"node 1 cannot receive": func() {
			h.cut(t, 2, 1)
			h.cut(t, 3, 1)
		},
		"nodes 1 and 2 do not see each other": func() {
			h.cut(t, 1, 2)
			h.cut(t, 2, 1)
		},
		split: func() {
			for i := 1; i <= 3; i++ {
				isolate(t, h, i)
			}
		},
	} {
		if some && !strings.HasPrefix(name, "node 1 ") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			before, _, _ := l.count()
			l.during(t, func() {
				let(t, time.Second)
				cut()
				let(t, 4*time.Second)
				s, r, a := c.probe(t)
				if s+r+a == 0 && name != split {
					t.Error("no probe was acknowledged, though two nodes see each other")
				}
				stale, refused, answered = stale+s, refused+r, answered+a
				h.heal(t)
				let(t, 4*time.Second)
			})
			after, _, _ := l.count()
			if after-before < minRoundSamples {
				t.Errorf("%d samples were acknowledged, want at least %d", after-before, minRoundSamples)
			}
			c.awaitReady(t)
			c.awaitEqualReplicas(t, 3)
			c.check(t, l)
		})
	}
	if stale > 0 {
		t.Errorf("%d of %d answers were stale", stale, answered)
	}
	report(t, c, l, nil)
	t.Logf("probes: %d answers, %d stale, %d refusals", answered, stale, refused)
}

func isolate(t *testing.T, h *hosts, i int) {
	t.Helper()
	for j := 1; j <= h.count; j++ {
		if i != j {
			h.cut(t, i, j)
			h.cut(t, j, i)
		}
	}
}

// probe writes a sample by whichever node takes it, and asks every node for it
// at once: a node may refuse to answer, but what it answers has the sample.
func (c *cluster) probe(t *testing.T) (stale, refused, answered int) {
	t.Helper()
	for i := range 3 {
		now := time.Now()
		name := fmt.Sprintf("probe_%d_%d", now.UnixNano(), i)
		acknowledged := false
		for _, s := range c.nodes {
			status, answer := s.within(t, 3*time.Second, http.MethodPost, "/api/v1/write", write1(t, sample1(now, "__name__", name)))
			if acknowledged = status/100 == 2; acknowledged {
				break
			}
			t.Logf("%s does not take a probe: %d %s", s.args[0], status, answer)
		}
		if !acknowledged {
			continue // nobody has a majority
		}
		for _, s := range c.nodes {
			status, body := s.within(t, 3*time.Second, http.MethodGet, "/api/v1/query?"+params("query", name, "time", seconds(now)).Encode(), nil)
			switch {
			case status != http.StatusOK:
				refused++
			case strings.Contains(body, name):
				answered++
			default:
				answered++
				stale++
				t.Errorf("%s does not have %s, which was acknowledged: %s", s.args[0], name, body)
			}
		}
	}
	return stale, refused, answered
}

// within sends a request for tenant pear; status 0 is no answer in time.
func (s *server) within(t *testing.T, timeout time.Duration, method, path string, body []byte) (status int, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.url(path), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Scope-OrgID", "pear")
	if body != nil {
		req.Header.Set("Content-Type", "application/x-protobuf")
		req.Header.Set("Content-Encoding", "snappy")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(content)
}
