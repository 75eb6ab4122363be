package metasvc

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// clientMetrics are the measurements of a Client.
type clientMetrics struct {
	mapVersion     prometheus.Gauge
	mapCurrent     prometheus.GaugeFunc
	mapWrites      *prometheus.CounterVec
	confirms       *prometheus.CounterVec
	tenantMisses   *prometheus.CounterVec
	tenantsCreated prometheus.Counter
	onDemand       *prometheus.CounterVec
	overlays       *prometheus.CounterVec
}

// controllerMetrics are the measurements of a Controller.
type controllerMetrics struct {
	leading prometheus.Gauge
	passes  *prometheus.CounterVec
	actions *prometheus.CounterVec
	// undecided counts the seals on which the live replicas do not agree.
	undecided prometheus.Gauge
}

// newClientMetrics registers the client's metrics.
func newClientMetrics(reg prometheus.Registerer, current func() bool, newest func() *Map) (*clientMetrics, error) {
	m := &clientMetrics{
		mapVersion: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "quorate_meta_map_version",
			Help: "Index of the metadata log up to which this node's map is exact.",
		}),
		mapCurrent: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "quorate_meta_map_current",
			Help: "1 while this node's map lease holds, else 0.",
		}, func() float64 {
			if current() {
				return 1
			}
			return 0
		}),
		mapWrites: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_meta_map_writes_total",
			Help: "Writes of the node's copy of the map to its data directory, by result.",
		}, []string{"result"}),
		confirms: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_meta_confirms_total",
			Help: "Confirmed reads asked of the metadata leader, by result.",
		}, []string{"result"}),
		tenantMisses: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_meta_tenant_cache_misses_total",
			Help: "Tenant lookups that the tenant cache could not answer, by whether there was such a tenant.",
		}, []string{"result"}),
		tenantsCreated: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "quorate_meta_tenants_created_total",
			Help: "Tenants that this node created because samples for them arrived.",
		}),
		onDemand: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_meta_on_demand_buckets_total",
			Help: "Buckets that this node asked for because samples for uncovered time arrived, by result.",
		}, []string{"result"}),
		overlays: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_meta_overlay_requests_total",
			Help: "Overlays that this node asked for because late samples for a sealed set arrived, by result.",
		}, []string{"result"}),
	}
	for _, vec := range []*prometheus.CounterVec{m.mapWrites, m.confirms, m.onDemand, m.overlays} {
		vec.WithLabelValues(resultOK)
		vec.WithLabelValues(resultError)
	}
	m.tenantMisses.WithLabelValues(resultFound)
	m.tenantMisses.WithLabelValues(resultMissing)
	return m, register(reg, append(mapGauges(newest),
		m.mapVersion, m.mapCurrent, m.mapWrites, m.confirms, m.tenantMisses, m.tenantsCreated, m.onDemand, m.overlays)...)
}

// newControllerMetrics registers the controller's metrics.
func newControllerMetrics(reg prometheus.Registerer) (*controllerMetrics, error) {
	m := &controllerMetrics{
		leading: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "quorate_meta_controller_leading",
			Help: "1 while this node leads the metadata group and its controller works, else 0.",
		}),
		passes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_meta_controller_passes_total",
			Help: "Runs of the controller's loops, by loop and result.",
		}, []string{"loop", "result"}),
		actions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_meta_controller_actions_total",
			Help: "Changes that the controller's loops committed, by loop.",
		}, []string{"loop"}),
		undecided: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "quorate_meta_controller_undecided_seals",
			Help: "ReplicaSets all of whose live replicas have reported their seal without a majority that agrees, on the node whose controller works.",
		}),
	}
	return m, register(reg, m.leading, m.passes, m.actions, m.undecided)
}

const (
	resultOK      = "ok"
	resultError   = "error"
	resultFound   = "found"
	resultMissing = "missing"
)

func resultOf(err error) string {
	if err != nil {
		return resultError
	}
	return resultOK
}

func register(reg prometheus.Registerer, collectors ...prometheus.Collector) error {
	if reg == nil {
		return nil
	}
	var errs []error
	for _, c := range collectors {
		errs = append(errs, reg.Register(c))
	}
	return errors.Join(errs...)
}
