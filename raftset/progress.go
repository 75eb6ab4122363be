package raftset

import (
	"sync"
	"time"

	"github.com/quorate/quorate"
)

// progress is how far a leader knows each other member's log to match its own,
// and when it last heard from it. It is learned from what passes through the
// transport, since the library shows neither.
type progress struct {
	news *notice // told when a member gets ahead

	mu    sync.Mutex
	term  uint64 // of the leader that the rest is about
	peers map[quorate.ReplicaID]standing
}

// standing is one member's progress in one term.
type standing struct {
	match   uint64
	contact time.Time
}

// heard notes an answer to something that was sent in term; match is up to where
// it shows the logs to agree, 0 if it shows nothing.
func (p *progress) heard(term uint64, replica quorate.ReplicaID, match uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if term < p.term {
		return
	}
	if term > p.term || p.peers == nil {
		p.term, p.peers = term, make(map[quorate.ReplicaID]standing)
	}
	s := p.peers[replica]
	s.contact = time.Now()
	if match > s.match {
		s.match = match
		p.news.tell()
	}
	p.peers[replica] = s
}

// of returns a member's standing in term.
func (p *progress) of(term uint64, replica quorate.ReplicaID) (standing, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if term != p.term {
		return standing{}, false
	}
	s, ok := p.peers[replica]
	return s, ok
}

// Lag tells how many entries of this leader's log another member is not known to
// have, and when it last answered. It is not known while this replica does not
// lead, or has not heard from the member since it does.
func (g *Group) Lag(replica quorate.ReplicaID) (entries uint64, contact time.Time, ok bool) {
	term, leader := g.Leadership()
	if !leader {
		return 0, time.Time{}, false
	}
	s, ok := g.progress.of(term, replica)
	if !ok {
		return 0, time.Time{}, false
	}
	if _, member := find(g.roster.latest().servers, replica); !member {
		return 0, time.Time{}, false
	}
	last := g.raft.LastIndex()
	return last - min(s.match, last), s.contact, true
}
