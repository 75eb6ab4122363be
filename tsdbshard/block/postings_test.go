package block

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate/internal/wire"
)

// lists are postings of every shape that series in the order of labels give.
func lists(n int) map[string][]uint32 {
	chance := rand.New(rand.NewPCG(1, 1))
	all := map[string][]uint32{}
	for i := range uint32(n) {
		all["all"] = append(all["all"], i)
		if i%200 < 30 {
			all["runs"] = append(all["runs"], i)
		}
		if chance.IntN(3) > 0 {
			all["dense"] = append(all["dense"], i)
		}
		if chance.IntN(1000) == 0 {
			all["sparse"] = append(all["sparse"], i)
		}
	}
	all["first"], all["last"] = []uint32{0}, []uint32{uint32(n) - 1}
	all["ends"] = []uint32{0, uint32(n) - 1}
	return all
}

func TestPiecesOfPostingsAreExactAndSmall(t *testing.T) {
	least := map[string]int{"all": 10, "runs": 400, "dense": 2100, "sparse": 60, "first": 6, "last": 8, "ends": 12}
	for name, list := range lists(postingsPiece) {
		piece := appendPiece(nil, list)
		require.LessOrEqual(t, len(piece), least[name], name)
		got, err := appendPieceNumbers(nil, piece)
		require.NoError(t, err)
		require.Equal(t, list, got)
	}
}

// blockOfLists writes a tenant whose label "v" has, for each list, a value that
// its series have.
func blockOfLists(t *testing.T, n int) (*Canonical, map[string][]uint32) {
	t.Helper()
	var b bytes.Buffer
	w := NewCanonicalWriter(&b, testCanonical)
	all := lists(n)
	next := map[string][]uint32{}
	for name, list := range all {
		next[name] = list
	}
	for i := range uint32(n) {
		// The first label is the order; the others are the lists.
		labels := wire.AppendLabel(nil, []byte("a"), []byte{'0' + byte(i>>24), byte(i>>18)&63 + '0', byte(i>>12)&63 + '0', byte(i>>6)&63 + '0', byte(i)&63 + '0'})
		for _, name := range sortedKeys(all) {
			if len(next[name]) > 0 && next[name][0] == i {
				labels = wire.AppendLabel(labels, "v_"+name, "x")
				next[name] = next[name][1:]
			}
		}
		require.NoError(t, w.Series(3, labels, nil, nil))
	}
	_, err := w.Finish()
	require.NoError(t, err)
	_, err = Verify(t.Context(), fileOf(b.Bytes()), int64(b.Len()))
	require.NoError(t, err)
	c, err := OpenCanonical(fileOf(b.Bytes()), testCanonical)
	require.NoError(t, err)
	return c, all
}

func TestPostingsWalkAsPlainListsDo(t *testing.T) {
	const n = 3*postingsPiece + 77
	c, all := blockOfLists(t, n)
	r, err := c.Tenant(3).Index()
	require.NoError(t, err)
	chance := rand.New(rand.NewPCG(5, 5))
	for name, list := range all {
		refs := make([]storage.SeriesRef, len(list))
		for i, number := range list {
			refs[i] = refOf(number)
		}
		for make, fresh := range map[string]func() index.Postings{
			"lazy": func() index.Postings {
				p, err := r.Postings(t.Context(), "v_"+name, "x")
				require.NoError(t, err)
				return p
			},
			"union": func() index.Postings {
				return r.(*indexReader).t.union(t.Context(), pairNumbers(t, r.(*indexReader), "v_"+name, "x", "x"))
			},
		} {
			got, err := index.ExpandPostings(fresh())
			require.NoError(t, err)
			require.Equal(t, refs, got, "%s, %s", name, make)
			for range 20 {
				want, p := index.NewListPostings(slices.Clone(refs)), fresh()
				for at := storage.SeriesRef(0); ; {
					var a, b bool
					if chance.IntN(2) == 0 {
						a, b = want.Next(), p.Next()
					} else {
						at += storage.SeriesRef(chance.IntN(n / 8))
						a, b = want.Seek(at), p.Seek(at)
					}
					require.Equal(t, a, b, "%s, %s", name, make)
					if !a {
						break
					}
					require.Equal(t, want.At(), p.At(), "%s, %s", name, make)
					at = want.At()
				}
			}
		}
	}
	everything, err := r.Postings(t.Context(), "", "")
	require.NoError(t, err)
	require.True(t, everything.Seek(n))
	require.Equal(t, storage.SeriesRef(n), everything.At())
	require.False(t, everything.Next())
	require.False(t, everything.Seek(n+1))
}

// pairNumbers finds the pairs of values of a name, as often as they are given.
func pairNumbers(t *testing.T, r *indexReader, name string, values ...string) (numbers []uint32) {
	t.Helper()
	n := r.name(name)
	for _, v := range values {
		number, ok, err := r.t.f.findValue(r.t.cache, r.t.entry.firstPair+n.first, n.values, v)
		require.NoError(t, err)
		require.True(t, ok)
		numbers = append(numbers, number)
	}
	return numbers
}
