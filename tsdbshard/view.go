package tsdbshard

import (
	"fmt"
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

	next        uint32 // refs at and past it are younger than the view
	labels      [][]byte
	definitions []*[pageRows]definition

	blocks        []*block
	frozen        []*memcache
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
		next: st.table.next, labels: st.table.labels.blocks, definitions: st.table.definitions,
		blocks: st.blocks, frozen: st.frozen,
		live: st.live, liveChunks: st.live.chunks.blocks, liveExemplars: st.live.exemplarRefs,
		epoch: st.epoch, tenants: make(map[*tenant]tenantInfo),
	}
	st.views = append(st.views, v)
	st.live.views = append(st.live.views, v)
	s.metrics.views.Inc()
	return v, nil
}

// Close lets go of the state. A second Close does nothing.
func (v *View) Close() {
	v.shard.mu.Lock()
	defer v.shard.mu.Unlock()
	if v.closed {
		return
	}
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
func (v *View) Tenant(id quorate.TenantID) *TenantView {
	v.shard.mu.RLock()
	defer v.shard.mu.RUnlock()
	tv := &TenantView{view: v, id: id, tenant: v.st.table.byID[id], info: emptyTenantInfo()}
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

// definition returns the row of a ref below next.
func (v *View) definition(ref uint32) *definition {
	return &v.definitions[ref>>pageBits][ref&pageMask]
}

// labelsOf returns the canonical labels of a ref below next.
func (v *View) labelsOf(ref uint32) []byte { return v.definition(ref).labels(v.labels) }

// liveImages appends, for each ref, the image of its row in the live memcache.
func (v *View) liveImages(dst []image, refs []uint32) []image {
	v.shard.mu.RLock()
	defer v.shard.mu.RUnlock()
	for _, ref := range refs {
		img, changed := v.saved.get(ref)
		if !changed {
			if row := v.live.rowIfAny(ref); row != nil {
				img = row.image(true)
			}
		}
		dst = append(dst, img)
	}
	return dst
}

// appendParts appends the samples of a series in log order: files, frozen
// memcaches, and the live one by its image.
func (v *View) appendParts(dst []part, ref uint32, live *image) ([]part, error) {
	for _, b := range v.blocks {
		dst = b.appendParts(dst, ref)
	}
	var err error
	for _, m := range v.frozen {
		row := m.rowIfAny(ref)
		if row == nil {
			continue
		}
		img := row.image(false)
		if dst, err = img.appendParts(dst, m.chunks.blocks); err != nil {
			return nil, err
		}
	}
	return live.appendParts(dst, v.liveChunks)
}

// exemplars returns the exemplars of a series in ascending order.
func (v *View) exemplars(ref uint32) []exemplarRow {
	var list []exemplarRow
	for _, b := range v.blocks {
		list = b.appendExemplars(list, ref)
	}
	for _, m := range v.frozen {
		if row := m.rowIfAny(ref); row != nil && row.extra != nil {
			list = append(list, row.extra.exemplars...)
		}
	}
	if x := v.liveImages(nil, []uint32{ref})[0].extra; x != nil {
		list = append(list, x.exemplars...)
	}
	return mergeExemplars(list)
}

// savedRows are images of rows by ref, in small pages: a scrape touches most
// rows of a shard, for which a map took three times as long to fill.
type savedRows struct {
	pages []*savedPage
}

// savedPage has the images of 64 rows; bit i of saved tells that of row i.
type savedPage struct {
	saved  uint64
	images [savedPageRows]image
}

const savedPageRows = 64

func (s *savedRows) put(ref uint32, img image) {
	page := int(ref / savedPageRows)
	if page >= len(s.pages) {
		s.pages = append(s.pages, make([]*savedPage, page+1-len(s.pages))...)
	}
	if s.pages[page] == nil {
		s.pages[page] = new(savedPage)
	}
	p, i := s.pages[page], ref%savedPageRows
	p.saved |= 1 << i
	p.images[i] = img
}

func (s *savedRows) get(ref uint32) (img image, ok bool) {
	page, i := int(ref/savedPageRows), ref%savedPageRows
	if page >= len(s.pages) || s.pages[page] == nil {
		return img, false
	}
	p := s.pages[page]
	return p.images[i], p.saved&(1<<i) != 0
}
