package tsdbshard

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate/internal/wire"
)

// Metrics are the counters and gauges of all shards and sealed sets of a
// process.
type Metrics struct {
	applyMetrics
	blockMetrics
	deleteMetrics
	sealedMetrics

	views prometheus.Gauge
}

// NewMetrics makes the metrics and registers them, unless reg is nil.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		applyMetrics: newApplyMetrics(), blockMetrics: newBlockMetrics(),
		deleteMetrics: newDeleteMetrics(), sealedMetrics: newSealedMetrics(),
		views: gauge("quorate_shard_views", "Read views that are open."),
	}
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.samples, m.duplicates, m.outOfOrder, m.refusedRows, m.refusedBatch, m.series, m.memcache,
		m.flushes, m.flushBytes, m.flushSeconds, m.files, m.fileBytes, m.mergedFiles, m.readErrors,
		m.deletes, m.tombstones, m.tombstoneBytes, m.sealedSets, m.sealedOpen, m.sealedBytes, m.views,
	} {
		errs = append(errs, reg.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("register shard metrics: %w", err)
	}
	return m, nil
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

func counters(name, help, label string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
}

// applyMetrics are about entries and what they leave in memory.
type applyMetrics struct {
	samples      *prometheus.CounterVec
	duplicates   prometheus.Counter
	outOfOrder   prometheus.Counter
	refusedRows  *prometheus.CounterVec
	refusedBatch *prometheus.CounterVec
	series       prometheus.Gauge
	memcache     prometheus.Gauge
}

func newApplyMetrics() applyMetrics {
	return applyMetrics{
		samples:      counters("quorate_shard_applied_rows_total", "Rows that Apply stored or found stored already, by section of the batch.", "section"),
		duplicates:   counter("quorate_shard_duplicate_samples_total", "Samples identical to the newest one of their series."),
		outOfOrder:   counter("quorate_shard_out_of_order_samples_total", "Samples older than the newest one of their series."),
		refusedRows:  counters("quorate_shard_refused_rows_total", "Rows that Apply refused, by reason.", "reason"),
		refusedBatch: counters("quorate_shard_refused_batches_total", "Batches of which Apply stored nothing, by reason.", "reason"),
		series:       gauge("quorate_shard_series", "Series defined in open shards."),
		memcache:     gauge("quorate_shard_memcache_bytes", "Memory of samples that are in no block yet, in bytes."),
	}
}

// blockMetrics are about the delta blocks of open shards.
type blockMetrics struct {
	flushes      *prometheus.CounterVec
	flushBytes   prometheus.Counter
	flushSeconds prometheus.Histogram
	files        prometheus.Gauge
	fileBytes    prometheus.Gauge
	mergedFiles  prometheus.Counter
	readErrors   prometheus.Counter
}

func newBlockMetrics() blockMetrics {
	return blockMetrics{
		flushes:    counters("quorate_shard_flushes_total", "Flushes by outcome: published, discarded, failed.", "outcome"),
		flushBytes: counter("quorate_shard_flush_written_bytes_total", "Bytes written to blocks."),
		flushSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:                        "quorate_shard_flush_duration_seconds",
			Help:                        "Time that writing and fsyncing one block took.",
			NativeHistogramBucketFactor: 1.1,
			Buckets:                     prometheus.ExponentialBuckets(0.001, 4, 9),
		}),
		files:       gauge("quorate_shard_files", "Blocks of open shards."),
		fileBytes:   gauge("quorate_shard_file_bytes", "Size of the blocks of open shards, in bytes."),
		mergedFiles: counter("quorate_shard_merged_files_total", "Blocks that a flush took along into the one that it wrote."),
		readErrors:  counter("quorate_shard_read_errors_total", "Reads of blocks of open shards that failed."),
	}
}

// deleteMetrics are about deletes from open shards.
type deleteMetrics struct {
	deletes        prometheus.Counter
	tombstones     prometheus.Gauge
	tombstoneBytes prometheus.Gauge
}

func newDeleteMetrics() deleteMetrics {
	return deleteMetrics{
		deletes:        counter("quorate_shard_deletes_total", "Deletes that selected series and were applied."),
		tombstones:     gauge("quorate_shard_tombstones", "Deletes of open shards that a later merge has yet to fold into blocks."),
		tombstoneBytes: gauge("quorate_shard_tombstone_bytes", "Memory of the tombstones of open shards, in bytes."),
	}
}

// sealedMetrics are about sealed sets.
type sealedMetrics struct {
	sealedSets  prometheus.Gauge
	sealedOpen  prometheus.Gauge
	sealedBytes prometheus.Gauge
}

func newSealedMetrics() sealedMetrics {
	return sealedMetrics{
		sealedSets:  gauge("quorate_shard_sealed_sets", "Sealed sets that can be read."),
		sealedOpen:  gauge("quorate_shard_sealed_open_files", "Sealed sets whose file is open because they were read lately."),
		sealedBytes: gauge("quorate_shard_sealed_bytes", "Size of the canonical blocks of sealed sets, in bytes."),
	}
}

// applyCounters counts over one entry, so that Apply touches the shared
// counters once an entry.
type applyCounters struct {
	floats, histograms, exemplars  int
	duplicates, outOfOrder         int
	conflicts, outOfBounds         int
	staleRoute, unknownRef, sealed int
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
		{m.refusedBatch, "sealed", c.sealed},
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
	case wire.BatchSealed:
		c.sealed++
	case wire.BatchApplied:
	}
	c.floats += r.Floats
	c.histograms += r.Histograms
	c.exemplars += r.Exemplars
	c.duplicates += r.Duplicates
	c.outOfBounds += r.OutOfBounds
	c.conflicts += r.Refused - r.OutOfBounds
}
