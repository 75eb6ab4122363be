package tsdbshard

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/stretchr/testify/require"
)

// indexRig is a tenant with 300 series, half of them flushed, beside another
// tenant whose refs lie between them.
func indexRig(t *testing.T) (*TenantView, []labels.Labels) {
	t.Helper()
	r := newRig(t, t.TempDir(), openRange(0, 100))
	var all []labels.Labels
	for i := range 300 {
		pairs := []string{"__name__", fmt.Sprintf("m%d", i%3), "i", fmt.Sprint(i)}
		if i%2 == 0 {
			pairs = append(pairs, "parity", "even")
		}
		if i%50 == 0 {
			pairs = append(pairs, "z", string(slices.Repeat([]byte("long"), 100)))
		}
		all = append(all, labelsOf(canonical(pairs...)))
		r.write(&batchOf(1, 1).float(canonical(pairs...), 1, float64(i)).Batch, &batchOf(2, 1).float(canonical(pairs...), 2, 1).Batch)
		if i == 150 {
			r.flush()
		}
	}
	v := r.view()
	t.Cleanup(v.Close)
	slices.SortFunc(all, labels.Compare)
	return v.tenant(1), all
}

func testMatchers() [][]*labels.Matcher {
	m := labels.MustNewMatcher
	return [][]*labels.Matcher{
		{m(labels.MatchEqual, "__name__", "m1")},
		{m(labels.MatchEqual, "__name__", "nothing")},
		{m(labels.MatchEqual, "nothing", "x")},
		{m(labels.MatchEqual, "parity", "")},
		{m(labels.MatchNotEqual, "parity", "")},
		{m(labels.MatchNotEqual, "parity", "even")},
		{m(labels.MatchRegexp, "i", "1.*"), m(labels.MatchEqual, "__name__", "m0")},
		{m(labels.MatchRegexp, "i", "1|2|299|x")},
		{m(labels.MatchNotRegexp, "i", ".*[0-8]"), m(labels.MatchNotEqual, "__name__", "m2")},
		{m(labels.MatchRegexp, "parity", ".+"), m(labels.MatchRegexp, "z", ".+")},
		{m(labels.MatchRegexp, "parity", ".*"), m(labels.MatchNotRegexp, "z", ".+")},
		{m(labels.MatchNotRegexp, "i", ".*")},
		{m(labels.MatchRegexp, "parity", "even|"), m(labels.MatchRegexp, "i", ".*0")},
	}
}

func TestSelectionsAndLabelCallsEqualBruteForce(t *testing.T) {
	tv, all := indexRig(t)
	for _, ms := range testMatchers() {
		t.Run(fmt.Sprint(ms), func(t *testing.T) {
			var want []labels.Labels
			names, values := map[string]bool{}, map[string]bool{}
			for _, lset := range all {
				if !matchesAnySet(lset, [][]*labels.Matcher{ms}) {
					continue
				}
				want = append(want, lset)
				values[lset.Get("i")] = true
				lset.Range(func(l labels.Label) { names[l.Name] = true })
			}
			q, err := tsdb.NewBlockQuerier(tv, 0, 100)
			require.NoError(t, err)
			defer q.Close()
			for _, sorted := range []bool{true, false} {
				var got []labels.Labels
				set := q.Select(t.Context(), sorted, nil, slices.Clone(ms)...)
				for set.Next() {
					got = append(got, set.At().Labels())
					require.Len(t, readAll(t, set.At().Iterator(nil)), 1)
				}
				require.NoError(t, set.Err())
				if !sorted {
					slices.SortFunc(got, labels.Compare)
				}
				require.Equal(t, want, got)
			}
			gotNames, _, err := q.LabelNames(t.Context(), nil, slices.Clone(ms)...)
			require.NoError(t, err)
			require.ElementsMatch(t, keysOf(names), gotNames)
			gotValues, _, err := q.LabelValues(t.Context(), "i", nil, slices.Clone(ms)...)
			require.NoError(t, err)
			require.ElementsMatch(t, keysOf(values), gotValues)
			require.True(t, slices.IsSorted(gotValues))
			limited, _, err := q.LabelValues(t.Context(), "i", &storage.LabelHints{Limit: 3}, slices.Clone(ms)...)
			require.NoError(t, err)
			require.Equal(t, gotValues[:min(3, len(gotValues))], limited)
		})
	}
}

func keysOf(set map[string]bool) []string {
	keys := []string{}
	for k := range set {
		keys = append(keys, k)
	}
	return keys
}

func TestShardsPartitionASelection(t *testing.T) {
	tv, all := indexRig(t)
	q, err := tsdb.NewBlockQuerier(tv, 0, 100)
	require.NoError(t, err)
	defer q.Close()
	total := 0
	for shard := range uint64(4) {
		hints := &storage.SelectHints{Start: 0, End: 100, ShardIndex: shard, ShardCount: 4}
		set := q.Select(t.Context(), true, hints, matchAll())
		for set.Next() {
			require.Equal(t, shard, labels.StableHash(set.At().Labels())%4)
			total++
		}
		require.NoError(t, set.Err())
	}
	require.Equal(t, len(all), total)
}

func TestSymbolsAreAllNamesAndValuesInOrder(t *testing.T) {
	tv, all := indexRig(t)
	want := map[string]bool{}
	for _, lset := range all {
		lset.Range(func(l labels.Label) { want[l.Name], want[l.Value] = true, true })
	}
	var got []string
	for it := (&indexReader{tv: tv}).Symbols(); it.Next(); {
		got = append(got, it.At())
	}
	require.ElementsMatch(t, keysOf(want), got)
	require.True(t, slices.IsSorted(got))
}

func TestStatsCountSeries(t *testing.T) {
	tv, _ := indexRig(t)
	s := statsOf(t, tv, 2)
	require.EqualValues(t, 300, s.NumSeries)
	require.EqualValues(t, 1, s.MinTime)
	require.EqualValues(t, 1, s.MaxTime)
	require.Equal(t, []index.Stat{{Name: "m0", Count: 100}, {Name: "m1", Count: 100}}, s.IndexPostingStats.CardinalityMetricsStats)
	require.Equal(t, []index.Stat{{Name: "i", Count: 300}, {Name: "__name__", Count: 3}}, s.IndexPostingStats.CardinalityLabelStats)
	require.Equal(t, 305, s.IndexPostingStats.NumLabelPairs)
	require.Equal(t, tsdb.BlockStats{NumSeries: 300}, tv.Meta().Stats)
	require.Equal(t, [2]int64{1, 2}, [2]int64{tv.Meta().MinTime, tv.Meta().MaxTime})
}

// TestLabelOrderEqualsPrometheus compares the orders of canonical bytes and of
// a table's series with labels.Compare, also where a length prefix alone would
// order otherwise.
func TestLabelOrderEqualsPrometheus(t *testing.T) {
	long := string(slices.Repeat([]byte("v"), 300))
	sets := [][]byte{
		canonical("a", "b"), canonical("a", "bb"), canonical("a", "c"), canonical("aa", "b"), canonical("a", "b", "c", "d"),
		canonical("a", "b", "cc", "a"), canonical("a", long), canonical("a", long+"v"), canonical("a", "w"), canonical("b", "a"),
		canonical("a", "b", "c", "\xff"), canonical("a", "\x00"),
	}
	table := newTable()
	for i, lset := range sets {
		ref, isNew, err := table.define(table.tenant(1), lset)
		require.NoError(t, err)
		require.True(t, isNew)
		require.EqualValues(t, i, ref)
	}
	c := table.catalog()
	sign := func(x int) int { return max(-1, min(1, x)) }
	for i, a := range sets {
		for j, b := range sets {
			want := sign(labels.Compare(labelsOf(a), labelsOf(b)))
			require.Equal(t, want, sign(compareLabels(a, b)), "%q and %q", a, b)
			require.Equal(t, want, sign(c.compare(uint32(i), uint32(j))), "%q and %q", a, b)
		}
	}
}

func TestQueriesAreTrimmedToTheirRange(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 10_000))
	b := batchOf(1, 1)
	for i := range int64(500) {
		b.float(metricA(), 10*i, float64(i))
		if i%100 == 50 {
			b.float(metricA(), 10*i-35, -1) // late
		}
	}
	r.write(&b.Batch)
	all := func() map[string][]sample { return r.query(0, 10_000) }
	for range 2 {
		whole := all()[labelsOf(metricA()).String()]
		require.Len(t, whole, 505)
		for _, window := range [][2]int64{{0, 0}, {5, 9}, {100, 290}, {441, 460}, {3000, 20_000}, {-50, 15}} {
			var want []sample
			for _, s := range whole {
				if window[0] <= s.T && s.T <= window[1] {
					want = append(want, s)
				}
			}
			require.Equal(t, want, r.query(window[0], window[1])[labelsOf(metricA()).String()], "window %v", window)
		}
		r.flush()
	}
}

func (r *rig) query(mint, maxt int64) map[string][]sample {
	r.t.Helper()
	v := r.view()
	defer v.Close()
	return querySamples(r.t, v.Tenant(1), mint, maxt, matchAll())
}

func TestIteratorsSeekAcrossParts(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, math.MaxInt64))
	b := batchOf(1, 1)
	for i := range int64(100) {
		b.float(metricA(), 10*i, float64(i))
	}
	b.float(metricA(), 333, -1)
	r.write(&b.Batch)
	v := r.view()
	defer v.Close()
	q, err := tsdb.NewBlockQuerier(v.Tenant(1), 0, 10_000)
	require.NoError(t, err)
	defer q.Close()
	set := q.Select(t.Context(), true, nil, matchAll())
	require.True(t, set.Next())
	it := set.At().Iterator(nil)
	for _, step := range [][2]int64{{0, 0}, {5, 10}, {10, 10}, {150, 150}, {331, 333}, {332, 333}, {334, 340}, {985, 990}, {990, 990}} {
		require.NotZero(t, it.Seek(step[0]), "seek %d", step[0])
		require.Equal(t, step[1], it.AtT(), "seek %d", step[0])
	}
	require.Zero(t, it.Seek(991))
	require.Zero(t, it.Next())
	require.NoError(t, it.Err())
}
