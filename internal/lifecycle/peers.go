package lifecycle

import "github.com/quorate/quorate/internal/router"

// The methods between managers; docs/format/rpc.md has their bytes.
const (
	methodSeed  = "set.seed"
	methodFile  = "set.file"
	methodReady = "set.ready"
	methodSpace = "node.space"
)

// Register has the manager answer the managers of other nodes.
func (m *Manager) Register(h router.Handlers) {
	h.Handle(methodSeed, m.handleSeed)
	h.Handle(methodReady, m.handleReady)
	h.Handle(methodSpace, m.handleSpace)
	h.HandleStream(methodFile, m.handleFile)
}
