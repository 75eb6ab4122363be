package block

import (
	"bytes"
	"math"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

func metaOf(number uint32, place int) chunks.Meta { return chunks.Meta{Ref: chunkRef(number, place)} }

func openModel(t *testing.T, m *model) *Canonical {
	t.Helper()
	data, _ := m.canonical(t)
	c, err := OpenCanonical(fileOf(data), testCanonical)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Release()) })
	return c
}

func TestExemplarsOfMatchingSeriesWithinTheRange(t *testing.T) {
	m := newModel(t, 21, modelConfig{tenants: 3, series: 200, samples: 10, start: testStart})
	c := openModel(t, m)
	from, to := int64(testStart+20_000), int64(testStart+70_000)
	sets := [][]*labels.Matcher{
		{labels.MustNewMatcher(labels.MatchEqual, "__name__", "up"), labels.MustNewMatcher(labels.MatchNotEqual, "job", "")},
		{labels.MustNewMatcher(labels.MatchEqual, "__name__", "z")},
	}
	for _, tenant := range m.tenants() {
		got, err := c.Tenant(tenant).ExemplarQuerier().Select(from, to, sets...)
		require.NoError(t, err)
		for _, s := range m.series {
			list := slices.DeleteFunc(slices.Clone(s.exemplars), func(e Exemplar) bool { return e.T < from || e.T > to })
			if s.tenant != tenant || len(list) == 0 || s.labels.Get("__name__") != "z" && (s.labels.Get("__name__") != "up" || s.labels.Get("job") == "") {
				continue
			}
			require.NotEmpty(t, got)
			require.Equal(t, s.labels.String(), got[0].SeriesLabels.String())
			require.Len(t, got[0].Exemplars, len(list))
			for i, e := range got[0].Exemplars {
				require.Equal(t, list[i].T, e.Ts)
				require.Equal(t, list[i].Bits, math.Float64bits(e.Value))
				require.Equal(t, list[i].Labels, canonicalOf(e.Labels))
			}
			got = got[1:]
		}
		require.Empty(t, got)
	}
}

func TestMetadataOfOneFamilyOrAll(t *testing.T) {
	m := newModel(t, 22, modelConfig{tenants: 30, series: 5, samples: 10, start: testStart})
	// Tenants with metadata alone, among them the greatest of all.
	for _, tenant := range []quorate.TenantID{500, math.MaxUint64} {
		for range 2000 { // several pages
			m.metadata = append(m.metadata, modelMetadata{tenant, wire.Metadata{Family: "f" + string(rune('a'+len(m.metadata)/26/26)) + string(rune('a'+len(m.metadata)/26%26)) + string(rune('a'+len(m.metadata)%26)), Type: "gauge", Help: labels.FromStrings("n", string(rune(len(m.metadata)*7919%50_000+200))).String()}})
		}
	}
	c := openModel(t, m)
	require.Greater(t, len(c.dir.sections[pageMetadata].pages), 2)
	all := make(map[quorate.TenantID]map[string]metadata.Metadata)
	for _, d := range m.metadata {
		if all[d.tenant] == nil {
			all[d.tenant] = make(map[string]metadata.Metadata)
		}
		all[d.tenant][d.Family] = metadata.Metadata{Type: d.MetricType(), Unit: d.Unit, Help: d.Help}
	}
	for tenant, want := range all {
		require.Contains(t, c.Tenants(), tenant)
		got, err := c.Tenant(tenant).Metadata("")
		require.NoError(t, err)
		require.Equal(t, want, got)
		for family := range want {
			got, err := c.Tenant(tenant).Metadata(family)
			require.NoError(t, err)
			require.Equal(t, map[string]metadata.Metadata{family: want[family]}, got)
			break
		}
		got, err = c.Tenant(tenant).Metadata("nobody")
		require.NoError(t, err)
		require.Empty(t, got)
	}
}

func TestStatsCountWhatTheSeriesHave(t *testing.T) {
	m := newModel(t, 23, modelConfig{tenants: 2, series: 300, samples: 5, start: testStart})
	c := openModel(t, m)
	for _, tenant := range m.tenants() {
		postings := index.NewMemPostings()
		n := uint64(0)
		for i, s := range m.series {
			if s.tenant == tenant {
				postings.Add(storage.SeriesRef(i+1), s.labels)
				n++
			}
		}
		want := postings.Stats("job", 1000, labels.SizeOfLabels)
		got, err := c.Tenant(tenant).Stats("job", 1000)
		require.NoError(t, err)
		require.Equal(t, n, got.NumSeries)
		require.Equal(t, n, c.Tenant(tenant).NumSeries())
		p := got.IndexPostingStats
		require.Equal(t, want.NumLabelPairs, p.NumLabelPairs)
		require.ElementsMatch(t, want.CardinalityMetricsStats, p.CardinalityMetricsStats)
		require.ElementsMatch(t, want.CardinalityLabelStats, p.CardinalityLabelStats)
		require.ElementsMatch(t, want.LabelValueStats, p.LabelValueStats)
		require.ElementsMatch(t, want.LabelValuePairsStats, p.LabelValuePairsStats)
		short, err := c.Tenant(tenant).Stats("job", 3)
		require.NoError(t, err)
		require.Equal(t, p.LabelValuePairsStats[:3], short.IndexPostingStats.LabelValuePairsStats)
	}
}

func TestAnUnknownTenantIsEmpty(t *testing.T) {
	m := newModel(t, 24, modelConfig{tenants: 2, series: 30, samples: 5, start: testStart})
	tenant := openModel(t, m).Tenant(9999)
	require.Zero(t, tenant.NumSeries())
	require.Zero(t, tenant.Meta().MaxTime)
	for name, matchers := range testMatchers(t) {
		names, _ := selectAll(t, tenant, math.MinInt64, math.MaxInt64, nil, matchers)
		require.Empty(t, names, name)
	}
	exemplars, err := tenant.ExemplarQuerier().Select(0, math.MaxInt64, nil)
	require.NoError(t, err)
	require.Empty(t, exemplars)
	stats, err := tenant.Stats("job", 10)
	require.NoError(t, err)
	require.Zero(t, stats.NumSeries)
}

func TestTenantsAreFoundAmongMany(t *testing.T) {
	var b bytes.Buffer
	w := NewCanonicalWriter(&b, testCanonical)
	for i := range quorate.TenantID(1000) {
		for k := range 1 + i%3 {
			require.NoError(t, w.Series(3*i+1, wire.AppendLabel(nil, "a", string(rune('a'+k))), nil, nil))
		}
	}
	_, err := w.Finish()
	require.NoError(t, err)
	_, err = Verify(t.Context(), fileOf(b.Bytes()), int64(b.Len()))
	require.NoError(t, err)
	c, err := OpenCanonical(fileOf(b.Bytes()), testCanonical)
	require.NoError(t, err)
	require.Len(t, c.Tenants(), 1000)
	for i := range quorate.TenantID(1000) {
		require.Equal(t, uint64(1+i%3), c.Tenant(3*i+1).NumSeries())
		require.Zero(t, c.Tenant(3*i).NumSeries())
	}
	names, _ := selectSeries(t, c.Tenant(4))
	require.Equal(t, []string{`{a="a"}`, `{a="b"}`}, names)
}

func selectSeries(t *testing.T, tenant *CanonicalTenant) (names []string, refs []storage.SeriesRef) {
	t.Helper()
	r, err := tenant.Index()
	require.NoError(t, err)
	p, err := r.Postings(t.Context(), "", "")
	require.NoError(t, err)
	var builder labels.ScratchBuilder
	for p.Next() {
		require.NoError(t, r.Series(p.At(), &builder, nil))
		names, refs = append(names, builder.Labels().String()), append(refs, p.At())
	}
	require.NoError(t, p.Err())
	return names, refs
}

func TestAnEmptyBlockIsABlock(t *testing.T) {
	var b bytes.Buffer
	_, err := NewCanonicalWriter(&b, testCanonical).Finish()
	require.NoError(t, err)
	s, err := Verify(t.Context(), fileOf(b.Bytes()), int64(b.Len()))
	require.NoError(t, err)
	require.Greater(t, s.MinTime, s.MaxTime)
	c, err := OpenCanonical(fileOf(b.Bytes()), testCanonical)
	require.NoError(t, err)
	require.Empty(t, c.Tenants())
	require.False(t, c.Series().Next())
	b.Reset()
	_, err = NewDeltaWriter(&b, testDelta).Finish()
	require.NoError(t, err)
	_, err = Verify(t.Context(), fileOf(b.Bytes()), int64(b.Len()))
	require.NoError(t, err)
	d, err := OpenDelta(fileOf(b.Bytes()), testDelta)
	require.NoError(t, err)
	require.False(t, d.Rows().Next())
	chunks, err := d.AppendChunks(nil, 3, 0, math.MaxInt64)
	require.NoError(t, err)
	require.Empty(t, chunks)
}
