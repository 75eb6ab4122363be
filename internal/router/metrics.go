package router

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/quorate/quorate/internal/wire"
)

// The values of the label result.
const (
	resultOK    = "ok"
	resultError = "error"
)

func resultOf(err error) string {
	if err != nil {
		return resultError
	}
	return resultOK
}

// Metrics are the router's own metrics.
type Metrics struct {
	stored      *prometheus.CounterVec
	duplicates  prometheus.Counter
	refused     *prometheus.CounterVec
	retries     prometheus.Counter
	unknownRefs prometheus.Counter
	cacheHits   prometheus.Counter
	cacheMisses prometheus.Counter
	setsQueried prometheus.Counter
	forwarded   *prometheus.CounterVec
	servedViews prometheus.Gauge
	warmed      prometheus.Counter
	notWarmed   prometheus.Counter
	deletions   *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	m := &Metrics{
		stored: f.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_router_stored_total",
			Help: "Rows stored for write requests, identical duplicates included, by type of row.",
		}, []string{"type"}),
		duplicates: f.NewCounter(prometheus.CounterOpts{
			Name: "quorate_router_duplicates_total",
			Help: "Rows among the stored ones that were there already, identical to the bit.",
		}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_router_refused_total",
			Help: "Rows refused that must not be sent again, by reason.",
		}, []string{"reason"}),
		retries: f.NewCounter(prometheus.CounterOpts{
			Name: "quorate_router_retries_total",
			Help: "Further attempts at placing and sending a write request's rows.",
		}),
		unknownRefs: f.NewCounter(prometheus.CounterOpts{
			Name: "quorate_router_unknown_refs_total",
			Help: "Series references that a ReplicaSet refused; their labels were sent again.",
		}),
		cacheHits: f.NewCounter(prometheus.CounterOpts{
			Name: "quorate_router_route_cache_hits_total",
			Help: "Series of write requests found in the route cache.",
		}),
		cacheMisses: f.NewCounter(prometheus.CounterOpts{
			Name: "quorate_router_route_cache_misses_total",
			Help: "Series of write requests whose labels had to be parsed.",
		}),
		setsQueried: f.NewCounter(prometheus.CounterOpts{
			Name: "quorate_router_sets_queried_total",
			Help: "ReplicaSets of which a query pinned a view.",
		}),
		forwarded: f.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_router_forwarded_total",
			Help: "Requests that were sent to another node, which may lead their set, by method and result; one that fails is sent to the next.",
		}, []string{"method", "result"}),
		servedViews: f.NewGauge(prometheus.GaugeOpts{
			Name: "quorate_router_served_views",
			Help: "Views of this node's replicas that queries of other nodes have pinned.",
		}),
		warmed: f.NewCounter(prometheus.CounterOpts{
			Name: "quorate_router_warmed_series_total",
			Help: "Series registered in the next bucket before it began.",
		}),
		notWarmed: f.NewCounter(prometheus.CounterOpts{
			Name: "quorate_router_warmup_dropped_series_total",
			Help: "Times that a series was not registered in the next bucket when its turn came, since too many waited or its set could not be reached.",
		}),
		deletions: f.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_router_deletions_total",
			Help: "Requests to delete series, by result; one that failed may have deleted some samples.",
		}, []string{"result"}),
	}
	for _, result := range []string{resultOK, resultError} {
		m.deletions.WithLabelValues(result)
	}
	for _, reason := range []string{"labels", "future", "retention", "no_bucket", "out_of_bounds", "conflict"} {
		m.refused.WithLabelValues(reason)
	}
	return m
}

func (m *Metrics) observe(r *wire.WriteResult) {
	m.stored.WithLabelValues("float").Add(float64(r.Floats))
	m.stored.WithLabelValues("histogram").Add(float64(r.Histograms))
	m.stored.WithLabelValues("exemplar").Add(float64(r.Exemplars))
	m.duplicates.Add(float64(r.Duplicates))
}
