package e2e

import (
	"strings"
	"testing"
	"time"
)

// A real Prometheus writes to one node of three, beside a load on all of them,
// while each node in turn is killed and started again, the one that it writes to
// as well. It drops nothing, and in the end every node answers as it does.
func TestAPrometheusMissesNothingWhenNodesAreKilled(t *testing.T) {
	c := startCluster(t, 3, "flush: {max_memcache_bytes: 256KiB, max_age: 5s}\nraft: {segment_bytes: 256KiB}\nlog: {level: warn}\n")
	shop := startShop(t)
	prometheus := startPrometheus(t, c.nodes[0].address, shop.address, remoteWrite2)
	l := newLoadOn(c.writeURLs(), clusterWriters, time.Now().Add(-6*time.Hour), "anonymous")

	w := window{start: time.Now()}
	var gaps []time.Duration
	for round := range rounds(t) {
		victim := c.nodes[round%len(c.nodes)]
		l.during(t, func() {
			let(t, 2*time.Second)
			l.slowest()
			victim.kill(t)
			let(t, 4*time.Second)
			gaps = append(gaps, l.slowest()...)
			victim.start(t)
			c.awaitReady(t, victim)
		})
	}
	let(t, 5*time.Second)
	w.end = time.Now()
	prometheus.stopScraping(t)
	waitUntilSent(t, prometheus)

	c.awaitEqualReplicas(t, 3)
	report(t, c, l, gaps)
	for _, s := range c.nodes {
		asked, differences := 0, 0
		for _, q := range questions(w, prometheus.config.CustomBuckets()) {
			if strings.HasPrefix(q.path, "/api/v1/label") && !q.params.Has("match[]") {
				continue // the load has labels, too
			}
			asked++
			if problem := compare(t, q, prometheus.url(""), s.url("")); problem != "" {
				differences++
				t.Errorf("%s: %s %v: %s", s.args[0], q.path, q.params, problem)
			}
		}
		t.Logf("%s: %d queries, %d differences", s.args[0], asked, differences)
	}
	series, unequal := compareRemoteRead(t, w, prometheus.url(""), c.nodes[0].url(""))
	t.Logf("remote read of %d series by both response types, %d differences", series, unequal)
}
