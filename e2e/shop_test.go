package e2e

import (
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// shop is a scrape target that exposes every kind of series: its numbers move
// at each scrape, series come and go, counters and histograms start anew.
type shop struct {
	address string

	mu       sync.Mutex
	scrapes  int
	random   *rand.Rand
	registry *prometheus.Registry
	orders   *prometheus.CounterVec
	seconds  *prometheus.HistogramVec // native and classic
	balance  prometheus.Histogram     // native, with negative observations
	carts    *prometheus.HistogramVec // classic
	queue    prometheus.Summary
	rooms    *prometheus.GaugeVec
	odd      *prometheus.GaugeVec // names and values in UTF-8
	extremes *prometheus.GaugeVec
	visits   *visits
}

func startShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{random: rand.New(rand.NewPCG(1, 2)), registry: prometheus.NewRegistry(), visits: &visits{}}
	s.orders = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "shop_orders_total", Help: "Orders taken.", Unit: ""}, []string{"country", "method"})
	s.seconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "shop_order_seconds", Help: "Time an order takes.",
		Buckets: []float64{.01, .1, .5, 1, 5}, NativeHistogramBucketFactor: 1.1, NativeHistogramMaxExemplars: 8,
	}, []string{"country"})
	s.balance = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "shop_balance_euros", Help: "Balances, some below zero.", NativeHistogramBucketFactor: 1.5, NativeHistogramZeroThreshold: 0.5,
	})
	s.carts = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "shop_cart_items", Help: "Items in a cart.\nWith a second line and a \"quote\".", Buckets: []float64{1, 2, 5, 10, 20},
	}, []string{"country"})
	s.queue = prometheus.NewSummary(prometheus.SummaryOpts{
		Name: "shop_queue_seconds", Help: "Time in the queue.", Objectives: map[float64]float64{.5: .05, .9: .01},
	})
	s.rooms = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "shop_temperature_celsius", Help: "Temperature of a room."}, []string{"room"})
	s.odd = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "shop.größe", Help: "Größe."}, []string{"maß.einheit"})
	s.extremes = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "shop_extreme", Help: "Values at the end of the scale."}, []string{"kind"})
	for _, c := range []prometheus.Collector{s.orders, s.seconds, s.balance, s.carts, s.queue, s.rooms, s.odd, s.extremes, s.visits} {
		if err := s.registry.Register(c); err != nil {
			t.Fatal(err)
		}
	}
	expose := promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.move()
		expose.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s.address = strings.TrimPrefix(server.URL, "http://")
	return s
}

// move changes every number a little.
func (s *shop) move() {
	s.scrapes++
	countries := []string{"at", "de", "fr", "it"}
	if s.scrapes%23 == 0 {
		s.seconds.Reset() // a counter reset of native and classic buckets
	}
	for range 20 {
		country := countries[s.random.IntN(len(countries))]
		trace := prometheus.Labels{"trace_id": strconv.FormatUint(s.random.Uint64(), 16)}
		took := s.random.ExpFloat64() / 3
		if adder, ok := s.orders.WithLabelValues(country, "card").(prometheus.ExemplarAdder); ok {
			adder.AddWithExemplar(1, trace)
		}
		s.orders.WithLabelValues(country, "cash").Add(float64(s.random.IntN(3)))
		if observer, ok := s.seconds.WithLabelValues(country).(prometheus.ExemplarObserver); ok {
			observer.ObserveWithExemplar(took, trace)
		}
		s.balance.Observe(s.random.NormFloat64() * 100)
		s.carts.WithLabelValues(country).Observe(float64(s.random.IntN(25)))
		s.queue.Observe(took / 2)
	}
	for i, room := range []string{"cellar", "hall", "roof"} {
		s.rooms.WithLabelValues(room).Set(math.Round(200*math.Sin(float64(s.scrapes+7*i)/10)) / 10)
	}
	s.odd.WithLabelValues("ö\"\\\n" + strconv.Itoa(s.scrapes%3)).Set(float64(s.scrapes))
	// No -0: Prometheus' own encoder of remote write turns it into 0.
	for kind, value := range map[string]float64{
		"nan": math.NaN(), "inf": math.Inf(1), "-inf": math.Inf(-1), "tiny": math.SmallestNonzeroFloat64,
		"huge": math.MaxFloat64, "third": 1.0 / 3, "big integer": 1<<53 + float64(s.scrapes),
	} {
		s.extremes.WithLabelValues(kind).Set(value)
	}
	s.visits.scrape = s.scrapes
}

// visits exposes series that come and go, and a counter that starts anew.
type visits struct{ scrape int }

// Describe tells nothing: which series there are changes (an unchecked collector).
func (*visits) Describe(chan<- *prometheus.Desc) {}

// Collect exposes a series for each visitor who is in the shop just now.
func (v *visits) Collect(out chan<- prometheus.Metric) {
	present := prometheus.NewDesc("shop_visitor_present", "A visitor who is in the shop.", []string{"visitor"}, nil)
	jobs := prometheus.NewDesc("shop_worker_jobs_total", "Jobs since the worker's last start.", []string{"worker"}, nil)
	for visitor := range 10 {
		if (v.scrape+visitor)%5 < 3 {
			out <- prometheus.MustNewConstMetric(present, prometheus.GaugeValue, 1, strconv.Itoa(visitor))
		}
	}
	for worker := range 3 {
		out <- prometheus.MustNewConstMetric(jobs, prometheus.CounterValue, float64(v.scrape%(7+worker)), strconv.Itoa(worker))
	}
}
