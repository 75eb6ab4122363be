package chunk_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/quorate/quorate/benchmarks/engine/mix"
	"github.com/quorate/quorate/tsdbshard/chunk"
)

// TestFloatsAreBitExact encodes columns of every shape and of many lengths with
// one encoder, and reads them with one iterator. It runs for as long as wanted
// with -rapid.checks.
func TestFloatsAreBitExact(t *testing.T) {
	var enc chunk.Encoder
	var it chunkenc.Iterator
	rapid.Check(t, func(rt *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
		for _, s := range shapes {
			n := 1 + rng.IntN([]int{2, 4, 16, 120, 240, chunk.MaxRows}[rng.IntN(6)])
			times, starts, values := someTimes(rng, n), someStarts(rng, n), s.make(rng, n)
			it = requireExact(t, enc.Floats(times, starts, values), times, starts, values, it)
		}
	})
}

// TestTheMixIsBitExact does so with what the benchmarks measure.
func TestTheMixIsBitExact(t *testing.T) {
	var enc chunk.Encoder
	var it chunkenc.Iterator
	for _, k := range append(mix.Kinds(), mix.Adversaries()...) {
		r := runsOf(&k)
		r.series = r.series[:20]
		for _, size := range benchSizes {
			r.cut(size, func(times []int64, values []float64) {
				it = requireExact(t, enc.Floats(times, nil, values), times, nil, values, it)
			})
		}
	}
}

// TestColumnsAreSmall holds the sizes that DESIGN.md claims, in bytes a sample.
func TestColumnsAreSmall(t *testing.T) {
	sizes := func(kind *mix.Kind, rows int) float64 {
		var enc chunk.Encoder
		bytes, samples := 0, 0
		r := runsOf(kind)
		r.cut(rows, func(times []int64, values []float64) {
			bytes += len(enc.Floats(times, nil, values).Values)
			samples += len(values)
		})
		return float64(bytes) / float64(samples)
	}
	require.Less(t, sizes(nil, 240), 0.90, "the mix")
	require.Less(t, sizes(nil, 16), 1.25, "the mix in short chunks")
	for kind, most := range map[mix.Kind]float64{
		mix.IntegerCounter: 0.85, mix.SecondsCounter: 1.35, mix.DecimalGauge: 1.3, mix.ByteGauge: 1.15, mix.Constant: 0.02, mix.BucketCounter: 0.11,
		mix.FullMantissa: 6.5, mix.SparseCounter: 0.25, mix.LognormalSteps: 1.1, mix.JumpingGauge: 1.45, mix.FloatSum: 5.5, mix.StaleGauge: 1.3,
	} {
		require.Less(t, sizes(&kind, 240), most, kind)
	}
	values := make([]float64, 240)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range values {
		values[i] = math.Float64frombits(rng.Uint64())
	}
	var enc chunk.Encoder
	c := enc.Floats(mix.Timestamps(1, 1, 0, 15_000, 240), nil, values)
	require.LessOrEqual(t, len(c.Values), 8*240+8, "at worst as they are")
}

func TestRegularTimestampsCostNothing(t *testing.T) {
	var enc chunk.Encoder
	times := make([]int64, 240)
	for i := range times {
		times[i] = 1_760_000_000_000 + 15_000*int64(i)
	}
	c := enc.Floats(times, times, make([]float64, 240))
	require.LessOrEqual(t, len(c.Times), 12)
	require.Equal(t, c.Times, c.Starts)
	require.LessOrEqual(t, len(c.Values), 2)
	starts := make([]int64, 240)
	for i := range starts {
		starts[i] = times[0]
	}
	require.LessOrEqual(t, len(enc.Floats(times, starts, make([]float64, 240)).Starts), 8)
}

func TestEncodingAndIteratingAllocateNothing(t *testing.T) {
	var enc chunk.Encoder
	var it chunkenc.Iterator
	r := runsOf(nil)
	pass := func() {
		r.cut(240, func(times []int64, values []float64) {
			c := enc.Floats(times, nil, values)
			it = c.Iterator(it)
		})
	}
	pass()
	require.Zero(t, testing.AllocsPerRun(3, pass))
}

// TestAppendChunksAllocatesOncePerChunk counts what becomes of a run that is
// kept: one allocation, whatever its columns are.
func TestAppendChunksAllocatesOncePerChunk(t *testing.T) {
	var enc chunk.Encoder
	samples := make([]chunk.Sample, 240)
	for i := range samples {
		samples[i] = chunk.Sample{T: int64(i), ST: 1, V: float64(i * i % 17)}
	}
	chunks := make([]chunk.Chunk, 0, 1)
	pass := func() {
		var err error
		chunks, err = enc.AppendChunks(chunks[:0], samples)
		require.NoError(t, err)
	}
	pass()
	require.InDelta(t, 1, testing.AllocsPerRun(10, pass), 0)
}

// TestRunsAreCut checks where AppendChunks begins another chunk.
func TestRunsAreCut(t *testing.T) {
	for rows, want := range map[int][]int{1: {1}, 240: {240}, 241: {240, 1}, 700: {240, 240, 220}} {
		samples := make([]chunk.Sample, rows)
		for i := range samples {
			samples[i] = chunk.Sample{T: int64(i), V: float64(i)}
		}
		chunks, err := chunk.AppendChunks(nil, samples)
		require.NoError(t, err)
		var got []int
		var back []chunk.Sample
		for i := range chunks {
			got = append(got, chunks[i].Rows)
			back, err = chunks[i].AppendTo(back)
			require.NoError(t, err)
		}
		require.Equal(t, want, got)
		require.Equal(t, samples, back)
	}
	none, err := chunk.AppendChunks(nil, nil)
	require.NoError(t, err)
	require.Empty(t, none)
}

// TestIteratorsSeek compares Seek with a walk, from every row to every
// timestamp and those between.
func TestIteratorsSeek(t *testing.T) {
	var enc chunk.Encoder
	times := []int64{10, 20, 30, 41, 50}
	c := enc.Floats(times, nil, []float64{1, 2, 3, 4, 5})
	var it chunkenc.Iterator
	for from := range len(times) + 1 {
		for target := int64(0); target < 60; target++ {
			it = c.Iterator(it)
			for range from {
				it.Next()
			}
			want := max(from-1, 0)
			for want < len(times) && times[want] < target {
				want++
			}
			if want == len(times) {
				require.Equal(t, chunkenc.ValNone, it.Seek(target))
				require.Equal(t, chunkenc.ValNone, it.Next())
				continue
			}
			require.Equal(t, chunkenc.ValFloat, it.Seek(target), "row %d seeks %d", from-1, target)
			ts, v := it.At()
			require.Equal(t, times[want], ts)
			require.InDelta(t, float64(want+1), v, 0)
		}
	}
	require.NoError(t, it.Err())
}

// TestTimestampsAreRemembered iterates over chunks of different timestamps with
// one iterator, in an order in which what is remembered of the last is wrong
// each time: other bytes, other rows, other columns after damage.
func TestTimestampsAreRemembered(t *testing.T) {
	var enc chunk.Encoder
	early := clone(enc.Floats([]int64{1, 2, 3}, nil, []float64{1, 2, 3}))
	late := clone(enc.Floats([]int64{4, 5, 6}, nil, []float64{4, 5, 6}))
	short := clone(enc.Floats([]int64{4, 5}, nil, []float64{7, 8}))
	moved := early
	moved.MinTime, moved.MaxTime = late.MinTime, late.MaxTime
	backwards := early
	backwards.Times = clone(enc.Floats([]int64{3, 2, 1}, nil, []float64{1, 2, 3})).Times
	var it chunkenc.Iterator
	for range 2 {
		for _, c := range []chunk.Chunk{early, early, late, short, late} {
			it = c.Iterator(it)
			require.Equal(t, chunkenc.ValFloat, it.Next())
			require.Equal(t, c.MinTime, it.AtT())
			require.Len(t, walk(it), c.Rows-1)
			require.NoError(t, it.Err())
		}
		for _, c := range []chunk.Chunk{moved, moved, backwards, backwards} {
			it = c.Iterator(it)
			require.Equal(t, chunkenc.ValNone, it.Next())
			require.Equal(t, chunkenc.ValNone, it.Seek(0))
			require.ErrorIs(t, it.Err(), chunk.ErrDamaged)
		}
	}
}
