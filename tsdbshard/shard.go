package tsdbshard

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/internal/wire"
)

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
	closed     bool
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
	return s, nil
}

// Open loads the state that a manifest's payload describes, which is then
// exactly at index, and removes flush files that the manifest does not name.
// It is called once, before anything else. An error that wraps ErrDamaged names
// the file and the page at fault.
func (s *Shard) Open(ctx context.Context, payload []byte, index uint64) error {
	if err := durable.MkdirAll(s.cfg.Dir); err != nil {
		return fmt.Errorf("open shard: %w", err)
	}
	return s.load(ctx, payload, index)
}

// Restore replaces all state by what the payload of an installed snapshot
// describes. A Persist that runs meanwhile is void, and over when Restore
// returns; views that are open go on showing the state that they were made of.
func (s *Shard) Restore(ctx context.Context, payload []byte, index uint64) error {
	s.mu.Lock()
	s.generation++
	s.mu.Unlock()
	return s.load(ctx, payload, index)
}

func (s *Shard) load(ctx context.Context, payload []byte, index uint64) error {
	// A void Persist must not publish a file any more: its name could be that
	// of one of the files to load.
	s.persisting.Lock()
	defer s.persisting.Unlock()
	st, err := loadState(ctx, s.cfg.Dir, s.cfg.Set, payload, index)
	if err != nil {
		return fmt.Errorf("load shard of set %v at index %d: %w", s.cfg.Set, index, err)
	}
	if err := durable.RemoveTemporary(s.cfg.Dir); err != nil {
		return fmt.Errorf("load shard of set %v: %w", s.cfg.Set, err)
	}
	swept, err := sweep(s.cfg.Dir, st.files)
	if err != nil {
		return fmt.Errorf("sweep directory %s: %w", s.cfg.Dir, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrNotOpen
	}
	s.account(st)
	s.st = st
	s.broken = nil
	s.log.Debug("shard loaded", "set", s.cfg.Set, "index", index, "files", len(st.files),
		"series", st.table.next, "bounds", st.bounds.Range, "swept_files", swept)
	return nil
}

// account moves the shared gauges from the state in force to the next (nil for
// none).
func (s *Shard) account(next *state) {
	if s.st != nil {
		s.metrics.series.Sub(float64(s.st.table.next))
		s.metrics.fileBytes.Sub(float64(s.st.fileBytes()))
	}
	bytes := int64(0)
	if next != nil {
		s.metrics.series.Add(float64(next.table.next))
		s.metrics.fileBytes.Add(float64(next.fileBytes()))
		bytes = next.memcacheBytes()
	}
	s.setMemcacheBytes(bytes)
}

func (s *Shard) setMemcacheBytes(bytes int64) {
	s.metrics.memcache.Add(float64(bytes - s.memcacheBytes.Swap(bytes)))
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

// MemcacheBytes returns roughly the memory in bytes of the samples that are in
// no flush file yet, live and frozen.
func (s *Shard) MemcacheBytes() int64 { return s.memcacheBytes.Load() }

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
	s.account(nil)
	s.st = nil
	s.broken = ErrNotOpen
	s.mu.Unlock()
	s.persisting.Lock()
	defer s.persisting.Unlock()
	return nil
}
