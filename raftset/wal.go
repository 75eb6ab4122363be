package raftset

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"syscall"

	wal "github.com/hashicorp/raft-wal"
	walfs "github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"github.com/quorate/quorate/internal/durable"
)

// errLogClosed is returned by a log that was closed.
var errLogClosed = wal.ErrClosed

// LogStoreFactory opens the log of one replica. Errors about stored bytes wrap
// ErrDamaged, and the replica is then quarantined; others leave it as it is.
type LogStoreFactory func(LogOptions) (LogStore, error)

// LogOptions are what a log is opened with.
type LogOptions struct {
	// Dir holds the log's files; it exists.
	Dir string
	// SegmentBytes is the size at which a segment is succeeded by the next,
	// and that is allocated for each.
	SegmentBytes int
	// Clean tells that the log was closed in order after appends that all
	// succeeded: nothing can be torn, or in the page cache alone. If not, what
	// the log holds must be durable before it can be read.
	Clean bool
	// Reached is an index that the log once reached, durably, unless it is 0. A
	// log that ends before it is damaged and to be left as it is.
	Reached uint64
	// Logger takes what the log's library reports.
	Logger *slog.Logger
}

// WAL makes logs of raft-wal: one fsync an append, whole segments deleted.
func WAL() LogStoreFactory { return openWAL }

func openWAL(o LogOptions) (LogStore, error) { return openWALOn(walfs.New(), o) }

func openWALOn(disk types.VFS, o LogOptions) (LogStore, error) {
	if err := durable.RemoveTemporary(o.Dir); err != nil {
		return nil, walError(o.Dir, err)
	}
	list := &segmentList{repair: true, unclean: !o.Clean, reached: o.Reached}
	w, err := wal.Open(o.Dir,
		wal.WithMetaStore(list),
		wal.WithSegmentFiler(segment.NewFiler(o.Dir, zeroedFS{disk})),
		wal.WithSegmentSize(o.SegmentBytes),
		wal.WithLogger(newLibraryLogger(o.Logger)))
	if err != nil {
		return nil, walError(o.Dir, err)
	}
	return w, nil
}

// walError tells a failing disk from damaged files: raft-wal's recovery returns
// plain errors for everything that it finds out of place.
func walError(dir string, err error) error {
	var version *versionError
	if isOSError(err) || errors.Is(err, ErrDamaged) || errors.As(err, &version) {
		return fmt.Errorf("open the log in %s: %w", dir, err)
	}
	return damaged("open the log in %s: %w", dir, err)
}

// isOSError tells whether err comes from the file system, and thus says nothing
// about the bytes stored. A file that is not there does.
func isOSError(err error) bool {
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	var path *fs.PathError
	var errno syscall.Errno
	return errors.As(err, &path) || errors.As(err, &errno)
}
