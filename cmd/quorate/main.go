// Command quorate is a Prometheus-compatible remote-storage server in one
// binary, with its tools. Without arguments it starts a single node that holds
// all roles, with its data in ./data and HTTP on 127.0.0.1:9240. The commands
// import and export carry samples between Prometheus TSDB blocks and a running
// server, verify checks a data directory offline.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	// A second signal finds the default handling again and ends a process whose
	// drain takes longer than its operator is willing to wait.
	context.AfterFunc(ctx, stop)
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr, os.Exit); err != nil {
		fmt.Fprintf(os.Stderr, "quorate: %v\n", err)
		os.Exit(exitCode(err))
	}
}
