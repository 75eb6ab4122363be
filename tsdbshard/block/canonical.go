package block

import (
	"fmt"
	"math"
	"sync"

	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/internal/wire"
)

// Canonical is an opened canonical block: all that a sealed set holds. Any
// number of goroutines may read it. Bytes that it returns are never changed and
// outlive it.
type Canonical struct {
	*file
}

// OpenCanonical opens a canonical block by its footer and directory and checks
// that it is the one that the header describes. The last Release closes f; when
// OpenCanonical fails, f stays open. The error wraps ErrDamaged or ErrFormat.
func OpenCanonical(f durable.File, want CanonicalHeader, options ...Option) (*Canonical, error) {
	o, err := openFile(f, options)
	if err != nil {
		return nil, err
	}
	if got := &o.dir.header; got.kind != kindCanonical || got.canonical != want {
		return nil, fmt.Errorf("open block: %w: it is a %v block of %+v, want a canonical block of %+v", ErrDamaged, got.kind, got.describe(), want)
	}
	return &Canonical{file: o}, nil
}

// Tenants returns the tenants that have series or metadata, in rising order.
func (c *Canonical) Tenants() []quorate.TenantID {
	ids := make([]quorate.TenantID, 0, c.dir.tenants.n)
	for e := range c.dir.tenants.all {
		ids = append(ids, e.id)
	}
	return ids
}

// MetadataAll calls visit with all metadata, by rising tenant and family. An
// error of visit ends it and is returned.
func (c *Canonical) MetadataAll(visit func(quorate.TenantID, wire.Metadata) error) error {
	return c.metadata(visit)
}

// privateCacheBytes bounds the pages that a reader keeps for itself when the
// block has no cache.
const privateCacheBytes = 8 << 20

// readerCache returns the block's cache, or a new one for one reader.
func (f *file) readerCache() *Cache {
	if f.cache != nil {
		return f.cache
	}
	return NewCache(privateCacheBytes)
}

// Tenant returns what the block has of a tenant; an unknown tenant is empty.
func (c *Canonical) Tenant(id quorate.TenantID) *CanonicalTenant {
	return c.TenantIn(id, math.MinInt64, math.MaxInt64)
}

// TenantIn is Tenant, but its index names only chunks that share an instant
// with [mint, maxt], ms, both inclusive.
func (c *Canonical) TenantIn(id quorate.TenantID, mint, maxt int64) *CanonicalTenant {
	e, ok := c.dir.tenants.find(id)
	if !ok {
		e = emptyTenant(id)
	}
	return &CanonicalTenant{f: c.file, entry: e, cache: c.readerCache(), mint: mint, maxt: maxt}
}

// CanonicalTenant is one tenant's part of a canonical block. It satisfies
// tsdb.BlockReader, so tsdb.NewBlockQuerier and tsdb.NewBlockChunkQuerier read
// it. It and what it returns are valid while the block is held.
type CanonicalTenant struct {
	f     *file
	entry tenantEntry
	cache *Cache
	// mint and maxt, both inclusive, are the time that chunks are named of.
	mint, maxt int64

	mu    sync.Mutex
	known bool // names were read
	names []nameEntry
}

var _ tsdb.BlockReader = (*CanonicalTenant)(nil)

// Index returns a reader of the tenant's series.
func (t *CanonicalTenant) Index() (tsdb.IndexReader, error) {
	names, err := t.labelNames()
	if err != nil {
		return nil, err
	}
	return &indexReader{t: t, names: names, values: make([]*valuesPage, len(names))}, nil
}

// labelNames reads the tenant's label names, once.
func (t *CanonicalTenant) labelNames() ([]nameEntry, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known || t.entry.series == 0 {
		return t.names, nil
	}
	row, page, err := t.f.blob(t.cache, pageNames, t.entry.firstSeries)
	if err != nil {
		return nil, err
	}
	names, err := readNames(row, t.entry.pairs)
	if err != nil {
		return nil, t.f.at(pageNames, max(0, page), fmt.Errorf("tenant %v: %w", t.entry.id, err))
	}
	t.names, t.known = names, true
	return names, nil
}

// Chunks returns a reader of the chunks that readers of Index name. It gives
// iterables, not chunks: chunk queriers then encode what they hand out in the
// encodings that every Prometheus reads.
func (t *CanonicalTenant) Chunks() (tsdb.ChunkReader, error) { return &chunkReader{t: t}, nil }

// Tombstones returns that nothing is deleted.
func (t *CanonicalTenant) Tombstones() (tombstones.Reader, error) {
	return tombstones.NewMemTombstones(), nil
}

// Meta returns the time range of the tenant's samples, end exclusive as in
// blocks, and the numbers of its series and samples. The ULID is zero.
func (t *CanonicalTenant) Meta() tsdb.BlockMeta {
	m := tsdb.BlockMeta{Version: 1, Stats: tsdb.BlockStats{NumSeries: uint64(t.entry.series), NumSamples: t.entry.samples}}
	if t.entry.samples > 0 {
		m.MinTime, m.MaxTime = t.entry.mint, t.entry.maxt+1
	}
	return m
}

// Size returns 0: a tenant has no files of its own.
func (t *CanonicalTenant) Size() int64 { return 0 }

// NumSeries returns the number of the tenant's series, those without samples
// included.
func (t *CanonicalTenant) NumSeries() uint64 { return uint64(t.entry.series) }

// Metadata returns what is known of one metric family of the tenant, or of all
// when family is empty.
func (t *CanonicalTenant) Metadata(family string) (map[string]metadata.Metadata, error) {
	found := make(map[string]metadata.Metadata)
	err := t.f.metadataOf(t.entry.id, family, func(m wire.Metadata) {
		found[m.Family] = metadata.Metadata{Type: m.MetricType(), Unit: m.Unit, Help: m.Help}
	})
	return found, err
}

// Exemplars returns the exemplars of a series, by its ref in the tenant's
// index, in their order.
func (t *CanonicalTenant) Exemplars(ref uint64) ([]Exemplar, error) {
	number, err := t.number(ref)
	if err != nil {
		return nil, err
	}
	return t.f.appendExemplars(nil, t.cache, number)
}

// lastSeries returns the number in the block of the tenant's last series, of
// which there must be one.
func (t *CanonicalTenant) lastSeries() uint32 { return t.entry.firstSeries + t.entry.series - 1 }
