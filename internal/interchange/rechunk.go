package interchange

import (
	"fmt"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

// chunkSamples is how many samples Prometheus has in a chunk.
const chunkSamples = 120

// disjoint tells whether chunks are in order of time and share none.
func disjoint(chks []chunks.Meta) bool {
	for i := 1; i < len(chks); i++ {
		if chks[i].MinTime <= chks[i-1].MaxTime {
			return false
		}
	}
	return true
}

// separated puts chunks that overlap together as Prometheus does when it
// compacts: a block must not hold them.
func separated(lset labels.Labels, chks []chunks.Meta) ([]chunks.Meta, error) {
	each := make([]storage.ChunkSeries, len(chks))
	for i, c := range chks {
		each[i] = &storage.ChunkSeriesEntry{
			Lset: lset, ChunkIteratorFn: func(chunks.Iterator) chunks.Iterator { return storage.NewListChunkSeriesIterator(c) },
		}
	}
	return collect(storage.NewCompactingChunkSeriesMerger(storage.ChainedSeriesMerge)(each...))
}

// joined puts runs of small float chunks together. The server cuts chunks as its
// own memory lies, at 16 samples for what is not flushed yet; as a block, that
// takes half as much again and is slower to read. Histogram chunks stay as they
// are: Prometheus cuts them by their size, and small ones are normal.
func joined(lset labels.Labels, chks []chunks.Meta) ([]chunks.Meta, error) {
	var result []chunks.Meta
	for begin := 0; begin < len(chks); {
		end, samples := begin, 0
		for end < len(chks) && isFloat(chks[end]) {
			samples += chks[end].Chunk.NumSamples()
			end++
		}
		if end == begin {
			result = append(result, chks[begin])
			begin++
			continue
		}
		run := chks[begin:end]
		if len(run) >= 2*((samples+chunkSamples-1)/chunkSamples) {
			var err error
			if run, err = rewritten(lset, run); err != nil {
				return nil, err
			}
		}
		result = append(result, run...)
		begin = end
	}
	return result, nil
}

func isFloat(c chunks.Meta) bool {
	e := c.Chunk.Encoding()
	return e == chunkenc.EncXOR || e == chunkenc.EncXOR2
}

// rewritten writes the samples of chunks that are in order into new ones.
func rewritten(lset labels.Labels, chks []chunks.Meta) ([]chunks.Meta, error) {
	return collect(storage.NewSeriesToChunkEncoder(&storage.SeriesEntry{
		Lset: lset, SampleIteratorFn: func(chunkenc.Iterator) chunkenc.Iterator {
			return &chain{Iterator: chunkenc.NewNopIterator(), rest: chks}
		},
	}))
}

func collect(series storage.ChunkSeries) (chks []chunks.Meta, err error) {
	it := series.Iterator(nil)
	for it.Next() {
		chks = append(chks, it.At())
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("encode chunks anew: %w", err)
	}
	return chks, nil
}

// chain iterates over chunks one after another.
type chain struct {
	chunkenc.Iterator // of the chunk at work
	rest              []chunks.Meta
}

// Next implements chunkenc.Iterator.
func (c *chain) Next() chunkenc.ValueType {
	for {
		if kind := c.Iterator.Next(); kind != chunkenc.ValNone || c.Err() != nil || len(c.rest) == 0 {
			return kind
		}
		c.Iterator = c.rest[0].Chunk.Iterator(c.Iterator)
		c.rest = c.rest[1:]
	}
}

// Seek implements chunkenc.Iterator.
func (c *chain) Seek(t int64) chunkenc.ValueType { //nolint:govet // chunkenc.Iterator, not io.Seeker
	for {
		if kind := c.Next(); kind == chunkenc.ValNone || c.AtT() >= t {
			return kind
		}
	}
}
