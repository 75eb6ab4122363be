package tsdbshard

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/value"
	"github.com/stretchr/testify/require"
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
		var times, starts []int64
		var values []float64
		for len(rows) >= 24 {
			ts := int64(binary.LittleEndian.Uint64(rows))
			if len(times) > 0 && ts <= times[len(times)-1] {
				rows = rows[8:]
				continue
			}
			times = append(times, ts)
			starts = append(starts, int64(binary.LittleEndian.Uint64(rows[8:])))
			values = append(values, math.Float64frombits(binary.LittleEndian.Uint64(rows[16:])))
			rows = rows[24:]
		}
		if len(times) == 0 {
			return
		}
		if !withStarts {
			starts = nil
		}
		var enc floatEncoder
		for range 2 { // the second use of an encoder must not see the first
			data, err := enc.encode(starts, times, values)
			require.NoError(t, err)
			got := decodeFloats(t, data)
			require.Len(t, got, len(times))
			for i, s := range got {
				require.Equal(t, times[i], s.t, "timestamp of row %d", i)
				require.Equal(t, math.Float64bits(values[i]), math.Float64bits(s.v), "value of row %d", i)
				if withStarts {
					require.Equal(t, starts[i], s.st, "start timestamp of row %d", i)
				} else {
					require.Zero(t, s.st)
				}
			}
		}
	})
}
