package tsdbshard

import (
	"fmt"
	"math"
	"slices"

	"github.com/quorate/quorate"
)

// View is the shard's state at one applied index, while later entries go on
// being applied. Any number of goroutines may read it. It must be closed, and
// nothing that was read through it may be used after that. A Restore or Close
// of the shard does not end it: it goes on showing its state, and holding the
// memory of it, until it is closed.
//
// Taking a view copies a few slice headers. What Apply changes afterwards it
// saves first, once for each series, into the views that have not seen it
// change: see memcache.touch and state.touchTenant. What a view holds is thus
// either immutable, or append-only and cut at the length it had, or saved.
type View struct {
	shard   *Shard
	st      *state
	applied uint64
	bounds  quorate.Bounds

	catalog // of the series that the view shows

	files         []*blockFile
	frozen        []frozenCache
	tombstones    tombstoneList
	live          *memcache
	liveChunks    [][]byte
	liveExemplars []uint32

	// epoch numbers the views of a state; rows of the live memcache and
	// tenants that changed at this epoch or later changed after the view was
	// taken, and are saved here. Guarded by the shard's lock.
	epoch   uint64
	saved   savedRows
	tenants map[*tenant]tenantInfo
	closed  bool
}

// View returns a view of the state after the last entry applied. Before Open
// and after Close there is none, which is ErrNotOpen and not an empty view: a
// query would take that for an answer.
func (s *Shard) View() (*View, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.st == nil {
		return nil, fmt.Errorf("view shard of set %v: %w", s.cfg.Set, ErrNotOpen)
	}
	st := s.st
	st.epoch++
	st.live.epoch = st.epoch
	v := &View{
		shard: s, st: st, applied: st.applied, bounds: st.bounds,
		catalog: st.table.catalog(), files: st.files, frozen: st.frozen, tombstones: st.tombstones,
		live: st.live, liveChunks: st.live.room.blocks, liveExemplars: st.live.exemplarRefs,
		epoch: st.epoch, tenants: make(map[*tenant]tenantInfo),
	}
	retainAll(v.files)
	st.views = append(st.views, v)
	st.live.views = append(st.live.views, v)
	s.metrics.views.Inc()
	return v, nil
}

// Close lets go of the state. A second Close does nothing.
func (v *View) Close() {
	v.shard.mu.Lock()
	closed := v.closed
	if !closed {
		v.closeLocked()
	}
	v.shard.mu.Unlock()
	if !closed {
		releaseAll(v.files)
	}
}

func (v *View) closeLocked() {
	v.closed = true
	isThis := func(o *View) bool { return o == v }
	v.st.views = slices.DeleteFunc(v.st.views, isThis)
	v.live.views = slices.DeleteFunc(v.live.views, isThis)
	v.saved, v.tenants = savedRows{}, nil
	v.shard.metrics.views.Dec()
}

// AppliedIndex returns the log index of the last write or bounds entry that
// the view shows.
func (v *View) AppliedIndex() uint64 { return v.applied }

// Bounds returns the set's bounds at the view's index.
func (v *View) Bounds() quorate.Bounds { return v.bounds }

// Tenant returns what the view shows of one tenant. A tenant that never wrote
// here is empty.
func (v *View) Tenant(id quorate.TenantID) TenantReader { return v.tenant(id) }

// TenantIn is Tenant for who wants the samples of [mint, maxt] alone, ms, both
// inclusive: what lies outside is mostly neither read nor decoded. What is
// nevertheless given of it may lack samples, and queriers of that range leave it
// out. Series, labels, exemplars, metadata and statistics are those of Tenant.
func (v *View) TenantIn(id quorate.TenantID, mint, maxt int64) TenantReader {
	tv := v.tenant(id)
	tv.mint, tv.maxt = mint, maxt
	return tv
}

func (v *View) tenant(id quorate.TenantID) *TenantView {
	v.shard.mu.RLock()
	defer v.shard.mu.RUnlock()
	tv := &TenantView{view: v, id: id, tenant: v.st.table.byID[id], info: emptyTenantInfo(), mint: math.MinInt64, maxt: math.MaxInt64}
	if tv.tenant == nil {
		return tv
	}
	info, changed := v.tenants[tv.tenant]
	if !changed {
		info = tv.tenant.info
	}
	tv.info = info
	return tv
}

// liveImages appends, for each ref, the image of its row in the live memcache.
func (v *View) liveImages(dst []image, refs []uint32) []image {
	v.shard.mu.RLock()
	defer v.shard.mu.RUnlock()
	for _, ref := range refs {
		dst = append(dst, v.saved.image(v.live, ref))
	}
	return dst
}

// appendParts appends what a gatherer wants of a series in log order: files,
// frozen memcaches, and the live one by its image.
func (v *View) appendParts(g *gatherer, dst []part, ref uint32, live *image) ([]part, error) {
	gone := v.tombstones.of(ref)
	var err error
	for _, f := range v.files {
		if dst, err = f.appendParts(g, dst, ref, gone); err != nil {
			return nil, err
		}
	}
	for i := range v.frozen {
		if dst, err = v.frozen[i].appendParts(g, dst, ref, gone); err != nil {
			return nil, err
		}
	}
	return live.appendParts(g, dst, v.liveChunks)
}

// exemplars returns the exemplars of a series in ascending order.
func (v *View) exemplars(ref uint32) ([]exemplarRow, error) {
	gone := v.tombstones.of(ref)
	var list []exemplarRow
	var err error
	for _, f := range v.files {
		if list, err = f.appendExemplars(list, ref, gone); err != nil {
			return nil, err
		}
	}
	for i := range v.frozen {
		list = v.frozen[i].appendExemplars(list, ref, gone)
	}
	if x := v.liveImages(nil, []uint32{ref})[0].extra; x != nil {
		list = append(list, x.exemplars...)
	}
	return mergeExemplars(list), nil
}
