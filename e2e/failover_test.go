package e2e

import (
	"slices"
	"syscall"
	"testing"
	"time"
)

const (
	clusterWriters = 6
	// clusterPace is between two requests of a writer: some 37,000 samples/s of all.
	clusterPace = 40 * time.Millisecond
)

// clusterLoad is a load whose samples lie in the last hours.
func clusterLoad(c *cluster) *load {
	l := newLoadOn(c.writeURLs(), clusterWriters, time.Now().Add(-6*time.Hour), "pear", "plum")
	for _, w := range l.writers {
		w.every = clusterPace
	}
	return l
}

// Each node of three is killed in turn, and then whichever leads the metadata, in
// the middle of a write load: the two others go on, nothing acknowledged is lost,
// nothing is invented, and when the node is back all replicas are equal.
func TestKillingEachNodeInTurnLosesNothing(t *testing.T) {
	c := startCluster(t, 3, killSettings)
	l := clusterLoad(c)
	var gaps []time.Duration
	for round := range rounds(t) {
		var victim *server
		if i := round % (len(c.nodes) + 1); i < len(c.nodes) {
			victim = c.nodes[i]
		} else {
			victim = c.metaLeader(t)
		}
		before, _, _ := l.count()
		l.during(t, func() {
			let(t, time.Second)
			l.slowest()
			victim.kill(t)
			let(t, 5*time.Second)
		})
		after, _, _ := l.count()
		if after-before < minRoundSamples {
			t.Errorf("round %d: %d samples were acknowledged, want at least %d", round, after-before, minRoundSamples)
		}
		gaps = append(gaps, l.slowest()...)
		c.check(t, l) // by the two that are left
		victim.start(t)
		c.awaitReady(t, victim)
		sets := c.awaitEqualReplicas(t, 3)
		c.check(t, l)
		if sets == 0 {
			t.Fatal("no sets were compared")
		}
	}
	report(t, c, l, gaps)
}

// All nodes are killed at once.
func TestKillingAllNodesAtOnceLosesNothing(t *testing.T) {
	c := startCluster(t, 3, killSettings)
	l := clusterLoad(c)
	for range rounds(t) {
		l.during(t, func() {
			let(t, 2*time.Second)
			for _, s := range c.nodes {
				s.kill(t)
			}
		})
		for _, s := range c.nodes {
			s.start(t)
		}
		c.awaitReady(t)
		c.awaitEqualReplicas(t, 3)
		c.check(t, l)
	}
	report(t, c, l, nil)
}

// A node is frozen for longer than elections take, and goes on: it must neither
// acknowledge nor answer what is stale then.
func TestAFrozenNodeIsNeverStale(t *testing.T) {
	for name, settings := range readSettings(killSettings) {
		t.Run(name, func(t *testing.T) { freezeEachNode(t, settings) })
	}
}

// byLease names the runs in which leaders confirm reads by their lease.
const byLease = "by lease"

// readSettings adds both ways in which reads are confirmed to settings.
func readSettings(settings string) map[string]string {
	return map[string]string{"by round": settings, byLease: settings + "cluster: {read_lease: true}\n"}
}

func freezeEachNode(t *testing.T, settings string) {
	t.Helper()
	c := startCluster(t, 3, settings)
	l := clusterLoad(c)
	var gaps []time.Duration
	for round := range rounds(t) {
		victim := c.nodes[round%len(c.nodes)]
		l.during(t, func() {
			let(t, time.Second)
			l.slowest()
			signal(t, victim, syscall.SIGSTOP)
			let(t, 10*time.Second)
			signal(t, victim, syscall.SIGCONT)
			let(t, time.Second)
		})
		gaps = append(gaps, l.slowest()...)
		c.check(t, l)
		c.awaitEqualReplicas(t, 3)
	}
	report(t, c, l, gaps)
}

func signal(t *testing.T, s *server, what syscall.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(what); err != nil {
		t.Fatal(err)
	}
}

// rounds is how often a fault is made: as often as the kill test kills, but
// fewer where it was not told, since each takes seconds.
func rounds(t *testing.T) int {
	t.Helper()
	return max(4, killRounds(t)/5)
}

// atLength tells that more rounds are asked for than usual, by somebody who has the
// time.
func atLength(t *testing.T) bool {
	t.Helper()
	return killRounds(t) > usualKillRounds
}

// report checks everything once more and prints how it went.
func report(t *testing.T, c *cluster, l *load, gaps []time.Duration) {
	t.Helper()
	found := c.check(t, l)
	ackedSamples, unknownSamples, resent := l.count()
	t.Logf("%d samples acknowledged, %d of unknown outcome, %d requests sent again, %d samples read back, lost %d, invented %d",
		ackedSamples, unknownSamples, resent, found.samples, found.lost, found.invented)
	if len(gaps) > 0 {
		slices.Sort(gaps)
		t.Logf("longest time of a writer without an acknowledgement, %d times: p50 %v, p99 %v, most %v",
			len(gaps), gaps[len(gaps)/2], gaps[len(gaps)*99/100], gaps[len(gaps)-1])
	}
	requests, refused, cutOff := l.fates()
	t.Logf("%d requests, %d refused by a node (503), %d without an answer: %.2f %% succeeded at the first try",
		requests, refused, cutOff, 100*float64(requests-refused-cutOff)/float64(max(requests, 1)))
}
