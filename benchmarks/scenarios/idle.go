package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/benchmarks"
)

// idle measures a server that does nothing, with more and more to do nothing
// about.
type idle struct {
	Tenants int           `default:"1000" help:"Tenants, each with one series."`
	Sets    int           `default:"200" help:"Sealed sets, each with 1000 series of 4 samples."`
	Watch   time.Duration `default:"60s" help:"How long CPU time is watched."`
}

func (i *idle) run(ctx context.Context, l *lab) error {
	s, _, err := l.startQuorate(ctx, "multi_tenancy:", "  enabled: true", "buckets:", "  span: 1h", "  late_window: 1h", "  retention: 60d", "  shards: 1")
	if err != nil {
		return err
	}
	l.printf("| state | RSS MB | per thing | idle CPU %% of one core |\n|---|---|---|---|\n")
	report := func(state string, before int64, things int) (int64, error) {
		rss, err := s.settledRSS(ctx)
		if err != nil {
			return 0, err
		}
		share, err := i.watch(ctx, s)
		if err != nil {
			return 0, err
		}
		per := "–"
		if things > 0 {
			per = fmt.Sprintf("%.1f KB", float64(rss-before)/float64(things)/1e3)
		}
		l.printf("| %s | %.1f | %s | %.2f |\n", state, mb(rss), per, 100*share)
		return rss, nil
	}
	rss, err := report("empty", 0, 0)
	if err != nil {
		return err
	}
	if err := i.seal(ctx, s); err != nil {
		return errors.Join(err, s.explain())
	}
	if rss, err = report(fmt.Sprintf("with %d sealed sets", i.Sets), rss, i.Sets); err != nil {
		return err
	}
	now := time.Now().Add(-time.Minute).Truncate(time.Second)
	for tenant := range i.Tenants {
		if err := write(ctx, s, fmt.Sprintf("tenant-%d", tenant), 1, 1, now); err != nil {
			return errors.Join(err, s.explain())
		}
	}
	if _, err := s.call(ctx, "POST", s.admin+"/api/v1/admin/flush", nil); err != nil {
		return err
	}
	if rss, err = report(fmt.Sprintf("and %d tenants", i.Tenants), rss, i.Tenants); err != nil {
		return err
	}
	if err := s.stop(); err != nil {
		return err
	}
	var took time.Duration
	if s, took, err = l.startQuorate(ctx, "multi_tenancy:", "  enabled: true", "buckets:", "  span: 1h", "  late_window: 1h", "  retention: 60d", "  shards: 1"); err != nil {
		return err
	}
	if _, err = report(fmt.Sprintf("after a restart (ready after %.2f s)", took.Seconds()), rss, 0); err != nil {
		return err
	}
	return s.stop()
}

// watch returns the share of one core that the server uses.
func (i *idle) watch(ctx context.Context, s *server) (float64, error) {
	before, err := s.processes().CPU()
	if err != nil {
		return 0, err
	}
	timer := time.NewTimer(i.Watch)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	after, err := s.processes().CPU()
	return (after - before).Seconds() / i.Watch.Seconds(), err
}

// seal writes into one old bucket after the other and seals it.
func (i *idle) seal(ctx context.Context, s *server) error {
	first := time.Now().Truncate(time.Hour).Add(-time.Duration(i.Sets+3) * time.Hour)
	for k := range i.Sets {
		start := first.Add(time.Duration(k) * time.Hour)
		if err := write(ctx, s, "history", 1000, 4, start); err != nil {
			return err
		}
		sets, err := s.seal(ctx, start)
		if err != nil {
			return err
		}
		if len(sets) != 1 || sets[0].Samples == 0 {
			return fmt.Errorf("sealing the bucket at %s: %+v, want one set with samples", start, sets)
		}
	}
	return nil
}

// write sends a small workload for a tenant.
func write(ctx context.Context, s *server, tenant string, series, rounds int, start time.Time) error {
	w, err := benchmarks.NewWorkload(benchmarks.WorkloadConfig{Series: series, Rounds: rounds, Start: start, Seed: 1})
	if err != nil {
		return err
	}
	_, err = benchmarks.Run(ctx, benchmarks.Config{
		URLs: []string{s.http + "/api/v1/write"}, Tenant: tenant, Concurrency: 1, MaxErrors: 1,
	}, w)
	return err
}
