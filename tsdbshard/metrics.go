package tsdbshard

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate/internal/wire"
)

// Metrics are the counters and gauges of all shards of a process.
type Metrics struct {
	samples      *prometheus.CounterVec
	duplicates   prometheus.Counter
	outOfOrder   prometheus.Counter
	refusedRows  *prometheus.CounterVec
	refusedBatch *prometheus.CounterVec
	series       prometheus.Gauge
	memcache     prometheus.Gauge
	views        prometheus.Gauge
	flushes      *prometheus.CounterVec
	flushBytes   prometheus.Counter
	flushSeconds prometheus.Histogram
	fileBytes    prometheus.Gauge
}

// NewMetrics makes the metrics and registers them, unless reg is nil.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		samples: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_shard_applied_rows_total",
			Help: "Rows that Apply stored or found stored already, by section of the batch.",
		}, []string{"section"}),
		duplicates: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "quorate_shard_duplicate_samples_total",
			Help: "Samples identical to the newest one of their series.",
		}),
		outOfOrder: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "quorate_shard_out_of_order_samples_total",
			Help: "Samples older than the newest one of their series.",
		}),
		refusedRows: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_shard_refused_rows_total",
			Help: "Rows that Apply refused, by reason.",
		}, []string{"reason"}),
		refusedBatch: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_shard_refused_batches_total",
			Help: "Batches of which Apply stored nothing, by reason.",
		}, []string{"reason"}),
		series: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "quorate_shard_series",
			Help: "Series defined in open shards.",
		}),
		memcache: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "quorate_shard_memcache_bytes",
			Help: "Memory of samples that are in no flush file yet, in bytes.",
		}),
		views: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "quorate_shard_views",
			Help: "Read views that are open.",
		}),
		flushes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_shard_flushes_total",
			Help: "Flushes by outcome: published, discarded, failed.",
		}, []string{"outcome"}),
		flushBytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "quorate_shard_flush_written_bytes_total",
			Help: "Bytes written to flush files.",
		}),
		flushSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:                        "quorate_shard_flush_duration_seconds",
			Help:                        "Time that writing and fsyncing one flush file took.",
			NativeHistogramBucketFactor: 1.1,
			Buckets:                     prometheus.ExponentialBuckets(0.001, 4, 9),
		}),
		fileBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "quorate_shard_file_bytes",
			Help: "Size of the flush files of open shards, in bytes.",
		}),
	}
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.samples, m.duplicates, m.outOfOrder, m.refusedRows, m.refusedBatch, m.series, m.memcache,
		m.views, m.flushes, m.flushBytes, m.flushSeconds, m.fileBytes,
	} {
		errs = append(errs, reg.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("register shard metrics: %w", err)
	}
	return m, nil
}

// applyCounters counts over one entry, so that Apply touches the shared
// counters once an entry.
type applyCounters struct {
	floats, histograms, exemplars int
	duplicates, outOfOrder        int
	conflicts, outOfBounds        int
	staleRoute, unknownRef        int
}

func (c *applyCounters) addTo(m *Metrics) {
	for _, x := range []struct {
		counter *prometheus.CounterVec
		label   string
		n       int
	}{
		{m.samples, "floats", c.floats},
		{m.samples, "histograms", c.histograms},
		{m.samples, "exemplars", c.exemplars},
		{m.refusedRows, "conflict", c.conflicts},
		{m.refusedRows, "out_of_bounds", c.outOfBounds},
		{m.refusedBatch, "stale_route", c.staleRoute},
		{m.refusedBatch, "unknown_ref", c.unknownRef},
	} {
		if x.n > 0 {
			x.counter.WithLabelValues(x.label).Add(float64(x.n))
		}
	}
	m.duplicates.Add(float64(c.duplicates))
	m.outOfOrder.Add(float64(c.outOfOrder))
}

func (c *applyCounters) addResult(r *wire.BatchResult) {
	switch r.Status {
	case wire.BatchStaleRoute:
		c.staleRoute++
	case wire.BatchUnknownRef:
		c.unknownRef++
	case wire.BatchApplied, wire.BatchSealed:
	}
	c.floats += r.Floats
	c.histograms += r.Histograms
	c.exemplars += r.Exemplars
	c.duplicates += r.Duplicates
	c.outOfBounds += r.OutOfBounds
	c.conflicts += r.Refused - r.OutOfBounds
}
