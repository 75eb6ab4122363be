package tsdbshard

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/tsdbshard/block"
)

// Sealed is one replica of a sealed set: a canonical block. It opens the file
// when a view is first asked for and keeps it open until Rest finds that none
// was for some time, so that a sealed set that nobody reads costs a few hundred
// bytes. It is safe for concurrent use.
type Sealed struct {
	cfg    Config
	header block.CanonicalHeader
	file   wire.SealedFile

	mu     sync.Mutex
	block  *block.Canonical // nil while the file is not open
	masks  *sealedMasks     // of the last list of deletions; nil for none
	used   bool             // since the last Rest
	closed bool
}

// OpenSealed opens the canonical block of a sealed set: the file is there, is
// of this set, seal and time range, and has the length and the counts of file.
// It reads the file's end alone; VerifySealed reads all of it. An error wraps
// ErrDamaged, ErrFormat or fs.ErrNotExist.
func OpenSealed(cfg Config, sealIndex uint64, bounds quorate.TimeRange, file wire.SealedFile) (*Sealed, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Metrics == nil {
		m, err := NewMetrics(nil)
		if err != nil {
			return nil, err
		}
		cfg.Metrics = m
	}
	s := &Sealed{cfg: cfg, header: block.CanonicalHeader{Set: cfg.Set, SealIndex: sealIndex, Range: bounds}, file: file}
	c, err := s.open()
	if err != nil {
		return nil, err
	}
	if err := c.Release(); err != nil {
		return nil, s.named(err)
	}
	cfg.Metrics.sealedSets.Inc()
	cfg.Metrics.sealedBytes.Add(float64(file.Bytes))
	return s, nil
}

// named makes an error name the file.
func (s *Sealed) named(err error) error {
	return fmt.Errorf("canonical block %s of set %v: %w", filepath.Join(s.cfg.Dir, SealedFileName(s.file)), s.cfg.Set, err)
}

func (s *Sealed) open() (*block.Canonical, error) {
	f, err := s.cfg.Disk.Open(filepath.Join(s.cfg.Dir, SealedFileName(s.file)))
	if err != nil {
		return nil, s.named(err)
	}
	cache := s.cfg.Cache
	if cache == nil {
		cache = block.NewCache(ownCacheBytes) // goes with the open block
	}
	var damaged func(error)
	if s.cfg.Damaged != nil {
		damaged = func(err error) { s.cfg.Damaged(s.named(blockError(err))) }
	}
	path := filepath.Join(s.cfg.Dir, SealedFileName(s.file))
	c, err := block.OpenCanonical(f, s.header, block.WithCache(cache), block.WithDamaged(path, damaged))
	if err != nil {
		return nil, s.named(errors.Join(blockError(err), f.Close()))
	}
	found := sealedFileOf(c.Summary())
	found.Hash = s.file.Hash
	if found != s.file {
		return nil, s.named(errors.Join(fmt.Errorf("%w: it is recorded as %+v, the file is %+v", ErrDamaged, s.file, found), c.Release()))
	}
	return c, nil
}

// hold returns the block, opened, for one user more, who releases it.
func (s *Sealed) hold() (*block.Canonical, error) {
	s.mu.Lock()
	c := s.holdLocked()
	s.mu.Unlock()
	if c != nil {
		return c, nil
	}
	opened, err := s.open()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	switch {
	case s.closed:
		err = s.named(ErrNotOpen)
	case s.block == nil:
		s.block, opened = opened, nil
		s.cfg.Metrics.sealedOpen.Inc()
	}
	if err == nil {
		c = s.holdLocked()
	}
	s.mu.Unlock()
	if opened != nil { // another came first, or Close
		err = errors.Join(err, opened.Release())
	}
	return c, err
}

func (s *Sealed) holdLocked() *block.Canonical {
	if s.block == nil {
		return nil
	}
	s.used = true
	s.block.Retain()
	return s.block
}

// View returns a view of the sealed samples but for what was deleted since.
// The deletions are those of metasvc for this set, by rising ID.
func (s *Sealed) View(deletions []wire.NumberedDeletion) (*SealedView, error) {
	c, err := s.hold()
	if err != nil {
		return nil, err
	}
	s.cfg.Metrics.views.Inc()
	return &SealedView{sealed: s, block: c, masks: s.masksOf(deletions)}, nil
}

// masksOf returns what the deletions mask. The last list's is kept, since
// deletions are few and rarely come.
func (s *Sealed) masksOf(deletions []wire.NumberedDeletion) *sealedMasks {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(deletions) == 0:
		s.masks = nil
	case s.masks == nil || !slices.EqualFunc(s.masks.deletions, deletions, sameNumber):
		s.masks = newSealedMasks(deletions)
	}
	return s.masks
}

func sameNumber(a, b wire.NumberedDeletion) bool { return a.ID == b.ID }

// Rest closes the file if no view was taken since the last Rest and drops what
// was kept for it. Call it now and then; views that are open go on.
func (s *Sealed) Rest() error {
	s.mu.Lock()
	var idle *block.Canonical
	if !s.used && s.block != nil {
		idle, s.block, s.masks = s.block, nil, nil
		s.cfg.Metrics.sealedOpen.Dec()
	}
	s.used = false
	s.mu.Unlock()
	if idle == nil {
		return nil
	}
	if err := idle.Release(); err != nil {
		return s.named(err)
	}
	return nil
}

// File returns what the set's canonical block is.
func (s *Sealed) File() wire.SealedFile { return s.file }

// Close lets go of the file; views that are open go on reading it until they
// are closed. A second Close does nothing.
func (s *Sealed) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	c := s.block
	s.block, s.masks = nil, nil
	s.mu.Unlock()
	s.cfg.Metrics.sealedSets.Dec()
	s.cfg.Metrics.sealedBytes.Sub(float64(s.file.Bytes))
	if c == nil {
		return nil
	}
	s.cfg.Metrics.sealedOpen.Dec()
	if err := c.Release(); err != nil {
		return s.named(err)
	}
	return nil
}

// VerifySealed reads the whole canonical block and compares it with its record:
// hash, length, counts. An error wraps ErrDamaged, ErrFormat or fs.ErrNotExist.
func VerifySealed(ctx context.Context, cfg Config, file wire.SealedFile) error {
	path := filepath.Join(cfg.Dir, SealedFileName(file))
	found, err := verifyFile(ctx, cfg, path)
	if err != nil {
		return fmt.Errorf("canonical block %s of set %v: %w", path, cfg.Set, err)
	}
	if sealedFileOf(found) != file {
		return fmt.Errorf("canonical block %s of set %v: %w: it is recorded as %+v, the file is %+v", path, cfg.Set, ErrDamaged, file, sealedFileOf(found))
	}
	return nil
}
