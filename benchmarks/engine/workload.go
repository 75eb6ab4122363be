package engine

import (
	"fmt"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/quorate/quorate/benchmarks/engine/mix"
)

// seriesPerTarget are scraped together and share their timestamps.
const seriesPerTarget = 200

// workload makes the samples of all series, scrape by scrape.
type workload struct {
	cfg    Config
	series []*mix.Series
	times  [][]int64 // by target, then by round
	round  int       // of values, from 0; -1 before the first
	values []float64
}

func newWorkload(cfg Config) *workload {
	w := &workload{cfg: cfg, round: -1, series: make([]*mix.Series, cfg.Series), values: make([]float64, cfg.Series)}
	for i := range w.series {
		w.series[i] = mix.NewSeries(cfg.Seed, i)
	}
	for target := range (cfg.Series + seriesPerTarget - 1) / seriesPerTarget {
		// Targets are scraped one after the other within the interval.
		first := start + int64(target)*7919%interval
		w.times = append(w.times, mix.Timestamps(cfg.Seed, target, first, interval, cfg.BlockRounds))
	}
	return w
}

// next makes the values of the next scrape.
func (w *workload) next() {
	w.round++
	for i, s := range w.series {
		w.values[i] = s.Next()
	}
}

// time returns the timestamp of a series' present sample.
func (w *workload) time(series int) int64 { return w.times[series/seriesPerTarget][w.round] }

// last is where the samples end, in ms, all before it.
func (w *workload) last() int64 { return start + int64(w.cfg.BlockRounds+1)*interval }

// labelsOf returns ten labels of about 210 bytes, in order.
func labelsOf(series int) [10]labels.Label {
	target, metric := series/seriesPerTarget, series%seriesPerTarget
	return [...]labels.Label{
		{Name: "__name__", Value: fmt.Sprintf("http_server_requests_total_%03d", metric)},
		{Name: "cluster", Value: "eu-central-1-production"},
		{Name: "container", Value: fmt.Sprintf("server-%02d", target%20)},
		{Name: "endpoint", Value: "metrics"},
		{Name: "instance", Value: fmt.Sprintf("10.12.%d.%d:9090", target/250, target%250)},
		{Name: "job", Value: fmt.Sprintf("kubernetes-pods-%d", target%10)},
		{Name: "method", Value: [...]string{"GET", "POST", "PUT"}[metric%3]},
		{Name: "namespace", Value: fmt.Sprintf("team-%02d", target%50)},
		{Name: "pod", Value: fmt.Sprintf("server-%02d-7d9c6b5f4-%05d", target%20, target)},
		{Name: "status", Value: fmt.Sprint(200 + metric%5)},
	}
}
