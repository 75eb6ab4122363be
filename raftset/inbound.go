package raftset

import (
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
)

// maxInboxBytes bounds what waits in one group to be handled; more is refused,
// and the leader sends it again.
const maxInboxBytes = 64 << 20

// Deliver takes in a message that another node's host sent here. answer is
// called exactly once, by any goroutine, with what is to be sent back. The
// message is the host's from then on: entries in it are kept.
//
// A message is heard only by the very replica that it names, and only from the
// node on which the sending member lives (PROTOCOL 2). Neither what is damaged
// nor what is not for a replica here does more than be refused.
func (h *Host) Deliver(from quorate.NodeID, message []byte, answer func([]byte)) {
	if err := h.deliver(from, message, answer); err != nil {
		answer(refusal(err))
	}
}

// deliver takes a message over, or says why not.
func (h *Host) deliver(from quorate.NodeID, message []byte, answer func([]byte)) error {
	kind, c, err := openMessage(message)
	if err != nil {
		return err
	}
	if messageKind(kind) == askTerms {
		seats, err := readSeats(c)
		if err != nil {
			return err
		}
		answer(termsReply(h.terms(seats)))
		return nil
	}
	e := readEnvelope(kind, c)
	if c.Bad {
		return c.Finish(errMalformed, "envelope")
	}
	g, ok := h.Group(e.set)
	if !ok {
		return refuse(refusedNotOpen)
	}
	t, ok := g.transport.(receiver)
	if !ok {
		return refuse(refusedNotOpen)
	}
	in, err := g.admit(from, e)
	if err != nil {
		return err
	}
	in.body, in.answer = c, answer
	return t.receive(in)
}

// receiver is a transport that takes messages in.
type receiver interface {
	// receive takes a message over, or says why not.
	receive(in inbound) error
}

// admit checks who speaks to whom.
func (g *Group) admit(from quorate.NodeID, e envelope) (inbound, error) {
	if e.to != g.local.Replica {
		return inbound{}, refuse(refusedReplica)
	}
	sender := Member{Node: from, Replica: e.from}
	known, ok := find(g.roster.latest().servers, e.from)
	switch {
	case ok && known.Node != from:
		return inbound{}, refuse(refusedSender)
	case !ok && (e.kind == askVote || e.kind == askPreVote || e.kind == askElection):
		// A leader may be one that this replica's log does not name yet; a
		// candidate, or one that hands over, may not.
		return inbound{}, refuse(refusedSender)
	}
	return inbound{kind: e.kind, sender: sender}, nil
}

// inbound is a message that was admitted.
type inbound struct {
	kind   messageKind
	sender Member
	body   *cursor.Cursor
	answer func([]byte)
}

// receive implements receiver.
func (t *peerTransport) receive(in inbound) error {
	if err := t.over(); err != nil {
		return err
	}
	if (in.kind == askPrepare || in.kind == askInstall) && t.group.host.cfg.Exhausted() {
		return refuse(refusedNoSpace)
	}
	if in.kind == askPrepare {
		return t.fetches.take(in)
	}
	return t.inbox.take(in)
}

// start runs a goroutine of the transport, unless it is closed.
func (t *peerTransport) start(run func()) bool {
	t.inbox.mu.Lock()
	defer t.inbox.mu.Unlock()
	if t.inbox.closed {
		return false
	}
	t.running.Go(run)
	return true
}

// inbox hands a group's messages to the library one after the other: the next
// when the last is answered, so that what is checked of the replica's term
// before still holds when the library sees the message. Its goroutine lives only
// while there is something to hand over; idle groups have none.
type inbox struct {
	transport *peerTransport
	installed installs // the goroutine's alone

	mu      sync.Mutex
	waiting []inbound
	bytes   int
	busy    bool
	closed  bool
}

func (b *inbox) take(in inbound) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return refuse(refusedStopped)
	}
	if b.bytes > maxInboxBytes {
		return refuse(refusedOverload)
	}
	b.bytes += len(in.body.B)
	b.waiting = append(b.waiting, in)
	if !b.busy {
		b.busy = true
		b.transport.running.Go(b.run)
	}
	return nil
}

// next takes out what waits longest. When nothing does, or the transport is
// closed, the goroutine is over.
func (b *inbox) next() (inbound, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || len(b.waiting) == 0 {
		b.busy = false
		return inbound{}, false
	}
	in := b.waiting[0]
	b.waiting = slices.Delete(b.waiting, 0, 1)
	b.bytes -= len(in.body.B)
	return in, true
}

// close refuses what waits and what comes.
func (b *inbox) close() {
	b.mu.Lock()
	waiting := b.waiting
	b.waiting, b.bytes, b.closed = nil, 0, true
	b.mu.Unlock()
	for _, in := range waiting {
		in.answer(refusal(refuse(refusedStopped)))
	}
}

func (b *inbox) run() {
	for {
		in, ok := b.next()
		if !ok {
			return
		}
		answer, err := b.handle(in)
		if err == nil {
			// What the library says must not leave after a failure, though it
			// was true before.
			err = b.transport.over()
		}
		if err != nil {
			answer = refusal(err)
		}
		in.answer(answer)
	}
}

// handle has the library handle one message.
func (b *inbox) handle(in inbound) ([]byte, error) {
	g := b.transport.group
	header := raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(in.sender.serverID()), Addr: []byte(in.sender.address()),
	}
	switch in.kind {
	case askAppend:
		r, err := readAppend(in.body)
		if err != nil {
			return nil, err
		}
		if len(r.Entries) > 0 && g.host.cfg.Exhausted() {
			return nil, refuse(refusedNoSpace)
		}
		r.RPCHeader = header
		g.clip(r)
		return b.feed(raft.RPC{Command: r})
	case askPromise:
		r, err := readAppend(in.body)
		if err != nil {
			return nil, err
		}
		if len(r.Entries) > 0 {
			return nil, fmt.Errorf("%w: a heartbeat has %d entries", errMalformed, len(r.Entries))
		}
		r.RPCHeader = header
		return b.promise(in.sender, r)
	case askVote:
		r, err := readVote(in.body)
		if err != nil {
			return nil, err
		}
		r.RPCHeader = header
		if !b.transport.mayVote(in.sender, r.Term, r.LeadershipTransfer) {
			return reply(&raft.RequestVoteResponse{Term: g.raft.CurrentTerm()})
		}
		return b.feed(raft.RPC{Command: r})
	case askPreVote:
		r, err := readPreVote(in.body)
		if err != nil {
			return nil, err
		}
		r.RPCHeader = header
		if !b.transport.mayVote(in.sender, r.Term, false) {
			return reply(&raft.RequestPreVoteResponse{Term: g.raft.CurrentTerm()})
		}
		return b.feed(raft.RPC{Command: r})
	case askElection:
		term, err := readElection(in.body)
		if err != nil {
			return nil, err
		}
		if !g.mayRun(term) {
			return nil, refuse(refusedStale)
		}
		b.transport.promise.call(term)
		return b.feed(raft.RPC{Command: &raft.TimeoutNowRequest{RPCHeader: header}})
	case askInstall:
		return b.install(in, header)
	case askPrepare, askTerms:
	}
	return nil, fmt.Errorf("%w: kind %d", errMalformed, in.kind)
}

// mayRun tells whether a leader's call to run for leader is of now. The library
// obeys it in any term, though it may have been on its way for long, and lets
// voters turn against a leader in office for it.
func (g *Group) mayRun(term uint64) bool {
	self, ok := find(g.roster.latest().servers, g.local.Replica)
	return ok && self.suffrage == raft.Voter && g.raft.CurrentTerm() == term && g.raft.State() == raft.Follower
}

// promise has the library handle a heartbeat that asks for a promise. The library
// takes it if it is of no earlier term; a promise made for nothing does no harm.
func (b *inbox) promise(leader Member, r *raft.AppendEntriesRequest) ([]byte, error) {
	answer := promised{span: b.transport.keepPromise(leader, r.Term)}
	response, err := b.consume(raft.RPC{Command: r})
	if err != nil {
		return nil, err
	}
	entries, ok := response.(*raft.AppendEntriesResponse)
	if !ok {
		return nil, fmt.Errorf("a heartbeat was answered with a %T", response)
	}
	answer.AppendEntriesResponse = *entries
	if !entries.Success {
		answer.span = 0
	}
	return reply(&answer)
}

// feed has the library handle one command and encodes its answer.
func (b *inbox) feed(rpc raft.RPC) ([]byte, error) {
	response, err := b.consume(rpc)
	if err != nil {
		return nil, err
	}
	return reply(response)
}

// consume hands one command to the library's main loop and waits for its answer.
func (b *inbox) consume(rpc raft.RPC) (any, error) {
	answers := make(chan raft.RPCResponse, 1)
	rpc.RespChan = answers
	select {
	case b.transport.consumer <- rpc:
	case <-b.transport.closed:
		return nil, refuse(refusedStopped)
	}
	select {
	case a := <-answers:
		return a.Response, a.Error
	case <-b.transport.closed:
		return nil, refuse(refusedStopped)
	}
}
