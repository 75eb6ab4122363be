package block

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/tsdbshard/chunk"
)

// Verify reads all of a block of size bytes, of either kind, and checks every
// rule of docs/format/block.md: checksums, order, counts, and that chunks decode
// to what is said of them. The error names page and offset and wraps ErrDamaged
// or ErrFormat. Beside one page of each kind it holds, of a canonical block, 8
// bytes for each label of each series of one tenant at a time. It does not
// close f.
func Verify(ctx context.Context, f durable.File, size int64) (Summary, error) {
	dir, err := openDirectory(f, size)
	if err != nil {
		return Summary{}, fmt.Errorf("verify block: %w", err)
	}
	v := &verifier{stop: ctx.Err, f: &file{f: f, dir: dir}, found: emptySummary(), tenants: make(map[quorate.TenantID]struct{})}
	if v.found.Hash, err = v.bytes(size); err != nil {
		return Summary{}, fmt.Errorf("verify block: %w", err)
	}
	if dir.header.kind == kindDelta {
		err = v.delta()
	} else {
		err = v.canonical()
	}
	if err != nil {
		return Summary{}, fmt.Errorf("verify block: %w", err)
	}
	v.found.Bytes, v.found.Directory = dir.summary.Bytes, dir.summary.Directory
	v.found.Tenants = uint32(len(v.tenants))
	want := dir.summary
	if want.Hash = v.found.Hash; v.found != want {
		return Summary{}, fmt.Errorf("verify block: %w: the directory says %+v, the pages hold %+v", ErrDamaged, want, v.found)
	}
	return v.found, nil
}

// verifier reads a block and sums up what it finds.
type verifier struct {
	stop    func() error // why to stop reading, if there is a reason
	f       *file
	found   Summary
	tenants map[quorate.TenantID]struct{}
	steps   int
	times   []quorate.TimeRange // of the chunks met in each samples page, end inclusive
	decoder chunk.Decoder
	samples []chunk.Sample // scratch
}

// meet is called with each chunk and the samples page that it lies in.
func (v *verifier) meet(page int, c *chunk.Chunk) {
	for len(v.times) <= page {
		v.times = append(v.times, quorate.TimeRange{Start: math.MaxInt64, End: math.MinInt64})
	}
	t := &v.times[page]
	t.Start, t.End = min(t.Start, c.MinTime), max(t.End, c.MaxTime)
}

// step looks at the context now and then.
func (v *verifier) step() error {
	if v.steps++; v.steps%checkContextEvery == 0 {
		return v.stop()
	}
	return nil
}

// placed is a page by where it is in the file.
type placed struct {
	kind pageKind
	i    int
	e    *pageEntry
}

// bytes reads the file from its first byte to its last, checks every page
// against the directory, and returns the file's hash.
func (v *verifier) bytes(size int64) (hash [32]byte, err error) {
	var pages []placed
	for kind := range v.f.dir.sections {
		s := &v.f.dir.sections[kind]
		for i := range s.pages {
			pages = append(pages, placed{kind: pageKind(kind), i: i, e: &s.pages[i]})
		}
	}
	slices.SortFunc(pages, func(a, b placed) int { return cmp.Compare(a.e.offset, b.e.offset) })
	sha := sha256.New()
	var page []byte
	for _, p := range pages {
		if err := v.step(); err != nil {
			return hash, err
		}
		page = slices.Grow(page[:0], int(p.e.length))[:p.e.length]
		if err := readAt(v.f.f, page, p.e.offset); err != nil {
			return hash, v.f.at(p.kind, p.i, err)
		}
		sha.Write(page)
		body, err := pageBody(page, p.kind)
		if err == nil && binary.LittleEndian.Uint32(page[len(page)-pageTailBytes:]) != p.e.checksum {
			err = fmt.Errorf("%w: it is a sound page, but not the one that the directory names", ErrDamaged)
		}
		if err == nil && p.kind == pageHeader && string(body) != string(headerBody(&v.f.dir.header)) {
			err = fmt.Errorf("%w: it differs from what the directory repeats", ErrDamaged)
		}
		if err != nil {
			return hash, v.f.at(p.kind, p.i, err)
		}
	}
	end := pages[len(pages)-1].e.offset + int64(pages[len(pages)-1].e.length)
	if _, err := io.Copy(sha, io.NewSectionReader(v.f.f, end, size-end)); err != nil {
		return hash, fmt.Errorf("directory at offset %d: %w: %w", end, ErrDamaged, err)
	}
	sha.Sum(hash[:0])
	return hash, nil
}

// chunks checks the chunks of one row and counts them.
func (v *verifier) chunks(chunks []chunk.Chunk, within quorate.TimeRange) (err error) {
	if err := checkChunks(chunks); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	for i := range chunks {
		c := &chunks[i]
		if v.samples, err = v.decoder.AppendTo(v.samples[:0], c); err != nil {
			return fmt.Errorf("%w: chunk %d: %w", ErrDamaged, i, err)
		}
		s := v.samples
		ascending := len(s) == c.Rows && s[0].T == c.MinTime && s[len(s)-1].T == c.MaxTime
		for k := 1; ascending && k < len(s); k++ {
			ascending = s[k-1].T < s[k].T
		}
		if !ascending || within != quorate.Forever && (!within.Contains(c.MinTime) || !within.Contains(c.MaxTime)) {
			return fmt.Errorf("%w: chunk %d: timestamps are not %d from %d to %d in %v, rising", ErrDamaged, i, c.Rows, c.MinTime, c.MaxTime, within)
		}
	}
	v.found.addChunks(chunks)
	return nil
}

// exemplars checks all exemplars, of series below end.
func (v *verifier) exemplars(end uint32) error {
	last := int64(-1)
	var list []Exemplar
	if end == 0 {
		return v.rows(pageExemplars, 0)
	}
	rows := uint64(0)
	err := v.f.eachBlob(nil, pageExemplars, 0, end-1, func(page int, number uint32, row []byte) (err error) {
		if err := v.step(); err != nil {
			return err
		}
		list, err = readExemplars(list[:0], row)
		if err == nil && (int64(number) <= last || len(list) == 0) {
			err = fmt.Errorf("%w: %d exemplars after series %d", ErrDamaged, len(list), last)
		}
		for i := 0; err == nil && i < len(list); i++ {
			if len(list[i].Labels) > 0 {
				err = wire.CheckLabels(list[i].Labels)
			}
		}
		if err != nil {
			return v.f.at(pageExemplars, page, fmt.Errorf("%w: series %d: %w", ErrDamaged, number, err))
		}
		last = int64(number)
		v.found.Exemplars += uint64(len(list))
		rows++
		return nil
	})
	if err != nil {
		return err
	}
	return v.rows(pageExemplars, rows)
}

// rows checks how many rows the pages of a kind have in all.
func (v *verifier) rows(kind pageKind, want uint64) error {
	got := uint64(0)
	s := &v.f.dir.sections[kind]
	for i := range s.pages {
		got += uint64(s.pages[i].rows)
	}
	if got != want {
		return fmt.Errorf("%w: %v pages have %d rows, want %d", ErrDamaged, kind, got, want)
	}
	return nil
}

// metadata checks that metadata are in order, and that keys find them.
func (v *verifier) metadata() error {
	last, some := "", false
	keys := v.f.dir.sections[pageMetadata].keys
	for i := range keys {
		err := v.f.rowsOf(pageMetadata, i, func(c *cursor.Cursor, first bool, _ uint32) error {
			if err := v.step(); err != nil {
				return err
			}
			tenant, m, err := readMetadata(c)
			if err != nil {
				return err
			}
			key := metadataKey(tenant, m.Family)
			if some && key <= last || first && key != keys[i] {
				return fmt.Errorf("%w: tenant %v, family %q, is not where its key is", ErrDamaged, tenant, m.Family)
			}
			last, some = key, true
			v.tenants[tenant] = struct{}{}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// samplesTimes checks that the times that the directory has of samples pages
// are those of their chunks: a reader passes over pages by them.
func (v *verifier) samplesTimes() error {
	s := &v.f.dir.sections[pageSamples]
	for i := range s.pages {
		if i == len(v.times) {
			return v.f.at(pageSamples, i, fmt.Errorf("%w: no series leads to it", ErrDamaged))
		}
		if e, t := &s.pages[i], &v.times[i]; e.mint != t.Start || e.maxt != t.End {
			return v.f.at(pageSamples, i, fmt.Errorf("%w: samples from %d to %d, the directory says from %d to %d", ErrDamaged, t.Start, t.End, e.mint, e.maxt))
		}
	}
	return nil
}
