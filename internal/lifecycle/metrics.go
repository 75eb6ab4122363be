package lifecycle

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics tell how the replicas of this node fare.
type metrics struct {
	opened, failures   prometheus.Counter
	broken, disputed   prometheus.Gauge
	sealSeconds        prometheus.Histogram
	swapped, dropped   prometheus.Counter
	differing, damaged prometheus.Counter
	// scrubbed counts files read again and compared with their hashes, scrubDone is
	// how much of a pass is done.
	mended, scrubbed, scrubbedBytes, scrubPasses prometheus.Counter
	scrubDone                                    prometheus.Gauge
	trashed                                      prometheus.Gauge
	// freeBytes and spaceLevel are of the file system, refused and reliefs what
	// this node did about them.
	freeBytes, spaceLevel prometheus.Gauge
	refused, reliefs      prometheus.Counter
	fetched, handovers    prometheus.Counter
	// fetchedBytes came from other nodes, sentBytes went to them.
	fetchedBytes, sentBytes prometheus.Counter
	fetchFailures           *prometheus.CounterVec
	removed                 *prometheus.CounterVec
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	return &metrics{
		opened: counter("quorate_node_replicas_opened_total",
			"Replicas opened on their logs on this node, reopened ones included."),
		failures: counter("quorate_node_replica_failures_total",
			"Times that a replica of this node stopped by itself, could not be opened, or could not be sealed, swapped or dropped."),
		broken: gauge("quorate_node_broken_replicas",
			"Replicas placed on this node that are not open now, those of buckets to come included."),
		disputed: gauge("quorate_node_disputed_sets",
			"Sets with a replica on this node whose replicas do not agree on the samples to seal. Nothing of them is deleted; somebody has to look."),
		sealSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "quorate_node_seal_seconds", Buckets: prometheus.ExponentialBuckets(.01, 4, 9),
			Help: "Time to seal a set's log, compute its checksum, build its canonical file where this replica led, and report that.",
		}),
		swapped: counter("quorate_node_sealed_replicas_total",
			"Replicas that gave their log and blocks up for their set's canonical file."),
		dropped: counter("quorate_node_dropped_replicas_total",
			"Replicas whose files went to the trash because their set was dropped, or they were removed from it."),
		differing: counter("quorate_node_differing_replicas_total",
			"Replicas whose own samples were not what their set was sealed as."),
		damaged: counter("quorate_node_damaged_files_total",
			"Times that a file of samples was found damaged."),
		mended: counter("quorate_node_mended_files_total",
			"Canonical files that were found damaged and replaced by another node's."),
		scrubbed: counter("quorate_node_scrubbed_files_total",
			"Files of samples that were read whole and found to be what their hash says."),
		scrubbedBytes: counter("quorate_node_scrubbed_bytes_total",
			"Bytes of files of samples read in the background, to be compared with their hashes."),
		scrubPasses: counter("quorate_node_scrub_passes_total",
			"Times that all files of samples were read in the background."),
		scrubDone: gauge("quorate_node_scrub_done_ratio",
			"How much of the replicas the background check that is under way, or was last, has read."),
		fetched: counter("quorate_node_fetched_files_total",
			"Files of replicas that were fetched from other nodes, whole."),
		fetchedBytes: counter("quorate_node_fetched_bytes_total",
			"Bytes of replicas' files that came from other nodes."),
		sentBytes: counter("quorate_node_sent_file_bytes_total",
			"Bytes of replicas' files that were sent to other nodes."),
		fetchFailures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_node_fetch_failures_total",
			Help: "Times that another node did not give a replica's file, by reason: unavailable, or damaged when its bytes were not those of the file.",
		}, []string{"reason"}),
		handovers: counter("quorate_node_leader_handovers_total",
			"Sets that this node led and handed over to their preferred leader."),
		freeBytes: gauge("quorate_node_free_bytes",
			"Bytes that the file system of the data directory has free."),
		spaceLevel: gauge("quorate_node_space_level",
			"What that means: 0 ample, 1 low (no new replicas, leads are handed on), 2 full (no writes), 3 exhausted (nothing is stored)."),
		refused: counter("quorate_node_space_refusals_total",
			"Batches that were not proposed because this node's disk, or those of a majority of the set's, are full."),
		reliefs: counter("quorate_node_space_handovers_total",
			"Sets that this node led and handed over for want of space."),
		trashed: gauge("quorate_node_trash_entries",
			"Entries in the trash when it was last looked at."),
		removed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_node_trash_removed_total",
			Help: "Entries removed from the trash, by reason: old, or space when that was short.",
		}, []string{"reason"}),
	}
}

func (m *metrics) register(reg prometheus.Registerer) error {
	if reg == nil {
		return nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.opened, m.failures, m.broken, m.disputed, m.sealSeconds, m.swapped, m.dropped,
		m.differing, m.damaged, m.trashed, m.removed,
		m.fetched, m.fetchedBytes, m.sentBytes, m.fetchFailures, m.handovers,
		m.mended, m.scrubbed, m.scrubbedBytes, m.scrubPasses, m.scrubDone,
		m.freeBytes, m.spaceLevel, m.refused, m.reliefs,
	} {
		errs = append(errs, reg.Register(c))
	}
	return errors.Join(errs...)
}
