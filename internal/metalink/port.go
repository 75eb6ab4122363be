package metalink

import (
	"context"
	"errors"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/raftset"
)

// Port is what a link needs of the port between nodes. It is safe for
// concurrent use. Errors of Call whose chain has a method NotDone() bool that
// returns true tell that nothing was done.
type Port interface {
	// Call asks a node, CallAddress whichever node listens at an address. The
	// request may be used again when they return.
	Call(ctx context.Context, to quorate.NodeID, method string, request []byte) ([]byte, error)
	CallAddress(ctx context.Context, address, method string, request []byte) ([]byte, error)
	// Stream asks for a stream, which ends with io.EOF, another error, or ctx.
	Stream(ctx context.Context, to quorate.NodeID, method string, request []byte) (recv func() ([]byte, error), err error)
	// Handle answers members of the cluster, HandleStranger also nodes that are
	// in none, and while this one is in none.
	Handle(method string, h func(ctx context.Context, from quorate.NodeID, request []byte) ([]byte, error))
	HandleStranger(method string, h func(ctx context.Context, from quorate.NodeID, request []byte) ([]byte, error))
	HandleStream(method string, h func(ctx context.Context, from quorate.NodeID, request []byte, send func([]byte) error) error)
}

// The methods.
const (
	methodHello     = "meta.hello"
	methodJoin      = "meta.join"
	methodPropose   = "meta.propose"
	methodConfirm   = "meta.confirm"
	methodHeartbeat = "meta.heartbeat"
	methodSeed      = "meta.seed"
	methodWatch     = "meta.watch"
)

// Group is a replica of the metadata group; *raftset.Group is one.
type Group interface {
	Leadership() (term uint64, leader bool)
	Status() raftset.Status
	Propose(ctx context.Context, kind wire.Kind, command []byte) (any, error)
	ConfirmRead(ctx context.Context) (term uint64, err error)
	Seed() []byte
}

// Decider completes an encoded command that is proposed to the leader: an operator's
// gets what only the leader may say; *metasvc.Controller is one. Its error keeps the
// command from being committed.
type Decider interface {
	Decide(ctx context.Context, command []byte) ([]byte, error)
}

// Machine is a metadata state machine; *metasvc.StateMachine is one.
type Machine interface {
	AppliedIndex() uint64
	Watch(from uint64) *metasvc.Watch
	Follow(batch metasvc.Batch) error
}

// Beats keeps the heartbeats that reach the leader, as received when they are
// recorded; *metasvc.Heartbeats is one. It is safe for concurrent use.
type Beats interface {
	Record(beat metasvc.Heartbeat)
	// Confirm notes that a node's map is confirmed now.
	Confirm(node quorate.NodeID)
}

// notDone tells whether a failed call certainly did nothing.
func notDone(err error) bool {
	var n interface{ NotDone() bool }
	return errors.As(err, &n) && n.NotDone()
}
