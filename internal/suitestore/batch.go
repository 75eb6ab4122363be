package suitestore

import (
	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// BatchOf makes one batch of a request, with every series defined again, for a
// shard whose bounds have version 1: what feeds a shard without a router. The
// error is that of the request's labels.
func BatchOf(tenant quorate.TenantID, req *wire.WriteRequest) (*wire.Batch, error) {
	b := &wire.Batch{Tenant: tenant, Version: 1, Timestamps: req.Timestamps, StartTimestamps: req.StartTimestamps, Values: req.Values, Metadata: req.Metadata}
	for i, end := range req.Series {
		canonical, err := req.Labels.CanonicalLabels(nil, i)
		if err != nil {
			return nil, err
		}
		b.Definitions = append(b.Definitions, canonical)
		for len(b.Series) < int(end.FloatEnd) {
			b.Series = append(b.Series, wire.ByDefinition(i))
		}
		for n := len(b.Histograms); n < int(end.HistogramEnd); n++ {
			h := req.Histograms[n]
			b.HistogramSeries = append(b.HistogramSeries, wire.ByDefinition(i))
			b.HistogramTimestamps = append(b.HistogramTimestamps, h.Timestamp)
			b.HistogramStartTimestamps = append(b.HistogramStartTimestamps, h.StartTimestamp)
			b.Histograms = append(b.Histograms, h.Encoded)
		}
		for n := len(b.ExemplarSeries); n < int(end.ExemplarEnd); n++ {
			e := req.Exemplars[n]
			b.ExemplarSeries = append(b.ExemplarSeries, wire.ByDefinition(i))
			b.ExemplarTimestamps = append(b.ExemplarTimestamps, e.Timestamp)
			b.ExemplarValues = append(b.ExemplarValues, e.Value)
			b.ExemplarLabels = append(b.ExemplarLabels, e.Labels)
		}
	}
	return b, nil
}
