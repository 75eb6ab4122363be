package tsdbshard

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// fileLoader reads one flush file into a state that is being built.
type fileLoader struct {
	st    *state
	block *block
	pages pageReader
	found fileEntry
}

// loadFlushFile reads a whole flush file, checks every page, and adds what it
// holds to the state. The error names the page at fault.
func loadFlushFile(r io.Reader, set quorate.ReplicaSetID, want *fileEntry, st *state) error {
	l := &fileLoader{
		st:    st,
		block: &block{lo: want.lo, hi: want.hi},
		pages: pageReader{r: bufio.NewReaderSize(r, 64<<10)},
		found: fileEntry{lo: want.lo, hi: want.hi, sha256: want.sha256, mint: 1, maxt: 0},
	}
	if err := l.header(set); err != nil {
		return err
	}
	for last := pageHeader; last != pageEnd; {
		kind, body, err := l.pages.next()
		if err != nil {
			return err
		}
		if kind < last || kind == pageHeader {
			return fmt.Errorf("page %d: %w: a page of kind %v after one of %v", l.pages.pages-1, ErrDamaged, kind, last)
		}
		last = kind
		if err := l.page(kind, body); err != nil {
			return fmt.Errorf("page %d (%v): %w", l.pages.pages-1, kind, err)
		}
	}
	if _, err := io.ReadFull(l.pages.r, make([]byte, 1)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: bytes after the end page", ErrDamaged)
	}
	l.found.bytes, l.found.rollup = l.pages.bytes, l.pages.rollup
	if l.found != *want {
		return fmt.Errorf("%w: the manifest says %+v, the file holds %+v", ErrDamaged, *want, l.found)
	}
	st.blocks = append(st.blocks, l.block)
	return nil
}

func (l *fileLoader) header(set quorate.ReplicaSetID) error {
	kind, body, err := l.pages.next()
	if err != nil {
		return err
	}
	c := newReader(body)
	if magic := c.Take(3); kind != pageHeader || string(magic) != "QFF" {
		return fmt.Errorf("page 0 (%v): %w: not a flush file", kind, ErrDamaged)
	}
	if v := c.Uvarint(); v != flushFileVersion {
		return fmt.Errorf("page 0 (header): %w: %d (this binary knows %d)", ErrFormat, v, flushFileVersion)
	}
	gotSet, lo, hi := quorate.ReplicaSetID(c.Uvarint()), c.Uvarint(), c.Uvarint()
	if err := c.finish("header page"); err != nil {
		return err
	}
	if gotSet != set || lo != l.found.lo || hi != l.found.hi {
		return fmt.Errorf("page 0 (header): %w: it is the file of set %d, interval (%d, %d]", ErrDamaged, gotSet, lo, hi)
	}
	return nil
}

func (l *fileLoader) page(kind pageKind, body []byte) error {
	switch kind {
	case pageDefinitions:
		return l.definitions(body)
	case pageSeries:
		return l.block.addSeriesPage(body, l.seriesRow)
	case pageExemplars:
		from := len(l.block.exemplarRefs)
		if err := l.block.addExemplarPage(body); err != nil {
			return err
		}
		for _, ref := range l.block.exemplarRefs[from:] {
			if ref >= l.st.table.next {
				return fmt.Errorf("%w: series %d is not defined", ErrDamaged, ref)
			}
		}
		return nil
	case pageMetadata:
		return l.metadata(body)
	case pageEnd:
		return l.end(body)
	case pageHeader:
	}
	return fmt.Errorf("%w: unknown page", ErrDamaged)
}

func (l *fileLoader) definitions(body []byte) error {
	t := l.st.table
	c := newReader(body)
	if first := c.Uvarint(); first != uint64(t.next) {
		return fmt.Errorf("%w: first ref %d, want %d", ErrDamaged, first, t.next)
	}
	for len(c.B) > 0 {
		id, canonical := quorate.TenantID(c.Uvarint()), c.Bytes()
		if c.Bad {
			break
		}
		if err := wire.CheckLabels(canonical); err != nil {
			return fmt.Errorf("%w: series %d: %w", ErrDamaged, t.next, err)
		}
		tn := t.tenant(id)
		ref, isNew, err := t.define(tn, canonical)
		if err != nil {
			return err
		}
		if !isNew {
			return fmt.Errorf("%w: series %d is defined twice", ErrDamaged, ref)
		}
		tn.info.series++
		l.found.series++
	}
	return c.finish("definitions page")
}

func (l *fileLoader) seriesRow(row seriesRow) error {
	t := l.st.table
	if row.ref >= t.next {
		return fmt.Errorf("%w: series %d is not defined", ErrDamaged, row.ref)
	}
	newest := t.newestOf(row.ref)
	t.tenants[newest.tenant].info.add(row.mint, row.maxt)
	if row.newest.kind != kindNone {
		if newest.kind != kindNone && row.newest.time <= newest.time {
			return fmt.Errorf("%w: series %d: its newest sample goes back from %d to %d", ErrDamaged, row.ref, newest.time, row.newest.time)
		}
		row.newest.tenant = newest.tenant
		*newest = row.newest
	}
	e := &l.found
	if e.rows == 0 {
		e.mint, e.maxt = row.mint, row.maxt
	}
	e.mint, e.maxt = min(e.mint, row.mint), max(e.maxt, row.maxt)
	e.rows++
	e.samples += row.samples
	return nil
}

func (l *fileLoader) metadata(body []byte) error {
	c := newReader(body)
	for len(c.B) > 0 {
		id := quorate.TenantID(c.Uvarint())
		m := wire.Metadata{Family: c.String(), Type: c.String(), Unit: c.String(), Help: c.String()}
		if c.Bad {
			break
		}
		l.st.setMetadata(l.st.table.tenant(id), m)
	}
	return c.finish("metadata page")
}

func (l *fileLoader) end(body []byte) error {
	c := newReader(body)
	pages, series, rows, samples := c.Uvarint(), c.Uvarint(), c.Uvarint(), c.Uvarint()
	if err := c.finish("end page"); err != nil {
		return err
	}
	e := &l.found
	if pages != uint64(l.pages.pages-1) || series != uint64(e.series) || rows != uint64(e.rows) || samples != e.samples {
		return fmt.Errorf("%w: it counts %d pages, %d series, %d rows, %d samples; there are %d, %d, %d, %d", ErrDamaged,
			pages, series, rows, samples, l.pages.pages-1, e.series, e.rows, e.samples)
	}
	return nil
}
