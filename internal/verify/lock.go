package verify

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

var (
	// ErrInUse is wrapped when a server runs on the directory: its files change
	// while they are read.
	ErrInUse = errors.New("the data directory is in use by a running server; stop it first")
	// ErrNotDataDir is wrapped when a directory was never a server's.
	ErrNotDataDir = errors.New("this is no data directory of a server")
)

// lock takes the directory's lock shared with other checks, without writing.
func lock(dir string) (io.Closer, error) {
	path := filepath.Join(dir, lockName)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w: it has no file %q", dir, ErrNotDataDir, lockName)
	}
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w (lock %s: %w)", dir, ErrInUse, path, err), f.Close())
	}
	return f, nil
}
