package chunk_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/quorate/quorate/tsdbshard/chunk"
)

// drawSpans draws spans, some of them empty or far away, and their bucket count.
func drawSpans(t *rapid.T, what string) (spans []histogram.Span, buckets int) {
	for i := range rapid.IntRange(0, 4).Draw(t, what+" spans") {
		offset := rapid.SampledFrom([]int32{0, 1, 2, 3, 1000, math.MaxInt32 / 8}).Draw(t, "offset")
		if i == 0 && rapid.Bool().Draw(t, "negative") {
			offset = -offset
		}
		length := rapid.SampledFrom([]uint32{0, 1, 1, 2, 5}).Draw(t, "length")
		spans = append(spans, histogram.Span{Offset: offset, Length: length})
		buckets += int(length)
	}
	return spans, buckets
}

// drawHistogram draws a sample with a histogram that CheckHistogram lets pass,
// valid otherwise or not. Float buckets of 0 are left out, since chunkenc may
// drop them.
func drawHistogram(t *rapid.T) chunk.Sample {
	h := &histogram.Histogram{
		CounterResetHint: histogram.CounterResetHint(rapid.IntRange(0, 3).Draw(t, "hint")),
		Schema:           rapid.SampledFrom([]int32{-4, 0, 3, 3, 3, 8}).Draw(t, "schema"),
		ZeroThreshold:    rapid.SampledFrom([]float64{0, 0.5, 1e-128}).Draw(t, "threshold"),
		ZeroCount:        rapid.SampledFrom([]uint64{0, 1, 2, math.MaxUint64}).Draw(t, "zero count"),
		Count:            rapid.SampledFrom([]uint64{0, 5, 6, 7, math.MaxUint64 - 1}).Draw(t, "count"),
		Sum:              rapid.SampledFrom(oddities()).Draw(t, "sum"),
	}
	buckets := func(n int) []int64 {
		out := make([]int64, n)
		for i := range out {
			out[i] = rapid.SampledFrom([]int64{-1, 0, 1, 2, 3, math.MaxInt64, math.MinInt64}).Draw(t, "delta")
		}
		return out
	}
	var n int
	h.PositiveSpans, n = drawSpans(t, "positive")
	h.PositiveBuckets = buckets(n)
	if rapid.IntRange(0, 3).Draw(t, "custom") == 0 {
		h.Schema, h.ZeroThreshold, h.ZeroCount = histogram.CustomBucketsSchema, 0, 0
		h.PositiveSpans, h.PositiveBuckets = []histogram.Span{{Offset: 1, Length: 2}}, buckets(2)
		h.CustomValues = rapid.SampledFrom([][]float64{{1, 2}, {1, 2, 3}, {-1, 0, 5, math.Inf(1)}}).Draw(t, "bounds")
	} else {
		h.NegativeSpans, n = drawSpans(t, "negative")
		h.NegativeBuckets = buckets(n)
	}
	if rapid.Bool().Draw(t, "integer") {
		return chunk.Sample{H: h}
	}
	fh := &histogram.FloatHistogram{
		CounterResetHint: h.CounterResetHint, Schema: h.Schema, ZeroThreshold: h.ZeroThreshold, CustomValues: h.CustomValues,
		PositiveSpans: h.PositiveSpans, NegativeSpans: h.NegativeSpans, Sum: h.Sum,
		ZeroCount: float64(h.ZeroCount), Count: rapid.SampledFrom(oddities()).Draw(t, "float count"),
	}
	floats := func(n int) []float64 {
		out := make([]float64, n)
		for i := range out {
			out[i] = rapid.SampledFrom(oddities()[10:]).Draw(t, "bucket")
		}
		return out
	}
	fh.PositiveBuckets, fh.NegativeBuckets = floats(len(h.PositiveBuckets)), floats(len(h.NegativeBuckets))
	return chunk.Sample{FH: fh}
}

// describe writes down every bit of a sample. Spans are left to their buckets:
// chunkenc splits and joins them.
func describe(s chunk.Sample) string {
	bits := func(values ...float64) (out string) {
		for _, v := range values {
			out += fmt.Sprintf(" %x", math.Float64bits(v))
		}
		return out
	}
	at := fmt.Sprintf("%d/%d ", s.T, s.ST)
	switch {
	case s.H != nil:
		h := s.H
		if isStale(h.Sum) {
			return at + "stale histogram"
		}
		out := fmt.Sprintf("%shistogram schema %d count %d zero %d", at, h.Schema, h.Count, h.ZeroCount) + bits(h.Sum, h.ZeroThreshold) + bits(h.CustomValues...)
		return out + perBucket(h.PositiveSpans, absolute(h.PositiveBuckets)) + perBucket(h.NegativeSpans, absolute(h.NegativeBuckets))
	case s.FH != nil:
		h := s.FH
		if isStale(h.Sum) {
			return at + "stale float histogram"
		}
		out := fmt.Sprintf("%sfloat histogram schema %d", at, h.Schema) + bits(h.Count, h.ZeroCount, h.Sum, h.ZeroThreshold) + bits(h.CustomValues...)
		return out + perBucket(h.PositiveSpans, rawBits(h.PositiveBuckets)) + perBucket(h.NegativeSpans, rawBits(h.NegativeBuckets))
	}
	return at + bits(s.V)
}

func isStale(sum float64) bool { return math.Float64bits(sum) == 0x7ff0000000000002 }

func absolute(deltas []int64) []uint64 {
	out, total := make([]uint64, len(deltas)), int64(0)
	for i, d := range deltas {
		total += d
		out[i] = uint64(total)
	}
	return out
}

func rawBits(values []float64) []uint64 {
	out := make([]uint64, len(values))
	for i, v := range values {
		out[i] = math.Float64bits(v)
	}
	return out
}

// perBucket writes the buckets that are not 0 with their index.
func perBucket(spans []histogram.Span, counts []uint64) string {
	out, index, at := " |", int64(0), 0
	for _, s := range spans {
		index += int64(s.Offset)
		for range s.Length {
			if counts[at] != 0 {
				out += fmt.Sprintf(" %d:%x", index, counts[at])
			}
			index++
			at++
		}
	}
	return out
}

// TestSamplesAreExact encodes runs of floats and histograms of all kinds, and
// reads them back in both ways; and what was read back, encoded anew.
func TestSamplesAreExact(t *testing.T) {
	var enc chunk.Encoder
	var dec chunk.Decoder
	rapid.Check(t, func(rt *rapid.T) {
		var samples []chunk.Sample
		var want []string
		for i := range rapid.IntRange(1, 40).Draw(rt, "samples") {
			s := chunk.Sample{V: rapid.SampledFrom(oddities()).Draw(rt, "value")}
			if rapid.IntRange(0, 3).Draw(rt, "kind") > 0 {
				s = drawHistogram(rt)
				require.NoError(rt, chunk.CheckHistogram(&s))
			}
			s.T, s.ST = int64(10*i), rapid.SampledFrom([]int64{0, 0, 9, math.MinInt64}).Draw(rt, "start")
			samples, want = append(samples, s), append(want, describe(s))
		}
		for range 3 {
			chunks, err := enc.AppendChunks(nil, samples)
			require.NoError(rt, err)
			again, err := chunk.AppendChunks(nil, samples)
			require.NoError(rt, err)
			require.Equal(rt, again, chunks, "an encoder's past does not show")
			samples = nil
			var iterated []string
			var it chunkenc.Iterator
			for i := range chunks {
				c := &chunks[i]
				require.NoError(rt, c.Check())
				from := len(samples)
				samples, err = dec.AppendTo(samples, c)
				require.NoError(rt, err)
				alone, err := c.AppendTo(nil)
				require.NoError(rt, err)
				require.Len(rt, alone, c.Rows)
				for i, s := range alone {
					require.Equal(rt, describe(s), describe(samples[from+i]), "a decoder's past does not show")
				}
				it = c.Iterator(it)
				iterated = append(iterated, walk(it)...)
				require.NoError(rt, it.Err())
			}
			var got []string
			for _, s := range samples {
				got = append(got, describe(s))
			}
			require.Equal(rt, want, got)
			require.Equal(rt, want, iterated)
		}
	})
}

// walk describes the samples of an iterator.
func walk(it chunkenc.Iterator) (out []string) {
	for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
		s := chunk.Sample{ST: it.AtST()}
		switch vt {
		case chunkenc.ValFloat:
			s.T, s.V = it.At()
		case chunkenc.ValHistogram:
			s.T, s.H = it.AtHistogram(nil)
		case chunkenc.ValFloatHistogram:
			s.T, s.FH = it.AtFloatHistogram(nil)
		case chunkenc.ValNone:
		}
		out = append(out, describe(s))
	}
	return out
}

// growing returns histograms that grow, of which the fourth is said to follow a reset.
func growing() (samples []chunk.Sample) {
	for i := range int64(6) {
		h := &histogram.Histogram{
			Schema: 3, Count: uint64(10 + 2*i), ZeroCount: uint64(i), ZeroThreshold: 0x1p-128, Sum: float64(i),
			PositiveSpans: []histogram.Span{{Offset: -2, Length: 2}, {Offset: 3, Length: 1}}, PositiveBuckets: []int64{1 + i, 2, -1},
		}
		if i == 3 {
			h.CounterResetHint = histogram.CounterReset
		}
		samples = append(samples, chunk.Sample{T: i, H: h})
	}
	return samples
}

// TestAResetThatOnlyTheSenderKnowsStaysUnknown encodes histograms that grow, of
// which one is said to follow a reset. It must never be read as "no reset",
// also when it was encoded anew beside its predecessor.
func TestAResetThatOnlyTheSenderKnowsStaysUnknown(t *testing.T) {
	unknown, not := histogram.UnknownCounterReset, histogram.NotCounterReset
	for _, floats := range []bool{false, true} {
		samples := growing()
		if floats {
			for i := range samples {
				samples[i].FH, samples[i].H = samples[i].H.ToFloat(nil), nil
			}
		}
		for range 3 {
			chunks, err := chunk.AppendChunks(nil, samples)
			require.NoError(t, err)
			require.Len(t, chunks, 2)
			samples = nil
			var hints []histogram.CounterResetHint
			for i := range chunks {
				samples, err = chunks[i].AppendTo(samples)
				require.NoError(t, err)
				it := chunks[i].Iterator(nil)
				for it.Next() != chunkenc.ValNone {
					_, h := it.AtFloatHistogram(nil)
					hints = append(hints, h.CounterResetHint)
				}
			}
			require.Equal(t, []histogram.CounterResetHint{unknown, not, not, unknown, not, not}, hints)
		}
	}
}

// TestOpenIsReadWhileItGrows appends histograms to an open chunk and reads it
// after each.
func TestOpenIsReadWhileItGrows(t *testing.T) {
	var open chunk.Open
	require.True(t, open.Empty())
	require.Zero(t, open.Len())
	for i, s := range growing()[:3] {
		_, full, err := open.Append(s)
		require.NoError(t, err)
		require.False(t, full)
		require.Equal(t, s.T, open.MaxTime())
		c := open.Chunk()
		require.Equal(t, []int64{int64(i + 1), 0, s.T}, []int64{int64(c.Rows), c.MinTime, c.MaxTime})
		require.Len(t, c.Values, open.Len())
		got, err := c.AppendTo(nil)
		require.NoError(t, err)
		require.Len(t, got, i+1)
	}
}

// TestHistogramIteratorsSeek seeks each timestamp of a chunk and those between.
func TestHistogramIteratorsSeek(t *testing.T) {
	samples := growing()[:3]
	for i := range samples {
		samples[i].T = int64(10 * i)
	}
	chunks, err := chunk.AppendChunks(nil, samples)
	require.NoError(t, err)
	var it chunkenc.Iterator
	for want, times := range map[int64][]int64{0: {math.MinInt64, -1, 0}, 10: {1, 10}, 20: {11, 20}} {
		for _, at := range times {
			it = chunks[0].Iterator(it)
			require.Equal(t, chunkenc.ValHistogram, it.Seek(at))
			require.Equal(t, want, it.AtT())
			require.Equal(t, chunkenc.ValHistogram, it.Seek(math.MinInt64), "never back")
			require.Equal(t, want, it.AtT())
		}
	}
	it = chunks[0].Iterator(it)
	require.Equal(t, chunkenc.ValNone, it.Seek(21))
	require.Equal(t, chunkenc.ValNone, it.Seek(0))
	require.Equal(t, chunkenc.ValNone, it.Next())
	require.NoError(t, it.Err())
}

func TestHistogramsThatDoNotFitTheirSpansAreRefused(t *testing.T) {
	for name, h := range map[string]histogram.Histogram{
		"a bucket too few":    {PositiveSpans: []histogram.Span{{Length: 1}}},
		"a bucket too many":   {NegativeBuckets: []int64{1}},
		"spans that overlap":  {PositiveSpans: []histogram.Span{{Length: 1}, {Offset: -1, Length: 1}}, PositiveBuckets: []int64{1, 2}},
		"a reserved schema":   {Schema: 9},
		"too few bounds":      {Schema: histogram.CustomBucketsSchema, PositiveSpans: []histogram.Span{{Offset: 1, Length: 1}}, PositiveBuckets: []int64{1}},
		"before the bounds":   {Schema: histogram.CustomBucketsSchema, CustomValues: []float64{1, 2}, PositiveSpans: []histogram.Span{{Offset: -1, Length: 1}}, PositiveBuckets: []int64{1}},
		"an impossible total": {PositiveSpans: []histogram.Span{{Length: math.MaxUint32}, {Length: math.MaxUint32}}},
	} {
		require.Error(t, chunk.CheckHistogram(&chunk.Sample{H: &h}), name)
		fh := histogram.FloatHistogram{Schema: h.Schema, CustomValues: h.CustomValues, PositiveSpans: h.PositiveSpans, NegativeSpans: h.NegativeSpans}
		fh.PositiveBuckets, fh.NegativeBuckets = make([]float64, len(h.PositiveBuckets)), make([]float64, len(h.NegativeBuckets))
		require.Error(t, chunk.CheckHistogram(&chunk.Sample{FH: &fh}), name)
	}
}
