package chunk

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// bitsOf writes numbers bit by bit, as docs/format/chunk.md says.
func bitsOf(numbers []uint64, widths func(i int) int) []byte {
	var out []byte
	at := 0
	for i, v := range numbers {
		for bit := range widths(i) {
			if at%8 == 0 {
				out = append(out, 0)
			}
			out[at/8] |= byte(v>>bit&1) << (at % 8)
			at++
		}
	}
	return out
}

func TestNumbersArePackedAsTheFormatSays(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for width := range fullWidth + 1 {
		if width != widthOf(width) {
			continue
		}
		for n := range 70 {
			numbers, want := make([]uint64, n), make([]int64, n)
			for i := range numbers {
				numbers[i] = rng.Uint64() >> (64 - width)
				want[i] = int64(numbers[i])
			}
			packed := appendPacked([]byte{1}, numbers, width)[1:]
			require.Len(t, packed, packedBytes(n, width))
			require.Equal(t, string(bitsOf(numbers, func(int) int { return width })), string(packed), "%d numbers of %d bits", n, width)
			got := make([]int64, n)
			unpack(got, packed, width)
			require.Equal(t, want, got, "%d numbers of %d bits", n, width)
		}
	}
}

func TestNumbersOfChangingWidthArePackedAsTheFormatSays(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		var widths [maxClasses]uint8
		for i := range widths {
			widths[i] = uint8(rng.IntN(65))
		}
		n := rng.IntN(40)
		classes, numbers, want := make([]int64, n), make([]uint64, n), make([]int64, n)
		var w bitWriter
		for i := range numbers {
			classes[i] = rng.Int64N(maxClasses)
			width := uint(widths[classes[i]])
			numbers[i] = rng.Uint64() >> (64 - width)
			want[i] = int64(numbers[i])
			w.put(numbers[i], width)
		}
		packed := w.finish()
		require.Equal(t, string(bitsOf(numbers, func(i int) int { return int(widths[classes[i]]) })), string(packed))
		unpackClasses(classes, packed, &widths)
		require.Equal(t, want, classes)
	}
}

func BenchmarkUnpack(b *testing.B) {
	dst := make([]int64, 240)
	for _, width := range []int{1, 3, 6, 7, 8, 11, 14, 15, 20, 40, 53, 64} {
		src := make([]byte, packedBytes(len(dst), width))
		b.Run(fmt.Sprint(width), func(b *testing.B) {
			for b.Loop() {
				unpack(dst, src, width)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(dst)), "ns/number")
		})
	}
}
