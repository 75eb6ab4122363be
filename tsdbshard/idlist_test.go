package tsdbshard

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"

	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/stretchr/testify/require"
)

// listShapes are how the refs of a label come.
func listShapes(rng *rand.Rand) map[string]func() uint32 {
	id := map[string]uint32{}
	step := func(shape string, gap func() uint32) func() uint32 {
		return func() uint32 { id[shape] += gap(); return id[shape] - 1 }
	}
	return map[string]func() uint32{
		"one":       step("one", func() uint32 { return 1_000_000 }),
		"all":       step("all", func() uint32 { return 1 }),
		"every 7th": step("every 7th", func() uint32 { return 7 }),
		"scattered": step("scattered", func() uint32 { return 1 + rng.Uint32N(5000) }),
		"scrapes": step("scrapes", func() uint32 {
			if rng.IntN(30) == 0 {
				return 1 + rng.Uint32N(100_000)
			}
			return 1
		}),
	}
}

func walk(p index.Postings) []uint32 {
	refs := []uint32{}
	for p.Next() {
		refs = append(refs, uint32(p.At())-1)
	}
	return refs
}

// TestListsAreWhatWasAppended takes snapshots of growing lists, which must not
// change, and reads them whole, cut, and by seeking.
func TestListsAreWhatWasAppended(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for shape, next := range listShapes(rng) {
		for _, n := range []int{0, 1, 2, 3, 5, 100, 3000} {
			t.Run(fmt.Sprintf("%d of %s", n, shape), func(t *testing.T) {
				s := idLists{slab: new(slab)}
				var (
					head  listHead
					all   []uint32
					snaps []idList
					want  [][]uint32
				)
				snap := func(cut uint32) {
					k, _ := slices.BinarySearch(all, cut)
					snaps, want = append(snaps, s.snapshot(&head, cut)), append(want, append([]uint32{}, all[:k]...))
				}
				snap(1 << 31)
				for range n {
					all = append(all, next())
					s.append(&head, all[len(all)-1])
					if n < 10 || rng.IntN(n/10) == 0 {
						snap(1 << 31)
						snap(all[len(all)-1])
						snap(all[rng.IntN(len(all))] + rng.Uint32N(2))
						snap(0)
					}
				}
				for i := range snaps {
					require.Equal(t, want[i], walk(newListPostings(&snaps[i])))
					require.Equal(t, len(want[i]), snaps[i].count())
					require.Equal(t, want[i], snaps[i].appendAll([]uint32{}))
					checkSeeks(t, rng, want[i], func() index.Postings { return newListPostings(&snaps[i]) })
				}
			})
		}
	}
}

// checkSeeks mixes Next and Seek at random and compares with a sorted slice.
func checkSeeks(t *testing.T, rng *rand.Rand, want []uint32, open func() index.Postings) {
	t.Helper()
	for range 5 {
		p, at := open(), -1
		for range 50 {
			if rng.IntN(3) == 0 {
				at++
				require.Equal(t, at < len(want), p.Next())
			} else {
				// Near, far, or back.
				from := uint32(0)
				if at >= 0 && at < len(want) {
					from = want[at]
				}
				v := positionOf(from) + storage.SeriesRef(rng.Uint32N(1<<rng.UintN(20))) - min(storage.SeriesRef(rng.UintN(3)), positionOf(from))
				at = max(at, sort.Search(len(want), func(i int) bool { return positionOf(want[i]) >= v }))
				require.Equal(t, at < len(want), p.Seek(v), "seek %d", v)
			}
			if at >= len(want) {
				require.False(t, p.Next())
				require.False(t, p.Seek(positionOf(1<<31)))
				break
			}
			require.Equal(t, positionOf(want[at]), p.At())
		}
		require.NoError(t, p.Err())
	}
}

// TestUnionsOfFewAndOfMany compares unions with sorted slices, of so few refs
// that they are kept as such and of so many that they are kept as bits.
func TestUnionsOfFewAndOfMany(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	for _, lists := range []int{0, 1, 3, 40} {
		for _, size := range []int{1, 30, 4000} {
			t.Run(fmt.Sprintf("%d lists of %d", lists, size), func(t *testing.T) {
				const limit = 100_000
				var snaps []idList
				want := []uint32{}
				for range lists {
					s := idLists{slab: new(slab)}
					var head listHead
					for ref := rng.Uint32N(10); ref < limit; ref += 1 + rng.Uint32N(uint32(limit/size)) {
						s.append(&head, ref)
						want = append(want, ref)
					}
					snaps = append(snaps, s.snapshot(&head, limit))
				}
				slices.Sort(want)
				want = slices.Compact(want)
				merge := func() index.Postings { return mergeLists(t.Context(), snaps, limit) }
				require.Equal(t, want, walk(merge()))
				checkSeeks(t, rng, want, merge)
				u := union{limit: limit}
				for i := range snaps {
					u.add(&snaps[i])
				}
				require.Equal(t, want, walk(u.postings()))
			})
		}
	}
}
