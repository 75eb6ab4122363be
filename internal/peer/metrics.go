package peer

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate"
)

// The outcomes of calls, besides the kinds of errors.
const (
	outcomeOK       = "ok"
	outcomeStarting = "starting"
)

func outcomeOf(err error) string {
	switch {
	case err == nil:
		return outcomeOK
	case errors.Is(err, ErrStarting):
		return outcomeStarting
	}
	return quorate.KindOf(withKind(err)).String()
}

// metrics are those of a Port. Nodes are no labels: they come and go, and the
// number of their pairs grows with its square.
type metrics struct {
	inbound  prometheus.Gauge
	outbound prometheus.GaugeFunc
	refused  prometheus.Counter

	calls       *prometheus.CounterVec
	handled     *prometheus.CounterVec
	callSeconds prometheus.Histogram
	callBytes   *prometheus.CounterVec

	lanes [laneCount]laneMetrics

	collectors []prometheus.Collector
}

// laneMetrics are those of one lane to all nodes.
type laneMetrics struct {
	sent, answered, received    prometheus.Counter
	frames                      prometheus.Counter
	sentBytes, receivedBytes    prometheus.Counter
	timeouts, overflows, breaks prometheus.Counter
	queued                      prometheus.Gauge
	roundTrip                   prometheus.Observer
}

// secondsBuckets reach from a round trip inside a machine to a failing one.
var secondsBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

func newMetrics(r prometheus.Registerer, connected func() float64) (*metrics, error) {
	m := &metrics{
		inbound: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "quorate_peer_inbound_connections",
			Help: "Connections that other nodes have made to this one.",
		}),
		outbound: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "quorate_peer_outbound_connections",
			Help: "Connections to other nodes that stand.",
		}, connected),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "quorate_peer_refused_total",
			Help: "Requests refused for their handshake: another cluster, another node, a certificate that does not fit, no membership.",
		}),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_peer_calls_total",
			Help: "Calls and streams of other nodes' methods, by outcome: ok, starting, or the kind of error.",
		}, []string{"method", "outcome"}),
		handled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_peer_handled_total",
			Help: "Calls and streams that other nodes have made here, by outcome: ok, starting, or the kind of error.",
		}, []string{"method", "outcome"}),
		callSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "quorate_peer_call_seconds", Buckets: secondsBuckets,
			Help: "Time from a unary call to its answer or error.",
		}),
		callBytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_peer_call_bytes_total",
			Help: "Bytes of calls to other nodes and of their answers and streams, by direction.",
		}, []string{"direction"}),
	}
	m.collectors = []prometheus.Collector{m.inbound, m.outbound, m.refused, m.calls, m.handled, m.callSeconds, m.callBytes}
	m.addLanes()
	if r == nil {
		return m, nil
	}
	for _, c := range m.collectors {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// addLanes makes the metrics of messages and resolves them once for each lane.
func (m *metrics) addLanes() {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"lane"}, labels...))
		m.collectors = append(m.collectors, c)
		return c
	}
	messages := counter("quorate_peer_messages_total", "Messages of Raft: sent to other nodes, answered by them, and received from them.", "event")
	bytes := counter("quorate_peer_message_bytes_total", "Bytes of messages and their answers with what frames them, by direction.", "direction")
	frames := counter("quorate_peer_frames_total", "Frames sent with messages, several of which may share one.")
	failures := counter("quorate_peer_failures_total", "Messages without an answer, by reason: timeout, overflow (the queue is full), unreachable (no connection, or it broke).", "reason")
	queued := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "quorate_peer_queued_bytes",
		Help: "Bytes of messages that wait to be sent, to all nodes.",
	}, []string{"lane"})
	roundTrip := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "quorate_peer_round_trip_seconds", Buckets: secondsBuckets,
		Help: "Time from a message's Send until its answer.",
	}, []string{"lane"})
	m.collectors = append(m.collectors, queued, roundTrip)
	for i := range m.lanes {
		name := laneName(uint8(i))
		m.lanes[i] = laneMetrics{
			sent:          messages.WithLabelValues(name, "sent"),
			answered:      messages.WithLabelValues(name, "answered"),
			received:      messages.WithLabelValues(name, "received"),
			frames:        frames.WithLabelValues(name),
			sentBytes:     bytes.WithLabelValues(name, "out"),
			receivedBytes: bytes.WithLabelValues(name, "in"),
			timeouts:      failures.WithLabelValues(name, "timeout"),
			overflows:     failures.WithLabelValues(name, "overflow"),
			breaks:        failures.WithLabelValues(name, "unreachable"),
			queued:        queued.WithLabelValues(name),
			roundTrip:     roundTrip.WithLabelValues(name),
		}
	}
}
