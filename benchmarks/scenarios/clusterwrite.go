package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/quorate/quorate/benchmarks"
)

// clusterWrite sends W1 to a cluster of three nodes with three replicas of
// everything, to all nodes in turn and to one of them.
type clusterWrite struct {
	Series      int      `default:"100000" help:"Series."`
	Rounds      int      `default:"100" help:"Samples per series."`
	Rate        float64  `help:"Samples a second; 0 sends as fast as answers come."`
	Concurrency int      `short:"c" default:"6" help:"Connections, each with one request in flight."`
	Protocols   []string `default:"1.0,2.0" help:"Versions of remote write."`
	To          []string `default:"three,one" enum:"three,one" help:"Which nodes are written to: all three in turn, or the first alone."`
	Repeat      int      `default:"1" help:"How often each load is run, on a new cluster."`
	Profiles    string   `placeholder:"DIR" help:"Where CPU profiles of all nodes go, one a node and load."`
	Settings    []string `sep:"none" placeholder:"LINE" help:"Lines of YAML for the servers."`
}

func (c *clusterWrite) run(ctx context.Context, l *lab) error {
	rate := "maximum rate"
	if c.Rate > 0 {
		rate = fmt.Sprintf("%.0f samples/s", c.Rate)
	}
	l.printf("3 nodes, 3 replicas; %d series x %d rounds, %d connections, %s; CPU and memory are those of all three servers\n\n", c.Series, c.Rounds, c.Concurrency, rate)
	l.printf("| protocol | to | phase | samples/s | server CPU s | samples/server CPU s | p50/p90/p99/max ms | peak RSS MB | log B/sample | samples/append | of all CPU, by node |\n|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, protocol := range c.Protocols {
		for _, to := range c.To {
			for range c.Repeat {
				if err := c.load(ctx, l, benchmarks.Protocol(protocol), to); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// load runs one load on a new cluster.
func (c *clusterWrite) load(ctx context.Context, l *lab, protocol benchmarks.Protocol, to string) error {
	servers, err := l.startCluster(ctx, 3, c.Settings...)
	if err != nil {
		return err
	}
	w, err := benchmarks.NewWorkload(benchmarks.WorkloadConfig{
		Series: c.Series, Rounds: c.Rounds, Start: benchmarks.RecentStart(time.Now(), c.Rounds, 15*time.Second), Seed: 1,
	})
	if err != nil {
		return err
	}
	cfg := benchmarks.Config{
		Protocol: protocol, Concurrency: c.Concurrency, Rate: c.Rate,
		Server: servers.processes(), LogBytesMetrics: []string{"quorate_raft_entry_bytes_total"},
		QueryURL: servers.nodes[len(servers.nodes)-1].http + "/api/v1/query",
	}
	for _, s := range servers.nodes {
		cfg.MetricsURLs = append(cfg.MetricsURLs, s.http+"/metrics")
		if to == "three" || len(cfg.URLs) == 0 {
			cfg.URLs = append(cfg.URLs, s.http+"/api/v1/write")
		}
		if c.Profiles != "" {
			cfg.Profiles = append(cfg.Profiles, benchmarks.Profile{
				URL:  s.admin + "/debug/pprof/profile",
				Path: filepath.Join(c.Profiles, fmt.Sprintf("rw%s-%s-%s.pprof", protocol, to, s.name)),
			})
		}
	}
	report, err := benchmarks.Run(ctx, cfg, w)
	if err != nil {
		return errors.Join(err, servers.explain())
	}
	shares, err := shares(servers)
	if err != nil {
		return err
	}
	appends, err := servers.total(ctx, "quorate_raft_log_store_seconds")
	if err != nil {
		return err
	}
	for _, phase := range []struct {
		name string
		*benchmarks.Phase
	}{{"new", report.New}, {"steady", report.Steady}} {
		if p := phase.Phase; p != nil {
			m := p.LatencyMillis
			l.printf("| %s | %s | %s | %.0f | %.2f | %.0f | %.1f/%.1f/%.1f/%.1f | %.0f | %.2f | %.0f | %s |\n",
				protocol, to, phase.name, p.SamplesPerSecond, p.ServerCPUSeconds, p.SamplesPerCPUSecond,
				m.P50, m.P90, m.P99, m.Max, mb(p.PeakRSSBytes), p.LogBytesPerSample, 3*float64(report.Acknowledged())/appends, shares)
		}
	}
	if report.Errors() > 0 {
		return errors.Join(fmt.Errorf("%d requests failed: %q", report.Errors(), report.Failures), servers.explain())
	}
	return servers.stop()
}

// shares tells how the CPU time of the servers' lives is spread over them.
func shares(c *cluster) (string, error) {
	all, err := c.processes().CPU()
	if err != nil {
		return "", err
	}
	text := ""
	for i, s := range c.nodes {
		own, err := s.processes().CPU()
		if err != nil {
			return "", err
		}
		if i > 0 {
			text += "/"
		}
		text += fmt.Sprintf("%.0f", 100*own.Seconds()/all.Seconds())
	}
	return text + " %", nil
}
