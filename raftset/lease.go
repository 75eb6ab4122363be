package raftset

import (
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate"
)

const (
	// leaseSlack is taken off a promise for good measure.
	leaseSlack = 10 * time.Millisecond
	// driftShare is what part of a promise may be lost to clocks that do not run
	// alike: 1/500 is two clocks each off by one in a thousand.
	driftShare = 500
	// promiseRetry is when a member that did not understand what it was asked
	// is asked again: it may run a newer binary by then.
	promiseRetry = time.Minute
)

// leaseSpan is for how long after a heartbeat was sent its leader may rely on
// what was promised in answer to it.
func leaseSpan(promised time.Duration) time.Duration {
	return max(0, promised-promised/driftShare-leaseSlack)
}

// lease is what other members have promised a leader: not to vote another into
// office for a while. As long as a quorum's promises last, nobody else leads
// (PROTOCOL 24). Moments are of this process' monotonic clock.
type lease struct {
	mu   sync.Mutex
	term uint64 // of the leader that the rest is about
	// revoked tells that leadership was to be handed over in the term. It stays
	// so, whatever came of it: the call may arrive at any later time.
	revoked bool
	// ends is until when each member's promise can be relied on.
	ends map[quorate.ReplicaID]time.Time
	// deaf are members that do not know what a promise is, with the moment at
	// which they are asked again.
	deaf map[quorate.ReplicaID]time.Time
}

// enterLocked starts anew in a later term, and tells whether term is the lease's.
func (l *lease) enterLocked(term uint64) bool {
	if term > l.term {
		l.term, l.revoked, l.ends = term, false, make(map[quorate.ReplicaID]time.Time)
	}
	return term == l.term
}

// promised notes what a member has answered to a heartbeat of a term. sent was
// read before the heartbeat was on its way.
func (l *lease) promised(term uint64, replica quorate.ReplicaID, sent time.Time, span time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.enterLocked(term) {
		return
	}
	if end := sent.Add(leaseSpan(span)); end.After(l.ends[replica]) {
		l.ends[replica] = end
	}
}

// revoke gives the lease up for the rest of a term.
func (l *lease) revoke(term uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.enterLocked(term) {
		l.revoked = true
	}
}

// covers tells whether a quorum of voters, self among them if it is one, has
// promised the leader of a term more than is over by now. The caller then still
// has to find itself leading in the term.
func (l *lease) covers(term uint64, servers []server, self quorate.ReplicaID, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term != term || l.revoked {
		return false
	}
	all, bound := 0, 0
	for _, s := range servers {
		if s.suffrage != raft.Voter {
			continue
		}
		all++
		if s.Replica == self || now.Before(l.ends[s.Replica]) {
			bound++
		}
	}
	return bound > all/2
}

// asks tells whether a member is to be asked for a promise.
func (l *lease) asks(replica quorate.ReplicaID, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !now.Before(l.deaf[replica])
}

// ignored notes that a member did not understand what it was asked.
func (l *lease) ignored(replica quorate.ReplicaID, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.deaf == nil {
		l.deaf = make(map[quorate.ReplicaID]time.Time)
	}
	l.deaf[replica] = now.Add(promiseRetry)
}

// errNotAsked says that a member is to be sent an ordinary heartbeat.
var errNotAsked = errors.New("the member was not asked for a promise")

// askPromise sends a heartbeat that asks for a promise. It returns errNotAsked,
// and nothing else, if it is not to be asked of that member, or the member does
// not know what that is.
func (t *peerTransport) askPromise(id raft.ServerID, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	to, err := ParseMember(string(id))
	if err != nil {
		return err
	}
	sent := time.Now()
	if !t.group.host.cfg.ReadLease || !t.lease.asks(to.Replica, sent) {
		return errNotAsked
	}
	message, err := t.to(id, askPromise).appendRequest(args)
	if err != nil {
		return err
	}
	l := t.control(message)
	l.heartbeat = true
	var answer promised
	switch err := t.call(id, l, &answer); {
	case isUnknown(err):
		t.lease.ignored(to.Replica, sent)
		return errNotAsked
	case err != nil:
		return err
	}
	*resp = answer.AppendEntriesResponse
	if resp.Success && resp.Term == args.Term {
		t.lease.promised(args.Term, to.Replica, sent, answer.span)
	}
	t.noteAppend(id, args, resp)
	return nil
}

// isUnknown tells whether a member did not understand a message.
func isUnknown(err error) bool {
	var refused *refusedError
	return errors.As(err, &refused) && refused.verdict == refusedMalformed
}

// hasLease tells whether nobody else can lead while this replica finds itself
// leading in a term: at the moment of the call, and before that.
func (t *peerTransport) hasLease(term uint64) bool {
	g := t.group
	return g.host.cfg.ReadLease && t.lease.covers(term, g.roster.latest().servers, g.local.Replica, time.Now())
}
