package tsdbshard

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// decodeFloats reads a float chunk back.
func decodeFloats(t testing.TB, data []byte) []sample {
	t.Helper()
	c := encodedChunk{enc: 4, data: data}
	samples, err := c.decode(nil)
	require.NoError(t, err)
	return samples
}

// FuzzFloatsAreBitExact encodes arbitrary values, NaN payloads included, with
// arbitrary timestamps and start timestamps.
func FuzzFloatsAreBitExact(f *testing.F) {
	seed := func(rows ...[3]uint64) {
		var b []byte
		for _, r := range rows {
			for _, x := range r {
				b = binary.LittleEndian.AppendUint64(b, x)
			}
		}
		f.Add(b, true)
		f.Add(b, false)
	}
	stale := value.StaleNaN
	seed([3]uint64{1000, 0, stale}, [3]uint64{15000, 0, stale}, [3]uint64{30000, 1, math.Float64bits(1)}, [3]uint64{45000, 0, stale})
	seed([3]uint64{0, 5, math.Float64bits(math.Copysign(0, -1))}, [3]uint64{1, 0, 0}, [3]uint64{math.MaxUint64 >> 1, 0, 0x7ff8000000000001})
	seed([3]uint64{1 << 63, 1 << 63, 1}, [3]uint64{0, math.MaxInt64, math.MaxUint64}, [3]uint64{math.MaxInt64, 7, 0xfff0000000000002})
	many := make([][3]uint64, 200)
	for i := range many {
		many[i] = [3]uint64{uint64(i) * 15000, uint64(i/130) * 7, math.Float64bits(float64(i * i))}
	}
	seed(many...)
	f.Fuzz(func(t *testing.T, rows []byte, withStarts bool) {
		var run []stagedFloat
		var starts []int64
		for len(rows) >= 24 {
			ts := int64(binary.LittleEndian.Uint64(rows))
			if len(run) > 0 && ts <= run[len(run)-1].t {
				rows = rows[8:]
				continue
			}
			run = append(run, stagedFloat{t: ts, v: math.Float64frombits(binary.LittleEndian.Uint64(rows[16:]))})
			starts = append(starts, int64(binary.LittleEndian.Uint64(rows[8:])))
			rows = rows[24:]
		}
		if len(run) == 0 {
			return
		}
		if !withStarts {
			starts = nil
		}
		var enc floatEncoder
		for range 2 { // the second use of an encoder must not see the first
			data, err := enc.encode(starts, run)
			require.NoError(t, err)
			got := decodeFloats(t, data)
			require.Len(t, got, len(run))
			for i, s := range got {
				require.Equal(t, run[i].t, s.t, "timestamp of row %d", i)
				require.Equal(t, math.Float64bits(run[i].v), math.Float64bits(s.v), "value of row %d", i)
				if withStarts {
					require.Equal(t, starts[i], s.st, "start timestamp of row %d", i)
				} else {
					require.Zero(t, s.st)
				}
			}
		}
	})
}

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
		return sample{h: h}
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
	return sample{fh: fh}
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
			s.st = rapid.SampledFrom([]int64{0, 0, 9}).Draw(rt, "start")
			if _, ok := want[ts]; !ok {
				want[ts] = describe(s)
			}
			res := r.write(&batchOf(1, 1).histogram(metricA(), ts, s.st, s.h, s.fh).Batch)[0]
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
		h := testHistograms()[0].h.Copy()
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
			ints = append(ints, s.h.CounterResetHint)
		}
		for _, s := range all[labelsOf(metricB()).String()] {
			floats = append(floats, s.fh.CounterResetHint)
		}
		require.Equal(t, []histogram.CounterResetHint{unknown, not, not, unknown, not, not}, ints, says)
		require.Equal(t, ints, floats, says)
		r.flush()
	}
}
