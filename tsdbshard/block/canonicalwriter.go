package block

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/tsdbshard/chunk"
)

// namesTarget is the size at which a page of label names is closed, before
// compression.
const namesTarget = 16 << 10

// maxShapeMemory bounds what a writer remembers of the shapes it has met.
const maxShapeMemory = 64 << 20

// CanonicalWriter writes a canonical block in one pass over its series. Nothing
// that is passed to it is kept. Samples are written as they come; what it holds
// is the index of one tenant at a time (DESIGN.md has bytes per series), up to
// 64 MiB of shapes, one page of each kind and the directory. After an error all
// calls return it.
type CanonicalWriter struct {
	f       *fileWriter
	header  header
	summary Summary

	samples   samplesWriter
	shapes    shapesWriter
	exemplars blobWriter
	metadata  metadataWriter
	index     indexWriter

	tenant    tenantEntry // the one under way
	canonical []byte      // labels of the last series
	tenants   []tenantEntry
	// described are the tenants that have metadata.
	described []quorate.TenantID
	numbers   []uint32 // scratch
	row       []byte   // scratch
	finished  bool
}

// NewCanonicalWriter begins a canonical block on w. Publishing the file is the
// caller's.
func NewCanonicalWriter(w io.Writer, h CanonicalHeader) *CanonicalWriter {
	c := &CanonicalWriter{header: header{kind: kindCanonical, canonical: h}, summary: emptySummary()}
	c.f = newFileWriter(w, &c.header)
	c.samples = samplesWriter{f: c.f}
	c.shapes = shapesWriter{f: c.f, table: shapeTable{limit: maxShapeMemory}}
	c.exemplars = newBlobWriter(c.f, pageExemplars, exemplarsTarget)
	c.metadata.rows = rowsWriter{f: c.f, kind: pageMetadata, target: metadataTarget}
	c.index = newIndexWriter(c.f)
	return c
}

// Series adds a series by rising tenant and, within it, in the order of
// labels.Compare: its chunks, which follow each other in time without overlap
// and lie in the header's range, and its exemplars in their order. Both may be
// empty.
func (w *CanonicalWriter) Series(tenant quorate.TenantID, canonical []byte, chunks []chunk.Chunk, exemplars []Exemplar) error {
	if w.f.err != nil {
		return w.f.err
	}
	if err := w.check(tenant, canonical, chunks, exemplars); err != nil {
		return w.f.fail(fmt.Errorf("tenant %v, series %d: %w", tenant, w.summary.Series, err))
	}
	number := w.summary.Series
	if len(w.tenants) == 0 || tenant != w.tenant.id {
		w.endTenant()
		w.tenants = append(w.tenants, tenantEntry{}) // filled in by endTenant
		w.tenant = emptyTenant(tenant)
		w.tenant.firstSeries, w.tenant.firstPair = number, w.index.values.next
	}
	w.numbers = w.numbers[:0]
	for i := range chunks {
		c := &chunks[i]
		w.numbers = append(w.numbers, w.shapes.number(c))
		w.tenant.samples += uint64(c.Rows)
		w.tenant.mint, w.tenant.maxt = min(w.tenant.mint, c.MinTime), max(w.tenant.maxt, c.MaxTime)
	}
	w.index.add(canonical, w.numbers)
	if len(chunks) > 0 {
		w.samples.add(number, chunks)
		w.summary.Rows++
		w.summary.addChunks(chunks)
	}
	if len(exemplars) > 0 {
		w.row = appendExemplarsRow(w.row[:0], exemplars)
		w.exemplars.add(number, w.row)
		w.summary.Exemplars += uint64(len(exemplars))
	}
	w.canonical = append(w.canonical[:0], canonical...)
	w.tenant.series++
	w.summary.Series++
	return w.f.err
}

func (w *CanonicalWriter) check(tenant quorate.TenantID, canonical []byte, chunks []chunk.Chunk, exemplars []Exemplar) error {
	if err := wire.CheckLabels(canonical); err != nil {
		return err
	}
	if len(w.tenants) > 0 && (tenant < w.tenant.id || tenant == w.tenant.id && compareLabels(w.canonical, canonical) >= 0) {
		return errOrder
	}
	if err := checkChunks(chunks); err != nil {
		return err
	}
	if len(chunks) > maxSeriesChunks {
		return fmt.Errorf("%d chunks are over the limit of %d", len(chunks), maxSeriesChunks)
	}
	if n, r := len(chunks), w.header.canonical.Range; n > 0 && (!r.Contains(chunks[0].MinTime) || !r.Contains(chunks[n-1].MaxTime)) {
		return fmt.Errorf("samples from %d to %d are outside %v", chunks[0].MinTime, chunks[n-1].MaxTime, r)
	}
	return checkExemplars(exemplars)
}

// endTenant writes the index of the tenant under way, if any.
func (w *CanonicalWriter) endTenant() {
	if n := len(w.tenants); n > 0 {
		w.index.end(&w.tenant)
		w.tenants[n-1] = w.tenant
	}
}

// Metadata adds what is known of one metric family of a tenant, by rising
// tenant and family. Calls may come between those of Series.
func (w *CanonicalWriter) Metadata(tenant quorate.TenantID, m wire.Metadata) error {
	if w.f.err != nil {
		return w.f.err
	}
	if err := w.metadata.add(tenant, &m); err != nil {
		return w.f.fail(err)
	}
	if n := len(w.described); n == 0 || w.described[n-1] != tenant {
		w.described = append(w.described, tenant)
	}
	return w.f.err
}

// Finish writes what is left. The block is whole when it returns nil, though
// not durable yet.
func (w *CanonicalWriter) Finish() (Summary, error) {
	if w.finished {
		return Summary{}, w.f.fail(fmt.Errorf("finished twice: %w", errOrder))
	}
	w.finished = true
	w.endTenant()
	w.samples.flush()
	w.shapes.flush()
	w.exemplars.flush()
	w.metadata.rows.flush()
	w.index.flush()
	tenants := w.allTenants()
	w.summary.Tenants = uint32(len(tenants))
	var previous quorate.TenantID
	for i := range tenants {
		w.f.directory.tenants = tenants[i].append(w.f.directory.tenants, previous)
		previous = tenants[i].id
	}
	if err := w.f.finish(&w.header, &w.summary); err != nil {
		return Summary{}, err
	}
	return w.summary, nil
}

// allTenants returns the tenants that have series or metadata, by ID.
func (w *CanonicalWriter) allTenants() []tenantEntry {
	all := slices.Clone(w.tenants)
	for _, id := range w.described {
		at, ok := slices.BinarySearchFunc(all, id, func(e tenantEntry, id quorate.TenantID) int {
			switch {
			case e.id < id:
				return -1
			case e.id > id:
				return 1
			}
			return 0
		})
		if !ok {
			all = slices.Insert(all, at, emptyTenant(id))
		}
	}
	return all
}

// indexWriter writes the index of one tenant after the other.
type indexWriter struct {
	series   blobWriter
	names    blobWriter
	values   valuesWriter
	postings blobWriter
	next     uint32 // number of the next series

	// Of the tenant under way:
	table pairTable
	rows  []byte // for each series: provisional pair numbers, then the shapes as they are to stand
	total int    // labels of all series
	n     int    // series

	numbers []uint32 // scratch
	row     []byte   // scratch
}

func newIndexWriter(f *fileWriter) indexWriter {
	return indexWriter{
		series: newBlobWriter(f, pageSeries, seriesTarget), names: newBlobWriter(f, pageNames, namesTarget),
		values: valuesWriter{f: f}, postings: newBlobWriter(f, pagePostings, postingsTarget),
		table: pairTable{at: make(map[string]uint32)},
	}
}

// add adds a series of the tenant under way.
func (w *indexWriter) add(canonical []byte, shapes []uint32) {
	w.numbers = w.table.appendLabelNumbers(w.numbers[:0], canonical)
	w.rows = binary.AppendUvarint(w.rows, uint64(len(w.numbers)))
	for _, n := range w.numbers {
		w.rows = binary.AppendUvarint(w.rows, uint64(n))
	}
	w.row = appendShapeRuns(w.row[:0], shapes)
	w.rows = cursor.AppendBytes(w.rows, w.row)
	w.total += len(w.numbers)
	w.n++
}

// end writes the index of the tenant under way.
func (w *indexWriter) end(t *tenantEntry) {
	order, place := w.table.sort()
	t.pairs = uint32(len(order))
	w.writeValues(t, order)

	// One array holds all lists: ends[i] is where that of pair i ends so far.
	lists := make([]uint32, w.total)
	ends := make([]uint32, len(order))
	at := uint32(0)
	for i, n := range order {
		ends[i] = at
		at += w.table.pairs[n].series
	}
	c := cursor.Cursor{B: w.rows}
	for i := range w.n {
		w.numbers = w.numbers[:0]
		for range c.Uvarint() {
			p := place[c.Uvarint()]
			w.numbers = append(w.numbers, p)
			lists[ends[p]] = uint32(i)
			ends[p]++
		}
		w.row = append(appendPairs(w.row[:0], w.numbers), c.Bytes()...)
		w.series.add(w.next, w.row)
		w.next++
	}
	from := uint32(0)
	for i, to := range ends {
		for list := lists[from:to]; len(list) > 0; {
			n := min(postingsPiece, len(list))
			w.row = appendPiece(w.row[:0], list[:n])
			w.postings.add(t.firstPair+uint32(i), w.row)
			list = list[n:]
		}
		from = to
	}
	clear(w.table.at)
	w.table.pairs, w.rows, w.total, w.n = w.table.pairs[:0], w.rows[:0], 0, 0
}

// writeValues writes the tenant's names and the values of each.
func (w *indexWriter) writeValues(t *tenantEntry, order []uint32) {
	var names []nameEntry
	for i, n := range order {
		p := &w.table.pairs[n]
		first := i == 0 || names[len(names)-1].name != p.name
		if first {
			names = append(names, nameEntry{name: p.name, first: uint32(i)})
		}
		names[len(names)-1].values++
		w.values.add(p.value, p.series, first)
	}
	w.row = appendNames(w.row[:0], names)
	// The tenant's first series tells its row from others'.
	w.names.add(t.firstSeries, w.row)
}

func (w *indexWriter) flush() {
	w.series.flush()
	w.names.flush()
	w.values.flush()
	w.postings.flush()
}

// compareLabels orders canonical labels as labels.Compare does.
func compareLabels(a, b []byte) int {
	x, y := wire.IterLabels(a), wire.IterLabels(b)
	for {
		more, other := x.Next(), y.Next()
		switch {
		case !more && !other:
			return 0
		case !more:
			return -1
		case !other:
			return 1
		}
		if c := bytes.Compare(x.Name(), y.Name()); c != 0 {
			return c
		}
		if c := bytes.Compare(x.Value(), y.Value()); c != 0 {
			return c
		}
	}
}
