package tsdbshard

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/tsdbshard/block"
)

// loadState builds the state that a manifest's payload describes. It reads the
// definitions, newest samples and metadata of the files, not their samples.
func (s *Shard) loadState(ctx context.Context, payload []byte, index uint64) (_ *state, err error) {
	m, err := decodeManifest(payload)
	if err != nil {
		return nil, err
	}
	if err := m.checkIndex(index); err != nil {
		return nil, err
	}
	st := &state{
		bounds: m.bounds, seal: m.seal, applied: index, loadedIndex: index, manifestIndex: index,
		lastWrite: m.lastWrite, table: newTable(), live: &memcache{}, tombstones: m.tombstones,
	}
	defer func() {
		if err != nil {
			releaseAll(st.files)
		}
	}()
	before := uint64(0)
	for i := range m.files {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		e := &m.files[i]
		f, err := s.openBlockFile(e, st.table.next)
		if err != nil {
			return nil, err
		}
		st.files = append(st.files, f)
		// What was deleted before this file ends is gone from what the older
		// files say; what this file says was written with that in mind.
		for _, t := range m.tombstones.after(before).until(e.hi) {
			st.table.forget(t.series.below(st.table.next))
		}
		before = e.hi
		if err := st.loadFile(f); err != nil {
			return nil, f.read(err)
		}
	}
	for _, t := range m.tombstones.after(before) {
		st.table.forget(t.series.below(st.table.next))
	}
	if st.table.next != m.next {
		return nil, fmt.Errorf("shard manifest: %w: next ref %d, the files define %d", ErrDamaged, m.next, st.table.next)
	}
	for _, r := range m.tenants {
		tn := st.table.byID[r.tenant]
		if tn == nil {
			return nil, fmt.Errorf("shard manifest: %w: samples of tenant %v, who has no series", ErrDamaged, r.tenant)
		}
		tn.info.add(r.mint, r.maxt)
	}
	st.filesNext = m.next
	return st, nil
}

// loadFile adds what a file defines to the state.
func (st *state) loadFile(f *blockFile) error {
	t := st.table
	err := f.delta.Definitions(func(ref uint32, id quorate.TenantID, canonical []byte) error {
		if err := wire.CheckLabels(canonical); err != nil {
			return fmt.Errorf("%w: series %d: %w", ErrDamaged, ref, err)
		}
		tn := t.tenant(id)
		got, isNew, err := t.define(tn, canonical)
		if err != nil {
			return err
		}
		if !isNew || got != ref {
			return fmt.Errorf("%w: series %d of tenant %v is defined as %d", ErrDamaged, got, id, ref)
		}
		tn.info.series++
		return nil
	})
	if err != nil {
		return err
	}
	err = f.delta.Newest(func(ref uint32, n block.Newest) error {
		if ref >= t.next {
			return fmt.Errorf("%w: series %d is not defined", ErrDamaged, ref)
		}
		t.setNewest(ref, &newestSample{time: n.Time, bits: n.Bits, start: n.Start, kind: valueKind(n.Kind)})
		return nil
	})
	if err != nil {
		return err
	}
	return f.delta.Metadata(func(id quorate.TenantID, m wire.Metadata) error {
		st.setMetadata(t.tenant(id), m)
		return nil
	})
}

// below returns the refs of the set that are below next.
func (r refRuns) below(next uint32) refRuns {
	n := len(r)
	for n > 0 && r[n-1].first >= next {
		n--
	}
	if n == 0 || r[n-1].end <= next {
		return r[:n]
	}
	cut := slices.Clone(r[:n])
	cut[n-1].end = next
	return cut
}

// sweep removes the blocks that neither the manifest names nor anyone reads:
// those of a Persist whose manifest was never published, and merged ones that a
// crash kept. That is known, not guessed (PROTOCOL 16): the manifest just
// loaded is the only record of this directory. It must not be done any earlier,
// say when a manifest could not be published, since a crash might still bring
// that manifest to light.
func (s *Shard) sweep(keep func(name string) bool) ([]string, error) {
	entries, err := s.cfg.Disk.ReadDir(s.cfg.Dir)
	if err != nil {
		return nil, err
	}
	var removed []string
	for _, e := range entries {
		name := e.Name()
		if e.Type()&fs.ModeType != 0 || !isDeltaFileName(name) && !isPassingFileName(name) || keep(name) {
			continue
		}
		if err := s.cfg.Disk.Remove(filepath.Join(s.cfg.Dir, name)); err != nil {
			return removed, err
		}
		removed = append(removed, name)
	}
	if len(removed) == 0 {
		return nil, nil
	}
	return removed, s.cfg.Disk.SyncDir(s.cfg.Dir)
}
