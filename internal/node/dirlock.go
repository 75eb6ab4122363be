package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

const lockName = "lock"

// dirLock keeps a second process out of the data directory: two processes on
// one log would both acknowledge writes that one of them loses.
type dirLock struct{ f *os.File }

// lockDir takes the lock of a data directory or says who holds it. The kernel
// gives the lock back when the process ends, however it ends.
func lockDir(dir string) (*dirLock, error) {
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("data directory %s is in use by another process: lock %s: %w", dir, path, err), f.Close())
	}
	return &dirLock{f: f}, nil
}

// Close gives the lock back.
func (l *dirLock) Close() error { return l.f.Close() }
