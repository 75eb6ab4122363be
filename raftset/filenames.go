package raftset

import (
	"fmt"
	"path/filepath"

	"github.com/quorate/quorate"
)

// Names inside a replica's directory.
const (
	manifestFile = "manifest"
	voteFile     = "vote"
	lowWaterFile = "lowwater"
	logDir       = "log"
	// segmentsFile lies in logDir and lists raft-wal's segment files.
	segmentsFile = "segments"

	// quarantineSuffix ends the name of a directory that was taken out of
	// service; reasonFile in it says why.
	quarantineSuffix = ".quarantined"
	reasonFile       = "reason"

	// joiningSuffix ends the name of a directory that Join is still making.
	joiningSuffix = ".joining"
)

// replicaDir is the directory of one replica.
func replicaDir(dir string, set quorate.ReplicaSetID, replica quorate.ReplicaID) string {
	return filepath.Join(dir, fmt.Sprintf("%d-%d", set, replica))
}
