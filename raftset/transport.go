package raftset

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"
)

// transport is what a group needs of the network: all that hashicorp/raft asks
// for, and a quorum round for confirmed reads. One is made per group; it is the
// seam at which peerTransport takes the loopback's place.
//
// Whatever implements it must ignore SetHeartbeatHandler and put heartbeats on
// the Consumer channel with everything else: the library's fast path for them
// changes term and state beside the main loop (hashicorp/raft#695).
type transport interface {
	raft.Transport
	// WithPreVote must be there, or the library quietly does without pre-votes.
	raft.WithPreVote
	// WithClose ends everything under way: no vote, acknowledgement or
	// heartbeat leaves after it.
	raft.WithClose
	// confirmQuorum returns nil once a quorum of the voters has acknowledged,
	// in term, a message that was sent after the call began, or at once while a
	// quorum's promises to the leader of term last (PROTOCOL 24). The library's
	// VerifyLeader also counts older ones. Errors are of kind Unavailable.
	confirmQuorum(ctx context.Context, term uint64) error
}

// loopback is the transport of groups whose one voter is this replica: nobody
// to talk to, and its own quorum.
type loopback struct {
	local   raft.ServerAddress
	inbound chan raft.RPC
}

var errNoPeers = errors.New("the loopback transport reaches no peers")

func newLoopback(g *Group) transport {
	return &loopback{local: g.local.address(), inbound: make(chan raft.RPC)}
}

// confirmQuorum needs no round: the one voter is the leader that asks.
func (t *loopback) confirmQuorum(context.Context, uint64) error { return nil }

// Consumer implements raft.Transport; nothing ever arrives.
func (t *loopback) Consumer() <-chan raft.RPC { return t.inbound }

// LocalAddr implements raft.Transport.
func (t *loopback) LocalAddr() raft.ServerAddress { return t.local }

// AppendEntriesPipeline implements raft.Transport.
func (t *loopback) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// AppendEntries implements raft.Transport.
func (t *loopback) AppendEntries(id raft.ServerID, _ raft.ServerAddress, _ *raft.AppendEntriesRequest, _ *raft.AppendEntriesResponse) error {
	return unreachable(id)
}

// RequestVote implements raft.Transport.
func (t *loopback) RequestVote(id raft.ServerID, _ raft.ServerAddress, _ *raft.RequestVoteRequest, _ *raft.RequestVoteResponse) error {
	return unreachable(id)
}

// RequestPreVote implements raft.WithPreVote.
func (t *loopback) RequestPreVote(id raft.ServerID, _ raft.ServerAddress, _ *raft.RequestPreVoteRequest, _ *raft.RequestPreVoteResponse) error {
	return unreachable(id)
}

// InstallSnapshot implements raft.Transport.
func (t *loopback) InstallSnapshot(id raft.ServerID, _ raft.ServerAddress, _ *raft.InstallSnapshotRequest, _ *raft.InstallSnapshotResponse, _ io.Reader) error {
	return unreachable(id)
}

// TimeoutNow implements raft.Transport.
func (t *loopback) TimeoutNow(id raft.ServerID, _ raft.ServerAddress, _ *raft.TimeoutNowRequest, _ *raft.TimeoutNowResponse) error {
	return unreachable(id)
}

// EncodePeer implements raft.Transport: addresses are identities here.
func (t *loopback) EncodePeer(id raft.ServerID, _ raft.ServerAddress) []byte { return []byte(id) }

// DecodePeer implements raft.Transport.
func (t *loopback) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }

// SetHeartbeatHandler implements raft.Transport by ignoring it.
func (t *loopback) SetHeartbeatHandler(func(raft.RPC)) {}

// Close implements raft.WithClose.
func (t *loopback) Close() error { return nil }

func unreachable(id raft.ServerID) error { return fmt.Errorf("member %s: %w", id, errNoPeers) }
