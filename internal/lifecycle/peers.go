package lifecycle

import (
	"context"

	"github.com/quorate/quorate"
)

// Peers is this node's way to the managers of other nodes. Its errors keep their
// quorate.ErrorKind across the wire; a node that cannot be reached is Unavailable.
type Peers interface {
	// Call asks a node and returns its answer.
	Call(ctx context.Context, to quorate.NodeID, method string, req []byte) ([]byte, error)
	// Stream asks a node for messages, which recv returns one after the other;
	// io.EOF ends them. It goes on until then or until ctx ends.
	Stream(ctx context.Context, to quorate.NodeID, method string, req []byte) (recv func() ([]byte, error), err error)
}

// Handlers takes what a node answers to others.
type Handlers interface {
	// Handle has a method answered by h. A request is valid during the call.
	Handle(method string, h func(ctx context.Context, from quorate.NodeID, req []byte) ([]byte, error))
	// HandleStream has a method answered by what h sends; a message may be used
	// again when send has returned.
	HandleStream(method string, h func(ctx context.Context, from quorate.NodeID, req []byte, send func([]byte) error) error)
}

// The methods between managers; docs/format/rpc.md has their bytes.
const (
	methodSeed  = "set.seed"
	methodFile  = "set.file"
	methodReady = "set.ready"
	methodSpace = "node.space"
)

// Register has the manager answer the managers of other nodes.
func (m *Manager) Register(h Handlers) {
	h.Handle(methodSeed, m.handleSeed)
	h.Handle(methodReady, m.handleReady)
	h.Handle(methodSpace, m.handleSpace)
	h.HandleStream(methodFile, m.handleFile)
}
