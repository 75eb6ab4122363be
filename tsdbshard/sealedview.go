package tsdbshard

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/tsdbshard/block"
)

// SealedView shows a sealed set as of some deletions. Any number of goroutines
// may read it. It must be closed, and nothing that was read through it may be
// used after that.
type SealedView struct {
	sealed *Sealed
	block  *block.Canonical
	masks  *sealedMasks // nil when nothing was deleted
	closed atomic.Bool
}

// Tenant returns what the view shows of one tenant; an unknown tenant is empty.
func (v *SealedView) Tenant(id quorate.TenantID) TenantReader {
	return v.masked(v.block.Tenant(id), id)
}

// TenantIn is Tenant for who wants the samples of [mint, maxt] alone, ms, both
// inclusive; see View.TenantIn.
func (v *SealedView) TenantIn(id quorate.TenantID, mint, maxt int64) TenantReader {
	return v.masked(v.block.TenantIn(id, mint, maxt), id)
}

func (v *SealedView) masked(t *block.CanonicalTenant, id quorate.TenantID) TenantReader {
	mask := v.masks.of(id)
	if mask == nil {
		return t
	}
	return &maskedTenant{CanonicalTenant: t, mask: mask}
}

// Close lets go of the file. A second Close does nothing.
func (v *SealedView) Close() {
	if v.closed.Swap(true) {
		return
	}
	v.sealed.cfg.Metrics.views.Dec()
	if err := v.block.Release(); err != nil && v.sealed.cfg.Logger != nil {
		v.sealed.cfg.Logger.Warn("canonical block not closed", "set", v.sealed.cfg.Set, "err", err)
	}
}

// sealedMasks is what a list of deletions masks of a sealed set.
type sealedMasks struct {
	deletions []wire.NumberedDeletion
	tenants   map[quorate.TenantID]*tenantMask
}

func newSealedMasks(deletions []wire.NumberedDeletion) *sealedMasks {
	m := &sealedMasks{deletions: slices.Clone(deletions), tenants: make(map[quorate.TenantID]*tenantMask)}
	for _, d := range deletions {
		t := m.tenants[d.Deletion.Tenant]
		if t == nil {
			t = &tenantMask{}
			m.tenants[d.Deletion.Tenant] = t
		}
		t.deletions = append(t.deletions, d)
	}
	return m
}

func (m *sealedMasks) of(id quorate.TenantID) *tenantMask {
	if m == nil {
		return nil
	}
	return m.tenants[id]
}

// tenantMask is the deletions of one tenant, and which series they select once
// somebody has asked.
type tenantMask struct {
	deletions []wire.NumberedDeletion

	mu       sync.Mutex
	resolved bool
	list     tombstoneList
}

// tombstones finds the series that the deletions select.
func (m *tenantMask) tombstones(t *block.CanonicalTenant) (tombstoneList, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.resolved {
		return m.list, nil
	}
	index, err := t.Index()
	if err != nil {
		return nil, err
	}
	var list tombstoneList
	for _, d := range m.deletions {
		selected, err := tsdb.PostingsForMatchers(uncanceled{}, index, slices.Clone(d.Deletion.Matchers)...)
		if err != nil {
			return nil, fmt.Errorf("select for deletion %d: %w", d.ID, err)
		}
		gone := &tombstone{index: d.ID, mint: d.Deletion.MinTime, maxt: d.Deletion.MaxTime}
		for selected.Next() {
			gone.series = gone.series.add(uint32(selected.At()))
		}
		if err := selected.Err(); err != nil {
			return nil, fmt.Errorf("select for deletion %d: %w", d.ID, err)
		}
		list = append(list, gone)
	}
	m.list, m.resolved = list, true
	return list, nil
}

// maskedTenant is a tenant of a sealed set without what was deleted since.
type maskedTenant struct {
	*block.CanonicalTenant

	mask *tenantMask
}

var (
	_ TenantReader = (*maskedTenant)(nil)
	_ TenantReader = (*block.CanonicalTenant)(nil)
)

// Tombstones returns what was deleted, which queriers leave out.
func (t *maskedTenant) Tombstones() (tombstones.Reader, error) {
	list, err := t.mask.tombstones(t.CanonicalTenant)
	if err != nil {
		return nil, err
	}
	return tombstoneReader{list: list}, nil
}

// tombstoneReader satisfies tombstones.Reader. It keeps runs of series: a map
// of all series that a large delete selects would be many times as large.
type tombstoneReader struct{ list tombstoneList }

// Get returns what was deleted of a series.
func (r tombstoneReader) Get(ref storage.SeriesRef) (tombstones.Intervals, error) {
	return r.list.of(uint32(ref)).intervals(), nil
}

// Iter calls visit with each series that something was deleted from.
func (r tombstoneReader) Iter(visit func(storage.SeriesRef, tombstones.Intervals) error) error {
	var refs []uint32
	for _, t := range r.list {
		for _, run := range t.series {
			for ref := run.first; ref < run.end; ref++ {
				refs = append(refs, ref)
			}
		}
	}
	slices.Sort(refs)
	for _, ref := range slices.Compact(refs) {
		if err := visit(storage.SeriesRef(ref), r.list.of(ref).intervals()); err != nil {
			return err
		}
	}
	return nil
}

// Total returns how many ranges of series were deleted.
func (r tombstoneReader) Total() uint64 {
	n := 0
	for _, t := range r.list {
		n += t.series.count()
	}
	return uint64(n)
}

// Close does nothing: the view holds everything.
func (tombstoneReader) Close() error { return nil }

// ExemplarQuerier returns a reader of the exemplars that were not deleted.
func (t *maskedTenant) ExemplarQuerier() storage.ExemplarQuerier {
	return maskedExemplars{ExemplarQuerier: t.CanonicalTenant.ExemplarQuerier(), mask: t.mask}
}

type maskedExemplars struct {
	storage.ExemplarQuerier

	mask *tenantMask
}

// Select is that of the block, without what was deleted.
func (q maskedExemplars) Select(start, end int64, matchers ...[]*labels.Matcher) ([]exemplar.QueryResult, error) {
	results, err := q.ExemplarQuerier.Select(start, end, matchers...)
	if err != nil {
		return nil, err
	}
	kept := results[:0]
	for _, r := range results {
		for i := range q.mask.deletions {
			d := &q.mask.deletions[i].Deletion
			if matchesAnySet(r.SeriesLabels, [][]*labels.Matcher{d.Matchers}) {
				r.Exemplars = slices.DeleteFunc(r.Exemplars, func(e exemplar.Exemplar) bool { return e.Ts <= d.MaxTime })
			}
		}
		if len(r.Exemplars) > 0 {
			kept = append(kept, r)
		}
	}
	return kept, nil
}
