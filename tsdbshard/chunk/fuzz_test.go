package chunk_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate/tsdbshard/chunk"
)

// FuzzFloatColumn encodes arbitrary values, as they are and as decimals, and
// reads them back.
func FuzzFloatColumn(f *testing.F) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, s := range shapes {
		var b []byte
		for _, v := range s.make(rng, 50) {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
		}
		f.Add(b, uint8(0))
		f.Add(b[:8*9], uint8(2))
	}
	var enc chunk.Encoder
	f.Fuzz(func(t *testing.T, data []byte, digits uint8) {
		values := floatsOf(data)
		if digits > 0 {
			// Short numbers of these bytes instead: what a fuzzer would take
			// long to find the bits of.
			values = values[:0]
			for _, b := range data[:min(len(data), chunk.MaxRows)] {
				values = append(values, float64(int8(b))/math.Pow10(int(digits%20)))
			}
		}
		if len(values) == 0 {
			return
		}
		times := make([]int64, len(values))
		for i := range times {
			times[i] = int64(i) * 15_000
		}
		requireExact(t, enc.Floats(times, nil, values), times, nil, values, nil)
	})
}

// FuzzTimes encodes arbitrary timestamps, put in order, and start timestamps.
func FuzzTimes(f *testing.F) {
	rng := rand.New(rand.NewPCG(7, 8))
	for range 20 {
		var b []byte
		for _, t := range someTimes(rng, 30) {
			b = binary.LittleEndian.AppendUint64(b, uint64(t))
		}
		f.Add(b)
	}
	var enc chunk.Encoder
	f.Fuzz(func(t *testing.T, data []byte) {
		var starts []int64
		for ; len(data) >= 8 && len(starts) < chunk.MaxRows; data = data[8:] {
			starts = append(starts, int64(binary.LittleEndian.Uint64(data)))
		}
		times := slices.Clone(starts)
		slices.Sort(times)
		times = slices.Compact(times)
		starts = starts[:len(times)]
		if len(times) == 0 {
			return
		}
		values := make([]float64, len(times))
		requireExact(t, enc.Floats(times, starts, values), times, starts, values, nil)
	})
}

// FuzzDecode decodes arbitrary columns.
func FuzzDecode(f *testing.F) {
	rng := rand.New(rand.NewPCG(9, 10))
	var enc chunk.Encoder
	for _, s := range shapes {
		c := enc.Floats(someTimes(rng, 40), someStarts(rng, 40), s.make(rng, 40))
		f.Add(uint16(c.Rows), c.MinTime, c.MaxTime, slices.Clone(c.Times), slices.Clone(c.Starts), slices.Clone(c.Values))
	}
	f.Fuzz(func(t *testing.T, rows uint16, mint, maxt int64, times, starts, values []byte) {
		c := chunk.Chunk{Kind: chunk.Floats, Rows: int(rows), MinTime: mint, MaxTime: maxt, Times: times, Starts: starts, Values: values}
		requireSound(t, c, nil)
	})
}

// FuzzDecodeHistograms decodes arbitrary histogram chunks.
func FuzzDecodeHistograms(f *testing.F) {
	for _, floats := range []bool{false, true} {
		samples := growing()
		for i := range samples {
			if floats {
				samples[i].FH, samples[i].H = samples[i].H.ToFloat(nil), nil
			}
		}
		chunks, err := chunk.AppendChunks(nil, samples)
		require.NoError(f, err)
		for _, c := range chunks {
			f.Add(floats, c.MinTime, c.MaxTime, c.Values)
		}
	}
	f.Fuzz(func(t *testing.T, floats bool, mint, maxt int64, data []byte) {
		if len(data) < 3 {
			return
		}
		c := chunk.Chunk{Kind: chunk.Histograms, MinTime: mint, MaxTime: maxt, Values: data}
		if floats {
			c.Kind = chunk.FloatHistograms
		}
		c.Rows = int(binary.BigEndian.Uint16(data) & (1<<14 - 1))
		requireSound(t, c, nil)
	})
}
