// Command loadgen sends a remote-write load shaped like scraped targets to a
// server on loopback and prints what the server made of it: throughput, CPU
// time, latency, memory. See benchmarks/README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/quorate/quorate/benchmarks"
)

// commandLine is what loadgen is told.
type commandLine struct {
	URL         []string      `name:"url" default:"http://127.0.0.1:9240/api/v1/write" help:"Remote-write endpoint, loopback only. Repeat it to deal connections out to several."`
	Protocol    string        `enum:"1.0,2.0" default:"1.0" help:"Version of remote write: ${enum}."`
	Tenant      string        `help:"Tenant to write for; none by default."`
	TenantHead  string        `name:"tenant-header" default:"X-Scope-OrgID" help:"Header that names the tenant."`
	Series      int           `default:"100000" help:"Number of series; 500 make a target."`
	Rounds      int           `default:"100" help:"Samples per series. The first round is the phase \"new\", the others are \"steady\"."`
	Interval    time.Duration `default:"15s" help:"Time between two samples of a series."`
	Start       string        `help:"Time of the first round, RFC 3339. By default the latest at which everything lies in the past and in one day (UTC)."`
	Seed        uint64        `default:"1" help:"Chooses values, jitter and scrape offsets; the same seed and start give the same bytes."`
	Batch       int           `default:"2000" help:"Samples in a request."`
	Concurrency int           `short:"c" default:"4" help:"Connections, each with one request in flight."`
	Rate        float64       `help:"Samples a second; 0 sends as fast as answers come."`
	Live        bool          `help:"Encode while sending, not before: for loads whose bodies do not fit into memory."`
	Timeout     time.Duration `default:"60s" help:"Time limit of one request."`
	MaxErrors   int           `default:"100" help:"Give up after so many failed requests on one connection."`

	PID             []int         `name:"pid" help:"Server process whose CPU time and memory are read from /proc. Repeat it for several."`
	Ready           string        `help:"URL to poll until it answers 200 before anything is measured, such as http://127.0.0.1:9240/-/ready."`
	ReadyTimeout    time.Duration `default:"60s" help:"How long to poll it."`
	Metrics         []string      `help:"URL of the server's /metrics. Repeat it for several servers."`
	LogBytesMetric  []string      `help:"Counter on it that tells the bytes written to the log. Repeat it to sum several."`
	Profile         string        `help:"URL of a CPU profile to fetch during the steady phase, such as http://127.0.0.1:9242/debug/pprof/profile."`
	ProfileOut      string        `default:"cpu.pprof" help:"File that the profile goes to."`
	ProfileDuration time.Duration `default:"10s" help:"How long to profile."`
	ReadBack        string        `help:"Instant-query URL, such as http://127.0.0.1:9240/api/v1/query, to count all samples at the end; it is an error if one is missing."`
	JSON            bool          `name:"json" help:"Print one JSON object, not a table."`
}

func main() {
	var cl commandLine
	kong.Parse(&cl, kong.Name("loadgen"), kong.UsageOnError(), kong.Description(
		"Sends a remote-write load shaped like scraped targets to a server on loopback, and measures the server under it."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := cl.run(ctx, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "loadgen:", err)
		os.Exit(1)
	}
}

// run does what the command line says and writes the report. Failed requests
// are an error, after the report.
func (cl *commandLine) run(ctx context.Context, out io.Writer) error {
	start := benchmarks.RecentStart(time.Now(), cl.Rounds, cl.Interval)
	if cl.Start != "" {
		var err error
		if start, err = time.Parse(time.RFC3339, cl.Start); err != nil {
			return fmt.Errorf("--start: %w", err)
		}
	}
	workload, err := benchmarks.NewWorkload(benchmarks.WorkloadConfig{
		Series: cl.Series, Rounds: cl.Rounds, Interval: cl.Interval, Start: start, Seed: cl.Seed,
	})
	if err != nil {
		return err
	}
	if cl.Ready != "" {
		waiting, cancel := context.WithTimeout(ctx, cl.ReadyTimeout)
		err := benchmarks.WaitReady(waiting, cl.Ready)
		cancel()
		if err != nil {
			return err
		}
	}
	report, err := benchmarks.Run(ctx, cl.config(), workload)
	if report == nil {
		return err
	}
	return errors.Join(cl.print(report, out), err, failed(report))
}

func (cl *commandLine) config() benchmarks.Config {
	cfg := benchmarks.Config{
		URLs:            cl.URL,
		Protocol:        benchmarks.Protocol(cl.Protocol),
		Tenant:          cl.Tenant,
		TenantHeader:    cl.TenantHead,
		Batch:           cl.Batch,
		Concurrency:     cl.Concurrency,
		Rate:            cl.Rate,
		Live:            cl.Live,
		Timeout:         cl.Timeout,
		MaxErrors:       cl.MaxErrors,
		Server:          benchmarks.Processes{PIDs: cl.PID},
		MetricsURLs:     cl.Metrics,
		LogBytesMetrics: cl.LogBytesMetric,
		ProfileFor:      cl.ProfileDuration,
		QueryURL:        cl.ReadBack,
	}
	if cl.Profile != "" {
		cfg.Profiles = []benchmarks.Profile{{URL: cl.Profile, Path: cl.ProfileOut}}
	}
	return cfg
}

func (cl *commandLine) print(r *benchmarks.Report, out io.Writer) error {
	if cl.JSON {
		return r.WriteJSON(out)
	}
	return r.WriteTable(out)
}

func failed(r *benchmarks.Report) error {
	if n := r.Errors(); n > 0 {
		return fmt.Errorf("%d requests failed: %q", n, r.Failures)
	}
	return nil
}
