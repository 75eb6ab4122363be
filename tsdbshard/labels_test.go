package tsdbshard

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// randomLabels are canonical labels out of a few names and values, some of
// which begin like others.
func randomLabels(rng *rand.Rand) []byte {
	names := []string{"__name__", "a", "aa", "job", "pod", "zone"}
	var dst []byte
	for _, name := range names {
		if rng.IntN(3) > 0 {
			value := fmt.Sprint(rng.IntN(1 << rng.IntN(12)))
			if rng.IntN(50) == 0 {
				value = string(slices.Repeat([]byte("long"), 40+rng.IntN(3)))
			}
			dst = wire.AppendLabel(dst, name, value)
		}
	}
	if len(dst) == 0 {
		return wire.AppendLabel(dst, "b", fmt.Sprint(rng.IntN(9)))
	}
	return dst
}

// TestTheTableIsAMapOfLabels defines series of several tenants, again and
// again, and compares refs, labels, their order and catalogs with a map.
func TestTheTableIsAMapOfLabels(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	table := newTable()
	type key struct {
		tenant quorate.TenantID
		labels string
	}
	refs := map[key]uint32{}
	var all []key
	var old catalog
	for i := range 20_000 {
		k := key{tenant: quorate.TenantID(1 + rng.IntN(3)), labels: string(randomLabels(rng))}
		want, known := refs[k]
		if !known {
			want = uint32(len(all))
			refs[k], all = want, append(all, k)
		}
		ref, isNew, err := table.define(table.tenant(k.tenant), []byte(k.labels))
		require.NoError(t, err)
		require.Equal(t, want, ref)
		require.Equal(t, !known, isNew)
		if i == 5000 {
			old = table.catalog()
		}
	}
	c := table.catalog()
	byTenant := map[quorate.TenantID][]uint32{}
	for ref, k := range all {
		require.Equal(t, k.labels, string(c.appendCanonical(nil, uint32(ref))))
		require.Equal(t, labelsOf([]byte(k.labels)), c.labelSet(uint32(ref)))
		require.Equal(t, k.tenant, table.tenants[c.tenantOf(uint32(ref))].id)
		require.Equal(t, k.tenant, table.tenants[table.tenantOf(uint32(ref))].id)
		if uint32(ref) < old.next {
			require.Equal(t, k.labels, string(old.appendCanonical(nil, uint32(ref))))
		}
		byTenant[k.tenant] = append(byTenant[k.tenant], uint32(ref))
	}
	for id, refs := range byTenant {
		tn := table.byID[id]
		require.Equal(t, refs, walk(newListPostings(ptr(tn.series.snapshot(&table.slab, c.next)))))
		want := slices.Clone(refs)
		slices.SortFunc(want, func(a, b uint32) int { return labels.Compare(c.labelSet(a), c.labelSet(b)) })
		for _, n := range []int{0, 1, 2, 5, len(refs)} {
			got := slices.Clone(refs[:n])
			c.sort(got)
			require.Equal(t, slices.DeleteFunc(slices.Clone(want), func(ref uint32) bool { return !slices.Contains(refs[:n], ref) }), got)
		}
	}
}

func ptr[T any](v T) *T { return &v }

// TestLabelsHaveTheirSeries compares the list of each label with brute force.
func TestLabelsHaveTheirSeries(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	table := newTable()
	want := map[string][]uint32{}
	for table.next < 3000 {
		id := quorate.TenantID(1 + rng.IntN(2))
		canonical := randomLabels(rng)
		ref, isNew, err := table.define(table.tenant(id), canonical)
		require.NoError(t, err)
		if !isNew {
			continue
		}
		for it := wire.IterLabels(canonical); it.Next(); {
			key := fmt.Sprintf("%d %s=%s", id, it.Name(), it.Value())
			want[key] = append(want[key], ref)
		}
	}
	found := 0
	for _, tn := range table.tenants {
		for name, n := range tn.names {
			values := table.labels.names[n].values.snapshot(&table.slab, table.labels.next)
			for _, id := range values.appendAll(nil) {
				c := table.catalog()
				require.Equal(t, name, c.name(id))
				list := table.labels.snapshot(&table.labels.row(id).series, table.next)
				require.Equal(t, want[fmt.Sprintf("%d %s=%s", tn.id, name, c.value(id))], walk(newListPostings(&list)))
				again, ok := table.labels.lookup(table.seed, tn, name, c.value(id))
				require.True(t, ok)
				require.Equal(t, id, again)
				found++
			}
			_, ok := table.labels.lookup(table.seed, tn, name, "no such value")
			require.False(t, ok)
		}
	}
	require.Len(t, want, found)
}

// TestNewestSamplesKeepTheirStarts: start timestamps lie apart.
func TestNewestSamplesKeepTheirStarts(t *testing.T) {
	table := newTable()
	tn := table.tenant(4)
	table.tenant(5)
	for i := range 3000 {
		_, _, err := table.define(tn, canonical("i", fmt.Sprint(i)))
		require.NoError(t, err)
	}
	for _, s := range []newestSample{
		{time: 1, bits: 2, kind: kindFloat},
		{time: 3, bits: 4, start: -5, kind: kindFloat},
		{time: 6, bits: 7, start: 8, kind: kindHistogram},
		{time: 9, bits: 1 << 63, kind: kindHistogram},
		{},
	} {
		for _, ref := range []uint32{0, 1024, 2999} {
			table.setNewest(ref, &s)
			require.Equal(t, s, table.newestOf(ref))
			require.Equal(t, newestSample{}, table.newestOf(ref^1), "another series")
			require.Zero(t, table.tenantOf(ref))
		}
		for _, ref := range []uint32{0, 1024, 2999} {
			table.setNewest(ref, &newestSample{})
		}
	}
}
