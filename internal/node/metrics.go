package node

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// replicaMetrics tell how the replicas of this node fare.
type replicaMetrics struct {
	opened, failures prometheus.Counter
	broken           prometheus.Gauge
}

func newReplicaMetrics() replicaMetrics {
	return replicaMetrics{
		opened: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "quorate_node_replicas_opened_total",
			Help: "Replicas opened on this node, reopened ones included.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "quorate_node_replica_failures_total",
			Help: "Times that a replica of this node stopped by itself or could not be opened.",
		}),
		broken: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "quorate_node_broken_replicas",
			Help: "Replicas placed on this node that are not open now, those of buckets to come included.",
		}),
	}
}

func (m replicaMetrics) register(reg prometheus.Registerer) error {
	return errors.Join(reg.Register(m.opened), reg.Register(m.failures), reg.Register(m.broken))
}
