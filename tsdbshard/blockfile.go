package tsdbshard

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/tsdbshard/block"
)

// blockFile is an open delta block and who uses it: the state, views, and a
// Persist that merges it. Its last user closes it, and removes it if a
// published manifest no longer names it (PROTOCOL 23).
type blockFile struct {
	entry fileEntry
	delta *block.Delta
	cfg   *Config
	log   *slog.Logger
	names *sync.Mutex // the shard's

	refs atomic.Int64
	fate atomic.Int32
}

// What becomes of a file when its last user lets go of it.
const (
	fateStay int32 = iota
	fateGo         // no published manifest names it any more
	fateGoing
)

// openBlockFile opens the file of an entry and checks that it is the one that
// the entry names.
func (s *Shard) openBlockFile(e *fileEntry, firstRef uint32) (_ *blockFile, err error) {
	cfg := &s.cfg
	path := filepath.Join(cfg.Dir, e.name())
	defer func() {
		if err != nil {
			err = fmt.Errorf("block %s: %w", path, err)
		}
	}()
	f, err := cfg.open(path)
	if err != nil {
		return nil, err
	}
	delta, err := block.OpenDelta(f, block.DeltaHeader{Set: cfg.Set, Lo: e.lo, Hi: e.hi, FirstRef: firstRef}, block.WithCache(cfg.Cache), block.WithDamaged("", cfg.tellDamaged(path)))
	if err != nil {
		return nil, errors.Join(blockError(err), f.Close())
	}
	if found := entryOf(e.lo, e.hi, delta.Summary(), e.sha256); found != *e {
		return nil, errors.Join(fmt.Errorf("%w: the manifest says %+v, the file is %+v", ErrDamaged, *e, found), delta.Release())
	}
	b := &blockFile{entry: *e, delta: delta, cfg: cfg, log: s.log, names: &s.names}
	b.refs.Store(1)
	return b, nil
}

// open opens a block at its place, or where it was received: it is given its
// place when its manifest is first loaded, before which it may be verified.
func (c *Config) open(path string) (durable.File, error) {
	f, err := c.Disk.Open(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	if received, errReceived := c.Disk.Open(c.incoming(filepath.Base(path))); errReceived == nil {
		return received, nil
	}
	return nil, err
}

// tellDamaged makes what a block tells of damage name its file.
func (c *Config) tellDamaged(path string) func(error) {
	if c.Damaged == nil {
		return nil
	}
	return func(err error) { c.Damaged(fmt.Errorf("block %s: %w", path, blockError(err))) }
}

// blockError makes the errors of package block those of this one.
func blockError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, block.ErrDamaged):
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	case errors.Is(err, block.ErrFormat):
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return err
}

// read makes an error of reading the block name the file.
func (b *blockFile) read(err error) error {
	if err == nil {
		return nil
	}
	b.cfg.Metrics.readErrors.Inc()
	return fmt.Errorf("block %s: %w", filepath.Join(b.cfg.Dir, b.entry.name()), blockError(err))
}

func (b *blockFile) retain() { b.refs.Add(1) }

// gone tells whether nobody uses the file any more.
func (b *blockFile) gone() bool { return b.refs.Load() == 0 }

// retire makes the last user remove the file.
func (b *blockFile) retire() { b.fate.CompareAndSwap(fateStay, fateGo) }

// reprieve takes retire back.
func (b *blockFile) reprieve() { b.fate.CompareAndSwap(fateGo, fateStay) }

// release lets go of the file. It is not called under a lock: the last user
// closes and removes files.
func (b *blockFile) release() {
	if b.refs.Add(-1) > 0 {
		return
	}
	if err := b.delta.Release(); err != nil {
		b.log.Warn("block not closed", "set", b.cfg.Set, "file", b.entry.name(), "err", err)
	}
	b.names.Lock()
	defer b.names.Unlock()
	if !b.fate.CompareAndSwap(fateGo, fateGoing) {
		return
	}
	// What is left behind, because this fails or a crash comes first, is swept
	// by the next Open.
	err := b.cfg.Disk.Remove(filepath.Join(b.cfg.Dir, b.entry.name()))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.log.Warn("merged block not removed", "set", b.cfg.Set, "file", b.entry.name(), "err", err)
	}
}

// appendParts appends what the file has of a series, without what
// that the tombstones, all of that series, delete.
func (b *blockFile) appendParts(g *gatherer, dst []part, ref uint32, gone tombstoneList) ([]part, error) {
	var err error
	if g.chunks, err = b.delta.AppendChunks(g.chunks[:0], ref, g.mint, g.maxt); err != nil {
		return nil, b.read(err)
	}
	from := len(dst)
	for _, c := range g.chunks {
		dst = append(dst, part{Chunk: c})
	}
	return g.mask(dst, from, gone.after(b.entry.hi).intervals())
}

// appendExemplars appends the exemplars that the file has of a series, likewise.
func (b *blockFile) appendExemplars(dst []exemplarRow, ref uint32, gone tombstoneList) ([]exemplarRow, error) {
	list, err := b.delta.AppendExemplars(nil, ref)
	if err != nil {
		return nil, b.read(err)
	}
	from := len(dst)
	for _, e := range list {
		dst = append(dst, exemplarRow{t: e.T, bits: e.Bits, labels: e.Labels})
	}
	return append(dst[:from], gone.after(b.entry.hi).keepExemplars(dst[from:])...), nil
}

func retainAll(files []*blockFile) {
	for _, f := range files {
		f.retain()
	}
}

func releaseAll(files []*blockFile) {
	for _, f := range files {
		f.release()
	}
}
