package raftset

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/durable"
)

// Names that a replica's files have below the directory given to Remove.
const (
	removedName     = "raft"
	removedAsideDir = removedName + quarantineSuffix
	removedJoining  = removedName + joiningSuffix
)

// Exists tells whether a replica has files here, in service or quarantined.
func (h *Host) Exists(set quorate.ReplicaSetID, replica quorate.ReplicaID) (bool, error) {
	dir := replicaDir(h.cfg.Dir, set, replica)
	for _, path := range []string{dir, dir + quarantineSuffix} {
		switch _, err := os.Lstat(path); {
		case err == nil:
			return true, nil
		case !errors.Is(err, fs.ErrNotExist):
			return false, fmt.Errorf("look for set %d, replica %d: %w", set, replica, err)
		}
	}
	return false, nil
}

// Quarantine takes a replica that is not open out of service for ever, for damage
// that was found elsewhere than in its log: it never votes again (PROTOCOL 2).
// Nothing is deleted. It is idempotent.
func (h *Host) Quarantine(set quorate.ReplicaSetID, replica quorate.ReplicaID, reason error) error {
	if err := h.reserve(set); err != nil {
		return fmt.Errorf("quarantine set %d, replica %d: %w", set, replica, err)
	}
	defer h.unreserve(set)
	dir := replicaDir(h.cfg.Dir, set, replica)
	if err := checkQuarantine(dir); errors.Is(err, ErrQuarantined) {
		return nil
	}
	h.metrics.quarantined.Inc()
	h.cfg.Logger.Error("replica is quarantined", "set", uint64(set), "replica", uint64(replica), "dir", dir+quarantineSuffix, "err", reason)
	if err := quarantine(dir, reason); err != nil {
		return fmt.Errorf("quarantine set %d, replica %d: %w", set, replica, err)
	}
	return nil
}

// Remove takes a replica's files out of the host for ever: its directory, and
// one that was quarantined or half made, are renamed into the directory to, which the caller
// has made durable on the same file system. Nothing is deleted; when Remove
// returns nil the files are gone from here and will not come back after a
// crash. It is idempotent, and refuses a set that is open.
//
// It is for replicas of which the metadata has a positive record that they are
// no more: dropped, removed, or sealed and served from a file (PROTOCOL 16).
// Such a replica never starts again (PROTOCOL 3).
func (h *Host) Remove(set quorate.ReplicaSetID, replica quorate.ReplicaID, to string) error {
	if err := h.reserve(set); err != nil {
		return fmt.Errorf("remove set %d, replica %d: %w", set, replica, err)
	}
	defer h.unreserve(set)
	dir := replicaDir(h.cfg.Dir, set, replica)
	for from, name := range map[string]string{
		dir: removedName, dir + quarantineSuffix: removedAsideDir, dir + joiningSuffix: removedJoining,
	} {
		err := durable.Rename(from, filepath.Join(to, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove set %d, replica %d: %w", set, replica, err)
		}
	}
	// The old names must not come back either.
	if err := durable.SyncDir(h.cfg.Dir); err != nil {
		return fmt.Errorf("remove set %d, replica %d: %w", set, replica, err)
	}
	return nil
}
