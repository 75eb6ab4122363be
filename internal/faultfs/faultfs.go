package faultfs

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/quorate/quorate/internal/durable"
)

// ErrCrashed is what every call answers once the file system has crashed.
var ErrCrashed = errors.New("faultfs: crashed")

// FS is a file system in memory. The zero value is not ready to use; see New.
// It is safe for concurrent use.
type FS struct {
	mu   sync.Mutex
	root *node
	// calls counts the calls that could fail. From crashAt on they do; the one
	// numbered failAt answers failWith. Zero is never.
	calls, crashAt, failAt int
	failWith               error
}

var _ durable.FS = (*FS)(nil)

// node is a file or a directory.
type node struct {
	isDir bool
	data  []byte
	// synced are the bytes at the last fsync.
	synced []byte
	names  map[string]*node
	// durable are the names at the last fsync of the directory, pending what
	// changed since, in order.
	durable map[string]*node
	pending []change
}

// change sets a name of a directory, or removes it when node is nil.
type change struct {
	name string
	node *node
}

func newDir() *node {
	return &node{isDir: true, names: make(map[string]*node), durable: make(map[string]*node)}
}

func (n *node) set(name string, to *node) {
	if to == nil {
		delete(n.names, name)
	} else {
		n.names[name] = to
	}
	n.pending = append(n.pending, change{name, to})
}

// New returns an empty file system.
func New() *FS { return &FS{root: newDir()} }

// Calls returns how many calls were made that could fail.
func (f *FS) Calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// CrashAt makes the n-th call from now (1 is the next), and all after it,
// answer ErrCrashed without having done anything; 0 is never.
func (f *FS) CrashAt(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashAt = 0
	if n > 0 {
		f.crashAt = f.calls + n
	}
}

// FailAt makes the n-th call from now answer an error without having done
// anything.
func (f *FS) FailAt(n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failAt, f.failWith = f.calls+n, err
}

// Loss is what a crash takes.
type Loss int

const (
	// KeepAll loses nothing: the process died, the machine did not.
	KeepAll Loss = iota
	// LoseAll loses whatever was not fsynced.
	LoseAll
	// LoseSome loses what chance says of it: of each directory's changes and
	// of each file's new bytes a prefix stays.
	LoseSome
)

// Restart returns the file system that the next process finds. Chance is asked
// for LoseSome alone. The old one answers ErrCrashed from now on.
func (f *FS) Restart(loss Loss, chance *rand.Rand) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashAt = 1
	return &FS{root: f.root.after(loss, chance, make(map[*node]*node))}
}

// after returns a copy of the node as it is after a crash. A node that two
// names stand for after it is copied once.
func (n *node) after(loss Loss, chance *rand.Rand, copies map[*node]*node) *node {
	if c, ok := copies[n]; ok {
		return c
	}
	if !n.isDir {
		c := &node{data: slices.Clone(n.dataAfter(loss, chance))}
		c.synced = c.data
		copies[n] = c
		return c
	}
	names := n.names
	if loss != KeepAll {
		keep := 0
		if loss == LoseSome {
			keep = chance.IntN(len(n.pending) + 1)
		}
		names = make(map[string]*node, len(n.durable))
		for name, child := range n.durable {
			names[name] = child
		}
		for _, ch := range n.pending[:keep] {
			if ch.node == nil {
				delete(names, ch.name)
			} else {
				names[ch.name] = ch.node
			}
		}
	}
	c := newDir()
	copies[n] = c
	// In order of name, so that one seed gives one outcome.
	sorted := make([]string, 0, len(names))
	for name := range names {
		sorted = append(sorted, name)
	}
	slices.Sort(sorted)
	for _, name := range sorted {
		child := names[name].after(loss, chance, copies)
		c.names[name], c.durable[name] = child, child
	}
	return c
}

func (n *node) dataAfter(loss Loss, chance *rand.Rand) []byte {
	switch {
	case loss == KeepAll:
		return n.data
	case loss == LoseAll || len(n.data) <= len(n.synced):
		return n.synced
	}
	return n.data[:len(n.synced)+chance.IntN(len(n.data)-len(n.synced)+1)]
}

// begin counts a call and tells whether it is to fail. The caller holds mu.
func (f *FS) begin(op, path string) error {
	f.calls++
	switch {
	case f.crashAt > 0 && f.calls >= f.crashAt:
		return &fs.PathError{Op: op, Path: path, Err: ErrCrashed}
	case f.failAt == f.calls:
		return &fs.PathError{Op: op, Path: path, Err: f.failWith}
	}
	return nil
}

func (f *FS) find(path string) *node {
	n := f.root
	for _, name := range strings.Split(filepath.Clean(path), string(filepath.Separator)) {
		if name == "" || name == "." {
			continue
		}
		if n == nil || !n.isDir {
			return nil
		}
		n = n.names[name]
	}
	return n
}

// parent returns the directory that a path's last name stands in.
func (f *FS) parent(op, path string) (dir *node, name string, err error) {
	dir = f.find(filepath.Dir(path))
	if dir == nil || !dir.isDir {
		return nil, "", &fs.PathError{Op: op, Path: path, Err: fs.ErrNotExist}
	}
	return dir, filepath.Base(path), nil
}

// Create makes an empty file.
func (f *FS) Create(path string) (durable.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin("create", path); err != nil {
		return nil, err
	}
	dir, name, err := f.parent("create", path)
	if err != nil {
		return nil, err
	}
	n := dir.names[name]
	switch {
	case n == nil:
		n = &node{}
		dir.set(name, n)
	case n.isDir:
		return nil, &fs.PathError{Op: "create", Path: path, Err: fs.ErrInvalid}
	}
	n.data = nil
	return &file{fs: f, node: n, path: path}, nil
}

// Open opens a file.
func (f *FS) Open(path string) (durable.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin("open", path); err != nil {
		return nil, err
	}
	n := f.find(path)
	if n == nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return &file{fs: f, node: n, path: path}, nil
}

// Rename moves a name.
func (f *FS) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin("rename", from); err != nil {
		return err
	}
	source, old, err := f.parent("rename", from)
	if err != nil {
		return err
	}
	target, name, err := f.parent("rename", to)
	if err != nil {
		return err
	}
	n := source.names[old]
	if n == nil {
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	// The new name before the old one goes: a crash between the two leaves
	// both, as file systems do that journal two directories.
	target.set(name, n)
	source.set(old, nil)
	return nil
}

// Remove removes a file or an empty directory.
func (f *FS) Remove(path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin("remove", path); err != nil {
		return err
	}
	dir, name, err := f.parent("remove", path)
	if err != nil {
		return err
	}
	n := dir.names[name]
	switch {
	case n == nil:
		return &fs.PathError{Op: "remove", Path: path, Err: fs.ErrNotExist}
	case len(n.names) > 0:
		return &fs.PathError{Op: "remove", Path: path, Err: errors.New("directory not empty")}
	}
	dir.set(name, nil)
	return nil
}

// Mkdir makes a directory.
func (f *FS) Mkdir(path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin("mkdir", path); err != nil {
		return err
	}
	dir, name, err := f.parent("mkdir", path)
	if err != nil {
		return err
	}
	if dir.names[name] != nil {
		return &fs.PathError{Op: "mkdir", Path: path, Err: fs.ErrExist}
	}
	dir.set(name, newDir())
	return nil
}

// ReadDir lists a directory by name.
func (f *FS) ReadDir(path string) ([]fs.DirEntry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin("readdir", path); err != nil {
		return nil, err
	}
	n := f.find(path)
	if n == nil || !n.isDir {
		return nil, &fs.PathError{Op: "readdir", Path: path, Err: fs.ErrNotExist}
	}
	entries := make([]fs.DirEntry, 0, len(n.names))
	for name, child := range n.names {
		entries = append(entries, fs.FileInfoToDirEntry(describe(name, child)))
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// Stat describes a file or directory.
func (f *FS) Stat(path string) (fs.FileInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin("stat", path); err != nil {
		return nil, err
	}
	n := f.find(path)
	if n == nil {
		return nil, &fs.PathError{Op: "stat", Path: path, Err: fs.ErrNotExist}
	}
	return describe(filepath.Base(path), n), nil
}

// SyncDir makes a directory's names durable.
func (f *FS) SyncDir(path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin("syncdir", path); err != nil {
		return err
	}
	n := f.find(path)
	if n == nil || !n.isDir {
		return &fs.PathError{Op: "syncdir", Path: path, Err: fs.ErrNotExist}
	}
	for _, ch := range n.pending {
		if ch.node == nil {
			delete(n.durable, ch.name)
		} else {
			n.durable[ch.name] = ch.node
		}
	}
	n.pending = nil
	return nil
}
