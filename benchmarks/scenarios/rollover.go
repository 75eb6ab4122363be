package main

import (
	"context"
	"errors"
	"time"

	"github.com/quorate/quorate/benchmarks"
)

// rollover writes at the pace of real scrapes across the border of two buckets.
type rollover struct {
	Series   int           `default:"100000" help:"Series."`
	Interval time.Duration `default:"5s" help:"Time between two samples of a series."`
	Span     time.Duration `default:"10m" help:"The length of a bucket. The run lasts about half of it."`
}

func (r *rollover) run(ctx context.Context, l *lab) error {
	s, _, err := l.startQuorate(ctx, "buckets:", "  span: "+r.Span.String(), "  late_window: "+r.Span.String())
	if err != nil {
		return err
	}
	// The load begins before the last part of a bucket, in which the next one is
	// warmed up, and ends after the minute that follows the border.
	before := r.Span/4 + time.Minute
	border := time.Now().Truncate(r.Span).Add(r.Span)
	if time.Until(border) < before+r.Interval {
		border = border.Add(r.Span)
	}
	start := border.Add(-before)
	timer := time.NewTimer(time.Until(start))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	rounds := int((before + 70*time.Second) / r.Interval)
	w, err := benchmarks.NewWorkload(benchmarks.WorkloadConfig{Series: r.Series, Rounds: rounds, Start: start, Interval: r.Interval, Seed: 1})
	if err != nil {
		return err
	}
	report, err := benchmarks.Run(ctx, benchmarks.Config{
		URLs: []string{s.http + "/api/v1/write"}, Live: true, Server: s.processes(), QueryURL: s.http + "/api/v1/query",
		Rate: float64(r.Series) / r.Interval.Seconds(), Around: border,
	}, w)
	if err != nil {
		return errors.Join(err, s.explain())
	}
	l.printf("%d series every %s, %.0f samples/s, buckets of %s; the minutes about %s\n\n", r.Series, r.Interval, float64(r.Series)/r.Interval.Seconds(), r.Span, border.UTC().Format(time.RFC3339))
	l.printf("| minute | requests | p50/p90/p99/max ms |\n|---|---|---|\n")
	a := report.Steady.Around
	for _, m := range []struct {
		name string
		benchmarks.MinuteOf
	}{{"before", a.Before}, {"after", a.After}} {
		p := m.LatencyMillis
		l.printf("| %s | %d | %.1f/%.1f/%.1f/%.1f |\n", m.name, m.Requests, p.P50, p.P90, p.P99, p.Max)
	}
	l.printf("\np99 after / before: %.2f; failed requests: %d; %d of %d samples read back\n",
		a.After.LatencyMillis.P99/a.Before.LatencyMillis.P99, report.Errors(), report.ReadBack, report.Acknowledged())
	return s.stop()
}
