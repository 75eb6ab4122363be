// Command scenarios runs a built server through the situations that decide
// whether an engine is fit for use: a restart with much to replay, the border of
// two buckets under load, hundreds of idle sets and tenants, a day of sealed
// history beside a real Prometheus; a cluster of three nodes under load and idle.
// Each prints one Markdown table; see benchmarks/README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// commandLine is what scenarios is told.
type commandLine struct {
	Quorate string `required:"" placeholder:"FILE" help:"The built server."`
	Dir     string `placeholder:"DIR" help:"Where data directories are made (the system's temporary directory)."`
	Port    int    `default:"19300" help:"HTTP port; the next few are used too."`

	Restart  restart  `cmd:"" help:"Kill a server with a million series and start it again."`
	Rollover rollover `cmd:"" help:"Latencies about the border of two buckets under load."`
	Idle     idle     `cmd:"" help:"What sealed sets and tenants cost a server that does nothing."`
	History  history  `cmd:"" help:"Range queries over a day of sealed buckets beside a real Prometheus."`

	ClusterWrite clusterWrite `cmd:"" help:"W1 on a cluster of three nodes."`
	ClusterIdle  clusterIdle  `cmd:"" help:"What Raft groups cost a cluster of three nodes that does nothing."`
}

func main() {
	var cl commandLine
	parsed := kong.Parse(&cl, kong.Name("scenarios"), kong.UsageOnError(),
		kong.Description("Runs a built server through situations that decide whether it is fit for use, and prints what it measures."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := cl.run(ctx, parsed, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "scenarios:", err)
		os.Exit(1)
	}
}

// scenario is one of the commands.
type scenario interface {
	run(ctx context.Context, l *lab) error
}

func (cl *commandLine) run(ctx context.Context, parsed *kong.Context, out io.Writer) error {
	all := map[string]scenario{"restart": &cl.Restart, "rollover": &cl.Rollover, "idle": &cl.Idle, "history": &cl.History,
		"cluster-write": &cl.ClusterWrite, "cluster-idle": &cl.ClusterIdle}
	dir, err := os.MkdirTemp(cl.Dir, "quorate-scenario.")
	if err != nil {
		return err
	}
	l := &lab{quorate: cl.Quorate, dir: dir, port: cl.Port, out: out}
	defer l.close()
	return errors.Join(all[parsed.Command()].run(ctx, l), l.printing)
}
