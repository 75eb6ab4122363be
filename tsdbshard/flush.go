package tsdbshard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/durable"
)

var errWrongIndex = errors.New("the manifest's index is not that of the frozen state")

// frozenState is the shard as it was at a Freeze. It satisfies quorate.Frozen.
type frozenState struct {
	shard      *Shard
	st         *state
	generation uint64
	applied    uint64
	base       manifest // the files before, the bounds and next ref at the Freeze
	src        flushSource

	// What Persist made; nil when there was nothing to write.
	index uint64
	block *block
	entry *fileEntry
}

var _ quorate.Frozen = (*frozenState)(nil)

// Freeze captures the state at the last entry applied: the live memcache moves
// to the end of the list of frozen ones and an empty one takes its place. A
// Frozen that an earlier Freeze returned is void from here on; its samples are
// in this one as well.
func (s *Shard) Freeze() (quorate.Frozen, error) {
	if s.broken != nil {
		return nil, fmt.Errorf("freeze shard of set %v: %w", s.cfg.Set, s.broken)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.st
	s.generation++
	st.afterFreeze = 0
	if st.live.dirty {
		st.frozen = append(slices.Clip(st.frozen), st.live)
		st.live = &memcache{epoch: st.epoch}
	}
	f := &frozenState{
		shard: s, st: st, generation: s.generation, applied: st.applied,
		base: manifest{bounds: st.bounds, next: st.table.next, files: st.files},
		src: flushSource{
			set: s.cfg.Set, lo: st.manifestIndex, frozen: st.frozen,
			firstRef: st.filesNext, next: st.table.next,
			labels: st.table.labels.blocks, definitions: st.table.definitions,
		},
	}
	for _, tn := range st.table.tenants {
		f.src.tenants = append(f.src.tenants, tn.id)
	}
	f.src.check = f.checkVoid
	return f, nil
}

// checkVoid tells whether the frozen state is still to be persisted.
func (f *frozenState) checkVoid() error {
	f.shard.mu.RLock()
	defer f.shard.mu.RUnlock()
	if f.generation != f.shard.generation {
		return ErrVoid
	}
	return nil
}

// checkIndex tells whether the frozen state is to be persisted under an index:
// it is not void, and a manifest with that index would claim just the entries
// that it holds. One that claimed more would lose them at the next start.
func (f *frozenState) checkIndex(index uint64) error {
	f.shard.mu.RLock()
	defer f.shard.mu.RUnlock()
	after := f.st.afterFreeze
	switch {
	case f.generation != f.shard.generation:
		return ErrVoid
	case index < f.applied || after != 0 && index >= after:
		return fmt.Errorf("%w: entry %d was the last before the freeze, %d the first after (0: none)", errWrongIndex, f.applied, after)
	case index <= f.src.lo && !f.src.empty():
		return fmt.Errorf("%w: the last manifest is at %d", errWrongIndex, f.src.lo)
	}
	return nil
}

// Persist writes one flush file with everything that is in none yet, fsyncs
// it, and returns the payload of the manifest that names it.
func (f *frozenState) Persist(ctx context.Context, index uint64) ([]byte, error) {
	s := f.shard
	s.persisting.Lock()
	defer s.persisting.Unlock()
	payload, err := f.persist(ctx, index)
	if err != nil {
		s.metrics.flushes.WithLabelValues("failed").Inc()
		return nil, fmt.Errorf("persist shard of set %v at index %d: %w", s.cfg.Set, index, err)
	}
	return payload, nil
}

func (f *frozenState) persist(ctx context.Context, index uint64) ([]byte, error) {
	if err := f.checkIndex(index); err != nil {
		return nil, err
	}
	f.index = index
	m := f.base
	if f.src.empty() {
		return m.encode(), nil
	}
	f.src.hi = index
	started := time.Now()
	name := flushFileName(f.src.lo, f.src.hi)
	err := durable.Write(filepath.Join(f.shard.cfg.Dir, name), func(w io.Writer) error {
		var err error
		if f.block, f.entry, err = writeFlushFile(ctx, &f.src, newPageWriter(w)); err != nil {
			return err
		}
		return f.checkVoid()
	})
	if err != nil {
		return nil, err
	}
	took := time.Since(started)
	f.shard.metrics.flushSeconds.Observe(took.Seconds())
	f.shard.metrics.flushBytes.Add(float64(f.entry.bytes))
	f.shard.log.Info("flush file written", "set", f.shard.cfg.Set, "file", name, "bytes", f.entry.bytes,
		"samples", f.entry.samples, "series", f.entry.rows, "took", took)
	m.files = append(slices.Clip(m.files), *f.entry)
	return m.encode(), nil
}

// Published moves readers to the file: views taken from now on read it in
// place of the frozen memcaches that it holds. It does nothing if the frozen
// state is void; the samples stay in memory then, and the next Persist writes
// them under another name.
func (f *frozenState) Published() {
	s := f.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.generation != s.generation {
		return
	}
	st := f.st
	st.manifestIndex = f.index
	if f.entry != nil {
		st.files = append(slices.Clip(st.files), *f.entry)
		st.blocks = append(slices.Clip(st.blocks), f.block)
		st.frozen = st.frozen[len(f.src.frozen):] // a Freeze since would have made f void
		st.filesNext = f.src.next
		s.metrics.fileBytes.Add(float64(f.entry.bytes))
	}
	s.setMemcacheBytes(st.memcacheBytes())
	s.metrics.flushes.WithLabelValues("published").Inc()
}

// Discard leaves everything as it is: what was frozen is written by the next
// Persist. A file that this one wrote stays until the next Open, since the
// manifest that names it may come to light in a crash.
func (f *frozenState) Discard() {
	f.shard.metrics.flushes.WithLabelValues("discarded").Inc()
}
