package tsdbshard

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/quorate/quorate/tsdbshard/chunk"
)

// sample is one decoded sample of any kind.
type sample = chunk.Sample

// tailEncoder compresses tails and keeps its scratch space.
type tailEncoder struct {
	chunk         chunk.Encoder
	times, starts [tailRows]int64
	values        [tailRows]float64
}

// encode returns the chunk of a row's tail, which is not empty, in a block of
// the slab from its position on. The chunk's bytes are valid until the next call.
//
// It reads what a tailReader reads, in a loop of its own: that loop is a good
// part of what it costs to apply a sample.
func (e *tailEncoder) encode(row *memRow, block []byte) chunk.Chunk {
	if row.odd != 0 {
		return e.encodeOdd(row, block)
	}
	times, values := e.times[:row.rows], e.values[:row.rows]
	time := int64(binary.LittleEndian.Uint64(block))
	at, kinds, bits := uint(tailTimeBytes), uint(row.kinds), uint64(0)
	for i := range times {
		var n uint
		bits, n = getValue(block[at:], kinds, bits)
		at += n
		kinds >>= 2
		times[i], values[i] = time, math.Float64frombits(bits)
		time += int64(row.step)
	}
	return e.chunk.Floats(times, nil, values)
}

func (e *tailEncoder) encodeOdd(row *memRow, block []byte) chunk.Chunk {
	r := tail{data: block[:row.used], tailShape: row.tailShape}.read()
	n := 0
	for ; r.next(); n++ {
		e.times[n], e.starts[n], e.values[n] = r.time, r.start, math.Float64frombits(r.bits)
	}
	var starts []int64
	if row.started {
		starts = e.starts[:n]
	}
	return e.chunk.Floats(e.times[:n], starts, e.values[:n])
}

// cloneChunk copies a chunk whose bytes may change.
func cloneChunk(c chunk.Chunk) chunk.Chunk {
	c.Times, c.Starts, c.Values = slices.Clone(c.Times), slices.Clone(c.Starts), slices.Clone(c.Values)
	return c
}
