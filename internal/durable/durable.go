// Package durable publishes files so that a crash at any point leaves the old
// file or the new one, whole: write under a temporary name, fsync, rename,
// fsync the directory. It is the only way in which this project publishes a
// file.
package durable

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// tempSuffix ends the name of a file that is not published yet.
const tempSuffix = ".tmp"

// WriteFile publishes data as the file at path with mode 0600. When it returns
// nil, the file is there under its name with these bytes, whatever happens next.
func WriteFile(path string, data []byte) error {
	return Write(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// Write publishes what fill writes as the file at path with mode 0600. An
// error leaves what stood at path before, except that a failed fsync of the
// directory leaves it unknown which of the two a crash would show; the caller
// must take the publication for not done.
func Write(path string, fill func(io.Writer) error) error { return write(path, fill, SyncDir) }

func write(path string, fill func(io.Writer) error, syncDir func(string) error) (err error) {
	temp := path + tempSuffix
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("publish %s: %w", path, err)
	}
	defer func() {
		if err == nil {
			return
		}
		err = fmt.Errorf("publish %s: %w", path, err)
		// After the rename there is nothing to remove, and callers must not
		// take the failure for a missing file.
		if left := os.Remove(temp); !errors.Is(left, os.ErrNotExist) {
			err = errors.Join(err, left)
		}
	}()
	if err := fill(f); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	return rename(temp, path, syncDir)
}

// Rename renames a file or directory whose contents are already durable, and
// fsyncs the directory that holds the new name.
func Rename(from, to string) error { return rename(from, to, SyncDir) }

func rename(from, to string, syncDir func(string) error) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}

// MkdirAll makes a directory and its missing parents with mode 0700. When it
// returns nil their names are durable, also if an earlier call made some of them
// and a crash cut it short.
func MkdirAll(dir string) error { return mkdirAll(filepath.Clean(dir), SyncDir) }

func mkdirAll(dir string, syncDir func(string) error) error {
	parent := filepath.Dir(dir)
	info, err := os.Stat(dir)
	switch {
	case err == nil && !info.IsDir():
		return fmt.Errorf("make directory %s: a file is in its place", dir)
	case err == nil:
		// It may be there without being durable: made by a call that ended
		// before its fsync. That can be true of one directory only, since
		// nothing is made below one whose name was not fsynced. A parent that
		// this process may not read is not of its making, nor is what is in it.
		if err := syncDir(parent); !errors.Is(err, os.ErrPermission) {
			return err
		}
		return nil
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	if err := mkdirAll(parent, syncDir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return syncDir(parent)
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// RemoveTemporary removes the files in dir whose publication a crash cut
// short. Call it at start, before anything is published there.
func RemoveTemporary(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !strings.HasSuffix(e.Name(), tempSuffix) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
