package tsdbshard

import (
	"cmp"
	"context"
	"io"
	"slices"
	"strings"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/tsdbshard/block"
	"github.com/quorate/quorate/tsdbshard/chunk"
)

const (
	// mergeFactor is how many times as large as what is to be written a file
	// may be that is taken along. With it a file is more than twice as large
	// as all after it, so a set that was flushed n times has O(log n) files;
	// and the file that a sample is in grows by half whenever it is rewritten,
	// so it is rewritten O(log n) times.
	mergeFactor = 2
	// definitionWeight is how many samples the definition of a series weighs in
	// a file.
	definitionWeight = 32
	// maxTombstones and maxTombstoneBytes are how much is kept of deletes
	// before the next flush rewrites everything. No delete is refused for it.
	maxTombstones     = 128
	maxTombstoneBytes = 4 << 20
)

func (l tombstoneList) tooMany() bool { return len(l) > maxTombstones || l.bytes() > maxTombstoneBytes }

// weight is the size by which files are compared. Bytes would not do: what is
// in memory has not the size that it will have in a file.
func (e *fileEntry) weight() uint64 { return e.samples + definitionWeight*uint64(e.series) }

// filesToMerge returns the files at the end of the list that the next block
// takes along.
func filesToMerge(files []*blockFile, src *deltaSource) []*blockFile {
	if src.empty() {
		return nil
	}
	weight := definitionWeight * uint64(src.next-src.firstRef)
	for _, m := range src.frozen {
		weight += m.samples
	}
	from := len(files)
	for from > 0 && files[from-1].entry.weight() <= mergeFactor*weight {
		from--
		weight += files[from].entry.weight()
	}
	return files[from:]
}

// filesToCompact returns all files if that leaves fewer or something was
// deleted from them.
func filesToCompact(files []*blockFile, src *deltaSource) []*blockFile {
	if len(files) == 1 && src.empty() && len(src.tombstones) == 0 {
		return nil
	}
	return files
}

// deltaSource is everything that one delta block is made of. Nothing in it
// changes any more.
type deltaSource struct {
	set    quorate.ReplicaSetID
	lo, hi uint64
	// What is merged, in log order: files, then memcaches.
	files      []*blockFile
	frozen     []frozenCache
	tombstones tombstoneList
	// Series [firstRef, next) are defined in the block.
	firstRef uint32
	catalog
	tenants []quorate.TenantID // by index
	// check is asked now and then whether to go on.
	check func() error
}

// empty tells whether there is nothing to write.
func (src *deltaSource) empty() bool {
	return src.firstRef == src.next && len(src.frozen) == 0 && len(src.files) == 0
}

// deltaMerger writes one delta block.
type deltaMerger struct {
	src  *deltaSource
	w    *block.DeltaWriter
	rows []*fileRows // one for each of src.files
	g    *gatherer
	// Scratch space.
	parts   []part
	samples []sample
	chunks  []chunk.Chunk
}

// fileRows walks the rows of a file; more is false when there are none left.
type fileRows struct {
	*block.RowCursor

	file *blockFile
	more bool
}

func (r *fileRows) advance() error {
	r.more = r.Next()
	return r.file.read(r.Err())
}

// writeDelta writes a block; making it durable is the caller's.
func writeDelta(ctx context.Context, src *deltaSource, w io.Writer) (block.Summary, error) {
	m := &deltaMerger{src: src, g: gatherAll(), w: block.NewDeltaWriter(w, block.DeltaHeader{Set: src.set, Lo: src.lo, Hi: src.hi, FirstRef: src.firstRef})}
	for _, f := range src.files {
		r := &fileRows{RowCursor: f.delta.Rows(), file: f}
		if err := r.advance(); err != nil {
			return block.Summary{}, err
		}
		m.rows = append(m.rows, r)
	}
	for _, step := range []func(context.Context) error{m.definitions, m.series, m.exemplars, m.metadata} {
		if err := step(ctx); err != nil {
			return block.Summary{}, err
		}
	}
	return m.w.Finish()
}

// goOn is asked once per page of series.
func (m *deltaMerger) goOn(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return m.src.check()
}

// definitions writes the series that no older file defines.
func (m *deltaMerger) definitions(ctx context.Context) error {
	var canonical []byte
	for ref := m.src.firstRef; ref < m.src.next; ref++ {
		if ref&pageMask == 0 {
			if err := m.goOn(ctx); err != nil {
				return err
			}
		}
		canonical = m.src.appendCanonical(canonical[:0], ref)
		if err := m.w.Define(m.src.tenants[m.src.tenantOf(ref)], canonical); err != nil {
			return err
		}
	}
	return nil
}

// series writes the samples of each series, merged over files and memcaches.
func (m *deltaMerger) series(ctx context.Context) error {
	for ref := uint32(0); ref < m.src.next; ref++ {
		if ref&pageMask == 0 {
			if err := m.goOn(ctx); err != nil {
				return err
			}
		}
		if err := m.row(ref); err != nil {
			return err
		}
	}
	return nil
}

func (m *deltaMerger) row(ref uint32) error {
	gone := m.src.tombstones.of(ref)
	m.parts = m.parts[:0]
	var newest newestSample
	var err error
	for _, r := range m.rows {
		if !r.more || r.Ref() != ref {
			continue
		}
		masks := gone.after(r.file.entry.hi)
		if n := r.Newest(); n.Kind != 0 && len(masks) == 0 {
			newest = newestSample{time: n.Time, bits: n.Bits, start: n.Start, kind: valueKind(n.Kind)}
		}
		from := len(m.parts)
		for _, c := range r.Chunks() {
			m.parts = append(m.parts, part{Chunk: c})
		}
		if m.parts, err = m.g.mask(m.parts, from, masks.intervals()); err != nil {
			return err
		}
		if err := r.advance(); err != nil {
			return err
		}
	}
	for i := range m.src.frozen {
		c := &m.src.frozen[i]
		if s, ok := c.newestOf(ref); ok && len(gone.after(c.hi)) == 0 {
			newest = s
		}
		if m.parts, err = c.appendParts(m.g, m.parts, ref, gone); err != nil {
			return err
		}
	}
	if len(m.parts) == 0 && newest.kind == kindNone {
		return nil
	}
	if err := m.encode(len(gone) > 0); err != nil {
		return err
	}
	return m.w.Row(ref, block.Newest{Kind: uint8(newest.kind), Time: newest.time, Bits: newest.bits, Start: newest.start}, m.chunks)
}

// keepRows is from how many samples on a chunk goes into a merged block as it
// is. Shorter ones are encoded anew, together with their neighbours.
const keepRows = chunk.MaxFloatRows / 2

// encode makes m.chunks of m.parts. Where samples were deleted or parts overlap
// all of them are encoded anew: a histogram's chunk says whether its first
// sample is a counter reset, which depends on the sample before it.
func (m *deltaMerger) encode(masked bool) error {
	m.chunks = m.chunks[:0]
	var err error
	if masked || overlapping(m.parts) {
		if m.samples, err = m.g.merge(m.samples, m.parts); err != nil {
			return err
		}
		m.chunks, err = m.g.encoder().AppendChunks(m.chunks, m.samples)
		return err
	}
	m.samples = m.samples[:0]
	for i := range m.parts {
		p := &m.parts[i]
		if p.Rows < keepRows {
			if m.samples, err = m.g.decode(m.samples, p); err != nil {
				return err
			}
			continue
		}
		if m.chunks, err = m.g.encoder().AppendChunks(m.chunks, m.samples); err != nil {
			return err
		}
		m.samples, m.chunks = m.samples[:0], append(m.chunks, p.Chunk)
	}
	m.chunks, err = m.g.encoder().AppendChunks(m.chunks, m.samples)
	return err
}

// exemplars writes the exemplars of each series that has some.
func (m *deltaMerger) exemplars(ctx context.Context) error {
	var refs []uint32
	for _, f := range m.src.files {
		err := f.delta.ExemplarRefs(func(ref uint32) error {
			refs = append(refs, ref)
			return nil
		})
		if err != nil {
			return f.read(err)
		}
	}
	for _, c := range m.src.frozen {
		refs = append(refs, c.exemplarRefs...)
	}
	slices.Sort(refs)
	var list []exemplarRow
	var out []block.Exemplar
	for i, ref := range slices.Compact(refs) {
		if i&pageMask == 0 {
			if err := m.goOn(ctx); err != nil {
				return err
			}
		}
		gone := m.src.tombstones.of(ref)
		list = list[:0]
		var err error
		for _, f := range m.src.files {
			if list, err = f.appendExemplars(list, ref, gone); err != nil {
				return err
			}
		}
		for i := range m.src.frozen {
			list = m.src.frozen[i].appendExemplars(list, ref, gone)
		}
		out = out[:0]
		for _, e := range mergeExemplars(list) {
			out = append(out, block.Exemplar{T: e.t, Bits: e.bits, Labels: e.labels})
		}
		if err := m.w.Exemplars(ref, out); err != nil {
			return err
		}
	}
	return nil
}

// familyKey names a metric family; compareFamilies is the order of blocks.
type familyKey struct {
	tenant quorate.TenantID
	family string
}

func compareFamilies(a, b familyKey) int {
	return cmp.Or(cmp.Compare(a.tenant, b.tenant), strings.Compare(a.family, b.family))
}

// metadata writes what the interval changed: for each (tenant, family) the
// last entry, in that order.
func (m *deltaMerger) metadata(context.Context) error {
	last := make(map[familyKey]wire.Metadata)
	for _, f := range m.src.files {
		err := f.delta.Metadata(func(id quorate.TenantID, entry wire.Metadata) error {
			last[familyKey{id, entry.Family}] = entry
			return nil
		})
		if err != nil {
			return f.read(err)
		}
	}
	for _, c := range m.src.frozen {
		for _, change := range c.metadata {
			last[familyKey{change.tenant, change.entry.Family}] = change.entry
		}
	}
	keys := make([]familyKey, 0, len(last))
	for k := range last {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, compareFamilies)
	for _, k := range keys {
		if err := m.w.Metadata(k.tenant, last[k]); err != nil {
			return err
		}
	}
	return nil
}
