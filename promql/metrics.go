package promql

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the query edge's own. Those of Prometheus' engine and remote-read
// handler (prometheus_engine_* and prometheus_remote_read_handler_queries)
// stand beside them on the same Registerer.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
	waiting  prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_query_requests_total",
			Help: "Requests to the query API, by endpoint and status code.",
		}, []string{"endpoint", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "quorate_query_request_duration_seconds",
			Help:    "Time from a request's arrival at the query API to the end of its answer, by endpoint.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120},
		}, []string{"endpoint"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "quorate_query_requests_in_flight",
			Help: "Requests to the query API that are being answered.",
		}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "quorate_query_waiting",
			Help: "PromQL queries that wait for their turn, since as many as may run at once are running.",
		}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.inFlight, m.waiting} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register a metric of the query API: %w", err)
		}
	}
	return m, nil
}

// instrument counts and times the requests of one endpoint.
func (m *metrics) instrument(endpoint string, next http.HandlerFunc) http.HandlerFunc {
	// A counter that is there from the start has a rate at its first request.
	// The histogram, 18 series each, waits for it: most endpoints have none.
	m.requests.WithLabelValues(endpoint, strconv.Itoa(http.StatusOK))
	return func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		m.inFlight.Inc()
		rec := &recorder{ResponseWriter: w, code: http.StatusOK}
		defer func() {
			m.inFlight.Dec()
			m.duration.WithLabelValues(endpoint).Observe(time.Since(start).Seconds())
			m.requests.WithLabelValues(endpoint, strconv.Itoa(rec.code)).Inc()
		}()
		next(rec, r)
	}
}

// recorder remembers an answer's status code.
type recorder struct {
	http.ResponseWriter
	code int
}

// WriteHeader sends and remembers the status code.
func (w *recorder) WriteHeader(code int) {
	w.code = code
	w.ResponseWriter.WriteHeader(code)
}

// Flush lets the streaming answers (remote read, search) through.
func (w *recorder) Flush() {
	if f, ok := w.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}
