package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/testwait"
)

// clusterSet is a set as GET /api/v1/admin/cluster/sets lists it.
type clusterSet struct {
	Set     uint64   `json:"set"`
	Start   string   `json:"start"`
	State   string   `json:"state"`
	Members []string `json:"members"`
	Leader  string   `json:"leader"`
	Change  string   `json:"change"`
}

func (s *server) clusterSets(t *testing.T) (sets []clusterSet) {
	t.Helper()
	if err := s.adminData(t, "cluster/sets", &sets); err != nil {
		t.Fatal(err)
	}
	return sets
}

// on tells whether a set has a replica on a node.
func (c clusterSet) on(node string) bool {
	return slices.ContainsFunc(c.Members, func(m string) bool { return strings.HasSuffix(m, "@"+node) })
}

// One of four nodes is lost for ever: its replicas are made anew on the others
// without a command, nothing acknowledged is lost, and the old directory, brought
// back, gives its files up.
func TestALostNodeIsReplacedWithoutACommand(t *testing.T) {
	settings := killSettings + "cluster: {replace_after: 5s}\n"
	c := startCluster(t, 3, settings)
	c.add(t, settings)
	l := clusterLoad(c)
	l.during(t, func() { let(t, 2*time.Second) })
	lost := c.nodes[2]
	var took time.Duration
	l.during(t, func() {
		lost.kill(t)
		began := time.Now()
		testwait.Until(t, "the lost node's replicas to be elsewhere", every(100*time.Millisecond, func() error {
			for _, set := range c.nodes[0].clusterSets(t) {
				if set.on("node-3") || set.Change != "" || len(set.Members) != 3 {
					return fmt.Errorf("set %d is on %v, change: %q", set.Set, set.Members, set.Change)
				}
			}
			return nil
		}))
		took = time.Since(began)
	})
	sets := c.awaitEqualReplicas(t, 3)
	c.check(t, l)
	t.Logf("%d sets of the lost node are on others %v after it was killed, of which it was awaited for 5s", sets, took.Round(100*time.Millisecond))

	lost.start(t)
	c.awaitReady(t, lost)
	testwait.Until(t, "the lost node to give its files up", every(100*time.Millisecond, func() error {
		var list []replicaChecksum
		if err := lost.adminData(t, "checksums", &list); err != nil {
			return err
		}
		if len(list) > 0 {
			return fmt.Errorf("it has %d replicas", len(list))
		}
		return nil
	}))
	c.check(t, l) // by the returned node as well
}

// A node that joins a loaded cluster leads its share of new writes from the next
// cut on, and no old data moves to it.
func TestANewNodeTakesItsShareFromACutOn(t *testing.T) {
	settings := killSettings + "buckets: {future_bound: 5s, shards: 4}\n"
	c := startCluster(t, 3, settings)
	l := clusterLoad(c)
	l.during(t, func() {
		let(t, time.Second)
		began := time.Now()
		s := c.add(t, settings)
		if status, body := post(t, "http://"+c.nodes[0].admin+"/api/v1/admin/cut"); status != http.StatusOK {
			t.Fatalf("cut: %d %s", status, body)
		}
		testwait.Until(t, "the new node to lead sets of the new bucket", every(100*time.Millisecond, func() error {
			for _, set := range s.clusterSets(t) {
				if strings.HasSuffix(set.Leader, "@node-4") {
					return nil
				}
			}
			return fmt.Errorf("it leads none of %v", s.clusterSets(t))
		}))
		t.Logf("the new node leads after %v", time.Since(began).Round(100*time.Millisecond))
		for _, set := range s.clusterSets(t) {
			start, err := time.Parse(time.RFC3339, set.Start)
			if err != nil {
				t.Fatal(err)
			}
			if set.on("node-4") && start.Before(began) {
				t.Errorf("set %d of %s, which was there before, has moved to the new node", set.Set, set.Start)
			}
		}
	})
	c.check(t, l)
}

// Nodes are stopped and started one after the other in the middle of a load.
func TestRollingRestartsLoseNothing(t *testing.T) {
	c := startCluster(t, 3, killSettings)
	l := clusterLoad(c)
	var gaps []time.Duration
	for range rounds(t) {
		for _, s := range c.nodes {
			l.during(t, func() {
				let(t, 500*time.Millisecond)
				if code, took := s.terminate(t); code != 0 || took > maxDrain {
					t.Fatalf("exit code %d after %v", code, took)
				}
				s.start(t)
				c.awaitReady(t, s)
			})
			gaps = append(gaps, l.slowest()...)
		}
	}
	c.awaitEqualReplicas(t, 3)
	report(t, c, l, gaps)
	// Those without an answer were sent to a node that was not there.
	if requests, refused, _ := l.fates(); refused*100 > requests {
		t.Errorf("%d of %d requests were refused", refused, requests)
	}
}

// post sends a request without a body.
func post(t *testing.T, url string) (status int, body []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	return do(t, req)
}
