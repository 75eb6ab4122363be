package raftset

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
)

// What a promise is good for, in figures that no change of a constant moves
// unseen.
func TestALeaseIsShorterThanItsPromise(t *testing.T) {
	for _, tc := range []struct{ heartbeat, promise, lease time.Duration }{
		{time.Second, 900 * time.Millisecond, 888200 * time.Microsecond},
		{4 * time.Second, 3600 * time.Millisecond, 3582800 * time.Microsecond},
		{100 * time.Millisecond, 90 * time.Millisecond, 79820 * time.Microsecond},
		{10 * time.Millisecond, 9 * time.Millisecond, 0},
		{0, 0, 0},
	} {
		if got := promiseSpan(tc.heartbeat); got != tc.promise {
			t.Errorf("a heartbeat timeout of %v makes promises of %v, want %v", tc.heartbeat, got, tc.promise)
		}
		if got := leaseSpan(tc.promise); got != tc.lease {
			t.Errorf("a promise of %v is relied on for %v, want %v", tc.promise, got, tc.lease)
		}
	}
	// The slowest clock that a leader may have, and the fastest of a voter.
	const drift = 1e-3
	for promise := time.Millisecond; promise <= maxPromise; promise *= 3 {
		if lease := leaseSpan(promise); lease.Seconds()/(1-drift) > promise.Seconds()/(1+drift) {
			t.Errorf("a promise of %v is relied on for %v, which drifting clocks make too long", promise, lease)
		}
	}
}

func TestALeaseTakesAQuorumsPromises(t *testing.T) {
	const (
		self, term = 1, 7
		span       = 900 * time.Millisecond
	)
	begin := time.Now()
	at := func(d time.Duration) time.Time { return begin.Add(d) }
	end := leaseSpan(span)
	voter := func(replicas ...quorate.ReplicaID) (servers []server) {
		for _, r := range replicas {
			servers = append(servers, server{Member: member(r), suffrage: raft.Voter})
		}
		return servers
	}
	learner := func(servers []server, r quorate.ReplicaID) []server {
		return append(servers, server{Member: member(r), suffrage: raft.Nonvoter})
	}
	for name, tc := range map[string]struct {
		servers  []server
		promised map[quorate.ReplicaID]time.Duration // when each heartbeat was sent
		now      time.Duration
		want     bool
	}{
		"nobody promised":                      {voter(1, 2, 3), nil, 0, false},
		"one of two others":                    {voter(1, 2, 3), map[quorate.ReplicaID]time.Duration{2: 0}, 0, true},
		"a moment before its end":              {voter(1, 2, 3), map[quorate.ReplicaID]time.Duration{2: 0}, end - 1, true},
		"at its end":                           {voter(1, 2, 3), map[quorate.ReplicaID]time.Duration{2: 0}, end, false},
		"the newer of two decides":             {voter(1, 2, 3), map[quorate.ReplicaID]time.Duration{2: 0, 3: 5}, end + 4, true},
		"with five the second newest does":     {voter(1, 2, 3, 4, 5), map[quorate.ReplicaID]time.Duration{2: 0, 3: 5, 4: 9}, end + 4, true},
		"and the third newest does not":        {voter(1, 2, 3, 4, 5), map[quorate.ReplicaID]time.Duration{2: 0, 3: 5, 4: 9}, end + 5, false},
		"of two both are needed":               {voter(1, 2), nil, 0, false},
		"of four three are":                    {voter(1, 2, 3, 4), map[quorate.ReplicaID]time.Duration{2: 0}, 0, false},
		"a learner's counts for nothing":       {learner(voter(1, 2, 3), 4), map[quorate.ReplicaID]time.Duration{4: 0}, 0, false},
		"nor one who is no member any more":    {voter(1, 2, 3), map[quorate.ReplicaID]time.Duration{9: 0}, 0, false},
		"a leader that votes no more is none":  {voter(2, 3, 4), map[quorate.ReplicaID]time.Duration{2: 0}, 0, false},
		"it then needs a quorum of the others": {voter(2, 3, 4), map[quorate.ReplicaID]time.Duration{2: 0, 3: 0}, 0, true},
		"alone it is its own":                  {voter(1), nil, 0, true},
	} {
		var l lease
		l.promised(term, 99, begin, 0)
		for r, sent := range tc.promised {
			l.promised(term, r, at(sent), span)
			l.promised(term, r, at(sent-time.Hour), span) // an answer that comes late
			l.promised(term-1, r, at(time.Hour), span)
		}
		if got := l.covers(term, tc.servers, self, at(tc.now)); got != tc.want {
			t.Errorf("%s: covered is %t", name, got)
		}
	}

	three := voter(1, 2, 3)
	var l lease
	l.promised(term, 2, begin, span)
	if l.covers(term-1, three, self, begin) || l.covers(term+1, three, self, begin) {
		t.Error("another term is covered")
	}
	l.revoke(term - 1)
	if !l.covers(term, three, self, begin) {
		t.Error("an earlier term's end ended it")
	}
	l.revoke(term)
	l.promised(term, 2, at(time.Second), span)
	l.promised(term, 3, at(time.Second), span)
	if l.covers(term, three, self, at(time.Second)) {
		t.Error("promises brought a revoked lease back")
	}
	l.promised(term+1, 2, at(time.Second), span)
	if !l.covers(term+1, three, self, at(time.Second)) {
		t.Error("it stays revoked in a later term")
	}
	l.revoke(term + 2)
	l.promised(term+2, 2, at(time.Second), span)
	if l.covers(term+2, three, self, at(time.Second)) {
		t.Error("a term that was revoked before its first promise is covered")
	}
}

// leased has leaders on some replicas' nodes, or on all, use leases.
func leased(replicas ...quorate.ReplicaID) func(*node, *HostConfig) {
	return func(n *node, cfg *HostConfig) {
		cfg.ReadLease = len(replicas) == 0
		for _, r := range replicas {
			cfg.ReadLease = cfg.ReadLease || r == n.member.Replica
		}
	}
}

// lead waits until a node leads, and hands leadership there until it does.
func (c *cluster) lead(t testing.TB, n *node) {
	t.Helper()
	testwait.Until(t, n.member.String()+" to lead", func() error {
		leader := c.leader(t)
		if leader == n {
			return nil
		}
		awaitCaughtUp(t, leader, n.member)
		return leader.group.TransferLeadership(t.Context(), n.member.Replica)
	})
}

func awaitLease(t testing.TB, n *node) {
	t.Helper()
	testwait.For(t, "a lease", func() bool {
		term, leads := n.group.Leadership()
		return leads && peers(n).hasLease(term)
	})
}

// peers is the transport below whatever a test has put over it.
func peers(n *node) *peerTransport {
	switch tr := n.group.transport.(type) {
	case *peerTransport:
		return tr
	case interface{ below() *peerTransport }:
		return tr.below()
	}
	return nil
}

func (t *peerTransport) below() *peerTransport { return t }

func confirmed(n *node) (byLease, byRound float64) {
	m := n.host.metrics
	return testutil.ToFloat64(m.byLease), testutil.ToFloat64(m.byRound)
}

func confirm(t testing.TB, n *node) {
	t.Helper()
	if _, err := n.group.ConfirmRead(t.Context()); err != nil {
		t.Errorf("%s confirms no read: %v", n.member, err)
	}
}

// With a lease a read asks nobody. The others need not have the setting.
func TestReadsUnderALeaseAskNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, leased(2))
		n := c.nodes[1]
		c.lead(t, n)
		propose(t, n.group, "x")
		awaitLease(t, n)
		asked := c.network.count(askTerms)
		before, rounds := confirmed(n)
		for range 100 {
			confirm(t, n)
			pauseFor(50 * time.Millisecond) // with heartbeats in between
		}
		if got := c.network.count(askTerms) - asked; got != 0 {
			t.Errorf("100 reads in 5 s sent %d messages", got)
		}
		if now, same := confirmed(n); now-before != 100 || same != rounds {
			t.Errorf("%v reads were by lease and %v by round, want 100 and 0", now-before, same-rounds)
		}
		// Leaders elsewhere ask for no promise, and ask a majority for each read.
		c.lead(t, c.nodes[0])
		pauseFor(time.Second)
		promises := c.network.count(askPromise)
		pauseFor(5 * time.Second)
		confirm(t, c.nodes[0])
		if got := c.network.count(askPromise) - promises; got != 0 {
			t.Errorf("a leader without the setting asked for %d promises", got)
		}
		if by, round := confirmed(c.nodes[0]); by != 0 || round == 0 {
			t.Errorf("without the setting %v reads were by lease, %v by round", by, round)
		}
	})
}

// Heartbeats that ask for promises leave with the others of their host.
func TestPromisesAreAskedForAtTheBeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, leased())
		n := c.leader(t)
		beat := n.host.beat
		off := make(chan time.Duration, 1000)
		c.network.with(func() {
			c.network.drop = func(_, _ quorate.NodeID, m []byte) bool {
				if messageKind(m[1]) == askPromise {
					off <- time.Since(beat.begun) % beat.every
				}
				return false
			}
		})
		pauseFor(2 * time.Second)
		c.network.with(func() { c.network.drop = nil })
		if len(off) < 10 {
			t.Fatalf("%d promises were asked for in 2 s", len(off))
		}
		for range len(off) {
			if d := <-off; d != 0 {
				t.Errorf("a promise was asked for %v after a beat", d)
			}
		}
	})
}

// A lease that has run out is none, and comes back.
func TestWithoutALeaseAMajorityIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, leased())
		n := c.leader(t)
		propose(t, n.group, "x")
		awaitLease(t, n)
		// Heartbeats are lost, entries and rounds are not.
		c.network.with(func() {
			c.network.drop = func(_, _ quorate.NodeID, m []byte) bool { return messageKind(m[1]) == askPromise }
		})
		pauseFor(promiseSpan(defaultHeartbeatTimeout))
		_, before := confirmed(n)
		confirm(t, n)
		if _, now := confirmed(n); now != before+1 {
			t.Errorf("%v reads were by round", now-before)
		}
		c.network.with(func() { c.network.drop = nil })
		awaitLease(t, c.leader(t))
	})
}

// agedMessenger is that of a node whose binary knows nothing of promises.
type agedMessenger struct {
	Messenger
	old map[quorate.NodeID]bool
}

func (m agedMessenger) Send(to quorate.NodeID, lane uint8, message []byte, timeout time.Duration, done func([]byte, error)) {
	if m.old[to] && messageKind(message[1]) == askPromise {
		m.Messenger.Send(to, lane, sealRecord(append([]byte{peerVersion, 99}, message[2:len(message)-recordCRCLen]...)), timeout, done)
		return
	}
	m.Messenger.Send(to, lane, message, timeout, done)
}

// Members of an older version keep their leader, do not count, and are asked
// again in case that they are newer by then.
func TestMembersThatCannotPromiseDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := map[quorate.NodeID]bool{member(2).Node: true, member(3).Node: true}
		c := newCluster(t, leased(), func(_ *node, cfg *HostConfig) { cfg.Messenger = agedMessenger{cfg.Messenger, old} })
		n := c.nodes[0]
		c.lead(t, n)
		propose(t, n.group, "x")
		term, _ := n.group.Leadership()
		asked := c.network.count(messageKind(99))
		pauseFor(promiseRetry / 2)
		confirm(t, n)
		if by, _ := confirmed(n); by != 0 {
			t.Errorf("%v reads were by lease", by)
		}
		if now, leads := n.group.Leadership(); !leads || now != term {
			t.Errorf("the leader of term %d is in term %d (leads: %t)", term, now, leads)
		}
		if got := c.network.count(messageKind(99)) - asked; got > 2 {
			t.Errorf("it asked %d times in %v", got, promiseRetry/2)
		}
		c.network.with(func() { delete(old, member(2).Node) })
		awaitLease(t, n)
		confirm(t, n)
		if by, _ := confirmed(n); by != 1 {
			t.Errorf("after an upgrade %v reads were by lease", by)
		}
	})
}
