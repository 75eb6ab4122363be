package block

import (
	"fmt"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/tsdbshard/chunk"
)

// SeriesCursor walks all series of a canonical block in their order: by rising
// tenant and, within it, labels. It is for one goroutine, while the block is
// held.
type SeriesCursor struct {
	f       *file
	cache   *Cache // of its own: a walk over everything is not to empty the block's
	samples *Cache // for samples pages, of which each is needed for a while only
	tenants []tenantEntry
	index   *indexReader
	number  uint32 // of the next series
	err     error
	// meet, if set, is called with each chunk and the samples page that it
	// lies in.
	meet func(page int, c *chunk.Chunk)

	tenant    quorate.TenantID
	labels    []byte
	chunks    []chunk.Chunk
	exemplars []Exemplar
	runs      []uint32
}

const (
	// cursorCacheBytes bounds the index pages that a cursor keeps. It comes
	// back to those of label values: with less than what a tenant has of them,
	// a label that is another one in each series would have a page read for
	// each.
	cursorCacheBytes = 64 << 20
	// cursorSamplesBytes bounds the samples pages that it keeps.
	cursorSamplesBytes = 1 << 20
)

// Series returns a cursor before the first series.
func (c *Canonical) Series() *SeriesCursor {
	s := &SeriesCursor{f: c.file, cache: NewCache(cursorCacheBytes), samples: NewCache(cursorSamplesBytes)}
	for e := range c.dir.tenants.all {
		if e.series > 0 {
			s.tenants = append(s.tenants, e)
		}
	}
	return s
}

// Next moves to the next series and tells whether there is one.
func (s *SeriesCursor) Next() bool {
	if s.err != nil {
		return false
	}
	for len(s.tenants) > 0 && s.number == s.tenants[0].firstSeries+s.tenants[0].series {
		s.tenants, s.index = s.tenants[1:], nil
	}
	if len(s.tenants) == 0 {
		return false
	}
	if s.index == nil {
		t := &CanonicalTenant{f: s.f, entry: s.tenants[0], cache: s.cache}
		names, err := t.labelNames()
		if err != nil {
			s.err = err
			return false
		}
		s.index = &indexReader{t: t, names: names, values: make([]*valuesPage, len(names))}
		s.tenant = t.entry.id
	}
	s.err = s.read()
	s.number++
	return s.err == nil
}

func (s *SeriesCursor) read() error {
	r := s.index
	r.mu.Lock()
	defer r.mu.Unlock()
	s.labels = s.labels[:0]
	rest, err := r.visitLocked(s.number, func(name int, pair uint32) error {
		value, err := r.valueLocked(name, pair)
		s.labels = wire.AppendLabel(s.labels, r.names[name].name, value)
		return err
	})
	if err != nil {
		return err
	}
	c := cursor.Cursor{B: rest}
	if s.runs = readShapeRuns(&c, s.runs[:0]); c.Bad {
		return r.damaged(s.number, "shapes")
	}
	s.chunks = s.chunks[:0]
	walk := newChunkWalk(s.f, s.samples, s.cache, s.number, s.runs)
	for {
		c, ok, err := walk.chunk()
		if err != nil {
			return fmt.Errorf("tenant %v: %w", s.tenant, err)
		}
		if !ok {
			break
		}
		s.chunks = append(s.chunks, c)
		if s.meet != nil {
			s.meet(walk.page-1, &c)
		}
	}
	s.exemplars, err = s.f.appendExemplars(s.exemplars[:0], s.cache, s.number)
	return err
}

// Tenant returns the series' tenant.
func (s *SeriesCursor) Tenant() quorate.TenantID { return s.tenant }

// Labels returns the series' canonical labels, valid until Next.
func (s *SeriesCursor) Labels() []byte { return s.labels }

// Chunks returns the series' chunks; the slice is valid until Next, the
// chunks' bytes for ever.
func (s *SeriesCursor) Chunks() []chunk.Chunk { return s.chunks }

// Exemplars returns the series' exemplars; the slice is valid until Next.
func (s *SeriesCursor) Exemplars() []Exemplar { return s.exemplars }

// Err returns why the walk ended early, nil if it did not.
func (s *SeriesCursor) Err() error { return s.err }
