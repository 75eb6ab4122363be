package tsdbshard

import (
	"math"
	"slices"
	"sort"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/quorate/quorate/tsdbshard/chunk"
)

// part is a run of one series' samples, ascending in time: an encoded chunk,
// or floats that wait, of which the chunk has only the bounds.
type part struct {
	chunk.Chunk

	tail tail
}

func (p *part) iterator(it chunkenc.Iterator) chunkenc.Iterator {
	if p.tail.rows == 0 {
		return p.Iterator(it)
	}
	waiting, ok := it.(*tailIterator)
	if !ok {
		waiting = new(tailIterator)
	}
	*waiting = tailIterator{r: p.tail.read()}
	return waiting
}

// overlapping tells whether parts, in log order, are not simply one after the
// other in time.
func overlapping(parts []part) bool {
	for i := 1; i < len(parts); i++ {
		if parts[i].MinTime <= parts[i-1].MaxTime {
			return true
		}
	}
	return false
}

// groupParts cuts parts, which are in log order, into groups that do not
// overlap each other, in order of time. Within a group the log order stays.
func groupParts(parts []part) [][]part {
	groups := make([][]part, 0, len(parts))
	if !overlapping(parts) {
		for i := range parts {
			groups = append(groups, parts[i:i+1:i+1])
		}
		return groups
	}
	byTime := make([]int, len(parts))
	for i := range byTime {
		byTime[i] = i
	}
	sort.SliceStable(byTime, func(i, j int) bool { return parts[byTime[i]].MinTime < parts[byTime[j]].MinTime })
	for from := 0; from < len(byTime); {
		maxt := parts[byTime[from]].MaxTime
		to := from + 1
		for to < len(byTime) && parts[byTime[to]].MinTime <= maxt {
			maxt = max(maxt, parts[byTime[to]].MaxTime)
			to++
		}
		members := byTime[from:to]
		slices.Sort(members)
		group := make([]part, len(members))
		for i, m := range members {
			group[i] = parts[m]
		}
		groups = append(groups, group)
		from = to
	}
	return groups
}

// span is one group of overlapping parts (mostly one part) as what a querier
// iterates over. It stands in a chunks.Meta in place of a chunk; of that
// interface only Iterator is used, by chunkReader.
type span struct {
	chunkenc.Chunk
	parts []part
}

// Iterator walks the span's samples.
func (s *span) Iterator(it chunkenc.Iterator) chunkenc.Iterator {
	if len(s.parts) == 1 {
		return s.parts[0].iterator(it)
	}
	chain, ok := it.(*chainIterator)
	if !ok {
		chain = &chainIterator{g: gatherAll()}
	}
	chain.Iterator, chain.chunks, chain.err = chunkenc.NewNopIterator(), chain.chunks[:0], nil
	if chain.samples, chain.err = chain.g.merge(chain.samples, s.parts); chain.err != nil {
		return chain
	}
	// Encoding the merged samples again leaves it to the codec to say which
	// histograms are known not to be counter resets.
	chain.chunks, chain.err = chain.g.encoder().AppendChunks(chain.chunks, chain.samples)
	chain.left = chain.chunks
	return chain
}

// tailIterator walks floats that wait.
type tailIterator struct {
	r    tailReader
	done bool
}

func (it *tailIterator) Next() chunkenc.ValueType {
	if !it.r.next() {
		it.done = true
		return chunkenc.ValNone
	}
	return chunkenc.ValFloat
}

func (it *tailIterator) Seek(t int64) chunkenc.ValueType { //nolint:govet // chunkenc.Iterator, not io.Seeker
	for it.r.i == 0 || !it.done && it.r.time < t {
		if it.Next() == chunkenc.ValNone {
			return chunkenc.ValNone
		}
	}
	if it.done {
		return chunkenc.ValNone
	}
	return chunkenc.ValFloat
}

func (it *tailIterator) At() (int64, float64) { return it.r.time, math.Float64frombits(it.r.bits) }
func (it *tailIterator) AtT() int64           { return it.r.time }
func (it *tailIterator) AtST() int64          { return it.r.start }
func (it *tailIterator) Err() error           { return nil }

// AtHistogram is never called: Next returns floats only.
func (*tailIterator) AtHistogram(*histogram.Histogram) (int64, *histogram.Histogram) {
	return 0, nil
}

// AtFloatHistogram is never called: Next returns floats only.
func (*tailIterator) AtFloatHistogram(*histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	return 0, nil
}

// chainIterator walks chunks one after the other.
type chainIterator struct {
	chunkenc.Iterator // of the current chunk

	left []chunk.Chunk // after the current one
	err  error

	// Scratch space.
	g       *gatherer
	samples []sample
	chunks  []chunk.Chunk
}

// Next moves to the next sample, of this chunk or the next.
func (it *chainIterator) Next() chunkenc.ValueType {
	for it.err == nil {
		if vt := it.Iterator.Next(); vt != chunkenc.ValNone {
			return vt
		}
		if it.err = it.Iterator.Err(); it.err != nil || len(it.left) == 0 {
			break
		}
		// Not used again: histograms that the iterator gave out may alias it.
		it.Iterator, it.left = it.left[0].Iterator(nil), it.left[1:]
	}
	return chunkenc.ValNone
}

// Seek moves to the first sample at or after t.
func (it *chainIterator) Seek(t int64) chunkenc.ValueType { //nolint:govet // chunkenc.Iterator, not io.Seeker
	if vt := it.Iterator.Seek(t); vt != chunkenc.ValNone {
		return vt
	}
	for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
		if it.AtT() >= t {
			return vt
		}
	}
	return chunkenc.ValNone
}

// Err returns the first error met.
func (it *chainIterator) Err() error { return it.err }
