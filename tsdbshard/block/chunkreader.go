package block

import (
	"fmt"
	"slices"
	"sync"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/quorate/quorate/internal/cursor"
	"github.com/quorate/quorate/tsdbshard/chunk"
)

// chunkRef names a chunk: the series' number in the block and the chunk's place
// among those of the series.
func chunkRef(number uint32, place int) chunks.ChunkRef {
	return chunks.ChunkRef(uint64(number)<<32 | uint64(place))
}

// chunkReader satisfies tsdb.ChunkReader for the metas of indexReader.Series.
type chunkReader struct {
	t *CanonicalTenant

	// mu guards the walks, the one used last first.
	mu    sync.Mutex
	walks [keptWalks]chunkWalk
}

// keptWalks is of how many series a reader remembers where it is. Chunks are
// mostly asked for in their order, series after series; who reads a few series
// side by side would else have each walked from its first chunk every time.
const keptWalks = 4

// walkTo returns a walk of a series that has not passed a chunk, first of walks.
func (r *chunkReader) walkTo(number uint32, place int) (*chunkWalk, error) {
	at := slices.IndexFunc(r.walks[:], func(w chunkWalk) bool { return w.f != nil && w.number == number })
	if at < 0 {
		at = keptWalks - 1
	}
	w := r.walks[at]
	copy(r.walks[1:at+1], r.walks[:at])
	if w.f == nil || w.number != number || w.next > place {
		runs, err := r.t.shapesOf(w.runs[:0], number)
		if err != nil {
			r.walks[0] = chunkWalk{}
			return nil, err
		}
		w = newChunkWalk(r.t.f, r.t.cache, r.t.cache, number, runs)
	}
	r.walks[0] = w
	return &r.walks[0], nil
}

// ChunkOrIterable returns a chunk as an iterable.
func (r *chunkReader) ChunkOrIterable(meta chunks.Meta) (chunkenc.Chunk, chunkenc.Iterable, error) {
	number, place := uint32(meta.Ref>>32), int(uint32(meta.Ref))
	if number < r.t.entry.firstSeries || number-r.t.entry.firstSeries >= r.t.entry.series {
		return nil, nil, fmt.Errorf("chunk %#x is not of tenant %v", uint64(meta.Ref), r.t.entry.id)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	w, err := r.walkTo(number, place)
	if err != nil {
		return nil, nil, err
	}
	for {
		c, ok, err := w.chunk()
		if err == nil && !ok {
			err = fmt.Errorf("chunk %d of series %d, which has %d", place, number, len(w.runs))
		}
		if err != nil {
			*w = chunkWalk{}
			return nil, nil, err
		}
		if w.next > place {
			return nil, &c, nil
		}
	}
}

// Close does nothing: who reads holds the block.
func (r *chunkReader) Close() error { return nil }

// shapesOf appends the shapes of a series' chunks.
func (t *CanonicalTenant) shapesOf(dst []uint32, number uint32) ([]uint32, error) {
	row, page, err := t.f.seriesRow(t.cache, number)
	if err != nil {
		return dst, err
	}
	c := cursor.Cursor{B: row}
	skipPairs(&c)
	if dst = readShapeRuns(&c, dst); c.Bad {
		return dst, t.f.at(pageSeries, page, fmt.Errorf("%w: row of series %d", ErrDamaged, number))
	}
	return dst, nil
}

// chunkWalk walks the chunks of a series of a canonical block. The zero value
// walks nothing.
type chunkWalk struct {
	f      *file
	number uint32
	runs   []uint32 // the shapes
	// samples and shared are the caches of samples pages and of shapes pages.
	samples, shared *Cache

	next   int // chunk
	page   int // next to look into
	p      *samplesPage
	heads  headWalk
	left   int // chunks that heads has
	shapes *shapesPage
}

func newChunkWalk(f *file, samples, shared *Cache, number uint32, runs []uint32) chunkWalk {
	return chunkWalk{f: f, samples: samples, shared: shared, number: number, runs: runs, page: max(0, f.dir.sections[pageSamples].find(number))}
}

// chunk returns the next chunk, which aliases its page, and whether there is one.
func (w *chunkWalk) chunk() (c chunk.Chunk, ok bool, err error) {
	pages := w.f.dir.sections[pageSamples].pages
	for w.left == 0 {
		if w.page == len(pages) || pages[w.page].first > w.number {
			if w.next < len(w.runs) {
				err = fmt.Errorf("%w: series %d has %d chunks in samples pages, %d in its series page", ErrDamaged, w.number, w.next, len(w.runs))
			}
			return c, false, err
		}
		if w.p, err = w.f.samplesPage(w.samples, w.page); err != nil {
			return c, false, err
		}
		if row, ok := w.p.find(w.number); ok {
			w.heads, w.left = w.p.walkRow(row)
		}
		w.page++
	}
	if w.next >= len(w.runs) {
		return c, false, w.f.at(pageSamples, w.page-1, fmt.Errorf("%w: more than the %d chunks of series %d", ErrDamaged, len(w.runs), w.number))
	}
	n := w.runs[w.next]
	if p := w.shapes; p == nil || n < p.first || n-p.first >= uint32(len(p.shapes)) {
		if w.shapes, err = w.f.shapesPageOf(w.shared, n); err != nil {
			return c, false, err
		}
	}
	_, from, middle, to := w.heads.chunk()
	w.left--
	w.next++
	return w.shapes.shapes[n-w.shapes.first].chunk(w.p.columns(from, middle, to)), true, nil
}
