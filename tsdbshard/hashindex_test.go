package tsdbshard

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestHashIndexFindsWhatWasInserted compares with a map, for hashes that are
// spread, that collide, and that all lie at one end.
func TestHashIndexFindsWhatWasInserted(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for says, hash := range map[string]func() uint32{
		"spread":        func() uint32 { return rng.Uint32() },
		"few hashes":    func() uint32 { return rng.Uint32N(2000) * 2_000_003 },
		"the upper end": func() uint32 { return 1<<32 - 1 - rng.Uint32N(1<<29) },
		"the lower end": func() uint32 { return rng.Uint32N(1 << 29) },
	} {
		t.Run(says, func(t *testing.T) {
			var h hashIndex
			probe := h.probe(1)
			_, ok := probe.next()
			require.False(t, ok, "an empty index")
			want := map[uint32][]uint32{}
			for i := range uint32(20_000) {
				x := hash()
				h.insert(x, i)
				want[x] = append(want[x], i)
			}
			for x, numbers := range want {
				var got []uint32
				probe := h.probe(x)
				for n, ok := probe.next(); ok; n, ok = probe.next() {
					got = append(got, n)
				}
				slices.Sort(got)
				if !slices.Equal(numbers, got) {
					t.Fatalf("hash %x: %v, want %v", x, got, numbers)
				}
				probe = h.probe(x + 1)
				if _, ok := probe.next(); ok != (want[x+1] != nil) {
					t.Fatalf("hash %x: found is %v", x+1, ok)
				}
			}
			t.Logf("%.1f B a number", float64(h.bytes())/20_000)
		})
	}
}
