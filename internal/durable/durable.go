// Package durable publishes files so that a crash at any point leaves the old
// file or the new one, whole: write under a temporary name, fsync, rename,
// fsync the directory. It is the only way in which this project publishes a
// file.
package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// tempSuffix ends the name of a file that is not published yet.
const tempSuffix = ".tmp"

// Disk publishes files on a file system. The zero Disk is the operating
// system's; the functions of this package are its methods.
type Disk struct {
	// FS is the file system; nil is the operating system's.
	FS FS
}

func (d Disk) fs() FS {
	if d.FS == nil {
		return osFS{}
	}
	return d.FS
}

// WriteFile publishes data as the file at path with mode 0600. When it returns
// nil, the file is there under its name with these bytes, whatever happens next.
func (d Disk) WriteFile(path string, data []byte) error {
	return d.Write(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// Write publishes what fill writes as the file at path with mode 0600. An
// error leaves what stood at path before, except that a failed fsync of the
// directory leaves it unknown which of the two a crash would show; the caller
// must take the publication for not done.
func (d Disk) Write(path string, fill func(io.Writer) error) (err error) {
	temp := path + tempSuffix
	f, err := d.fs().Create(temp)
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
		if left := d.fs().Remove(temp); !errors.Is(left, os.ErrNotExist) {
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
	return d.Rename(temp, path)
}

// Rename renames a file or directory whose contents are already durable, and
// fsyncs the directory that holds the new name.
func (d Disk) Rename(from, to string) error {
	if err := d.fs().Rename(from, to); err != nil {
		return err
	}
	return d.fs().SyncDir(filepath.Dir(to))
}

// MkdirAll makes a directory and its missing parents with mode 0700. When it
// returns nil their names are durable, also if an earlier call made some of them
// and a crash cut it short.
func (d Disk) MkdirAll(dir string) error { return d.mkdirAll(filepath.Clean(dir)) }

func (d Disk) mkdirAll(dir string) error {
	parent := filepath.Dir(dir)
	info, err := d.fs().Stat(dir)
	switch {
	case err == nil && !info.IsDir():
		return fmt.Errorf("make directory %s: a file is in its place", dir)
	case err == nil:
		// It may be there without being durable: made by a call that ended
		// before its fsync. That can be true of one directory only, since
		// nothing is made below one whose name was not fsynced. A parent that
		// this process may not read is not of its making, nor is what is in it.
		if err := d.fs().SyncDir(parent); !errors.Is(err, os.ErrPermission) {
			return err
		}
		return nil
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	if err := d.mkdirAll(parent); err != nil {
		return err
	}
	if err := d.fs().Mkdir(dir); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return d.fs().SyncDir(parent)
}

// RemoveTemporary removes the files in dir whose publication a crash cut
// short. Call it at start, before anything is published there.
func (d Disk) RemoveTemporary(dir string) error {
	entries, err := d.fs().ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !strings.HasSuffix(e.Name(), tempSuffix) {
			continue
		}
		if err := d.fs().Remove(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// Open opens a file for reading.
func (d Disk) Open(path string) (File, error) { return d.fs().Open(path) }

// Remove removes a file, or a directory that is empty. It is durable after the
// next SyncDir of its directory.
func (d Disk) Remove(path string) error { return d.fs().Remove(path) }

// ReadDir lists a directory by name.
func (d Disk) ReadDir(dir string) ([]fs.DirEntry, error) { return d.fs().ReadDir(dir) }

// Stat describes a file or directory.
func (d Disk) Stat(path string) (fs.FileInfo, error) { return d.fs().Stat(path) }

// SyncDir makes the names in a directory durable.
func (d Disk) SyncDir(dir string) error { return d.fs().SyncDir(dir) }

// WriteFile is Disk.WriteFile of the operating system's file system.
func WriteFile(path string, data []byte) error { return Disk{}.WriteFile(path, data) }

// Write is Disk.Write of the operating system's file system.
func Write(path string, fill func(io.Writer) error) error { return Disk{}.Write(path, fill) }

// Rename is Disk.Rename of the operating system's file system.
func Rename(from, to string) error { return Disk{}.Rename(from, to) }

// MkdirAll is Disk.MkdirAll of the operating system's file system.
func MkdirAll(dir string) error { return Disk{}.MkdirAll(dir) }

// SyncDir is Disk.SyncDir of the operating system's file system.
func SyncDir(dir string) error { return Disk{}.SyncDir(dir) }

// RemoveTemporary is Disk.RemoveTemporary of the operating system's file system.
func RemoveTemporary(dir string) error { return Disk{}.RemoveTemporary(dir) }
