package tsdbshard

import (
	"maps"
	"slices"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// state is everything a Restore replaces: the series table and the samples,
// from the oldest block to the live memcache. Apply changes it under the
// shard's lock; views read it (see View).
type state struct {
	bounds  quorate.Bounds
	seal    *SealInfo // nil while the set is open
	applied uint64    // index of the last entry applied
	// lastWrite is the index of the last entry that stored a sample.
	lastWrite uint64
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

	live        *memcache
	liveSamples uint64        // how many were stored in live
	frozen      []frozenCache // in log order; replaced, never changed in place
	files       []*blockFile  // in log order; likewise
	// tombstones are the deletes that mask one of the above.
	tombstones tombstoneList
	// filesNext is the first ref that no file defines.
	filesNext uint32

	// epoch counts the views made of this state; views are those still open.
	epoch uint64
	views []*View
}

// frozenCache is a memcache that no longer changes.
type frozenCache struct {
	*memcache
	hi      uint64 // index of the last entry applied to it
	samples uint64 // how many were stored in it
}

// appendParts appends the samples that the memcache has of a series, without
// those that the tombstones, all of that series, delete.
func (c *frozenCache) appendParts(g *gatherer, dst []part, ref uint32, gone tombstoneList) ([]part, error) {
	img, ok := c.imageOf(ref)
	if !ok {
		return dst, nil
	}
	from := len(dst)
	dst, err := img.appendParts(g, dst, c.room.blocks)
	if err != nil {
		return nil, err
	}
	return g.mask(dst, from, gone.after(c.hi).intervals())
}

// appendExemplars appends the exemplars that the memcache has of a series,
// likewise.
func (c *frozenCache) appendExemplars(dst []exemplarRow, ref uint32, gone tombstoneList) []exemplarRow {
	from := len(dst)
	dst = append(dst, c.exemplars(ref)...)
	return append(dst[:from], gone.after(c.hi).keepExemplars(dst[from:])...)
}

// freezeLive moves the live memcache to the end of the frozen ones, unless it
// has nothing.
func (st *state) freezeLive() {
	if !st.live.dirty {
		return
	}
	st.frozen = append(slices.Clip(st.frozen), frozenCache{memcache: st.live, hi: st.applied, samples: st.liveSamples})
	st.live, st.liveSamples = &memcache{epoch: st.epoch}, 0
}

// needed returns the tombstones that mask a file or a frozen memcache, of which
// the first ends before all others.
func (l tombstoneList) needed(files []*blockFile, frozen []frozenCache) tombstoneList {
	switch {
	case len(files) > 0:
		return l.after(files[0].entry.hi)
	case len(frozen) > 0:
		return l.after(frozen[0].hi)
	}
	return nil
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
	for _, f := range st.files {
		n += int64(f.entry.bytes)
	}
	return n
}
