package chunk_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate/tsdbshard/chunk"
)

// oddities are values that no decimal stands for, and some at the edges of what
// one does.
func oddities() []float64 {
	return []float64{
		math.Float64frombits(value.StaleNaN), math.Float64frombits(value.NormalNaN), math.Float64frombits(0x7ff8000000000000),
		math.Float64frombits(0xfff8dead00000001), math.Float64frombits(0x7ff0000000000001), math.Float64frombits(math.MaxUint64),
		math.Inf(1), math.Inf(-1), math.Copysign(0, -1), 0, 1, -1,
		math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64, -math.SmallestNonzeroFloat64, 0x1p-1022, 0x1.fffffffffffffp-1023,
		1 << 51, 1<<51 + 1, 1<<53 - 1, 1 << 53, 1<<53 + 2, 1 << 62, 1 << 63, -(1 << 63), 1 << 64, math.MaxInt64,
		0.1, 0.2, 0.1 + 0.2, 1. / 3, 1e13, 1e-13, 1e-14, 1e15 / 10, 1e22, 1e23, 1e300, 1e-300, 123456789012345678,
		0.3 - 0.1, 4503599627370497.5, 2251799813685248.5, 225179981368524.25,
	}
}

// shapes are functions that make columns of values, whose names say how.
var shapes = []struct {
	name string
	make func(rng *rand.Rand, n int) []float64
}{
	{"any bits", each(func(rng *rand.Rand, _ int) float64 { return math.Float64frombits(rng.Uint64()) })},
	{"odd values", each(func(rng *rand.Rand, _ int) float64 { return oddities()[rng.IntN(len(oddities()))] })},
	{"one value", func(rng *rand.Rand, n int) []float64 {
		return repeat(oddities()[rng.IntN(len(oddities()))], n)
	}},
	{"decimals of one length", func(rng *rand.Rand, n int) []float64 {
		power := math.Pow10(rng.IntN(18))
		return each(func(rng *rand.Rand, _ int) float64 { return float64(rng.IntN(1_000_000)-500_000) / power })(rng, n)
	}},
	{"decimals of any length", each(func(rng *rand.Rand, _ int) float64 {
		return float64(rng.Int64N(1<<53)) / math.Pow10(rng.IntN(18))
	})},
	{"decimals by multiplication", each(func(rng *rand.Rand, _ int) float64 {
		return float64(rng.IntN(100_000)) * math.Pow10(-rng.IntN(18))
	})},
	{"large integers", each(func(rng *rand.Rand, _ int) float64 { return float64(rng.Int64() - rng.Int64()) })},
	{"large exponents", each(func(rng *rand.Rand, _ int) float64 { return rng.Float64() * math.Pow10(rng.IntN(600)-300) })},
	{"subnormals", each(func(rng *rand.Rand, _ int) float64 { return math.Float64frombits(rng.Uint64() & (1<<rng.IntN(53) - 1)) })},
	{"multiples", func(rng *rand.Rand, n int) []float64 {
		unit := float64(rng.IntN(100_000) + 1)
		return each(func(rng *rand.Rand, _ int) float64 { return unit * float64(rng.IntN(1000)) })(rng, n)
	}},
	{"counter with resets", func(rng *rand.Rand, n int) []float64 {
		total := float64(rng.Int64N(1 << rng.IntN(50)))
		return each(func(rng *rand.Rand, _ int) float64 {
			if total += float64(rng.IntN(100)); rng.IntN(50) == 0 {
				total = 0
			}
			return total
		})(rng, n)
	}},
	{"counter that rarely moves", func(rng *rand.Rand, n int) []float64 {
		total, every := 0.0, 1+rng.IntN(60)
		return each(func(rng *rand.Rand, _ int) float64 {
			if rng.IntN(every) == 0 {
				total += float64(1 + rng.IntN(3))
			}
			return total
		})(rng, n)
	}},
	{"counter with a heavy tail", func(rng *rand.Rand, n int) []float64 {
		total, sigma := 0.0, 4*rng.Float64()
		return each(func(rng *rand.Rand, _ int) float64 {
			total += math.Round(math.Exp(3 + sigma*rng.NormFloat64()))
			return total
		})(rng, n)
	}},
	{"progression", func(rng *rand.Rand, n int) []float64 {
		v, step, second := float64(rng.IntN(1000)), float64(rng.IntN(2000)-1000), float64(rng.IntN(3))
		return each(func(*rand.Rand, int) float64 {
			v += step
			step += second
			return v
		})(rng, n)
	}},
	{"decimals with odd values between", func(rng *rand.Rand, n int) []float64 {
		every := 2 + rng.IntN(60)
		return each(func(rng *rand.Rand, _ int) float64 {
			if rng.IntN(every) == 0 {
				return oddities()[rng.IntN(len(oddities()))]
			}
			return float64(rng.IntN(10_000)) / 100
		})(rng, n)
	}},
	{"runs of a few values", func(rng *rand.Rand, n int) []float64 {
		v := 0.0
		return each(func(rng *rand.Rand, _ int) float64 {
			if rng.IntN(10) == 0 {
				v = []float64{0, 1. / 3, 5, oddities()[rng.IntN(len(oddities()))], rng.Float64()}[rng.IntN(5)]
			}
			return v
		})(rng, n)
	}},
	{"full mantissas around a value", func(rng *rand.Rand, n int) []float64 {
		centre := rng.NormFloat64() * math.Pow10(rng.IntN(10)-5)
		return each(func(rng *rand.Rand, _ int) float64 { return centre + 0.01*rng.NormFloat64() })(rng, n)
	}},
	{"two magnitudes of digits", func(rng *rand.Rand, n int) []float64 {
		every := 1 + rng.IntN(30)
		return each(func(rng *rand.Rand, _ int) float64 {
			if rng.IntN(every) == 0 {
				return float64(rng.Int64N(1e12)) / 1e11
			}
			return float64(rng.IntN(100)) / 10
		})(rng, n)
	}},
}

func each(value func(rng *rand.Rand, i int) float64) func(*rand.Rand, int) []float64 {
	return func(rng *rand.Rand, n int) []float64 {
		values := make([]float64, n)
		for i := range values {
			values[i] = value(rng, i)
		}
		return values
	}
}

func repeat(v float64, n int) []float64 {
	values := make([]float64, n)
	for i := range values {
		values[i] = v
	}
	return values
}

// someTimes makes ascending timestamps of one of the ways they come.
func someTimes(rng *rand.Rand, n int) []int64 {
	times := make([]int64, n)
	at := rng.Int64N(2_000_000_000_000) - 10_000
	way := rng.IntN(4)
	for i := range times {
		times[i] = at
		switch way {
		case 0:
			at += 15_000
		case 1:
			at += 15_000 + rng.Int64N(3) - 1
		case 2:
			at += 1 + rng.Int64N(1<<rng.IntN(40))
		case 3:
			at += 1
		}
	}
	if way == 2 && n > 1 { // as far apart as can be
		times[0], times[n-1] = math.MinInt64, math.MaxInt64
	}
	return times
}

// someStarts makes start timestamps, nil for none.
func someStarts(rng *rand.Rand, n int) []int64 {
	way := rng.IntN(4)
	if way == 0 {
		return nil
	}
	starts := make([]int64, n)
	for i := range starts {
		switch way {
		case 1:
			starts[i] = 1_700_000_000_000
		case 2:
			starts[i] = rng.Int64N(3) * 7
		case 3:
			starts[i] = int64(rng.Uint64())
		}
	}
	return starts
}

// requireExact checks that a chunk gives back what was encoded, by each of the
// ways to read one. The iterator is used again.
func requireExact(t testing.TB, c chunk.Chunk, times, starts []int64, values []float64, it chunkenc.Iterator) chunkenc.Iterator {
	t.Helper()
	n := len(times)
	require.NoError(t, c.Check())
	require.Equal(t, []int64{int64(n), times[0], times[n-1]}, []int64{int64(c.Rows), c.MinTime, c.MaxTime})
	gotTimes, gotValues, err := c.DecodeFloats([]int64{5}, []float64{6})
	require.NoError(t, err)
	samples, err := c.AppendTo(nil)
	require.NoError(t, err)
	require.Equal(t, []int{n + 1, n + 1, n}, []int{len(gotTimes), len(gotValues), len(samples)})
	it = c.Iterator(it)
	for i, v := range values {
		want := row{t: times[i], bits: math.Float64bits(v)}
		bulk := row{gotTimes[i+1], 0, math.Float64bits(gotValues[i+1])}
		if bulk != want {
			require.Equal(t, want, bulk, "row %d in bulk", i)
		}
		if starts != nil {
			want.start = starts[i]
		}
		if appended := (row{samples[i].T, samples[i].ST, math.Float64bits(samples[i].V)}); appended != want {
			require.Equal(t, want, appended, "row %d as a sample", i)
		}
		vt := it.Next()
		ts, v := it.At()
		if iterated := (row{ts, it.AtST(), math.Float64bits(v)}); vt != chunkenc.ValFloat || iterated != want || it.AtT() != ts {
			require.Equal(t, want, iterated, "row %d iterated", i)
			require.FailNow(t, "it is no float, or has another timestamp", "row %d", i)
		}
	}
	require.Equal(t, chunkenc.ValNone, it.Next())
	require.NoError(t, it.Err())
	return it
}

// row is a float sample by its bits.
type row struct {
	t, start int64
	bits     uint64
}

// clone gives a chunk bytes of its own.
func clone(c chunk.Chunk) chunk.Chunk {
	keep := func(b []byte) []byte { return append([]byte(nil), b...) }
	c.Times, c.Starts, c.Values = keep(c.Times), keep(c.Starts), keep(c.Values)
	return c
}

// floatsOf reads values from the bytes of a fuzzer.
func floatsOf(data []byte) []float64 {
	var values []float64
	for ; len(data) >= 8 && len(values) < chunk.MaxRows; data = data[8:] {
		values = append(values, math.Float64frombits(binary.LittleEndian.Uint64(data)))
	}
	return values
}
