package tsdbshard

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/quorate/quorate/tsdbshard/chunk"
)

// block is a flush file in memory: its series and exemplar pages, and where in
// them each series stands. It never changes once it is part of a state.
type block struct {
	lo, hi       uint64
	pages        [][]byte
	refs         []uint32 // ascending
	at           []uint64 // page<<32 | offset of the row's chunks
	exemplarRefs []uint32
	exemplarAt   []uint64
	bytes        int64
}

// seriesRow is what a series page says of one series, apart from its chunks.
type seriesRow struct {
	ref        uint32
	newest     newestSample // kindNone when the interval had no in-order sample
	mint, maxt int64
	samples    uint64
}

// rowHasNewest is the flag of a series row that says that its newest sample follows.
const rowHasNewest = 1

// addSeriesPage checks a page of series rows and makes them part of the block.
// onRow may be nil.
func (b *block) addSeriesPage(body []byte, onRow func(seriesRow) error) error {
	c := newReader(body)
	for len(c.B) > 0 {
		row, at, err := b.seriesRow(&c, body)
		if err != nil {
			return err
		}
		b.refs = append(b.refs, row.ref)
		b.at = append(b.at, uint64(len(b.pages))<<32|at)
		if onRow == nil {
			continue
		}
		if err := onRow(row); err != nil {
			return err
		}
	}
	b.pages = append(b.pages, body)
	b.bytes += int64(len(body))
	return nil
}

func (b *block) seriesRow(c *reader, body []byte) (row seriesRow, at uint64, err error) {
	ref := c.Uvarint()
	flags := c.U8()
	if flags&rowHasNewest != 0 {
		row.newest = newestSample{kind: valueKind(c.U8()), time: c.Varint(), bits: c.U64(), start: c.Varint()}
		if row.newest.kind != kindFloat && row.newest.kind != kindHistogram {
			c.Fail()
		}
	}
	at = uint64(len(body) - len(c.B))
	if c.Bad || flags&^rowHasNewest != 0 || ref > 1<<31-1 || len(b.refs) > 0 && uint32(ref) <= b.refs[len(b.refs)-1] {
		return row, 0, fmt.Errorf("%w: row %d (series %d, flags %#x)", ErrDamaged, len(b.refs), ref, flags)
	}
	row.ref = uint32(ref)
	n := c.Uvarint()
	for i := uint64(0); i < n && !c.Bad; i++ {
		chunk := c.chunk()
		if c.Bad {
			break
		}
		if err := chunk.Check(); err != nil {
			return row, 0, fmt.Errorf("series %d: chunk %d: %w: %w", ref, i, ErrDamaged, err)
		}
		if i > 0 && chunk.MinTime <= row.maxt {
			return row, 0, fmt.Errorf("series %d: chunk %d: %w: out of order", ref, i, ErrDamaged)
		}
		if i == 0 {
			row.mint = chunk.MinTime
		}
		row.maxt = chunk.MaxTime
		row.samples += uint64(chunk.Rows)
	}
	if c.Bad || n == 0 {
		return row, 0, fmt.Errorf("series %d: %w: %d chunks", ref, ErrDamaged, n)
	}
	return row, at, nil
}

// appendChunkHead appends what stands before a chunk's columns.
func appendChunkHead(dst []byte, c *chunk.Chunk) []byte {
	dst = append(dst, byte(c.Kind))
	dst = binary.AppendUvarint(dst, uint64(c.Rows))
	dst = binary.AppendVarint(dst, c.MinTime)
	dst = binary.AppendUvarint(dst, uint64(c.MaxTime-c.MinTime))
	dst = binary.AppendUvarint(dst, uint64(len(c.Times)))
	dst = binary.AppendUvarint(dst, uint64(len(c.Starts)))
	return binary.AppendUvarint(dst, uint64(len(c.Values)))
}

// chunk reads one chunk of a series row.
func (r *reader) chunk() chunk.Chunk {
	c := chunk.Chunk{Kind: chunk.Kind(r.U8())}
	rows := r.Uvarint()
	if rows > chunk.MaxRows {
		r.Fail()
	}
	c.Rows = int(rows)
	c.MinTime = r.Varint()
	c.MaxTime = c.MinTime + int64(r.Uvarint())
	times, starts, values := r.Uvarint(), r.Uvarint(), r.Uvarint()
	c.Times = r.Take(times)
	if starts > 0 {
		c.Starts = r.Take(starts)
	}
	c.Values = r.Take(values)
	return c
}

// appendParts appends the chunks that the block has of a series.
func (b *block) appendParts(dst []part, ref uint32) []part {
	i, ok := slices.BinarySearch(b.refs, ref)
	if !ok {
		return dst
	}
	c := newReader(b.pages[b.at[i]>>32][uint32(b.at[i]):])
	for n := c.Uvarint(); n > 0; n-- {
		dst = append(dst, part{Chunk: c.chunk()})
	}
	return dst
}

// addExemplarPage checks a page of exemplars and makes them part of the block.
func (b *block) addExemplarPage(body []byte) error {
	c := newReader(body)
	for len(c.B) > 0 {
		ref := c.Uvarint()
		at := uint64(len(body) - len(c.B))
		n := c.Uvarint()
		var previous exemplarRow
		for i := uint64(0); i < n && !c.Bad; i++ {
			e := c.exemplar()
			if i > 0 && compareExemplars(previous, e) >= 0 {
				c.Fail()
			}
			previous = e
		}
		last := len(b.exemplarRefs) - 1
		if c.Bad || n == 0 || n > MaxExemplars || ref > 1<<31-1 || last >= 0 && uint32(ref) <= b.exemplarRefs[last] {
			return fmt.Errorf("%w: %d exemplars of series %d", ErrDamaged, n, ref)
		}
		b.exemplarRefs = append(b.exemplarRefs, uint32(ref))
		b.exemplarAt = append(b.exemplarAt, uint64(len(b.pages))<<32|at)
	}
	b.pages = append(b.pages, body)
	b.bytes += int64(len(body))
	return nil
}

func (r *reader) exemplar() exemplarRow {
	return exemplarRow{t: r.Varint(), bits: r.U64(), labels: r.Bytes()}
}

// appendExemplars appends the exemplars that the block has of a series.
func (b *block) appendExemplars(dst []exemplarRow, ref uint32) []exemplarRow {
	i, ok := slices.BinarySearch(b.exemplarRefs, ref)
	if !ok {
		return dst
	}
	c := newReader(b.pages[b.exemplarAt[i]>>32][uint32(b.exemplarAt[i]):])
	for n := c.Uvarint(); n > 0; n-- {
		dst = append(dst, c.exemplar())
	}
	return dst
}
