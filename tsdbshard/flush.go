package tsdbshard

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/tsdbshard/block"
)

var errWrongIndex = errors.New("the manifest's index is not that of the frozen state")

// writeBufferBytes is how much of a block is gathered for one write.
const writeBufferBytes = 256 << 10

// frozenState is the shard as it was at a Freeze. It satisfies quorate.Frozen.
type frozenState struct {
	shard      *Shard
	st         *state
	generation uint64
	applied    uint64
	base       manifest // all but the files and which tombstones they need
	src        deltaSource
	// compact tells to rewrite all files, as was asked for by the request of
	// that number.
	compact bool
	request uint64

	// What Persist made.
	index  uint64
	merged int        // how many files at the end of the list the new one replaces
	file   *blockFile // nil when there was nothing to write
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
	st.freezeLive()
	f := &frozenState{
		shard: s, st: st, generation: s.generation, applied: st.applied,
		base: manifest{bounds: st.bounds, seal: st.seal, next: st.table.next, lastWrite: st.lastWrite},
		src: deltaSource{
			set: s.cfg.Set, lo: st.manifestIndex, frozen: st.frozen, tombstones: st.tombstones,
			firstRef: st.filesNext, catalog: st.table.catalog(),
		},
		compact: s.compactRequested != s.compacted || st.tombstones.tooMany(),
		request: s.compactRequested,
	}
	for _, tn := range st.table.tenants {
		f.src.tenants = append(f.src.tenants, tn.id)
		if tn.info.mint <= tn.info.maxt {
			f.base.tenants = append(f.base.tenants, tenantRange{tenant: tn.id, mint: tn.info.mint, maxt: tn.info.maxt})
		}
	}
	f.src.check = f.checkVoid
	return f, nil
}

// RequestCompaction makes the next Freeze one whose Persist rewrites all
// samples into one block and leaves out those that were deleted. The request
// stands until such a Persist is published.
func (s *Shard) RequestCompaction() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.compactRequested++
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

// begin checks whether the frozen state is to be persisted under an index: it
// is not void, and a manifest with that index would claim just the entries that
// it holds. One that claimed more would lose them at the next start. It takes
// hold of the files that the new one will replace.
func (f *frozenState) begin(index uint64) error {
	f.shard.mu.RLock()
	defer f.shard.mu.RUnlock()
	if f.generation != f.shard.generation {
		return ErrVoid
	}
	after := f.st.afterFreeze
	if index < f.applied || after != 0 && index >= after {
		return fmt.Errorf("%w: entry %d was the last before the freeze, %d the first after (0: none)", errWrongIndex, f.applied, after)
	}
	files := f.st.files
	fresh := !f.src.empty()
	if fresh && index <= f.src.lo {
		return fmt.Errorf("%w: the last manifest is at %d", errWrongIndex, f.src.lo)
	}
	if f.compact {
		f.src.files = filesToCompact(files, &f.src)
	} else {
		f.src.files = filesToMerge(files, &f.src)
	}
	f.merged = len(f.src.files)
	if f.merged > 0 {
		f.src.lo, f.src.firstRef = f.src.files[0].entry.lo, definedBefore(files[:len(files)-f.merged])
		retainAll(f.src.files)
	}
	return nil
}

func definedBefore(files []*blockFile) (next uint32) {
	for _, f := range files {
		next += f.entry.series
	}
	return next
}

// Persist writes one block with everything that is in none yet, and with the
// files at the end of the list that are not much larger, so that there are few;
// fsyncs it; and returns the payload of the manifest that names it.
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
	lo, firstRef := f.src.lo, f.src.firstRef
	if err := f.begin(index); err != nil {
		return nil, err
	}
	defer func() {
		releaseAll(f.src.files)
		f.src.files, f.src.lo, f.src.firstRef = nil, lo, firstRef
	}()
	f.drop() // of an earlier Persist
	f.index = index
	files := f.st.files
	if !f.src.empty() {
		f.src.hi = index
		if err := f.write(ctx); err != nil {
			return nil, err
		}
		files = append(slices.Clip(files[:len(files)-f.merged]), f.file)
	}
	m := f.base
	slices.SortFunc(m.tenants, func(a, b tenantRange) int { return cmp.Compare(a.tenant, b.tenant) })
	m.tombstones = f.src.tombstones.needed(files, nil)
	for _, b := range files {
		m.files = append(m.files, b.entry)
	}
	return m.encode(), nil
}

// write writes the block and opens it.
func (f *frozenState) write(ctx context.Context) error {
	s := f.shard
	started := time.Now()
	unnamed := filepath.Join(s.cfg.Dir, unnamedFileName) // its name has its hash
	var summary block.Summary
	err := s.cfg.Disk.Write(unnamed, func(w io.Writer) error {
		buffered := bufio.NewWriterSize(w, writeBufferBytes)
		var err error
		if summary, err = writeDelta(ctx, &f.src, buffered); err != nil {
			return err
		}
		if err := buffered.Flush(); err != nil {
			return err
		}
		return f.checkVoid()
	})
	if err != nil {
		return err
	}
	entry := entryOf(f.src.lo, f.src.hi, summary, summary.Hash)
	if err := s.cfg.Disk.Rename(unnamed, filepath.Join(s.cfg.Dir, entry.name())); err != nil {
		return err
	}
	if f.file, err = s.openBlockFile(&entry, f.src.firstRef); err != nil {
		return err
	}
	took := time.Since(started)
	s.metrics.flushSeconds.Observe(took.Seconds())
	s.metrics.flushBytes.Add(float64(entry.bytes))
	s.metrics.mergedFiles.Add(float64(f.merged))
	s.log.Info("block written", "set", s.cfg.Set, "file", entry.name(), "bytes", entry.bytes, "samples", entry.samples,
		"series", entry.rows, "merged_files", f.merged, "compacted", f.compact, "took", took)
	return nil
}

// Published moves readers to the file: views taken from now on read it in
// place of the frozen memcaches and the files that it holds. It does nothing if
// the frozen state is void; the samples stay in memory then, and the next
// Persist writes them under another name.
func (f *frozenState) Published() {
	s := f.shard
	s.mu.Lock()
	if f.generation != s.generation {
		s.mu.Unlock()
		f.drop()
		return
	}
	st := f.st
	st.manifestIndex = f.index
	var old []*blockFile
	if f.file != nil {
		kept := len(st.files) - f.merged
		old = st.files[kept:]
		before := st.fileBytes()
		st.files = append(slices.Clip(st.files[:kept]), f.file)
		st.frozen = st.frozen[len(f.src.frozen):] // only deletes have appended to it: a Freeze would have made f void
		st.filesNext = f.src.next
		s.metrics.files.Add(float64(1 - f.merged))
		s.retired = append(slices.DeleteFunc(s.retired, (*blockFile).gone), old...)
		s.metrics.fileBytes.Add(float64(st.fileBytes() - before))
		f.file = nil // it is the state's now
	}
	st.tombstones = st.tombstones.needed(st.files, st.frozen)
	s.setTombstones(st.tombstones)
	if f.compact {
		s.compacted = f.request
	}
	s.setMemcacheBytes(st.memcacheBytes())
	s.metrics.flushes.WithLabelValues("published").Inc()
	s.mu.Unlock()
	for _, b := range old {
		b.retire()
		b.release()
	}
}

// Discard leaves everything as it is: what was frozen is written by the next
// Persist. A file that this one wrote stays until the next Open, since the
// manifest that names it may come to light in a crash.
func (f *frozenState) Discard() {
	f.drop()
	f.shard.metrics.flushes.WithLabelValues("discarded").Inc()
}

// drop lets go of the file that Persist wrote.
func (f *frozenState) drop() {
	if f.file != nil {
		f.file.release()
		f.file = nil
	}
}
