package tsdbshard

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/tsdbshard/block"
	"github.com/quorate/quorate/tsdbshard/chunk"
)

var (
	errReadBack  = errors.New("the canonical block does not hold what the shard holds")
	errNotSealed = errors.New("the view is of a set that is not sealed")
)

// Sources are what the canonical block of a sealed set is made of (PROTOCOL 14).
type Sources struct {
	// View shows the set at its seal, or later.
	View *View
	// Base is the sealed set that an overlay lies over; nil without one.
	Base *Sealed
	// Seal is the set's own.
	Seal wire.Seal
}

// logicalSeries is one series of a sealed set.
type logicalSeries struct {
	tenant    quorate.TenantID
	labels    []byte // canonical
	samples   []sample
	exemplars []block.Exemplar
}

// logicalSink takes what a sealed set holds in canonical order: the series by
// tenant and labels, then the metadata by tenant and family. What a series
// refers to is valid during the call.
type logicalSink interface {
	series(s *logicalSeries) error
	metadata(tenant quorate.TenantID, m wire.Metadata) error
}

// walk gives all that the sources hold to a sink, holding one series at a time.
func (src *Sources) walk(ctx context.Context, sink logicalSink) error {
	if src.View.bounds.State != quorate.SetSealed {
		return fmt.Errorf("walk set %v: %w", src.View.shard.cfg.Set, errNotSealed)
	}
	return src.walkAsItIs(ctx, sink)
}

// walkAsItIs is walk for a view of a set that need not be sealed.
func (src *Sources) walkAsItIs(ctx context.Context, sink logicalSink) error {
	m := &logicalMerger{ctx: ctx, src: src, sink: sink, g: gatherAll()}
	if src.Base != nil {
		base, err := src.Base.hold()
		if err != nil {
			return err
		}
		defer base.Release() //nolint:errcheck // only read from
		m.base = &baseCursor{SeriesCursor: base.Series()}
		m.baseBlock = base
	}
	if err := m.run(); err != nil {
		return fmt.Errorf("walk set %v: %w", src.View.shard.cfg.Set, err)
	}
	return nil
}

// baseCursor walks the series of the base; more is false when there are none
// left.
type baseCursor struct {
	*block.SeriesCursor
	more bool
}

func (b *baseCursor) advance() error {
	b.more = b.Next()
	return blockError(b.Err())
}

// compare orders the base's current series and another.
func (b *baseCursor) compare(tenant quorate.TenantID, labels []byte) int {
	if c := cmp.Compare(b.Tenant(), tenant); c != 0 {
		return c
	}
	return compareLabels(b.Labels(), labels)
}

// logicalMerger merges the series of a view and of its base.
type logicalMerger struct {
	ctx       context.Context //nolint:containedctx // it lives for one walk
	src       *Sources
	sink      logicalSink
	base      *baseCursor // nil without a base
	baseBlock *block.Canonical
	visited   int
	g         *gatherer
	// Scratch space.
	parts []part
	rows  []exemplarRow
	out   logicalSeries
}

func (m *logicalMerger) run() error {
	if m.base != nil {
		if err := m.base.advance(); err != nil {
			return err
		}
	}
	tenants := m.src.View.tenantIDs()
	for _, id := range tenants {
		if err := m.tenant(id); err != nil {
			return err
		}
	}
	for m.base != nil && m.base.more {
		if err := m.baseSeries(); err != nil {
			return err
		}
	}
	return m.metadata(tenants)
}

// tenantIDs returns the tenants that the view knows, in order.
func (v *View) tenantIDs() []quorate.TenantID {
	v.shard.mu.RLock()
	defer v.shard.mu.RUnlock()
	ids := make([]quorate.TenantID, 0, len(v.st.table.tenants))
	for _, tn := range v.st.table.tenants {
		ids = append(ids, tn.id)
	}
	slices.Sort(ids)
	return ids
}

// tenant walks the view's series of a tenant, and the base's before each.
func (m *logicalMerger) tenant(id quorate.TenantID) error {
	v := m.src.View
	r := &indexReader{tv: v.tenant(id)}
	name, value := index.AllPostingsKey()
	all, err := r.Postings(m.ctx, name, value)
	if err != nil {
		return err
	}
	var canonical []byte
	for p := r.SortedPostings(all); ; {
		if !p.Next() {
			return p.Err()
		}
		ref, err := r.ref(p.At())
		if err != nil {
			return err
		}
		canonical = v.appendCanonical(canonical[:0], ref)
		for m.base != nil && m.base.more && m.base.compare(id, canonical) < 0 {
			if err := m.baseSeries(); err != nil {
				return err
			}
		}
		m.begin(id, canonical)
		if m.base != nil && m.base.more && m.base.compare(id, canonical) == 0 {
			if err := m.addBase(); err != nil {
				return err
			}
		}
		live := r.image(ref)
		if m.parts, err = v.appendParts(m.g, m.parts, ref, &live); err != nil {
			return err
		}
		own, err := v.exemplars(ref)
		if err != nil {
			return err
		}
		m.rows = append(m.rows, own...)
		if err := m.finish(); err != nil {
			return err
		}
	}
}

// baseSeries gives the sink a series that the base alone has.
func (m *logicalMerger) baseSeries() error {
	m.begin(m.base.Tenant(), m.base.Labels())
	if err := m.addBase(); err != nil {
		return err
	}
	return m.finish()
}

func (m *logicalMerger) begin(tenant quorate.TenantID, labels []byte) {
	m.out.tenant, m.out.labels = tenant, append(m.out.labels[:0], labels...)
	m.parts, m.rows = m.parts[:0], m.rows[:0]
}

// addBase adds what the base has of the current series, first of all sources,
// so that it wins (PROTOCOL 15); and without what was deleted from it.
func (m *logicalMerger) addBase() error {
	gone := deletedFrom(m.src.Seal.Deletions, m.out.tenant, m.out.labels)
	for _, c := range m.base.Chunks() {
		m.parts = append(m.parts, part{Chunk: c})
	}
	for _, e := range m.base.Exemplars() {
		m.rows = append(m.rows, exemplarRow{t: e.T, bits: e.Bits, labels: e.Labels})
	}
	m.rows = gone.keepExemplars(m.rows)
	var err error
	if m.parts, err = m.g.mask(m.parts, 0, gone.intervals()); err != nil {
		return err
	}
	return m.base.advance()
}

// deletedFrom returns what numbered deletions delete from a series.
func deletedFrom(deletions []wire.NumberedDeletion, tenant quorate.TenantID, canonical []byte) tombstoneList {
	var gone tombstoneList
	var lset labels.Labels
	for i := range deletions {
		d := &deletions[i].Deletion
		if d.Tenant != tenant {
			continue
		}
		if lset.IsEmpty() {
			lset = labelsOf(canonical)
		}
		if matchesAnySet(lset, [][]*labels.Matcher{d.Matchers}) {
			gone = append(gone, &tombstone{index: deletions[i].ID, mint: d.MinTime, maxt: d.MaxTime})
		}
	}
	return gone
}

// finish merges the parts of the current series and gives it to the sink,
// unless nothing is left of it.
func (m *logicalMerger) finish() error {
	if m.visited++; m.visited%checkContextEvery == 0 && m.ctx.Err() != nil {
		return m.ctx.Err()
	}
	oldest := m.oldest()
	var err error
	if oldest > math.MinInt64 {
		before := tombstones.Intervals{{Mint: math.MinInt64, Maxt: oldest - 1}}
		if m.parts, err = m.g.mask(m.parts, 0, before); err != nil {
			return err
		}
	}
	if m.out.samples, err = m.g.merge(m.out.samples, m.parts); err != nil {
		return err
	}
	m.out.exemplars = m.out.exemplars[:0]
	for _, e := range mergeExemplars(m.rows) {
		if e.t >= oldest {
			m.out.exemplars = append(m.out.exemplars, block.Exemplar{T: e.t, Bits: e.bits, Labels: e.labels})
		}
	}
	if len(m.out.samples) == 0 && len(m.out.exemplars) == 0 {
		return nil
	}
	return m.sink.series(&m.out)
}

// oldest returns the oldest time of which the current tenant's samples are kept.
func (m *logicalMerger) oldest() int64 {
	i, ok := slices.BinarySearchFunc(m.src.Seal.Horizons, m.out.tenant, func(h wire.Horizon, id quorate.TenantID) int {
		return cmp.Compare(h.Tenant, id)
	})
	if !ok {
		return math.MinInt64
	}
	return m.src.Seal.Horizons[i].Oldest
}

// metadata gives the sink the metadata of the view and, of families that it
// does not know, of the base: what was said later is better known.
func (m *logicalMerger) metadata(tenants []quorate.TenantID) error {
	all := make(map[familyKey]wire.Metadata)
	if m.baseBlock != nil {
		err := m.baseBlock.MetadataAll(func(id quorate.TenantID, entry wire.Metadata) error {
			all[familyKey{id, entry.Family}] = entry
			return nil
		})
		if err != nil {
			return blockError(err)
		}
	}
	for _, id := range tenants {
		for family, entry := range m.src.View.tenant(id).info.metadata {
			all[familyKey{id, family}] = entry
		}
	}
	keys := make([]familyKey, 0, len(all))
	for k := range all {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, compareFamilies)
	for _, k := range keys {
		if err := m.sink.metadata(k.tenant, all[k]); err != nil {
			return err
		}
	}
	return nil
}

// canonicalSink writes a canonical block and hashes what it writes.
type canonicalSink struct {
	w    *block.CanonicalWriter
	hash *logicalHash
	enc  chunk.Encoder
	// chunks is scratch space.
	chunks []chunk.Chunk
}

func (c *canonicalSink) series(s *logicalSeries) error {
	if err := c.hash.series(s); err != nil {
		return err
	}
	var err error
	if c.chunks, err = c.enc.AppendChunks(c.chunks[:0], s.samples); err != nil {
		return fmt.Errorf("series %v: %w", labelsOf(s.labels), err)
	}
	return c.w.Series(s.tenant, s.labels, c.chunks, s.exemplars)
}

func (c *canonicalSink) metadata(tenant quorate.TenantID, m wire.Metadata) error {
	if err := c.hash.metadata(tenant, m); err != nil {
		return err
	}
	return c.w.Metadata(tenant, m)
}

// WriteCanonical writes the canonical block into cfg.Dir, durably, under the
// name of SealedFileName. It reads the block back before it gives it that name:
// one that does not hold what the sources hold is an error. It may be called
// again after any failure or crash.
func WriteCanonical(ctx context.Context, src Sources, cfg Config, sealIndex uint64) (wire.SealedFile, error) {
	file, _, err := Seal(ctx, src, cfg, sealIndex)
	return file, err
}

// Seal does what WriteCanonical and Checksum do, in one walk over the sources:
// the checksum is that of what was written, and of what was read back.
func Seal(ctx context.Context, src Sources, cfg Config, sealIndex uint64) (wire.SealedFile, [sha256.Size]byte, error) {
	file, sum, err := writeCanonical(ctx, src, cfg, sealIndex)
	if err != nil {
		return wire.SealedFile{}, [sha256.Size]byte{}, fmt.Errorf("write canonical block of set %v: %w", cfg.Set, err)
	}
	return file, sum, nil
}

func writeCanonical(ctx context.Context, src Sources, cfg Config, sealIndex uint64) (file wire.SealedFile, sum [sha256.Size]byte, err error) {
	header := block.CanonicalHeader{Set: cfg.Set, SealIndex: sealIndex, Range: src.View.Bounds().Range}
	path := filepath.Join(cfg.Dir, unsealedFileName)
	sink := &canonicalSink{hash: newLogicalHash()}
	var summary block.Summary
	err = cfg.Disk.Write(path, func(w io.Writer) error {
		buffered := bufio.NewWriterSize(w, writeBufferBytes)
		sink.w = block.NewCanonicalWriter(buffered, header)
		if err := src.walk(ctx, sink); err != nil {
			return err
		}
		if summary, err = sink.w.Finish(); err != nil {
			return err
		}
		return buffered.Flush()
	})
	if err != nil {
		return file, sum, err
	}
	file, sum = sealedFileOf(summary), sink.hash.sum()
	if err := readBack(ctx, cfg, path, header, &file, sum); err != nil {
		return file, sum, errors.Join(err, cfg.Disk.Remove(path))
	}
	return file, sum, cfg.Disk.Rename(path, filepath.Join(cfg.Dir, SealedFileName(file)))
}

func sealedFileOf(s block.Summary) wire.SealedFile {
	return wire.SealedFile{Hash: s.Hash, Bytes: s.Bytes, Series: uint64(s.Series), Samples: s.Samples, MinTime: s.MinTime, MaxTime: s.MaxTime}
}

// readBack reads a canonical block that was written and compares its bytes
// with their hash and what it holds with the logical checksum.
func readBack(ctx context.Context, cfg Config, path string, header block.CanonicalHeader, file *wire.SealedFile, want [32]byte) error {
	f, err := cfg.Disk.Open(path)
	if err != nil {
		return err
	}
	c, err := block.OpenCanonical(f, header)
	if err != nil {
		return errors.Join(blockError(err), f.Close())
	}
	defer c.Release() //nolint:errcheck // only read from
	summary, err := block.Verify(ctx, f, int64(file.Bytes))
	if err != nil {
		return blockError(err)
	}
	got, err := checksumOf(ctx, c)
	if err != nil {
		return blockError(err)
	}
	if got != want || sealedFileOf(summary) != *file {
		return fmt.Errorf("%w: checksum %x of %+v, want %x of %+v", errReadBack, got, sealedFileOf(summary), want, *file)
	}
	return nil
}
