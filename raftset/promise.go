package raftset

import (
	"errors"
	"sync"
	"time"
)

// maxPromise bounds what a member may say that it promises.
const maxPromise = time.Hour

// promiseSpan is for how long a replica promises a leader that asks for it to
// help nobody else into office. It stays below the heartbeat timeout, before
// which nobody runs for leader who hears one: so no election waits for it. It
// must never be less in a later binary, whose start keeps what an earlier one
// has promised.
func promiseSpan(heartbeatTimeout time.Duration) time.Duration {
	span := heartbeatTimeout - heartbeatTimeout/10
	return span.Truncate(time.Millisecond)
}

// promise is what a replica has promised the leader that it follows: until some
// moment of its own monotonic clock it votes for nobody else, runs for leader by
// itself no more than that, and grants no pre-vote (PROTOCOL 24).
//
// Votes and answers to leaders leave by the inbox's one goroutine, so that what
// was promised before an answer left is known to every vote after it.
type promise struct {
	mu     sync.Mutex
	leader Member // zero: whoever a former life of this replica promised it
	until  time.Time
	// called is the term whose leader has called this replica to run, last.
	called uint64
}

// make promises until a moment, before the library hears the message that asks
// for it: should the library then acknowledge, nothing has left in between that
// the promise forbids. One to an earlier leader is void: whoever was elected
// since was elected past it.
func (p *promise) make(leader Member, until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leader, p.until = leader, until
}

// forbids tells whether a vote for a candidate must not leave now.
func (p *promise) forbids(candidate Member, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return now.Before(p.until) && candidate != p.leader
}

// call notes that the leader of a term has called this replica to run.
func (p *promise) call(term uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.called = term
}

// isCalled tells whether a candidacy of this replica is what a leader has called
// for: one in the term right after that leader's. The library remembers the call
// and not its term.
func (p *promise) isCalled(term uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.called != 0 && term == p.called+1
}

var errPromised = errors.New("the replica has promised its leader not to run against it yet")

// mayVote tells whether a vote of this replica may go to a candidate. handover
// says that a leader has called the candidate to run: it has given up its lease
// before, so that its call frees those who have promised, in the next term and
// in no later one.
func (t *peerTransport) mayVote(candidate Member, term uint64, handover bool) bool {
	if !t.promise.forbids(candidate, time.Now()) {
		return true
	}
	return handover && term == t.group.raft.CurrentTerm()+1
}

// keepPromise makes the promise that a heartbeat of a term asks for, and returns
// what is to be said of it, which counts only if the library takes the heartbeat.
func (t *peerTransport) keepPromise(leader Member, term uint64) time.Duration {
	if term < t.group.raft.CurrentTerm() {
		return 0
	}
	span := promiseSpan(t.group.host.cfg.HeartbeatTimeout)
	t.promise.make(leader, time.Now().Add(span))
	return span
}

// resume keeps for a replica that starts what its former life may have promised
// to whomever. One that has never been in a term that anybody led in has promised
// nothing.
func (p *promise) resume(term uint64, span time.Duration) {
	if term > genesisTerm {
		p.make(Member{}, time.Now().Add(span))
	}
}
