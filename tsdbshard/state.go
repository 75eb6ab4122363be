package tsdbshard

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/internal/wire"
)

// state is everything a Restore replaces: the series table and the samples,
// from the oldest file to the live memcache. Apply changes it under the
// shard's lock; views read it (see View).
type state struct {
	bounds  quorate.Bounds
	applied uint64 // index of the last entry applied
	// loadedIndex is the index of the manifest that the state was loaded from.
	// Entries at or below it are in the files (PROTOCOL 21).
	loadedIndex uint64
	// manifestIndex is the index of the manifest in force, from which the next
	// file's interval starts.
	manifestIndex uint64
	// afterFreeze is the index of the first entry applied since the last
	// Freeze, 0 if there was none.
	afterFreeze uint64
	table       *table

	live   *memcache
	frozen []*memcache // in log order; replaced, never changed in place
	blocks []*block    // in log order; likewise
	files  []fileEntry // of blocks; likewise
	// filesNext is the first ref that no file defines.
	filesNext uint32

	// epoch counts the views made of this state; views are those still open.
	epoch uint64
	views []*View
}

// loadState builds the state that a manifest's payload describes.
func loadState(ctx context.Context, dir string, set quorate.ReplicaSetID, payload []byte, index uint64) (*state, error) {
	m, err := decodeManifest(payload)
	if err != nil {
		return nil, err
	}
	st := &state{
		bounds: m.bounds, applied: index, loadedIndex: index, manifestIndex: index,
		table: newTable(), live: &memcache{}, files: m.files,
	}
	for i := range m.files {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := st.loadFile(filepath.Join(dir, m.files[i].name()), set, &m.files[i]); err != nil {
			return nil, err
		}
	}
	if st.table.next != m.next {
		return nil, fmt.Errorf("shard manifest: %w: next ref %d, the files define %d", ErrDamaged, m.next, st.table.next)
	}
	if last := len(m.files) - 1; last >= 0 && m.files[last].hi > index {
		return nil, fmt.Errorf("shard manifest: %w: file %s ends after the manifest's index %d", ErrDamaged, m.files[last].name(), index)
	}
	st.filesNext = m.next
	return st, nil
}

func (st *state) loadFile(path string, set quorate.ReplicaSetID, want *fileEntry) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open flush file: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read from
	if err := loadFlushFile(f, set, want, st); err != nil {
		return fmt.Errorf("flush file %s: %w", path, err)
	}
	return nil
}

// sweep removes the flush files that the manifest does not name: those of a
// Persist whose manifest was never published. That is known, not guessed
// (PROTOCOL 16): the manifest just loaded is the only record of this directory.
// It must not be done any earlier, say when a manifest could not be published,
// since a crash might still bring that manifest to light.
func sweep(dir string, files []fileEntry) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var removed []string
	for _, e := range entries {
		name := e.Name()
		named := slices.ContainsFunc(files, func(f fileEntry) bool { return f.name() == name })
		if named || e.Type()&fs.ModeType != 0 || !isFlushFileName(name) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			return removed, err
		}
		removed = append(removed, name)
	}
	if len(removed) == 0 {
		return nil, nil
	}
	return removed, durable.SyncDir(dir)
}

// touchTenant is called before a tenant's info changes: it saves the info into
// the views that have not seen it change.
func (st *state) touchTenant(tn *tenant) {
	if tn.epoch == st.epoch {
		return
	}
	for _, v := range st.views {
		if v.epoch > tn.epoch {
			v.tenants[tn] = tn.info
		}
	}
	tn.epoch = st.epoch
}

// setMetadata keeps an entry of a touched tenant if it changes something, and
// tells whether it did.
func (st *state) setMetadata(tn *tenant, m wire.Metadata) bool {
	if old, ok := tn.info.metadata[m.Family]; ok && old == m {
		return false
	}
	shared := slices.ContainsFunc(st.views, func(v *View) bool { return v.epoch > tn.metadataEpoch })
	switch {
	case tn.info.metadata == nil:
		tn.info.metadata = make(map[string]wire.Metadata)
		tn.metadataEpoch = st.epoch
	case shared:
		tn.info.metadata = maps.Clone(tn.info.metadata)
		tn.metadataEpoch = st.epoch
	}
	tn.info.metadata[m.Family] = m
	return true
}

// advance notes that an entry was applied.
func (st *state) advance(index uint64) {
	st.applied = index
	if st.afterFreeze == 0 {
		st.afterFreeze = index
	}
}

// memcacheBytes is the memory of the samples that are in no file.
func (st *state) memcacheBytes() int64 {
	n := st.live.bytes
	for _, m := range st.frozen {
		n += m.bytes
	}
	return n
}

func (st *state) fileBytes() (n int64) {
	for i := range st.files {
		n += int64(st.files[i].bytes)
	}
	return n
}
