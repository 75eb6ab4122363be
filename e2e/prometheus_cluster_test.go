package e2e

import (
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
	known := ask(t, prometheus.url(""), "/api/v1/metadata", nil)
	let(t, 2*time.Second)
	w.end = time.Now()
	prometheus.stopScraping(t)
	waitUntilSent(t, prometheus)

	c.awaitEqualReplicas(t, 3)
	report(t, c, l, gaps)
	for _, s := range c.nodes {
		compareAll(t, "by "+s.args[0]+" after "+w.end.Sub(w.start).Round(time.Second).String(), w, known, prometheus, s)
	}
}
