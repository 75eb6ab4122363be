package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/benchmarks"
)

// restart kills a server in mid-life and times how long the next takes to be
// ready, with the samples partly in files and partly in the log.
type restart struct {
	Series int `default:"1000000" help:"Series."`
	Rounds int `default:"10" help:"Samples per series."`
}

func (r *restart) run(ctx context.Context, l *lab) error {
	s, _, err := l.startQuorate(ctx)
	if err != nil {
		return err
	}
	start := benchmarks.RecentStart(time.Now(), r.Rounds, 15*time.Second)
	w, err := benchmarks.NewWorkload(benchmarks.WorkloadConfig{Series: r.Series, Rounds: r.Rounds, Start: start, Seed: 1})
	if err != nil {
		return err
	}
	report, err := benchmarks.Run(ctx, benchmarks.Config{
		URLs: []string{s.http + "/api/v1/write"}, Live: true, Server: s.processes(), QueryURL: s.http + "/api/v1/query",
	}, w)
	if err != nil {
		return errors.Join(err, s.explain())
	}
	rss, err := s.settledRSS(ctx)
	if err != nil {
		return err
	}
	l.printf("%d series x %d rounds written and read back; RSS %.0f MB, peak %.0f MB\n\n", r.Series, r.Rounds, mb(rss), mb(report.PeakRSSBytes))
	l.printf("| before the start | ready after s | server CPU s | samples/s | samples/CPU s | RSS MB |\n|---|---|---|---|---|---|\n")
	for _, how := range []string{"kill -9", "kill -9 again", "SIGTERM", "flush and kill -9"} {
		switch how {
		case "SIGTERM":
			err = s.stop()
		case "flush and kill -9":
			_, err = s.call(ctx, "POST", s.admin+"/api/v1/admin/flush", nil)
			s.kill()
		default:
			s.kill()
		}
		if err != nil {
			return err
		}
		var took time.Duration
		if s, took, err = l.startQuorate(ctx); err != nil {
			return err
		}
		cpu, err := s.processes().CPU()
		if err != nil {
			return err
		}
		if rss, err = s.settledRSS(ctx); err != nil {
			return err
		}
		n := float64(w.Samples())
		l.printf("| %s | %.2f | %.2f | %.0f | %.0f | %.0f |\n", how, took.Seconds(), cpu.Seconds(), n/took.Seconds(), n/cpu.Seconds(), mb(rss))
	}
	found, err := s.query(ctx, fmt.Sprintf("sum(count_over_time(http_requests_total[%ds]))", int(w.End().Sub(start).Seconds())+1), w.End(), nil)
	if err != nil {
		return err
	}
	if want := float64(r.Series / 50 * r.Rounds); found != want {
		return fmt.Errorf("one of fifty metrics has %g samples after the restarts, want %g", found, want)
	}
	l.printf("\nread back after the last start: %.0f samples of one metric, none missing\n", found)
	return s.stop()
}

func mb[N int64 | float64](bytes N) float64 { return float64(bytes) / 1e6 }
