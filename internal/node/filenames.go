package node

import (
	"fmt"
	"path/filepath"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/durable"
)

// setID shortens the type that keys this package's tables.
type setID = quorate.ReplicaSetID

// The directories below the data directory. Names are built of numbers only,
// never of a tenant's name.
const (
	raftDirName = "raft" // owned by raftset
	setsDirName = "sets" // owned by tsdbshard, one directory a replica
	metaDirName = "meta" // owned by metasvc: the copy of the map
)

// setDir is where a replica's shard keeps its files.
func setDir(dataDir string, set setID, replica quorate.ReplicaID) string {
	return filepath.Join(dataDir, setsDirName, fmt.Sprintf("%d-%d", set, replica))
}

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
