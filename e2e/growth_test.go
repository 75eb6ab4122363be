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
	fetched := 0.0
	for _, s := range c.nodes {
		if s != lost {
			n, err := s.metric(t, "quorate_node_fetched_bytes_total")
			if err != nil {
				t.Fatal(err)
			}
			fetched += n
		}
	}
	t.Logf("%d sets of the lost node are on others %v after it was killed, of which it was awaited for 5s; %.0f bytes were fetched in files",
		sets, took.Round(100*time.Millisecond), fetched)

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

// Two nodes join a loaded cluster: from the next cut on they hold and lead their
// share of what is written, and no old data moves to them.
func TestNewNodesTakeTheirShareFromACutOn(t *testing.T) {
	const shards, replicas = 5, 3
	bound, whole := 5*time.Second, atLength(t)
	if whole {
		bound = time.Minute
	}
	settings := killSettings + fmt.Sprintf("buckets: {future_bound: %v, shards: %d}\n", bound, shards)
	c := startCluster(t, 3, settings)
	l, live := clusterLoad(c), newLiveLoad(c.writeURLs(), clusterWriters, "fig")
	before := c.nodes[0].clusterSets(t)
	var cut time.Time
	l.during(t, func() {
		live.during(t, func() {
			let(t, time.Second)
			newcomers := []*server{c.add(t, settings), c.add(t, settings)}
			began := time.Now()
			if status, body := post(t, "http://"+c.nodes[0].admin+"/api/v1/admin/cut"); status != http.StatusOK {
				t.Fatalf("cut: %d %s", status, body)
			}
			var shares map[string]share
			testwait.Until(t, "the new nodes to lead sets of the new bucket", every(100*time.Millisecond, func() error {
				shares, cut = sharesOfTheNew(t, c.nodes[0].clusterSets(t), before)
				for _, name := range []string{"node-4", "node-5"} {
					if shares[name].leads == 0 {
						return fmt.Errorf("%s leads none: %v", name, shares)
					}
				}
				return nil
			}))
			t.Logf("they lead %v after the cut was asked for, of what is written from %v after it on: %v",
				time.Since(began).Round(100*time.Millisecond), cut.Sub(began).Round(100*time.Millisecond), shares)
			for i := range c.nodes {
				name := fmt.Sprint("node-", i+1)
				if fair, holds := shards*replicas/len(c.nodes), shares[name].holds; holds < fair-1 || holds > fair+1 {
					t.Errorf("%s holds %d of the new bucket's replicas, its share are %d", name, holds, fair)
				}
			}
			if whole { // it takes some minutes
				let(t, time.Until(cut.Add(3*time.Second)))
			}
			for _, s := range newcomers {
				if n, err := s.metric(t, "quorate_node_fetched_bytes_total"); err != nil || n != 0 {
					t.Errorf("a new node fetched %v bytes of old data: %v", n, err)
				}
			}
		})
	})
	after := c.nodes[0].clusterSets(t)
	for _, old := range before {
		i := slices.IndexFunc(after, func(s clusterSet) bool { return s.Set == old.Set })
		if i >= 0 && !slices.Equal(after[i].Members, old.Members) {
			t.Errorf("set %d was on %v before the nodes joined, and is on %v", old.Set, old.Members, after[i].Members)
		}
	}
	for _, w := range live.writers {
		if last := time.UnixMilli(w.time(len(w.outcomes) - 1)); whole && last.Before(cut) {
			t.Errorf("writer %d sent nothing to the new bucket: its last sample is of %v, the cut of %v", w.number, last, cut)
		}
	}
	c.check(t, l)
	c.check(t, live)
}

// share is what a node has of a bucket.
type share struct{ holds, leads int }

// sharesOfTheNew tells what each node has of the sets of the earliest bucket that
// was not there before, and when that begins.
func sharesOfTheNew(t *testing.T, sets, before []clusterSet) (map[string]share, time.Time) {
	t.Helper()
	var first time.Time
	shares := make(map[string]share)
	for _, set := range sets {
		if slices.ContainsFunc(before, func(b clusterSet) bool { return b.Start == set.Start }) {
			continue
		}
		start, err := time.Parse(time.RFC3339, set.Start)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case first.IsZero() || start.Before(first):
			first = start
			clear(shares)
		case start.After(first):
			continue
		}
		_, leader, _ := strings.Cut(set.Leader, "@")
		for _, m := range set.Members {
			_, name, _ := strings.Cut(m, "@")
			s := shares[name]
			s.holds++
			if name == leader {
				s.leads++
			}
			shares[name] = s
		}
	}
	return shares, first
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
