package metalink

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate"
)

// metrics are those of a node's way to the metadata leader.
type metrics struct {
	asked   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	watches prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		asked: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_metalink_requests_total",
			Help: "Requests to the metadata leader on another node, by outcome: ok, or the kind of error.",
		}, []string{"method", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "quorate_metalink_request_seconds", Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
			Help: "Time until a metadata leader on another node was found and has answered.",
		}, []string{"method"}),
		watches: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "quorate_metalink_watches_total",
			Help: "Watches of the metadata of another node that were begun.",
		}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.asked, m.seconds, m.watches} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("metalink: register metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) observe(method string, start time.Time, err error) {
	outcome := "ok"
	if err != nil {
		outcome = quorate.KindOf(err).String()
	}
	m.asked.WithLabelValues(method, outcome).Inc()
	m.seconds.WithLabelValues(method).Observe(time.Since(start).Seconds())
}
