package raftset

import "github.com/prometheus/client_golang/prometheus"

// metrics are those of all groups of a host together: groups come and go with
// their buckets, and a label for each would never stop growing.
type metrics struct {
	groups      prometheus.Gauge
	broken      prometheus.Gauge
	quarantined prometheus.Counter

	proposals      *prometheus.CounterVec
	proposeSeconds prometheus.Histogram
	queuedBytes    prometheus.Gauge
	entries        prometheus.Counter
	entryBytes     prometheus.Counter
	entryCommands  prometheus.Histogram
	storeSeconds   prometheus.Histogram
	appliedEntries prometheus.Counter

	flushes      *prometheus.CounterVec
	flushSeconds prometheus.Histogram

	rounds    prometheus.Counter
	confirmed *prometheus.CounterVec
	refusals  prometheus.Counter
	installs  prometheus.Counter
	transfers *prometheus.CounterVec

	// The outcomes of proposals, resolved once.
	applied, rejected, overloaded, unknown prometheus.Counter
	// The ways in which reads are confirmed, likewise.
	byLease, byRound prometheus.Counter
}

// latencyBuckets reach from a proposal in memory to a disk about to be called hung.
var latencyBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		groups: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "quorate_raft_groups",
			Help: "Replicas that are open on this node, broken ones included.",
		}),
		broken: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "quorate_raft_broken_replicas",
			Help: "Replicas that failed, were stopped, and have not been closed since.",
		}),
		quarantined: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "quorate_raft_quarantined_replicas_total",
			Help: "Replicas whose directory was found damaged and renamed aside.",
		}),
		proposals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_raft_proposals_total",
			Help: "Proposed commands by outcome: applied, rejected (not the leader, or stopped), overloaded (queue full), unknown.",
		}, []string{"outcome"}),
		proposeSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "quorate_raft_propose_seconds", Buckets: latencyBuckets,
			Help: "Time from a command's proposal until it was applied.",
		}),
		queuedBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "quorate_raft_queued_bytes",
			Help: "Bytes of the commands that wait to be proposed.",
		}),
		entries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "quorate_raft_entries_total",
			Help: "Log entries proposed.",
		}),
		entryBytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "quorate_raft_entry_bytes_total",
			Help: "Bytes of the log entries proposed.",
		}),
		entryCommands: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "quorate_raft_entry_commands", Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256},
			Help: "Commands joined into one log entry.",
		}),
		storeSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "quorate_raft_log_store_seconds", Buckets: latencyBuckets,
			Help: "Time to append to a log, fsync included.",
		}),
		appliedEntries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "quorate_raft_applied_entries_total",
			Help: "Log entries applied, those replayed at a start included.",
		}),
		flushes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_raft_flushes_total",
			Help: "Flushes by outcome: published, empty (nothing new), failed.",
		}, []string{"outcome"}),
		flushSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "quorate_raft_flush_seconds", Buckets: prometheus.ExponentialBuckets(.001, 4, 9),
			Help: "Time to persist a frozen state and publish its manifest.",
		}),
	}
	m.addPeers()
	m.applied = m.proposals.WithLabelValues("applied")
	m.rejected = m.proposals.WithLabelValues("rejected")
	m.overloaded = m.proposals.WithLabelValues("overloaded")
	m.unknown = m.proposals.WithLabelValues("unknown")
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{
		m.groups, m.broken, m.quarantined, m.proposals, m.proposeSeconds, m.queuedBytes, m.entries, m.entryBytes,
		m.entryCommands, m.storeSeconds, m.appliedEntries, m.flushes, m.flushSeconds,
		m.rounds, m.confirmed, m.refusals, m.installs, m.transfers,
	} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// addPeers makes the metrics of groups with several members.
func (m *metrics) addPeers() {
	m.rounds = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "quorate_raft_quorum_rounds_total",
		Help: "Messages sent to other nodes to confirm reads, each for all sets and reads that waited.",
	})
	m.confirmed = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "quorate_raft_confirmed_reads_total",
		Help: "Confirmed reads of sets with several voters, by what confirmed them: lease (promises that a majority had given before), round (a majority was asked).",
	}, []string{"by"})
	m.byLease, m.byRound = m.confirmed.WithLabelValues("lease"), m.confirmed.WithLabelValues("round")
	m.refusals = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "quorate_raft_refused_messages_total",
		Help: "Messages that another member refused, or answered in a way that was not understood.",
	})
	m.installs = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "quorate_raft_installed_manifests_total",
		Help: "Manifests that this node's leaders installed on members that lagged behind the log.",
	})
	m.transfers = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "quorate_raft_leadership_transfers_total",
		Help: "Leaderships that were to be handed over, by outcome: done, failed.",
	}, []string{"outcome"})
}
