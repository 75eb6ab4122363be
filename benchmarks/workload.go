package benchmarks

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

const (
	// seriesPerTarget series are scraped together and share a timestamp.
	seriesPerTarget = len(metrics) * seriesPerMetric
	// seriesPerMetric is how many series of one metric a target exposes: the
	// handlers and methods of a counter, or the buckets of a histogram.
	seriesPerMetric = 10
)

// Workload is a deterministic set of series and their samples. Series are
// numbered from 0 in the order in which targets expose them; rounds are scrapes
// of all targets. It is immutable and safe for concurrent use.
type Workload struct {
	cfg     WorkloadConfig
	targets []target
}

// WorkloadConfig shapes a Workload.
type WorkloadConfig struct {
	// Series is the number of series, at least 1.
	Series int
	// Rounds is the number of samples per series, at least 1.
	Rounds int
	// Interval is the time between two samples of a series; 0 means 15 s.
	Interval time.Duration
	// Start is the time of the first round; zero means as late as it can be
	// with all samples in the past and in one day of UTC.
	Start time.Time
	// Seed chooses the values, the jitter and the targets' offsets.
	Seed uint64
}

// NewWorkload makes a workload. Its error names the setting and the rule.
func NewWorkload(cfg WorkloadConfig) (*Workload, error) {
	if cfg.Interval == 0 {
		cfg.Interval = 15 * time.Second
	}
	switch {
	case cfg.Series < 1:
		return nil, fmt.Errorf("%d series: want at least 1", cfg.Series)
	case cfg.Rounds < 1:
		return nil, fmt.Errorf("%d rounds: want at least 1", cfg.Rounds)
	case cfg.Interval < 100*time.Millisecond:
		return nil, fmt.Errorf("interval %s: want at least 100ms", cfg.Interval)
	case cfg.Start.IsZero():
		return nil, errors.New("start time is not set; see RecentStart")
	}
	w := &Workload{cfg: cfg}
	for i := range (cfg.Series + seriesPerTarget - 1) / seriesPerTarget {
		w.targets = append(w.targets, newTarget(cfg, i))
	}
	return w, nil
}

// RecentStart returns the latest start, in whole seconds, for which all rounds
// lie before now and, if they fit, inside one day of UTC: a load that crosses
// midnight would measure the creation of a second day's series as steady state.
func RecentStart(now time.Time, rounds int, interval time.Duration) time.Time {
	span := time.Duration(rounds+1) * interval
	start := now.Add(-span).Truncate(time.Second)
	midnight := now.Truncate(24 * time.Hour)
	if start.Before(midnight) && span <= 24*time.Hour {
		start = midnight.Add(-span).Truncate(time.Second)
	}
	return start
}

// Samples returns the number of samples of the whole workload.
func (w *Workload) Samples() int { return w.cfg.Series * w.cfg.Rounds }

// End returns an instant at or after the last sample and before any sample of
// one more round, in whole seconds.
func (w *Workload) End() time.Time {
	return w.cfg.Start.Add(time.Duration(w.cfg.Rounds)*w.cfg.Interval + time.Second).Truncate(time.Second)
}

// LabelBytes returns the mean number of bytes of a series' label names and
// values.
func (w *Workload) LabelBytes() float64 {
	var labels []Label
	total := 0
	for i := range w.cfg.Series {
		labels = w.Labels(labels[:0], i)
		for _, l := range labels {
			total += len(l.Name) + len(l.Value)
		}
	}
	return float64(total) / float64(w.cfg.Series)
}

// Label is one label of a series.
type Label struct{ Name, Value string }

// Labels appends the labels of series i to dst, in the order of their names: 12
// of a plain series, 13 of a histogram's bucket.
func (w *Workload) Labels(dst []Label, i int) []Label {
	t := &w.targets[i/seriesPerTarget]
	m := &metrics[i%seriesPerTarget/seriesPerMetric]
	variant := i % seriesPerMetric
	handler, method := handlers[variant%len(handlers)], methods[variant/len(handlers)]
	if m.kind == bucketCounter {
		handler, method = handlers[0], methods[0]
	}
	dst = append(dst,
		Label{"__name__", m.name},
		Label{"cluster", t.cluster},
		Label{"container", t.job},
		Label{"handler", handler},
		Label{"instance", t.instance},
		Label{"job", t.job})
	if m.kind == bucketCounter {
		dst = append(dst, Label{"le", bucketBounds[variant]})
	}
	return append(dst,
		Label{"method", method},
		Label{"namespace", t.namespace},
		Label{"node", t.node},
		Label{"pod", t.pod},
		Label{"service", t.service},
		Label{"zone", t.zone})
}

// Timestamp returns the time of series i's sample in a round, in milliseconds
// since the epoch. The series of a target share it; one scrape in ten comes some
// milliseconds late.
func (w *Workload) Timestamp(i, round int) int64 {
	t := &w.targets[i/seriesPerTarget]
	ms := w.cfg.Start.UnixMilli() + int64(round)*w.cfg.Interval.Milliseconds() + t.offset
	if h := mix(t.seed, uint64(round)); h%10 == 0 {
		ms += 1 + int64(h>>32%5)
	}
	return ms
}

// Each calls f for the samples of the series from first up to last, round by
// round. It ends with f's first error.
func (w *Workload) Each(first, last int, f func(round, series int, t int64, v float64) error) error {
	values := newValues(w, first, last)
	for round := range w.cfg.Rounds {
		for i := first; i < last; i++ {
			if err := f(round, i, w.Timestamp(i, round), values.at(i)); err != nil {
				return err
			}
		}
		values.next()
	}
	return nil
}

// target is what the series of one scrape have in common.
type target struct {
	cluster, instance, job, namespace, node, pod, service, zone string

	offset int64 // of its scrapes within the interval, in milliseconds
	seed   uint64
}

func clusterName(seed uint64) string { return "loadgen-eu-west-1-" + strconv.FormatUint(seed, 10) }

func newTarget(cfg WorkloadConfig, i int) target {
	seed := mix(cfg.Seed, uint64(i))
	job := jobs[i%len(jobs)]
	a, b, c := i>>14&255, i>>7&127, i&127
	t := target{
		cluster:   clusterName(cfg.Seed),
		instance:  fmt.Sprintf("10.%d.%d.%d:8080", a, b+1, c+1),
		job:       job,
		namespace: job + "-production",
		node:      fmt.Sprintf("ip-10-%d-%d-%d", a, b+1, c/8),
		pod:       fmt.Sprintf("%s-%010x-%05x", job, mix(cfg.Seed, uint64(i%len(jobs)))&(1<<40-1), seed&(1<<20-1)),
		service:   job + "-http-metrics",
		zone:      zones[i%len(zones)],
		seed:      seed,
	}
	// Jitter must not carry a scrape into the next round.
	t.offset = int64(seed % uint64(cfg.Interval.Milliseconds()-10))
	return t
}
