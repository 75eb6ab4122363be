package block

import (
	"fmt"
	"math"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/tsdbshard/chunk"
)

// Delta is an opened delta block: what one flush of an open set wrote. Any
// number of goroutines may read it. Bytes that it returns are never changed
// and outlive it.
type Delta struct {
	*file
}

// OpenDelta opens a delta block by its footer and directory and checks that it
// is the one that the header describes. The last Release closes f; when
// OpenDelta fails, f stays open. The error wraps ErrDamaged or ErrFormat.
func OpenDelta(f durable.File, want DeltaHeader, options ...Option) (*Delta, error) {
	o, err := openFile(f, options)
	if err != nil {
		return nil, err
	}
	if got := &o.dir.header; got.kind != kindDelta || got.delta != want {
		return nil, fmt.Errorf("open block: %w: it is a %v block of %+v, want a delta block of %+v", ErrDamaged, got.kind, got.describe(), want)
	}
	if end := uint64(want.FirstRef) + uint64(o.dir.summary.Series); end > math.MaxUint32 {
		return nil, fmt.Errorf("open block: %w: it defines series up to %d", ErrDamaged, end)
	}
	return &Delta{file: o}, nil
}

// Definitions calls visit with the series that the block defines, by ref. The
// labels alias a page. An error of visit ends it and is returned.
func (d *Delta) Definitions(visit func(ref uint32, tenant quorate.TenantID, canonical []byte) error) error {
	ref := uint64(d.dir.header.delta.FirstRef)
	err := d.eachRow(pageDefinitions, func(c *cursor.Cursor, first bool, number uint32) error {
		if first && uint64(number) != ref {
			return fmt.Errorf("%w: first ref %d, want %d", ErrDamaged, number, ref)
		}
		tenant, canonical := quorate.TenantID(c.Uvarint()), c.Bytes()
		if c.Bad {
			return fmt.Errorf("%w: definition of series %d", ErrDamaged, ref)
		}
		ref++
		return visit(uint32(ref-1), tenant, canonical)
	})
	if err != nil {
		return err
	}
	if n := ref - uint64(d.dir.header.delta.FirstRef); n != uint64(d.dir.summary.Series) {
		return fmt.Errorf("%w: %d definitions, the directory says %d", ErrDamaged, n, d.dir.summary.Series)
	}
	return nil
}

// Newest calls visit with the newest samples that the block has, by rising
// ref. It reads no samples pages. An error of visit ends it and is returned.
func (d *Delta) Newest(visit func(ref uint32, n Newest) error) error {
	var r newestReader
	last := int64(-1)
	return d.eachRow(pageNewest, func(c *cursor.Cursor, first bool, number uint32) error {
		ref, n, err := r.row(c, first, number)
		if err == nil {
			err = d.checkRef(ref, last)
		}
		if err != nil {
			return err
		}
		last = int64(ref)
		return visit(ref, n)
	})
}

// checkRef checks a ref that follows another.
func (d *Delta) checkRef(ref uint32, last int64) error {
	if end := d.dir.header.delta.FirstRef + d.dir.summary.Series; int64(ref) <= last || ref >= end {
		return fmt.Errorf("%w: series %d after %d, of %d", ErrDamaged, ref, last, end)
	}
	return nil
}

// Metadata calls visit with the block's metadata, by rising tenant and family.
// An error of visit ends it and is returned.
func (d *Delta) Metadata(visit func(quorate.TenantID, wire.Metadata) error) error {
	return d.metadata(visit)
}

// AppendChunks appends the chunks of a series that share an instant with
// [mint, maxt], ms, both inclusive.
func (d *Delta) AppendChunks(dst []chunk.Chunk, ref uint32, mint, maxt int64) ([]chunk.Chunk, error) {
	pages := d.dir.sections[pageSamples].pages
	for i := max(0, d.dir.sections[pageSamples].find(ref)); i < len(pages) && pages[i].first <= ref; i++ {
		if pages[i].mint > maxt || pages[i].maxt < mint {
			continue
		}
		var err error
		if dst, err = d.appendRow(dst, d.cache, i, ref, mint, maxt); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// AppendExemplars appends the exemplars that the block has of a series.
func (d *Delta) AppendExemplars(dst []Exemplar, ref uint32) ([]Exemplar, error) {
	return d.appendExemplars(dst, d.cache, ref)
}

// ExemplarRefs calls visit with the refs of the series that have exemplars, in
// rising order. An error of visit ends it and is returned.
func (d *Delta) ExemplarRefs(visit func(ref uint32) error) error {
	return d.eachBlob(d.cache, pageExemplars, 0, math.MaxUint32, func(_ int, ref uint32, _ []byte) error { return visit(ref) })
}
