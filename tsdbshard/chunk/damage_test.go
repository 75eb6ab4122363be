package chunk_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate/benchmarks/engine/mix"
	"github.com/quorate/quorate/tsdbshard/chunk"
)

// requireSound decodes a chunk whose bytes may be damaged: there is an error
// that says so, or as many samples as it claims, in order, by all ways alike.
func requireSound(t testing.TB, c chunk.Chunk, it chunkenc.Iterator) chunkenc.Iterator {
	t.Helper()
	samples, err := c.AppendTo(nil)
	it = c.Iterator(it)
	iterated := 0
	for it.Next() != chunkenc.ValNone {
		iterated++
	}
	if err != nil {
		require.ErrorIs(t, err, chunk.ErrDamaged)
		require.ErrorIs(t, it.Err(), chunk.ErrDamaged)
	} else {
		require.NoError(t, it.Err())
		require.Len(t, samples, c.Rows)
		require.Equal(t, c.Rows, iterated)
		require.Equal(t, []int64{c.MinTime, c.MaxTime}, []int64{samples[0].T, samples[c.Rows-1].T})
		for i := range samples[1:] {
			if samples[i].T >= samples[i+1].T {
				require.Less(t, samples[i].T, samples[i+1].T)
			}
		}
	}
	if c.Kind == chunk.Floats && len(c.Starts) == 0 {
		_, values, bulkErr := c.DecodeFloats(nil, nil)
		require.Equal(t, err == nil, bulkErr == nil)
		for i, v := range values {
			if a, b := math.Float64bits(samples[i].V), math.Float64bits(v); a != b {
				require.Equal(t, a, b)
			}
		}
	}
	return it
}

// mutations calls f with the bytes after each flip of a bit, cut short
// anywhere, and with a byte more.
func mutations(b []byte, f func([]byte)) {
	for i := range 8 * len(b) {
		m := append([]byte(nil), b...)
		m[i/8] ^= 1 << (i % 8)
		f(m)
	}
	for n := range len(b) {
		f(b[:n:n])
	}
	f(append(append([]byte(nil), b...), 0))
}

// TestDamageIsFoundOrHarmless damages each column of chunks of every shape.
func TestDamageIsFoundOrHarmless(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var it chunkenc.Iterator
	check := func(c chunk.Chunk) {
		for column := range 3 {
			original := [][]byte{c.Times, c.Starts, c.Values}[column]
			mutations(original, func(b []byte) {
				m := c
				switch column {
				case 0:
					m.Times = b
				case 1:
					m.Starts = b
				case 2:
					m.Values = b
				}
				it = requireSound(t, m, it)
			})
		}
		for _, rows := range []int{c.Rows - 1, c.Rows + 1, 0, chunk.MaxRows + 1} {
			m := c
			m.Rows = rows
			_, err := m.AppendTo(nil)
			require.ErrorIs(t, err, chunk.ErrDamaged)
		}
		for _, kind := range []chunk.Kind{0, chunk.Floats, chunk.Histograms, chunk.FloatHistograms, 4} {
			m := c
			m.Kind = kind
			if kind != c.Kind {
				it = requireSound(t, m, it)
				_, err := m.AppendTo(nil)
				require.ErrorIs(t, err, chunk.ErrDamaged)
			}
		}
	}
	var enc chunk.Encoder
	for _, s := range shapes {
		n := 2 + rng.IntN(30)
		check(clone(enc.Floats(someTimes(rng, n), someStarts(rng, n), s.make(rng, n))))
	}
	for _, k := range append(mix.Kinds(), mix.Adversaries()...) {
		r := runsOf(&k)
		check(clone(enc.Floats(r.times[:48], nil, r.series[1][:48])))
	}
	for _, floats := range []bool{false, true} {
		samples := growing()
		for i := range samples {
			if floats {
				samples[i].FH, samples[i].H = samples[i].H.ToFloat(nil), nil
			}
			samples[i].ST = int64(i / 2)
		}
		chunks, err := chunk.AppendChunks(nil, samples)
		require.NoError(t, err)
		for _, c := range chunks {
			check(c)
		}
	}
}

// TestLengthsAreCheckedBeforeTheyAreBelieved decodes a few bytes that claim to
// be much.
func TestLengthsAreCheckedBeforeTheyAreBelieved(t *testing.T) {
	var enc chunk.Encoder
	good := clone(enc.Floats([]int64{1, 2, 3}, nil, []float64{1, 2, 4}))
	for name, values := range map[string][]byte{
		"runs of rare values":        binary.AppendUvarint([]byte{0xf8}, math.MaxUint64),
		"a run longer than the rows": {0xf8, 1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f},
		"patches":                    append([]byte{1, 2, 0x80, 2}, binary.AppendUvarint(nil, math.MaxUint64)...),
		"packed patches":             append([]byte{1, 2, 0x80, 2}, binary.AppendUvarint(nil, 2001)...),
		"a width between":            {1, 2, 60, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"wide classes":               {1, 2, 65, 2, 3, 65, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"many classes":               {1, 2, 68, 2, 3, 4, 5, 6, 7, 8, 9, 10},
		"no numbers, none rare":      {0xf0},
		"deltas of no steps":         {2},
		"nothing":                    nil,
	} {
		c := good
		c.Values = values
		require.NoError(t, c.Check(), name)
		_, err := c.AppendTo(nil)
		require.ErrorIs(t, err, chunk.ErrDamaged, name)
	}
}
