package block

import (
	"context"
	"math"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate"
)

// headOf fills a real TSDB head with one tenant's part of a model.
func (m *model) headOf(t *testing.T, tenant quorate.TenantID) tsdb.BlockReader {
	t.Helper()
	opts := tsdb.DefaultHeadOptions()
	opts.ChunkDirRoot = t.TempDir()
	opts.ChunkRange = math.MaxInt64 / 4
	opts.StripeSize = 64
	opts.EnableSharding = true
	head, err := tsdb.NewHead(nil, nil, nil, nil, opts, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, head.Close()) })
	require.NoError(t, head.Init(math.MinInt64))
	app := head.Appender(context.Background())
	for _, s := range m.series {
		if s.tenant != tenant {
			continue
		}
		for i := range s.samples {
			p := &s.samples[i]
			switch {
			case p.H != nil:
				_, err = app.AppendHistogram(0, s.labels, p.T, p.H.Copy(), nil)
			case p.FH != nil:
				_, err = app.AppendHistogram(0, s.labels, p.T, nil, p.FH.Copy())
			default:
				_, err = app.Append(0, s.labels, p.T, p.V)
			}
			require.NoError(t, err)
		}
	}
	require.NoError(t, app.Commit())
	return tsdb.NewRangeHead(head, math.MinInt64, math.MaxInt64)
}

// testMatchers are lists of matchers of every kind and on every case of
// tsdb.PostingsForMatchers.
func testMatchers(t *testing.T) map[string][]*labels.Matcher {
	t.Helper()
	all := make(map[string][]*labels.Matcher)
	add := func(name string, parts ...string) {
		var list []*labels.Matcher
		for i := 0; i < len(parts); i += 3 {
			typ := map[string]labels.MatchType{"=": labels.MatchEqual, "!=": labels.MatchNotEqual, "=~": labels.MatchRegexp, "!~": labels.MatchNotRegexp}[parts[i+1]]
			m, err := labels.NewMatcher(typ, parts[i], parts[i+2])
			require.NoError(t, err)
			list = append(list, m)
		}
		all[name] = list
	}
	add("one metric", "__name__", "=", "up")
	add("a metric that is not there", "__name__", "=", "down")
	add("a name that is not there", "nobody", "=", "x")
	add("a name that is not there may be empty", "nobody", "=", "", "__name__", "=", "up")
	add("all metrics", "__name__", "=~", ".+")
	add("everything", "__name__", "=~", ".*")
	add("a set", "job", "=~", "a|b|日本|nothing")
	add("a prefix", "instance", "=~", "10\\.0\\.0\\.1.*")
	add("not a prefix", "__name__", "=", "up", "instance", "!~", "10\\.0\\.0\\.1.*")
	add("not equal", "job", "!=", "a")
	add("not equal and set", "job", "!=", "", "job", "!=", "a")
	add("empty", "job", "=", "")
	add("empty or a", "job", "=~", "a?")
	add("not empty", "job", "=~", ".+", "__name__", "=", "z")
	add("no job", "job", "!~", ".+")
	add("not the set", "job", "!~", "a|ab")
	add("never", "job", "!~", ".*")
	add("utf-8", "pfad λ", "=", "1")
	add("utf-8 metric", "__name__", "=", "naïve_λ", "job", "!=", "日本")
	add("many", "__name__", "=~", "up|z", "instance", "=~", ".*[02468]:9090", "job", "=~", "a.*")
	add("upper", "Upper", "=~", "sorts.*")
	add("contradiction", "job", "=", "a", "job", "=", "b")
	return all
}

func TestQueriesAnswerAsARealHeadDoes(t *testing.T) {
	for seed := range uint64(2) {
		m := newModel(t, 100+seed, modelConfig{tenants: 3, series: 300, samples: 300, start: testStart})
		data, _ := m.canonical(t)
		c, err := OpenCanonical(fileOf(data), testCanonical)
		require.NoError(t, err)
		for _, tenant := range m.tenants() {
			head, ours := m.headOf(t, tenant), c.Tenant(tenant)
			for _, r := range [][2]int64{{math.MinInt64, math.MaxInt64}, {testStart + 700_000, testStart + 1_200_000}, {testStart + 60_000, testStart + 60_000}, {0, 10}} {
				for name, matchers := range testMatchers(t) {
					requireSameSeries(t, name, head, ours, r[0], r[1], nil, matchers)
				}
			}
			hints := &storage.SelectHints{Start: testStart, End: testStart + 3_000_000, ShardCount: 3, ShardIndex: 1}
			requireSameSeries(t, "sharded", head, ours, testStart, testStart+3_000_000, hints, testMatchers(t)["everything"])
			requireSameLabels(t, m, tenant, head, ours)
		}
		require.NoError(t, c.Release())
	}
}

// flat is a sample as two readers must agree on it.
type flat struct {
	kind chunkenc.ValueType
	t    int64
	v, n uint64 // bits of the value, or of a histogram's sum and count
}

func flatten(t *testing.T, it chunkenc.Iterator) (list []flat) {
	t.Helper()
	for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
		f := flat{kind: vt, t: it.AtT()}
		switch vt {
		case chunkenc.ValFloat:
			_, v := it.At()
			f.v = math.Float64bits(v)
		default:
			_, h := it.AtFloatHistogram(nil)
			f.v, f.n = math.Float64bits(h.Sum), math.Float64bits(h.Count)
		}
		list = append(list, f)
	}
	require.NoError(t, it.Err())
	return list
}

func selectAll(t *testing.T, b tsdb.BlockReader, mint, maxt int64, hints *storage.SelectHints, matchers []*labels.Matcher) (names []string, samples [][]flat) {
	t.Helper()
	q, err := tsdb.NewBlockQuerier(b, mint, maxt)
	require.NoError(t, err)
	set := q.Select(t.Context(), true, hints, slices.Clone(matchers)...)
	var it chunkenc.Iterator
	for set.Next() {
		it = set.At().Iterator(it)
		if list := flatten(t, it); len(list) > 0 { // a chunk may overlap the range with none of its samples
			names, samples = append(names, set.At().Labels().String()), append(samples, list)
		}
	}
	require.NoError(t, set.Err())
	require.NoError(t, q.Close())
	return names, samples
}

func requireSameSeries(t *testing.T, name string, want, got tsdb.BlockReader, mint, maxt int64, hints *storage.SelectHints, matchers []*labels.Matcher) {
	t.Helper()
	wantNames, wantSamples := selectAll(t, want, mint, maxt, hints, matchers)
	gotNames, gotSamples := selectAll(t, got, mint, maxt, hints, matchers)
	require.Equal(t, wantNames, gotNames, "%s [%d, %d]", name, mint, maxt)
	require.Equal(t, wantSamples, gotSamples, "%s [%d, %d]", name, mint, maxt)
}

// requireSameLabels compares what two readers say of labels; the head has only
// series with samples, so the model is asked instead where that matters.
func requireSameLabels(t *testing.T, m *model, tenant quorate.TenantID, head, ours tsdb.BlockReader) {
	t.Helper()
	index, err := ours.Index()
	require.NoError(t, err)
	for name, matchers := range testMatchers(t) {
		var series []labels.Labels
		for _, s := range m.series {
			if s.tenant == tenant && !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(s.labels.Get(m.Name)) }) {
				series = append(series, s.labels)
			}
		}
		names := map[string]map[string]bool{}
		for _, lset := range series {
			lset.Range(func(l labels.Label) {
				if names[l.Name] == nil {
					names[l.Name] = map[string]bool{}
				}
				names[l.Name][l.Value] = true
			})
		}
		got, err := index.LabelNames(t.Context(), matchers...)
		require.NoError(t, err)
		require.Equal(t, sortedKeys(names), noNil(got), name)
		for _, label := range []string{"__name__", "instance", "job", "pfad λ", "long", "Upper", "nobody"} {
			got, err := index.SortedLabelValues(t.Context(), label, nil, matchers...)
			require.NoError(t, err)
			want := sortedKeys(names[label])
			require.Equal(t, want, noNil(got), "%s: values of %s", name, label)
			got, err = index.SortedLabelValues(t.Context(), label, &storage.LabelHints{Limit: 2}, matchers...)
			require.NoError(t, err)
			require.Equal(t, want[:min(2, len(want))], noNil(got), "%s: values of %s, limited", name, label)
		}
	}
	symbols := map[string]bool{}
	for _, s := range m.series {
		if s.tenant == tenant {
			s.labels.Range(func(l labels.Label) { symbols[l.Name], symbols[l.Value] = true, true })
		}
	}
	var got []string
	it := index.Symbols()
	for it.Next() {
		got = append(got, it.At())
	}
	require.NoError(t, it.Err())
	require.Equal(t, sortedKeys(symbols), got)
}

func noNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func sortedKeys[V any](m map[string]V) []string {
	keys := []string{}
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func TestAChunkQuerierGivesWhatTheSeriesHold(t *testing.T) {
	m := newModel(t, 9, modelConfig{tenants: 1, series: 300, samples: 600, start: testStart})
	data, _ := m.canonical(t)
	c, err := OpenCanonical(fileOf(data), testCanonical)
	require.NoError(t, err)
	tenant := m.tenants()[0]
	q, err := tsdb.NewBlockChunkQuerier(c.Tenant(tenant), math.MinInt64, math.MaxInt64)
	require.NoError(t, err)
	set := q.Select(t.Context(), true, nil, testMatchers(t)["everything"]...)
	_, want := selectAll(t, m.headOf(t, tenant), math.MinInt64, math.MaxInt64, nil, testMatchers(t)["everything"])
	var (
		got [][]flat
		it  chunks.Iterator
	)
	for set.Next() {
		var list []flat
		for it = set.At().Iterator(it); it.Next(); {
			list = append(list, flatten(t, it.At().Chunk.Iterator(nil))...)
		}
		require.NoError(t, it.Err())
		got = append(got, list)
	}
	require.NoError(t, set.Err())
	require.Equal(t, want, got)
	require.NoError(t, q.Close())
	require.NoError(t, c.Release())
}
