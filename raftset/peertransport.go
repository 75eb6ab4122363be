package raftset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate"
)

const (
	// maxMessageBytes is where a message of entries is cut; one entry may be
	// longer.
	maxMessageBytes = 8 << 20
	// dataTimeout is for messages that wait for a disk: longer than a write may
	// be stuck before its process ends.
	dataTimeout = 10 * time.Second
	// fetchTimeout is how long a follower may take for a manifest's files, and to
	// open them.
	fetchTimeout = time.Hour
)

// peerTransport is the transport of a group that has other members, or can get
// some: the group's share of the host's Messenger.
//
// Nothing leaves it once its replica has failed: every message and every answer
// asks the guard first. So a failed replica acknowledges nothing and votes for
// nobody, whatever the library's goroutines still do.
type peerTransport struct {
	group     *Group
	messenger Messenger
	inbox     inbox
	fetches   fetches
	consumer  chan raft.RPC

	closed    chan struct{}
	closeOnce sync.Once
	running   sync.WaitGroup
}

func newPeerTransport(g *Group) transport {
	t := &peerTransport{
		group: g, messenger: g.host.cfg.Messenger,
		consumer: make(chan raft.RPC), closed: make(chan struct{}),
	}
	t.inbox.transport, t.fetches.transport = t, t
	return t
}

// over returns why nothing may leave any more, and nil while it may.
func (t *peerTransport) over() error {
	if t.group.guard.over() {
		return refuse(refusedStopped)
	}
	select {
	case <-t.closed:
		return refuse(refusedStopped)
	default:
		return nil
	}
}

// letter is a message on its way out.
type letter struct {
	lane    uint8
	message []byte
	timeout time.Duration
	// heartbeat tells that it leaves at the host's next beat.
	heartbeat bool
	// giveUp, when set, is asked at news of the group whether to stop waiting.
	giveUp func() error
}

// call sends a message and waits for the answer to it, which it reads into
// response.
func (t *peerTransport) call(id raft.ServerID, l letter, response any) error {
	to, err := ParseMember(string(id))
	if err != nil {
		return err
	}
	if err := t.over(); err != nil {
		return err
	}
	type result struct {
		answer []byte
		err    error
	}
	done := make(chan result, 1)
	settle := func(answer []byte, err error) { done <- result{answer, err} }
	if l.heartbeat {
		t.group.host.beat.join(func() {
			if err := t.over(); err != nil {
				settle(nil, err)
				return
			}
			t.messenger.Send(to.Node, l.lane, l.message, l.timeout, settle)
		})
	} else {
		t.messenger.Send(to.Node, l.lane, l.message, l.timeout, settle)
	}
	for {
		var news <-chan struct{}
		if l.giveUp != nil {
			news = t.group.news.wait()
			if err := l.giveUp(); err != nil {
				return err
			}
		}
		select {
		case r := <-done:
			if err := t.over(); err != nil {
				return err
			}
			if r.err != nil {
				return fmt.Errorf("member %s: %w", to, r.err)
			}
			return t.read(to, r.answer, response)
		case <-t.closed:
			return refuse(refusedStopped)
		case <-news:
		}
	}
}

func (t *peerTransport) read(to Member, answer []byte, response any) error {
	c, err := openReply(answer)
	if err == nil {
		err = readReply(c, response)
	}
	if err != nil {
		t.group.host.metrics.refusals.Inc()
		return fmt.Errorf("member %s: %w", to, err)
	}
	return nil
}

// to heads a message for a member.
func (t *peerTransport) to(id raft.ServerID, kind messageKind) envelope {
	m, err := ParseMember(string(id))
	if err != nil {
		// call finds the same, and says so.
		return envelope{}
	}
	return envelope{kind: kind, set: t.group.set, to: m.Replica, from: t.group.local.Replica}
}

// appendLetter encodes entries. As many are sent as one message may hold: the
// library looks at the request after the call to see how many went.
func (t *peerTransport) appendLetter(id raft.ServerID, args *raft.AppendEntriesRequest) (letter, error) {
	bytes := 0
	for i, l := range args.Entries {
		bytes += len(l.Data)
		if i > 0 && bytes > maxMessageBytes {
			args.Entries = args.Entries[:i]
			break
		}
	}
	message, err := t.to(id, askAppend).appendRequest(args)
	l := letter{lane: LaneData, message: message, timeout: dataTimeout}
	if isHeartbeat(args) {
		l.lane, l.timeout, l.heartbeat = LaneControl, t.group.host.cfg.HeartbeatTimeout, true
	}
	return l, err
}

// isHeartbeat tells heartbeats, which may overtake entries, from the empty
// messages that tell a commit index and must not.
func isHeartbeat(args *raft.AppendEntriesRequest) bool {
	return len(args.Entries) == 0 && args.PrevLogEntry == 0 && args.LeaderCommitIndex == 0
}

// noteAppend learns from an answer to entries.
func (t *peerTransport) noteAppend(id raft.ServerID, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) {
	m, err := ParseMember(string(id))
	if err != nil {
		return
	}
	var match uint64
	if resp.Success {
		match = args.PrevLogEntry + uint64(len(args.Entries))
	}
	t.group.progress.heard(args.Term, m.Replica, match)
}

// AppendEntries implements raft.Transport.
func (t *peerTransport) AppendEntries(id raft.ServerID, _ raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	l, err := t.appendLetter(id, args)
	if err != nil {
		return err
	}
	*resp = raft.AppendEntriesResponse{}
	if err := t.call(id, l, resp); err != nil {
		if l.lane == LaneData {
			t.pause()
		}
		return err
	}
	t.noteAppend(id, args, resp)
	return nil
}

// pause waits after a message of entries that failed. The library doubles its
// own pause with each failure, up to ten seconds: a member that is refused at
// once, as by a broken network, would be left alone for so long after it is back.
func (t *peerTransport) pause() {
	timer := time.NewTimer(t.group.host.cfg.HeartbeatTimeout / 2)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.closed:
	}
}

// RequestVote implements raft.Transport.
func (t *peerTransport) RequestVote(id raft.ServerID, _ raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return t.call(id, t.control(t.to(id, askVote).voteRequest(args)), resp)
}

// errNoPreVote is all that the library is told of a pre-vote that failed: it
// takes an error whose text holds "unexpected command" for a vote in favour, and
// the text of a messenger's error is not ours.
var errNoPreVote = errors.New("the member did not answer the pre-vote")

// RequestPreVote implements raft.WithPreVote.
func (t *peerTransport) RequestPreVote(id raft.ServerID, _ raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if err := t.call(id, t.control(t.to(id, askPreVote).preVoteRequest(args)), resp); err != nil {
		return errNoPreVote
	}
	return nil
}

// TimeoutNow implements raft.Transport.
func (t *peerTransport) TimeoutNow(id raft.ServerID, _ raft.ServerAddress, _ *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	term, leader := t.group.leadership()
	if !leader {
		return t.group.refusal()
	}
	return t.call(id, t.control(t.to(id, askElection).electionRequest(term)), resp)
}

func (t *peerTransport) control(message []byte) letter {
	return letter{lane: LaneControl, message: message, timeout: t.group.host.cfg.HeartbeatTimeout}
}

// InstallSnapshot implements raft.Transport, in two steps. A follower installs a
// manifest in its main loop, where it neither votes nor answers heartbeats; so
// the files are fetched before, beside it, and only when they are all there does
// the library's own request go out, which takes as long as the state machine needs
// to open what is on the follower's disk, and acknowledges that.
func (t *peerTransport) InstallSnapshot(id raft.ServerID, _ raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	payload, err := io.ReadAll(io.LimitReader(data, maxPayloadBytes+1))
	if err != nil {
		return fmt.Errorf("read the manifest at index %d: %w", args.LastLogIndex, err)
	}
	if int64(len(payload)) != args.Size {
		return fmt.Errorf("the manifest at index %d has %d bytes of payload, want %d", args.LastLogIndex, len(payload), args.Size)
	}
	stillLeads := func() error {
		if term, leader := t.group.leadership(); !leader || term != args.Term {
			return refuse(refusedStale)
		}
		return nil
	}
	prepare := t.to(id, askPrepare).prepareRequest(preparation{
		term: args.Term, index: args.LastLogIndex, manifestTerm: args.LastLogTerm, payload: payload,
	})
	if err := t.call(id, letter{lane: LaneBulk, message: prepare, timeout: fetchTimeout, giveUp: stillLeads}, nil); err != nil {
		return fmt.Errorf("prepare the manifest at index %d: %w", args.LastLogIndex, err)
	}
	install, err := t.to(id, askInstall).installRequest(args, payload)
	if err != nil {
		return err
	}
	if err := t.call(id, letter{lane: LaneBulk, message: install, timeout: fetchTimeout, giveUp: stillLeads}, resp); err != nil {
		return err
	}
	if m, err := ParseMember(string(id)); err == nil && resp.Success {
		t.group.host.metrics.installs.Inc()
		t.group.progress.heard(args.Term, m.Replica, args.LastLogIndex)
	}
	return nil
}

// Consumer implements raft.Transport.
func (t *peerTransport) Consumer() <-chan raft.RPC { return t.consumer }

// LocalAddr implements raft.Transport.
func (t *peerTransport) LocalAddr() raft.ServerAddress { return t.group.local.address() }

// EncodePeer implements raft.Transport: addresses are identities here.
func (t *peerTransport) EncodePeer(id raft.ServerID, _ raft.ServerAddress) []byte { return []byte(id) }

// DecodePeer implements raft.Transport.
func (t *peerTransport) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }

// SetHeartbeatHandler implements raft.Transport by ignoring it: the library's
// fast path changes term and state beside its main loop (hashicorp/raft#695).
func (t *peerTransport) SetHeartbeatHandler(func(raft.RPC)) {}

// Close implements raft.WithClose: it ends everything under way and waits for
// the transport's goroutines. It is idempotent.
func (t *peerTransport) Close() error {
	t.closeOnce.Do(func() { close(t.closed) })
	t.inbox.close()
	t.fetches.close()
	t.running.Wait()
	return nil
}

// confirmQuorum implements transport. The voters are those of the latest
// configuration, as for commitment; this replica counts as one of them if it
// is one, since the caller looks at its leadership afterwards.
func (t *peerTransport) confirmQuorum(ctx context.Context, term uint64) error {
	g := t.group
	servers := g.roster.latest().servers
	all := voters(servers)
	needed, asked := all/2+1, 0
	for _, s := range servers {
		switch {
		case s.suffrage != raft.Voter:
		case s.Replica == g.local.Replica:
			needed--
		default:
			asked++
		}
	}
	if needed <= 0 {
		return nil
	}
	agreed := make(chan bool, asked)
	for _, s := range servers {
		if s.suffrage == raft.Voter && s.Replica != g.local.Replica {
			g.host.rounds.ask(s.Node, question{seat: seat{set: g.set, replica: s.Replica}, term: term, answer: agreed})
		}
	}
	for ; needed > 0; asked-- {
		if asked < needed {
			return quorate.Errorf(quorate.Unavailable, "set %d: no quorum of its %d voters confirms that term %d goes on", g.set, all, term)
		}
		select {
		case yes := <-agreed:
			if yes {
				needed--
			}
		case <-ctx.Done():
			return quorate.Errorf(quorate.Unavailable, "set %d: waiting for a quorum: %w", g.set, ctx.Err())
		case <-t.closed:
			return g.refusal()
		}
	}
	return nil
}
