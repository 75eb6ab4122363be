package tsdbshard

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/tsdbshard/block"
)

// ownCacheBytes is what a shard keeps of pages that were read when it shares no
// cache.
const ownCacheBytes = 4 << 20

// Shard is the state machine of one replica. See the package comment for which
// goroutine may call what.
type Shard struct {
	cfg     Config
	log     *slog.Logger
	metrics *Metrics

	// broken is why nothing more is applied; only the apply goroutine has it.
	broken error
	// Scratch space of the apply goroutine.
	decoder    wire.Decoder
	batches    []wire.Batch
	histograms []sample
	refs       []uint32

	memcacheBytes atomic.Int64

	// persisting is held while a Persist runs, so that Restore and Close can
	// wait for one that they made pointless.
	persisting sync.Mutex

	// names is held while a file gets its name from the incoming ones, or loses
	// it. It comes before mu.
	names sync.Mutex

	// mu guards what follows and everything that st refers to. The apply
	// goroutine holds it while it changes the state, for one entry at a time;
	// readers hold it while they copy rows and slice headers. What comes in is
	// decoded before it is taken, what is read after it is released, and no
	// file is touched under it. Apply encodes under it, the tails and runs that
	// an entry fills; a run of late histograms it decodes again for that.
	mu sync.RWMutex
	st *state // nil before Open and after Close
	// generation counts the Freezes, Restores and Close; a Frozen of an older
	// one is void.
	generation uint64
	// compactRequested counts the requests to compact, compacted is the last
	// one that was done.
	compactRequested, compacted uint64
	// retired are files that no manifest names any more and views may read.
	retired []*blockFile
	// tombstones and tombstoneBytes are what the metrics say of this shard.
	tombstones     int
	tombstoneBytes int64
	closed         bool
}

// New makes a shard; Open gives it its state.
func New(cfg Config) (*Shard, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Shard{cfg: cfg, log: cfg.Logger, metrics: cfg.Metrics, broken: ErrNotOpen}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.metrics == nil {
		m, err := NewMetrics(nil)
		if err != nil {
			return nil, err
		}
		s.metrics = m
	}
	s.cfg.Metrics = s.metrics
	if s.cfg.Cache == nil {
		s.cfg.Cache = block.NewCache(ownCacheBytes)
	}
	return s, nil
}

// Open loads the state that a manifest's payload describes, which is then
// exactly at index, and removes blocks that the manifest does not name. It
// is called once, before anything else. Files that were received for the payload
// get their place, those received for others are removed. An error that wraps ErrDamaged names
// the file and the page at fault.
func (s *Shard) Open(ctx context.Context, payload []byte, index uint64) error {
	if err := s.cfg.Disk.MkdirAll(s.cfg.Dir); err != nil {
		return fmt.Errorf("open shard: %w", err)
	}
	return s.load(ctx, payload, index, true)
}

// Restore replaces all state by what the payload of an installed snapshot
// describes, with the files that Stage and ReceiveFile have made ready for it. A
// Persist that runs meanwhile is void, and over when Restore
// returns; views that are open go on showing the state that they were made of.
func (s *Shard) Restore(ctx context.Context, payload []byte, index uint64) error {
	s.mu.Lock()
	s.generation++
	s.mu.Unlock()
	return s.load(ctx, payload, index, false)
}

func (s *Shard) load(ctx context.Context, payload []byte, index uint64, first bool) error {
	// A void Persist must not publish a file any more: what no manifest names
	// is removed here, once.
	s.persisting.Lock()
	defer s.persisting.Unlock()
	if m, err := decodeManifest(payload); err == nil { // else loadState says what is wrong
		if err := s.adopt(m, first); err != nil {
			return fmt.Errorf("load shard of set %v: %w", s.cfg.Set, err)
		}
	}
	st, err := s.loadState(ctx, payload, index)
	if err != nil {
		return fmt.Errorf("load shard of set %v at index %d: %w", s.cfg.Set, index, err)
	}
	swept, err := s.clean(st)
	if err != nil {
		releaseAll(st.files)
		return fmt.Errorf("sweep directory %s: %w", s.cfg.Dir, err)
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		releaseAll(st.files)
		return ErrNotOpen
	}
	old := s.filesLocked()
	s.account(st)
	s.st = st
	s.broken = nil
	s.mu.Unlock()
	releaseAll(old)
	s.log.Debug("shard loaded", "set", s.cfg.Set, "index", index, "files", len(st.files),
		"series", st.table.next, "bounds", st.bounds.Range, "swept_files", swept)
	return nil
}

// filesLocked returns the files of the state in force.
func (s *Shard) filesLocked() []*blockFile {
	if s.st == nil {
		return nil
	}
	return s.st.files
}

// clean removes from the directory what a state that was just loaded does not
// need. Files that views still read go when the views do (PROTOCOL 23).
func (s *Shard) clean(next *state) (swept []string, err error) {
	if err := s.cfg.Disk.RemoveTemporary(s.cfg.Dir); err != nil {
		return nil, err
	}
	named := make(map[string]bool)
	for _, f := range next.files {
		named[f.entry.name()] = true
	}
	s.mu.Lock()
	s.retired = slices.DeleteFunc(append(s.retired, s.filesLocked()...), (*blockFile).gone)
	read := make(map[string]bool)
	for _, f := range s.retired {
		read[f.entry.name()] = true
		if named[f.entry.name()] {
			f.reprieve()
		} else {
			f.retire()
		}
	}
	s.mu.Unlock()
	return s.sweep(func(name string) bool { return named[name] || read[name] })
}

// account moves the shared gauges from the state in force to the next (nil for
// none).
func (s *Shard) account(next *state) {
	if s.st != nil {
		s.metrics.series.Sub(float64(s.st.table.next))
		s.metrics.fileBytes.Sub(float64(s.st.fileBytes()))
		s.metrics.files.Sub(float64(len(s.st.files)))
	}
	bytes, tombstones := int64(0), tombstoneList(nil)
	if next != nil {
		s.metrics.files.Add(float64(len(next.files)))
		tombstones = next.tombstones
		s.metrics.series.Add(float64(next.table.next))
		s.metrics.fileBytes.Add(float64(next.fileBytes()))
		bytes = next.memcacheBytes()
	}
	s.setMemcacheBytes(bytes)
	s.setTombstones(tombstones)
}

func (s *Shard) setMemcacheBytes(bytes int64) {
	s.metrics.memcache.Add(float64(bytes - s.memcacheBytes.Swap(bytes)))
}

// setTombstones notes how many tombstones are in force.
func (s *Shard) setTombstones(l tombstoneList) {
	s.metrics.tombstones.Add(float64(len(l) - s.tombstones))
	s.metrics.tombstoneBytes.Add(float64(l.bytes() - s.tombstoneBytes))
	s.tombstones, s.tombstoneBytes = len(l), l.bytes()
}

// Bounds returns the set's bounds at the last entry applied; zero before Open.
func (s *Shard) Bounds() quorate.Bounds {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.st == nil {
		return quorate.Bounds{}
	}
	return s.st.bounds
}

// LastWriteIndex returns the index of the last applied entry that stored a
// sample or an exemplar; 0 when none did, and before Open.
func (s *Shard) LastWriteIndex() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.st == nil {
		return 0
	}
	return s.st.lastWrite
}

// MemcacheBytes returns roughly the memory in bytes of the samples that are in
// no block yet, live and frozen.
func (s *Shard) MemcacheBytes() int64 { return s.memcacheBytes.Load() }

// FileSize returns how many blocks the set has here, and their size in bytes.
func (s *Shard) FileSize() (count int, bytes int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.st == nil {
		return 0, 0
	}
	return len(s.st.files), s.st.fileBytes()
}

// Close releases the state and waits for a running Persist to give up. Views
// that are open go on showing the state that they were made of, and are closed
// by who has them; there are no new ones. A second Close does nothing.
func (s *Shard) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.generation++
	files := s.filesLocked()
	s.account(nil)
	s.st = nil
	s.broken = ErrNotOpen
	s.mu.Unlock()
	releaseAll(files)
	s.persisting.Lock()
	defer s.persisting.Unlock()
	return nil
}
