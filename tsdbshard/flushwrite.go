package tsdbshard

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/tsdbshard/chunk"
)

const flushFileVersion = 1

// flushSource is everything that one flush file is made of. Nothing in it
// changes any more.
type flushSource struct {
	set    quorate.ReplicaSetID
	lo, hi uint64
	frozen []*memcache // in log order
	// Series [firstRef, next) are defined in the file.
	firstRef, next uint32
	labels         [][]byte
	definitions    []*[pageRows]definition
	tenants        []quorate.TenantID // by index
	// check is asked now and then whether to go on.
	check func() error
}

// empty tells whether there is nothing to write.
func (f *flushSource) empty() bool {
	return f.firstRef == f.next && !slices.ContainsFunc(f.frozen, func(m *memcache) bool { return m.dirty })
}

// flushWriter writes one flush file and the block that reads see it as.
type flushWriter struct {
	src   *flushSource
	pages *pageWriter
	entry fileEntry
	block *block
	body  []byte
	// Scratch space.
	parts   []part
	samples []sample
	chunks  []chunk.Chunk
}

// writeFlushFile writes the file's pages.
func writeFlushFile(ctx context.Context, src *flushSource, pages *pageWriter) (*block, *fileEntry, error) {
	w := &flushWriter{
		src: src, pages: pages,
		entry: fileEntry{lo: src.lo, hi: src.hi, mint: 1, maxt: 0},
		block: &block{lo: src.lo, hi: src.hi},
	}
	for _, step := range []func(context.Context) error{w.header, w.definitions, w.series, w.exemplars, w.metadata, w.end} {
		if err := step(ctx); err != nil {
			return nil, nil, err
		}
	}
	w.entry.bytes, w.entry.rollup = pages.bytes, pages.rollup
	copy(w.entry.sha256[:], pages.sha.Sum(nil))
	return w.block, &w.entry, nil
}

// goOn is asked once per page of series.
func (w *flushWriter) goOn(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return w.src.check()
}

func (w *flushWriter) header(context.Context) error {
	body := binary.AppendUvarint([]byte("QFF"), flushFileVersion)
	body = binary.AppendUvarint(body, uint64(w.src.set))
	body = binary.AppendUvarint(body, w.src.lo)
	body = binary.AppendUvarint(body, w.src.hi)
	return w.pages.write(pageHeader, body)
}

// flush writes the page under way, if it holds anything and is full or forced,
// and hands the body to keep when that is not nil.
func (w *flushWriter) flush(kind pageKind, force bool, keep func([]byte) error) error {
	if len(w.body) == 0 || !force && len(w.body) < pageTarget {
		return nil
	}
	if err := w.pages.write(kind, w.body); err != nil {
		return err
	}
	if keep == nil {
		w.body = w.body[:0]
		return nil
	}
	kept := slices.Clone(w.body)
	w.body = w.body[:0]
	return keep(kept)
}

// definitions writes the series that no file defines yet: pages of uvarint
// first ref, then for each series uvarint tenant and its labels.
func (w *flushWriter) definitions(ctx context.Context) error {
	for ref := w.src.firstRef; ref < w.src.next; ref++ {
		if ref&pageMask == 0 {
			if err := w.goOn(ctx); err != nil {
				return err
			}
		}
		if len(w.body) == 0 {
			w.body = binary.AppendUvarint(w.body, uint64(ref))
		}
		d := &w.src.definitions[ref>>pageBits][ref&pageMask]
		w.body = binary.AppendUvarint(w.body, uint64(w.src.tenants[d.tenant]))
		w.body = cursor.AppendBytes(w.body, d.labels(w.src.labels))
		if err := w.flush(pageDefinitions, false, nil); err != nil {
			return err
		}
	}
	w.entry.series = w.src.next - w.src.firstRef
	return w.flush(pageDefinitions, true, nil)
}

// series writes the samples of each series, merged over the memcaches.
func (w *flushWriter) series(ctx context.Context) error {
	keep := func(body []byte) error { return w.block.addSeriesPage(body, nil) }
	for ref := uint32(0); ref < w.src.next; ref++ {
		if ref&pageMask == 0 {
			if err := w.goOn(ctx); err != nil {
				return err
			}
		}
		if err := w.seriesRow(ref); err != nil {
			return fmt.Errorf("series %d: %w", ref, err)
		}
		if err := w.flush(pageSeries, false, keep); err != nil {
			return err
		}
	}
	return w.flush(pageSeries, true, keep)
}

func (w *flushWriter) seriesRow(ref uint32) error {
	w.parts = w.parts[:0]
	var newest newestSample
	for _, m := range w.src.frozen {
		row := m.rowIfAny(ref)
		if row == nil {
			continue
		}
		img := row.image(false)
		var err error
		if w.parts, err = img.appendParts(w.parts, m.chunks.blocks); err != nil {
			return err
		}
		if s, ok := row.newest(); ok {
			newest = s
		}
	}
	if len(w.parts) == 0 {
		return nil
	}
	var err error
	if w.samples, err = mergeParts(w.samples, w.parts); err != nil {
		return err
	}
	if w.chunks, err = chunk.AppendChunks(w.chunks[:0], w.samples); err != nil {
		return err
	}
	w.body = binary.AppendUvarint(w.body, uint64(ref))
	if newest.kind == kindNone {
		w.body = append(w.body, 0)
	} else {
		w.body = append(w.body, rowHasNewest, byte(newest.kind))
		w.body = binary.AppendVarint(w.body, newest.time)
		w.body = binary.LittleEndian.AppendUint64(w.body, newest.bits)
		w.body = binary.AppendVarint(w.body, newest.start)
	}
	w.body = binary.AppendUvarint(w.body, uint64(len(w.chunks)))
	for _, c := range w.chunks {
		w.body = appendChunkHead(w.body, &c)
		w.body = append(append(append(w.body, c.Times...), c.Starts...), c.Values...)
	}
	w.count(w.samples[0].T, w.samples[len(w.samples)-1].T, len(w.samples))
	return nil
}

func (w *flushWriter) count(mint, maxt int64, samples int) {
	e := &w.entry
	if e.rows == 0 {
		e.mint, e.maxt = mint, maxt
	}
	e.mint, e.maxt = min(e.mint, mint), max(e.maxt, maxt)
	e.rows++
	e.samples += uint64(samples)
}

// exemplars writes, for each series that has some: uvarint ref, uvarint count,
// and the exemplars in ascending order.
func (w *flushWriter) exemplars(context.Context) error {
	var refs []uint32
	for _, m := range w.src.frozen {
		refs = append(refs, m.exemplarRefs...)
	}
	slices.Sort(refs)
	var list []exemplarRow
	for _, ref := range slices.Compact(refs) {
		list = list[:0]
		for _, m := range w.src.frozen {
			if row := m.rowIfAny(ref); row != nil && row.extra != nil {
				list = append(list, row.extra.exemplars...)
			}
		}
		merged := mergeExemplars(list)
		w.body = binary.AppendUvarint(w.body, uint64(ref))
		w.body = binary.AppendUvarint(w.body, uint64(len(merged)))
		for _, e := range merged {
			w.body = binary.AppendVarint(w.body, e.t)
			w.body = binary.LittleEndian.AppendUint64(w.body, e.bits)
			w.body = cursor.AppendBytes(w.body, e.labels)
		}
		if err := w.flush(pageExemplars, false, w.block.addExemplarPage); err != nil {
			return err
		}
	}
	return w.flush(pageExemplars, true, w.block.addExemplarPage)
}

// metadata writes what the interval changed: for each (tenant, family) the
// last entry, in that order.
func (w *flushWriter) metadata(context.Context) error {
	type key struct {
		tenant quorate.TenantID
		family string
	}
	last := make(map[key]wire.Metadata)
	for _, m := range w.src.frozen {
		for _, c := range m.metadata {
			last[key{c.tenant, c.entry.Family}] = c.entry
		}
	}
	keys := make([]key, 0, len(last))
	for k := range last {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b key) int {
		if a.tenant != b.tenant {
			if a.tenant < b.tenant {
				return -1
			}
			return 1
		}
		return strings.Compare(a.family, b.family)
	})
	for _, k := range keys {
		m := last[k]
		w.body = binary.AppendUvarint(w.body, uint64(k.tenant))
		for _, s := range []string{m.Family, m.Type, m.Unit, m.Help} {
			w.body = cursor.AppendBytes(w.body, s)
		}
		if err := w.flush(pageMetadata, false, nil); err != nil {
			return err
		}
	}
	return w.flush(pageMetadata, true, nil)
}

// end writes the totals, by which a file that was cut between pages is known.
func (w *flushWriter) end(context.Context) error {
	body := binary.AppendUvarint(nil, uint64(w.pages.pages))
	body = binary.AppendUvarint(body, uint64(w.entry.series))
	body = binary.AppendUvarint(body, uint64(w.entry.rows))
	body = binary.AppendUvarint(body, w.entry.samples)
	return w.pages.write(pageEnd, body)
}
