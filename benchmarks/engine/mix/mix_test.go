package mix_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate/benchmarks/engine/mix"
)

func TestAnyHundredSeriesHaveTheShares(t *testing.T) {
	for _, from := range []int{0, 17, 12_300} {
		counts := map[mix.Kind]int{}
		for i := range 100 {
			counts[mix.KindOf(from+i)]++
		}
		require.Equal(t, map[mix.Kind]int{
			mix.IntegerCounter: 30, mix.SecondsCounter: 10, mix.DecimalGauge: 15, mix.ByteGauge: 8, mix.Constant: 17, mix.BucketCounter: 17, mix.FullMantissa: 3,
		}, counts)
	}
}

func TestASeriesIsAFunctionOfItsSeedAndNumber(t *testing.T) {
	draw := func(seed uint64, series int) (bits []uint64) {
		s := mix.NewSeries(seed, series)
		for range 50 {
			bits = append(bits, math.Float64bits(s.Next()))
		}
		return bits
	}
	for i := range 100 {
		once, again := draw(1, i), draw(1, i)
		require.Equal(t, once, again)
		if mix.KindOf(i) != mix.Constant {
			require.NotEqual(t, draw(1, i), draw(2, i), mix.KindOf(i))
		}
	}
}

func TestKindsAreWhatTheyAreCalled(t *testing.T) {
	for _, k := range mix.Kinds() {
		s := mix.NewSeriesOf(k, 1, 1)
		require.Equal(t, k, s.Kind())
		before, moves := s.Next(), 0
		for range 1000 {
			v := s.Next()
			if v != before {
				moves++
			}
			switch k {
			case mix.IntegerCounter, mix.BucketCounter:
				require.GreaterOrEqual(t, v, before)
				require.InDelta(t, math.Trunc(v), v, 0)
			case mix.SecondsCounter:
				require.GreaterOrEqual(t, v, before)
				require.InDelta(t, math.Round(v*1000)/1000, v, 0)
			case mix.DecimalGauge:
				require.InDelta(t, math.Round(v*1000)/1000, v, 0)
			case mix.ByteGauge:
				require.Zero(t, math.Mod(v, 4096))
			default:
			}
			before = v
		}
		switch k {
		case mix.Constant:
			require.Zero(t, moves)
		case mix.BucketCounter:
			require.InDelta(t, 50, moves, 30)
		default:
			require.Greater(t, moves, 500, k)
		}
	}
}

func TestTimestampsAscendAndSomeAreLate(t *testing.T) {
	times, late := mix.Timestamps(1, 3, 1000, 15_000, 1000), 0
	for i, at := range times {
		over := at - 1000 - 15_000*int64(i)
		require.GreaterOrEqual(t, over, int64(0))
		require.Less(t, over, int64(6))
		if over > 0 {
			late++
		}
	}
	require.InDelta(t, 100, late, 40)
	require.NotEqual(t, times, mix.Timestamps(1, 4, 1000, 15_000, 1000))
}
