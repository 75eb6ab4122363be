package node

import (
	"fmt"

	"github.com/quorate/quorate/internal/durable"
)

// Directories below the data directory, beside those of internal/lifecycle.
// Names are built of numbers only, never of a tenant's name.
const (
	raftDirName = "raft" // owned by raftset
	metaDirName = "meta" // owned by metasvc: the copy of the map
)

// openDir takes the data directory's lock and reads or mints its identity.
func openDir(dir, name string) (*dirLock, identity, error) {
	if err := durable.MkdirAll(dir); err != nil {
		return nil, identity{}, fmt.Errorf("data directory: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, identity{}, err
	}
	id, err := openIdentity(dir, name)
	return lock, id, err
}
