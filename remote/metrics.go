package remote

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate/internal/wire"
)

// metrics are the metrics of a Handler.
type metrics struct {
	requests *prometheus.CounterVec
	rows     [3]prometheus.Counter // floats, histograms, exemplars
	dup      prometheus.Counter
	refused  [refusalReasons]prometheus.Counter
	// refusedStored are rows that the Appender refused, but for labels.
	refusedStored prometheus.Counter
	wireBytes     prometheus.Counter
	decodedBytes  prometheus.Counter
	duration      *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer, bytes, requests *budget) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_remote_write_requests_total",
			Help: "Remote write requests answered, by protocol version and status code.",
		}, []string{"version", "code"}),
		dup: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "quorate_remote_write_duplicate_rows_total",
			Help: "Rows of remote write requests that were stored already, identical to the bit.",
		}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                           "quorate_remote_write_duration_seconds",
			Help:                           "Time from a remote write request's headers to its answer, by protocol version.",
			Buckets:                        prometheus.ExponentialBuckets(0.001, 2, 15),
			NativeHistogramBucketFactor:    1.1,
			NativeHistogramMaxBucketNumber: 100,
		}, []string{"version"}),
	}
	rows := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "quorate_remote_write_rows_total",
		Help: "Rows of remote write requests that are stored, by kind.",
	}, []string{"kind"})
	for i, kind := range [3]string{"float", "histogram", "exemplar"} {
		m.rows[i] = rows.WithLabelValues(kind)
	}
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "quorate_remote_write_refused_rows_total",
		Help: "Rows of remote write requests that were refused for good, by reason. A series without rows counts as one.",
	}, []string{"reason"})
	for reason := range refusalReasons {
		m.refused[reason] = refused.WithLabelValues(reason.String())
	}
	m.refusedStored = refused.WithLabelValues("not_storable")
	size := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "quorate_remote_write_received_bytes_total",
		Help: "Bytes of remote write bodies, as sent and as decompressed.",
	}, []string{"form"})
	m.wireBytes, m.decodedBytes = size.WithLabelValues("sent"), size.WithLabelValues("decompressed")
	inflightBytes := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "quorate_remote_write_inflight_bytes",
		Help: "Memory that remote write requests at work are charged for.",
	}, func() float64 { return float64(bytes.used.Load()) })
	inflightRequests := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "quorate_remote_write_inflight_requests",
		Help: "Remote write requests being parsed and stored.",
	}, func() float64 { return float64(requests.used.Load()) })
	if r == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.requests, rows, m.dup, refused, size, inflightBytes, inflightRequests, m.duration} {
		errs = append(errs, r.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("register metrics of remote write: %w", err)
	}
	return m, nil
}

// answered counts one request.
func (m *metrics) answered(v version, code int, took time.Duration) {
	m.requests.WithLabelValues(v.String(), strconv.Itoa(code)).Inc()
	m.duration.WithLabelValues(v.String()).Observe(took.Seconds())
}

// appended counts what became of a request's rows.
func (m *metrics) appended(result wire.WriteResult, r *refusals) {
	m.rows[0].Add(float64(result.Floats))
	m.rows[1].Add(float64(result.Histograms))
	m.rows[2].Add(float64(result.Exemplars))
	m.dup.Add(float64(result.Duplicates))
	for reason, rows := range r.rows {
		m.refused[reason].Add(float64(rows))
	}
	m.refusedStored.Add(float64(max(0, result.Refused-r.rows[refusedLabels])))
}
