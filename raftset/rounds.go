package raftset

import (
	"sync"
	"time"

	"github.com/quorate/quorate"
)

// rounds asks other nodes for the terms of replicas there, for all groups of a
// host and all readers at once: to each node one message is on its way, and who
// comes meanwhile goes with the next. So what a read costs does not grow with
// the number of readers, and no answer is to a message that was sent before a
// reader that it is given to had asked.
type rounds struct {
	messenger Messenger
	timeout   time.Duration
	metrics   *metrics

	mu    sync.Mutex
	nodes map[quorate.NodeID]*round
}

// round is what is asked of one node.
type round struct {
	underway bool
	waiting  []question
}

// question is whether a replica is still in a term.
type question struct {
	seat
	term   uint64
	answer chan<- bool // with room for it
}

// ask puts a question to a node.
func (r *rounds) ask(node quorate.NodeID, q question) {
	r.mu.Lock()
	n := r.nodes[node]
	if n == nil {
		n = &round{}
		r.nodes[node] = n
	}
	n.waiting = append(n.waiting, q)
	if n.underway {
		r.mu.Unlock()
		return
	}
	n.underway = true
	r.mu.Unlock()
	r.send(node, n)
}

// send starts a round with all questions that wait, or ends it if none does.
func (r *rounds) send(node quorate.NodeID, n *round) {
	r.mu.Lock()
	asked := n.waiting
	n.waiting = nil
	n.underway = len(asked) > 0
	r.mu.Unlock()
	if len(asked) == 0 {
		return
	}
	seats := make([]seat, 0, len(asked))
	place := make(map[seat]int, len(asked))
	for _, q := range asked {
		if _, ok := place[q.seat]; !ok {
			place[q.seat] = len(seats)
			seats = append(seats, q.seat)
		}
	}
	r.metrics.rounds.Inc()
	r.messenger.Send(node, LaneControl, termsRequest(seats), r.timeout, func(answer []byte, err error) {
		terms := readRound(answer, err, len(seats))
		for _, q := range asked {
			q.answer <- terms != nil && terms[place[q.seat]] == q.term
		}
		r.send(node, n)
	})
}

// readRound returns the terms that a node answered, or nil.
func readRound(answer []byte, err error, n int) []uint64 {
	if err != nil {
		return nil
	}
	c, err := openReply(answer)
	if err != nil {
		return nil
	}
	terms, err := readTerms(c)
	if err != nil || len(terms) != n {
		return nil
	}
	return terms
}

// terms answers another node's round. Raft sets a replica's term before it
// grants a vote in it, so that a replica which is in a term here has voted in no
// later one. One that does not run tells nothing.
func (h *Host) terms(seats []seat) []uint64 {
	terms := make([]uint64, len(seats))
	for i, s := range seats {
		g, ok := h.Group(s.set)
		if !ok || g.local.Replica != s.replica {
			continue
		}
		term := g.raft.CurrentTerm()
		if !g.guard.over() {
			terms[i] = term
		}
	}
	return terms
}
