package raftset

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	walfs "github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"
)

const pageBytes = 4096

// cachedFS is raft-wal's file system over a page cache that loses what a real
// one loses. A write is in the cache at once and on the disk after an fsync. When
// an fsync fails, the pages it was for stay in the cache and are marked clean:
// they read as written, and no later fsync writes them unless they are written to
// again. powerCut shows the disk.
type cachedFS struct {
	types.VFS
	t *testing.T

	mu     sync.Mutex
	next   fate
	inodes []*inode
}

// fate is what happens to an fsync.
type fate int

const (
	succeeds     fate = iota
	fails             // and leaves the pages clean
	isNotReached      // since the process is killed before it
)

// inode is one file, whatever its name is now.
type inode struct {
	// held is kept open, so that the file system does not give a new file the
	// number of this one.
	held  *os.File
	dirty map[int64]struct{}
	// onDisk has the pages whose contents in the cache are not on the disk.
	onDisk map[int64][]byte
}

func newCachedFS(t *testing.T) *cachedFS {
	c := &cachedFS{VFS: walfs.New(), t: t}
	t.Cleanup(func() {
		for _, n := range c.inodes {
			_ = n.held.Close()
		}
	})
	return c
}

func (c *cachedFS) open(o LogOptions) (LogStore, error) { return openWALOn(c, o) }

// nextSync decides what becomes of the next fsync.
func (c *cachedFS) nextSync(f fate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next = f
}

func (c *cachedFS) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := c.VFS.Create(dir, name, size)
	return c.cached(dir, name, f, err)
}

func (c *cachedFS) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := c.VFS.OpenWriter(dir, name)
	return c.cached(dir, name, f, err)
}

func (c *cachedFS) cached(dir, name string, f types.WritableFile, err error) (types.WritableFile, error) {
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	held, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	n := c.find(held)
	if n == nil {
		n = &inode{held: held, dirty: make(map[int64]struct{}), onDisk: make(map[int64][]byte)}
		c.inodes = append(c.inodes, n)
	} else if err := held.Close(); err != nil {
		return nil, err
	}
	return &cachedFile{WritableFile: f, fs: c, inode: n}, nil
}

// find returns the inode of an open file, or nil if nothing was written to it
// through this file system.
func (c *cachedFS) find(f *os.File) *inode {
	c.t.Helper()
	want, err := f.Stat()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, n := range c.inodes {
		if got, err := n.held.Stat(); err != nil {
			c.t.Fatal(err)
		} else if os.SameFile(got, want) {
			return n
		}
	}
	return nil
}

type cachedFile struct {
	types.WritableFile
	fs    *cachedFS
	inode *inode
}

func (f *cachedFile) WriteAt(p []byte, at int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	for page := at / pageBytes; page*pageBytes < at+int64(len(p)); page++ {
		f.inode.dirty[page] = struct{}{}
		if _, ok := f.inode.onDisk[page]; ok {
			continue
		}
		old := make([]byte, pageBytes)
		if _, err := f.ReadAt(old, page*pageBytes); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		f.inode.onDisk[page] = old
	}
	return f.WritableFile.WriteAt(p, at)
}

func (f *cachedFile) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	switch f.fs.next {
	case fails:
		clear(f.inode.dirty)
		fallthrough
	case isNotReached:
		f.fs.next = succeeds
		return &fs.PathError{Op: "fsync", Path: f.inode.held.Name(), Err: syscall.EIO}
	case succeeds:
	}
	if err := f.WritableFile.Sync(); err != nil {
		return err
	}
	for page := range f.inode.dirty {
		delete(f.inode.onDisk, page)
	}
	clear(f.inode.dirty)
	return nil
}

// powerCut returns a copy of a data directory as the disk has it.
func (c *cachedFS) powerCut(t *testing.T, dir string) string {
	t.Helper()
	to := crash(t, dir)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, copied := range glob(t, replicaPath(to, logDir, "*.wal")) {
		f, err := os.Open(replicaPath(dir, logDir, filepath.Base(copied)))
		if err != nil {
			t.Fatal(err)
		}
		n := c.find(f)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if n != nil {
			n.restore(t, copied)
		}
	}
	return to
}

func (n *inode) restore(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	for page, data := range n.onDisk {
		if _, err := f.WriteAt(data, page*pageBytes); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// noise is a command that does not compress.
func noise(seed uint64, n int) string {
	r := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('0' + r.IntN(64))
	}
	return string(b)
}

// After an fsync that failed, or was not reached, the log reads as if it had
// succeeded. Whatever a replica that opens again applies of it, and acknowledges
// on top of it, is there after a power cut.
func TestNothingIsAppliedThatIsNotOnTheDisk(t *testing.T) {
	sizes := map[string]int{"a batch": 9_000, "the batch that seals a segment": minSegmentBytes}
	fates := map[string]fate{"whose fsync fails": fails, "whose fsync is not reached": isNotReached}
	starts := map[string]bool{"in the same process": false, "in a new process": true}
	for what, size := range sizes {
		for how, next := range fates {
			for where, renew := range starts {
				t.Run(fmt.Sprint(what, " ", how, ", ", where), func(t *testing.T) {
					testLostFsync(t, size, next, renew)
				})
			}
		}
	}
}

func testLostFsync(t *testing.T, size int, next fate, renew bool) {
	t.Helper()
	cache := newCachedFS(t)
	cfg := HostConfig{Dir: t.TempDir(), LogStore: cache.open}
	h, g, _ := start(t, cfg)
	propose(t, g, noise(1, 9_000))
	cache.nextSync(next)
	if _, err := g.Propose(t.Context(), testKind, []byte(noise(2, size))); err == nil {
		t.Fatal("a command was acknowledged whose fsync failed")
	}
	<-g.Failed()
	closeGroup(t, g)
	if renew {
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		h = newHost(t, cfg)
	}
	g, l := openLeader(t, h, testSet)
	propose(t, g, noise(3, 9_000))
	propose(t, g, noise(4, 9_000))
	want := l.all()
	if want[1] != noise(1, 9_000) {
		t.Error("the first command was lost")
	}

	h = newHost(t, HostConfig{Dir: cache.powerCut(t, cfg.Dir)})
	_, l = openLeader(t, h, testSet)
	if got := l.all(); !slices.Equal(got, want) {
		t.Errorf("after the power cut the state has %d lines, and had %d", len(got), len(want))
	}
}

// The copy that an unclean stop costs is made then, and only then.
func TestTheTailIsRewrittenOnlyAfterAnUncleanStop(t *testing.T) {
	for name, c := range map[string]struct {
		fail error
		same bool
	}{
		"after a clean stop":    {same: true},
		"after an unclean stop": {fail: errDisk},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			h, g, _ := start(t, HostConfig{Dir: dir})
			lines := proposeAll(t, g, "x", 5)
			path := glob(t, replicaPath(dir, logDir, "*.wal"))[0]
			old, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer old.Close()
			before, err := old.Stat()
			if err != nil {
				t.Fatal(err)
			}
			if c.fail != nil {
				g.guard.fail(c.fail)
				<-g.Failed()
			}
			closeGroup(t, g)
			_, l := openLeader(t, h, testSet)
			wantLines(t, l, lines...)
			after, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if os.SameFile(before, after) != c.same {
				t.Errorf("the tail is the same file: %v, want %v", !c.same, c.same)
			}
			if after.Size() != minSegmentBytes {
				t.Errorf("the tail has %d bytes, want %d", after.Size(), minSegmentBytes)
			}
		})
	}
}

func TestATailThatCannotBeRewrittenIsNotOpened(t *testing.T) {
	dir, _ := wedgedLog(t)
	before, err := os.ReadFile(filepath.Join(dir, segmentsFile))
	if err != nil {
		t.Fatal(err)
	}
	// The error is that of a file that does not exist, as for a tail that a
	// crash kept from being made.
	if err := os.Symlink(filepath.Join(dir, "missing", "file"), onlySegment(t, dir)+".tmp"); err != nil {
		t.Fatal(err)
	}
	list := &segmentList{repair: true, unclean: true}
	if _, err := list.Load(dir); err == nil {
		t.Error("the list was loaded")
	}
	if after, err := os.ReadFile(filepath.Join(dir, segmentsFile)); err != nil || !slices.Equal(after, before) {
		t.Errorf("the list was changed, %v", err)
	}
}

// A batch that another was begun behind had been fsynced. raft-wal would drop it
// once the torn one behind it is cleared away.
func TestDamageBeforeATornWriteIsDamage(t *testing.T) {
	entry := append([]byte{frameEntry, 0, 0, 0, 8, 0, 0, 0}, "8 bytes."...)
	for name, torn := range map[string][]byte{
		"a batch without its commit frame": entry,
		"a batch that misses its middle":   append(slices.Clone(entry), frameCommit, 0, 0, 0, 1, 2, 3, 4),
		"an index frame":                   {frameIndex, 0, 0, 0, 8, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			_, g, _ := start(t, HostConfig{Dir: dir})
			proposeAll(t, g, "x", 5)
			at := crash(t, dir)
			// The mark of a replica that has just started.
			level := waterLevel{index: genesisIndex}
			if err := os.WriteFile(replicaPath(at, lowWaterFile), level.encode(testSet, testReplica), 0o600); err != nil {
				t.Fatal(err)
			}
			path := glob(t, replicaPath(at, logDir, "*.wal"))[0]
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			copy(data[scanSegmentFile(t, path).end:], torn)
			data[strings.Index(string(data), "x-4")] ^= 1
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			h := newHost(t, HostConfig{Dir: at})
			_, err = h.Open(t.Context(), testSet, testReplica, &ledger{})
			if !errors.Is(err, ErrQuarantined) || !strings.Contains(err.Error(), "is not whole") {
				t.Errorf("got %v, want a quarantine", err)
			}
		})
	}
}

// Until the log is closed the next segment may still be in the making.
func TestTheMarkSaysCleanOnlyOnceTheLogIsClosed(t *testing.T) {
	for name, closeErr := range map[string]error{"the log closes": nil, "the log fails to close": errDisk} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			mark := replicaPath(dir, lowWaterFile)
			early := false
			opens := func(o LogOptions) (LogStore, error) {
				s, err := openWAL(o)
				return &closingLog{LogStore: s, closed: func() error {
					level, err := readWaterLevel(mark, testSet, testReplica)
					early = level.clean
					return errors.Join(err, closeErr)
				}}, err
			}
			_, g, _ := start(t, HostConfig{Dir: dir, LogStore: opens})
			propose(t, g, "x")
			closeGroup(t, g)
			if early {
				t.Error("the mark said clean before the log was closed")
			}
			if level, err := readWaterLevel(mark, testSet, testReplica); err != nil || level.clean != (closeErr == nil) {
				t.Errorf("the mark is %+v, %v; want clean %v", level, err, closeErr == nil)
			}
		})
	}
}

type closingLog struct {
	LogStore
	closed func() error
}

func (s *closingLog) IsMonotonic() bool { return true }

func (s *closingLog) Close() error { return errors.Join(s.LogStore.Close(), s.closed()) }
