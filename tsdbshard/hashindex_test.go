package tsdbshard

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestHashIndexFindsWhatWasInserted compares with a map, for hashes that are
// spread, that collide, and that all lie at one end.
func TestHashIndexFindsWhatWasInserted(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for says, hash := range map[string]func(i uint32) uint32{
		"spread":         func(uint32) uint32 { return rng.Uint32() },
		"few hashes":     func(uint32) uint32 { return rng.Uint32N(2000) * 2_000_003 },
		"the upper end":  func(uint32) uint32 { return 1<<32 - 1 - rng.Uint32N(40_000) },
		"the lower end":  func(uint32) uint32 { return rng.Uint32N(40_000) },
		"one after next": func(i uint32) uint32 { return i },
	} {
		t.Run(says, func(t *testing.T) {
			var h hashIndex
			probe := h.probe(1)
			_, ok := probe.next()
			require.False(t, ok, "an empty index")
			want := map[uint32][]uint32{}
			for i := range uint32(60_000) {
				x := hash(i)
				h.insert(x, i)
				want[x] = append(want[x], i)
			}
			for x, numbers := range want {
				var got []uint32
				probe := h.probe(x)
				for n, ok := probe.next(); ok; n, ok = probe.next() {
					got = append(got, n)
				}
				require.ElementsMatch(t, numbers, got, "hash %x", x)
				if _, has := want[x+1]; !has {
					probe := h.probe(x + 1)
					_, ok := probe.next()
					require.False(t, ok)
				}
			}
			t.Logf("%.1f B a number", float64(h.bytes())/60_000)
		})
	}
}
