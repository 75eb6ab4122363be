package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/testwait"
)

// Bits of a sealed block, of a block of an open set and of a log rot on one node of
// three while it is stopped. Started again, it mends all of it from the others
// without a command: nothing acknowledged is lost, nothing else is read anywhere,
// and all replicas are equal in the end.
func TestRottenBitsAreMendedFromTheOtherNodes(t *testing.T) {
	settings := killSettings + "storage: {scrub_bytes_per_second: 64MiB, scrub_every: 1s}\n"
	c := startCluster(t, 3, settings)
	past := time.Now().UTC().Truncate(24 * time.Hour).Add(-36 * time.Hour)
	old := newLoadOn(c.writeURLs(), 2, past, "pear", "plum")
	old.during(t, func() {
		testwait.For(t, "samples of a past day to be acknowledged", func() bool { acked, _, _ := old.count(); return acked > minRoundSamples })
	})
	sick := c.nodes[1]
	admin := "http://" + c.nodes[0].admin + "/api/v1/admin/"
	testwait.Until(t, "the past day to be sealed", every(time.Second, func() error {
		if status, body := post(t, admin+"seal?start="+url.QueryEscape(past.Format(time.RFC3339))); status != http.StatusOK {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	}))
	testwait.For(t, "the node to have its sealed files", func() bool { return len(sick.dataFiles(t, "sets/*/sealed-*.qblock")) >= 2 })
	l := clusterLoad(c)
	l.during(t, func() { let(t, time.Second) })
	if status, body := post(t, "http://"+sick.admin+"/api/v1/admin/flush"); status != http.StatusOK {
		t.Fatalf("flush: %d %s", status, body)
	}
	l.during(t, func() { let(t, time.Second) })
	c.awaitEqualReplicas(t, 3)
	if code, _ := sick.terminate(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}

	flip(t, sick.dataFiles(t, "sets/*/sealed-*.qblock")[0], func(b []byte) int { return len(b) / 3 })
	delta := sick.dataFiles(t, "sets/*/*.qdelta")[0]
	flip(t, delta, func(b []byte) int { return len(b) / 3 })
	harmed, entry := "", []byte("QE\x01") // as docs/format/entry.md has it
	for _, segment := range sick.dataFiles(t, "raft/*/log/*.wal") {
		replica := filepath.Base(filepath.Dir(filepath.Dir(segment)))
		if strings.HasPrefix(replica, "0-") || replica == filepath.Base(filepath.Dir(delta)) {
			continue // the metadata's, or a replica that is damaged already
		}
		if data, err := os.ReadFile(segment); err == nil && bytes.Contains(data, entry) {
			flip(t, segment, func(b []byte) int { return bytes.LastIndex(b, entry) + len(entry) + 5 })
			harmed = replica
			break
		}
	}
	if harmed == "" {
		t.Fatal("no log of another set has entries")
	}

	began := time.Now()
	sick.start(t)
	for _, s := range []*server{c.nodes[0], c.nodes[2]} {
		for _, of := range []*load{l, old} {
			found := of.check(t, s.url(""))
			found.report(t)
		}
	}
	c.awaitReady(t, sick)
	testwait.Until(t, "the sealed file to be mended", every(200*time.Millisecond, func() error {
		if n, err := sick.metric(t, "quorate_node_mended_files_total"); err != nil || n < 1 {
			return fmt.Errorf("%v files were mended, %w", n, err)
		}
		return nil
	}))
	testwait.Until(t, "the damaged replicas to be made anew", every(200*time.Millisecond, func() error {
		for _, set := range c.nodes[0].clusterSets(t) {
			if len(set.Members) != 3 || set.Change != "" {
				return fmt.Errorf("set %d is on %v, change %q", set.Set, set.Members, set.Change)
			}
			for _, m := range set.Members {
				replica, node, _ := strings.Cut(m, "@")
				name := strconv.FormatUint(set.Set, 10) + "-" + replica
				if node == "node-2" && (name == harmed || name == filepath.Base(filepath.Dir(delta))) {
					return fmt.Errorf("replica %s is a member still", name)
				}
			}
		}
		return nil
	}))
	c.awaitEqualReplicas(t, 3)
	t.Logf("all was mended %v after the start", time.Since(began).Round(100*time.Millisecond))
	c.check(t, l)
	c.check(t, old)
}

// dataFiles lists the files below the data directory that a pattern matches.
func (s *server) dataFiles(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.dir, "data", pattern))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// flip changes a bit of a file where at says.
func flip(t *testing.T, path string, at func([]byte) int) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[at(data)] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

var errNoMetric = errors.New("there is no such metric")

// metric returns the value of a metric without labels.
func (s *server) metric(t *testing.T, name string) (float64, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url("/metrics"), nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(body)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, errNoMetric
}
