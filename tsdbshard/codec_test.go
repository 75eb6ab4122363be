package tsdbshard

import (
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
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

// drawHistogram draws a histogram that the shard takes, valid or not.
func drawHistogram(t *rapid.T) sample {
	h := &histogram.Histogram{
		CounterResetHint: histogram.CounterResetHint(rapid.IntRange(0, 3).Draw(t, "hint")),
		Schema:           rapid.SampledFrom([]int32{-4, 0, 3, 3, 3, 8}).Draw(t, "schema"),
		ZeroThreshold:    rapid.SampledFrom([]float64{0, 0.5, 1e-128}).Draw(t, "threshold"),
		ZeroCount:        rapid.SampledFrom([]uint64{0, 1, 2, math.MaxUint64}).Draw(t, "zero count"),
		Count:            rapid.SampledFrom([]uint64{0, 5, 6, 7, math.MaxUint64 - 1}).Draw(t, "count"),
		Sum:              rapid.SampledFrom(testValues()).Draw(t, "sum"),
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
		return sample{H: h}
	}
	fh := &histogram.FloatHistogram{
		CounterResetHint: h.CounterResetHint, Schema: h.Schema, ZeroThreshold: h.ZeroThreshold, CustomValues: h.CustomValues,
		PositiveSpans: h.PositiveSpans, NegativeSpans: h.NegativeSpans, Sum: h.Sum,
		ZeroCount: float64(h.ZeroCount), Count: rapid.SampledFrom(testValues()).Draw(t, "float count"),
	}
	floats := func(n int) []float64 {
		out := make([]float64, n)
		for i := range out {
			out[i] = rapid.SampledFrom(testValues()[2:]).Draw(t, "bucket") // zeros may go, see describe
		}
		return out
	}
	fh.PositiveBuckets, fh.NegativeBuckets = floats(len(h.PositiveBuckets)), floats(len(h.NegativeBuckets))
	return sample{FH: fh}
}

// TestHistogramsAreExact stores sequences of random histograms, in order and
// late, and reads them from memory, from a file and merged.
func TestHistogramsAreExact(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		r := newRig(rt, dir, openRange(0, 1000))
		want := map[int64]string{}
		write := func(ts int64) {
			s := drawHistogram(rt)
			s.ST = rapid.SampledFrom([]int64{0, 0, 9}).Draw(rt, "start")
			if _, ok := want[ts]; !ok {
				want[ts] = describe(s)
			}
			res := r.write(&batchOf(1, 1).histogram(metricA(), ts, s.ST, s.H, s.FH).Batch)[0]
			require.Equal(rt, 1, res.Histograms)
		}
		for i := range rapid.IntRange(1, 30).Draw(rt, "samples") {
			write(int64(10 * (i + 1)))
			if rapid.IntRange(0, 4).Draw(rt, "late") == 0 {
				write(int64(5 * rapid.IntRange(0, 2*i+1).Draw(rt, "when")))
			}
		}
		require.Equal(rt, want, r.samplesOfA(), "from memory")
		if rapid.Bool().Draw(rt, "flush") {
			r.flush()
			require.Equal(rt, want, r.samplesOfA(), "from a file")
			write(7)
			require.Equal(rt, want, r.samplesOfA(), "merged")
		}
		require.NoError(rt, r.shard.Close())
	})
}

// TestAResetThatOnlyTheSenderKnowsStaysUnknown stores histograms that grow, of
// which one is said to follow a reset. It must never be read as "no reset",
// also when a flush encodes it anew beside its predecessor.
func TestAResetThatOnlyTheSenderKnowsStaysUnknown(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 1000))
	for i := range int64(6) {
		h := testHistograms()[0].H.Copy()
		h.Count += uint64(i)
		h.ZeroCount += uint64(i)
		if i == 3 {
			h.CounterResetHint = histogram.CounterReset
		}
		r.write(&batchOf(1, 1).histogram(metricA(), i, 0, h, nil).histogram(metricB(), i, 0, nil, h.ToFloat(nil)).Batch)
	}
	unknown, not := histogram.UnknownCounterReset, histogram.NotCounterReset
	for _, says := range []string{"from memory", "from a file"} {
		var ints, floats []histogram.CounterResetHint
		all := r.query(0, 1000)
		for _, s := range all[labelsOf(metricA()).String()] {
			ints = append(ints, s.H.CounterResetHint)
		}
		for _, s := range all[labelsOf(metricB()).String()] {
			floats = append(floats, s.FH.CounterResetHint)
		}
		require.Equal(t, []histogram.CounterResetHint{unknown, not, not, unknown, not, not}, ints, says)
		require.Equal(t, ints, floats, says)
		r.flush()
	}
}
