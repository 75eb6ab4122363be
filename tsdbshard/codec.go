package tsdbshard

import (
	"slices"

	"github.com/quorate/quorate/tsdbshard/chunk"
)

// sample is one decoded sample of any kind.
type sample = chunk.Sample

// runEncoder encodes staged floats and keeps its scratch space.
type runEncoder struct {
	chunk  chunk.Encoder
	times  []int64
	values []float64
}

// encode returns the chunk of a run; starts is nil when all are zero. Its
// bytes are valid until the next call.
func (e *runEncoder) encode(starts []int64, run []stagedFloat) chunk.Chunk {
	e.times, e.values = e.times[:0], e.values[:0]
	for _, s := range run {
		e.times = append(e.times, s.t)
		e.values = append(e.values, s.v)
	}
	return e.chunk.Floats(e.times, starts, e.values)
}

// cloneChunk copies a chunk whose bytes may change.
func cloneChunk(c chunk.Chunk) chunk.Chunk {
	c.Times, c.Starts, c.Values = slices.Clone(c.Times), slices.Clone(c.Starts), slices.Clone(c.Values)
	return c
}
