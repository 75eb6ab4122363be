package simulation

import (
	"os"
	"sync"
	"time"

	"io/fs"

	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/raftset"
)

// disk is one node's: real files, and as much virtual time as the nemesis has
// every durable step take. A crash can come while one waits, so that there are
// crashes before and after what a step writes.
type disk struct {
	chance *chance

	mu sync.Mutex
	// pace is how long a step takes at most.
	pace time.Duration
	// hang is how long the next append to the log takes, once.
	hang time.Duration
}

// usualPace is how long a durable step of a disk takes at most that has nothing.
const usualPace = 2 * time.Millisecond

func newDisk(c *chance) *disk { return &disk{chance: c, pace: usualPace} }

func (d *disk) set(change func(*disk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d)
}

func (d *disk) wait() {
	d.mu.Lock()
	pace := d.pace
	d.mu.Unlock()
	sleep(d.chance.between(0, pace))
}

// append waits as an append to the log does.
func (d *disk) append() {
	d.mu.Lock()
	hang := d.hang
	d.hang = 0
	d.mu.Unlock()
	if hang > 0 {
		sleep(hang)
	}
	d.wait()
}

// logs makes logs of raft-wal whose appends take virtual time.
func (d *disk) logs() raftset.LogStoreFactory {
	wal := raftset.WAL()
	return func(o raftset.LogOptions) (raftset.LogStore, error) {
		store, err := wal(o)
		if err != nil {
			return nil, err
		}
		return slowed(d, store, store.StoreLogs), nil
	}
}

// slowLog is a log on a disk. Its entries are of the library's type, which
// only raftset names.
type slowLog[entry any] struct {
	raftset.LogStore
	disk  *disk
	store func([]entry) error
}

func slowed[entry any](d *disk, s raftset.LogStore, store func([]entry) error) *slowLog[entry] {
	return &slowLog[entry]{LogStore: s, disk: d, store: store}
}

// StoreLogs implements raftset.LogStore.
func (s *slowLog[entry]) StoreLogs(entries []entry) error {
	s.disk.append()
	err := s.store(entries)
	s.disk.wait()
	return err
}

// IsMonotonic says what the log says.
func (s *slowLog[entry]) IsMonotonic() bool {
	m, ok := s.LogStore.(interface{ IsMonotonic() bool })
	return ok && m.IsMonotonic()
}

// slowFS is the operating system's file system on a disk. Nothing is fsynced: a
// crash takes what the process has in memory and no page of the kernel's.
type slowFS struct{ disk *disk }

var _ durable.FS = slowFS{}

type slowFile struct {
	*os.File
	disk *disk
}

// Sync implements durable.File.
func (f slowFile) Sync() error {
	f.disk.wait()
	return nil
}

// Create implements durable.FS.
func (s slowFS) Create(path string) (durable.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return slowFile{File: f, disk: s.disk}, nil
}

// Open implements durable.FS.
func (s slowFS) Open(path string) (durable.File, error) { return os.Open(path) }

// Rename implements durable.FS.
func (s slowFS) Rename(from, to string) error {
	s.disk.wait()
	return os.Rename(from, to)
}

// Remove implements durable.FS.
func (slowFS) Remove(path string) error { return os.Remove(path) }

// Mkdir implements durable.FS.
func (slowFS) Mkdir(path string) error { return os.Mkdir(path, 0o700) }

// ReadDir implements durable.FS.
func (slowFS) ReadDir(dir string) ([]fs.DirEntry, error) { return os.ReadDir(dir) }

// Stat implements durable.FS.
func (slowFS) Stat(path string) (fs.FileInfo, error) { return os.Stat(path) }

// SyncDir implements durable.FS.
func (s slowFS) SyncDir(string) error {
	s.disk.wait()
	return nil
}
