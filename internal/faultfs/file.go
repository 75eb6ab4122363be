package faultfs

import (
	"io"
	"io/fs"
	"slices"
	"time"
)

// file is an open file.
type file struct {
	fs   *FS
	node *node
	path string
	// closed is set by Close; any use after it fails.
	closed bool
}

func (f *file) begin(op string) error {
	if f.closed {
		return &fs.PathError{Op: op, Path: f.path, Err: fs.ErrClosed}
	}
	return f.fs.begin(op, f.path)
}

// Write appends to the file. A call that fails may have written a part.
func (f *file) Write(b []byte) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.begin("write"); err != nil {
		n := 0
		if !f.closed {
			n = len(b) / 2
			f.node.data = append(f.node.data, b[:n]...)
		}
		return n, err
	}
	f.node.data = append(f.node.data, b...)
	return len(b), nil
}

// ReadAt reads at an offset.
func (f *file) ReadAt(b []byte, at int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.begin("read"); err != nil {
		return 0, err
	}
	if at >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.node.data[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// Sync makes the bytes durable.
func (f *file) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.begin("fsync"); err != nil {
		return err
	}
	f.node.synced = slices.Clone(f.node.data)
	return nil
}

// Stat describes the file.
func (f *file) Stat() (fs.FileInfo, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.begin("stat"); err != nil {
		return nil, err
	}
	return describe(f.path, f.node), nil
}

// Close ends the use of the file; it makes nothing durable and never fails
// because of a crash.
func (f *file) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return &fs.PathError{Op: "close", Path: f.path, Err: fs.ErrClosed}
	}
	f.closed = true
	return nil
}

// info describes a node as fs.FileInfo.
type info struct {
	name string
	size int64
	mode fs.FileMode
}

func describe(name string, n *node) fs.FileInfo {
	i := info{name: name, size: int64(len(n.data)), mode: 0o600}
	if n.isDir {
		i.mode = fs.ModeDir | 0o700
	}
	return i
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return i.mode.IsDir() }
func (i info) Sys() any           { return nil }
