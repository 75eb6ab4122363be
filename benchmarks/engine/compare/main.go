// Command compare prints how Quorate's storage engine does beside Prometheus'
// own over the same samples. See package engine.
//
//	go run ./benchmarks/engine/compare [SERIES]
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"

	"github.com/quorate/quorate/benchmarks/engine"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt) //nolint:forbidigo // this is main
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

func run(ctx context.Context, args []string) error {
	var cfg engine.Config
	var err error
	if len(args) > 0 {
		if cfg.Series, err = strconv.Atoi(args[0]); err != nil {
			return fmt.Errorf("number of series: %w", err)
		}
	}
	if cfg.Dir, err = os.MkdirTemp("", "quorate-engine-"); err != nil {
		return err
	}
	defer os.RemoveAll(cfg.Dir) //nolint:errcheck // temporary
	report, err := engine.Compare(ctx, cfg)
	if err != nil {
		return err
	}
	_, err = report.WriteTo(os.Stdout)
	return err
}
