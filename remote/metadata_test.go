package remote

import (
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/tenancy"
	"github.com/quorate/quorate/internal/wire"
)

func withMetadata(b *v2Builder, kind writev2.Metadata_MetricType, help string) func(*writev2.TimeSeries) {
	return func(ts *writev2.TimeSeries) {
		ts.Metadata = writev2.Metadata{Type: kind, HelpRef: b.symbols.Symbolize(help)}
	}
}

func TestMetadataIsStoredOnceUntilItIsForgotten(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	a := &recorder{}
	h := newTestHandler(t, Config{Now: func() time.Time { return now }, Tenancy: tenancy.Config{Enabled: true}}, a)
	send := func(help, tenant string) []wire.Metadata {
		t.Helper()
		b := newV2()
		b.add(withMetadata(b, writev2.Metadata_METRIC_TYPE_COUNTER, help), "__name__", "m_total", "job", "a")
		b.add(withMetadata(b, writev2.Metadata_METRIC_TYPE_COUNTER, help), "__name__", "m_total", "job", "b")
		a.metadata = nil
		require.Equal(t, http.StatusNoContent, post(h, typeV2, pack(t, b.request()), "X-Scope-OrgID", tenant).Code)
		return a.metadata
	}
	entry := func(help string) []wire.Metadata {
		return []wire.Metadata{{Family: "m_total", Type: "counter", Help: help}}
	}

	a.err = quorate.Errorf(quorate.Unavailable, "no leader")
	b := newV2()
	b.add(withMetadata(b, writev2.Metadata_METRIC_TYPE_COUNTER, "One."), "__name__", "m_total")
	require.Equal(t, http.StatusServiceUnavailable, post(h, typeV2, pack(t, b.request()), "X-Scope-OrgID", "a").Code)
	a.err = nil
	require.Equal(t, entry("One."), send("One.", "a"), "what was not stored is not known; two series share one entry")
	require.Empty(t, send("One.", "a"), "known")
	require.Equal(t, entry("One."), send("One.", "b"), "another tenant")
	require.Equal(t, entry("Two."), send("Two.", "a"), "another text")
	require.Empty(t, send("One.", "a"), "two texts that take turns are stored once each")
	now = now.Add(metadataPeriod)
	require.Empty(t, send("One.", "a"), "one period later it is still known")
	now = now.Add(metadataPeriod)
	require.Equal(t, entry("One."), send("One.", "a"), "two periods later it is forgotten")
}

func TestMetadataOfV1IsStoredOnce(t *testing.T) {
	a := &recorder{}
	h := newTestHandler(t, Config{}, a)
	req := &prompb.WriteRequest{Metadata: []prompb.MetricMetadata{
		{Type: prompb.MetricMetadata_HISTOGRAM, MetricFamilyName: "rt_seconds", Help: "Time.", Unit: "seconds"},
		{Type: prompb.MetricMetadata_STATESET, MetricFamilyName: "state", Help: "bad \xff byte"},
	}}
	for range 3 {
		require.Equal(t, http.StatusNoContent, post(h, typeV1, pack(t, req)).Code)
	}
	require.Equal(t, []wire.Metadata{
		{Family: "rt_seconds", Type: "histogram", Unit: "seconds", Help: "Time."}, {Family: "state", Type: "stateset", Help: "bad  byte"},
	}, a.metadata)
	require.Len(t, a.tenants, 1, "nothing new, nothing to append")
}

func TestMetadataCacheIsBounded(t *testing.T) {
	c := newMetadataCache(time.Hour, 10)
	q := testRequest(newHasher())
	now := time.Unix(1_000_000, 0)
	for i := range 1000 {
		q.reset(version1, nil, 100)
		q.metadata.items = append(q.metadata.items, metadataItem{family: []byte("m"), hash: uint64(i) << 20})
		c.selectNew(now, 1, q)
		require.Len(t, q.Metadata, 1)
		c.stored(q)
		require.LessOrEqual(t, len(c.current)+len(c.last), 20)
	}
}

func TestMetadataThatComesInPartsIsMerged(t *testing.T) {
	var l metadataList
	var whole, parts metadataRefs
	require.NoError(t, l.parse(&whole, []byte{8, 1, 24, 2, 32, 3}))
	require.Equal(t, metadataRefs{kind: 1, help: 2, unit: 3}, whole)
	require.NoError(t, l.parse(&parts, []byte{8, 1}))
	require.NoError(t, l.parse(&parts, []byte{24, 2, 32, 3}))
	require.Equal(t, whole, parts)
	var again metadataRefs
	require.NoError(t, l.parse(&again, []byte{24, 2, 32, 3}))
	require.Equal(t, metadataRefs{help: 2, unit: 3}, again, "a part is not taken for the whole")
}

func TestFamilyNames(t *testing.T) {
	for _, tc := range []struct {
		kind         model.MetricType
		name, family string
	}{
		{model.MetricTypeHistogram, "rt_bucket", "rt"},
		{model.MetricTypeHistogram, "rt_count", "rt"},
		{model.MetricTypeHistogram, "rt_sum", "rt"},
		{model.MetricTypeHistogram, "rt", "rt"},
		{model.MetricTypeHistogram, "_sum", "_sum"},
		{model.MetricTypeGaugeHistogram, "rt_gcount", "rt"},
		{model.MetricTypeSummary, "rt_sum", "rt"},
		{model.MetricTypeSummary, "rt_bucket", "rt_bucket"},
		{model.MetricTypeCounter, "rt_count", "rt_count"},
		{model.MetricTypeGauge, "queue_sum", "queue_sum"},
	} {
		require.Equal(t, tc.family, string(familyName([]byte(tc.name), tc.kind)), "%s %s", tc.kind, tc.name)
	}
}
