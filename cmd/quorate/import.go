package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/interchange"
)

// importCommand writes TSDB blocks to a server.
type importCommand struct {
	endpointFlags

	Match           []string `name:"match" sep:"none" placeholder:"SELECTOR" help:"Import the series that match, such as '{job=\"node\"}'. Given several times, those that match one of them."`
	From            *instant `name:"from" placeholder:"TIME" help:"Import samples at or after this time (RFC 3339, or seconds since 1970)."`
	To              *instant `name:"to" placeholder:"TIME" help:"Import samples before this time."`
	BatchSamples    int      `name:"batch-samples" default:"20000" placeholder:"N" help:"About how many samples one request holds (default ${default})."`
	Concurrency     int      `name:"concurrency" default:"2" placeholder:"N" help:"How many requests are in flight at most (default ${default})."`
	State           string   `name:"state" default:"quorate-import.state" placeholder:"FILE" help:"Where the progress is recorded (default ./${default}). Run the same command again to go on after an interruption. Empty records nothing."`
	DryRun          bool     `name:"dry-run" help:"Say what would be imported and send nothing."`
	ContinueOnError bool     `name:"continue-on-error" help:"Pass over samples that the server refuses, and count them."`
	GiveUpAfter     duration `name:"give-up-after" default:"10m" placeholder:"DURATION" help:"How long a server is tried that cannot be reached or is overloaded (default ${default})."`

	Paths []string `arg:"" name:"PATH" help:"A TSDB data directory, of which all blocks are imported, or a single block."`
}

type duration = time.Duration

// Help says what the summary leaves out.
func (*importCommand) Help() string {
	return `Blocks are read, never written, in order of time. Only blocks are read: what Prometheus still has in its head (the WAL, about the last two to three hours) is not. To import that too, let Prometheus make a snapshot (POST /api/v1/admin/tsdb/snapshot) and import the snapshot.

Floats, native histograms, staleness markers and start timestamps arrive exactly as they are in the blocks. Samples that are there already do no harm, so that an import can be repeated.

The server refuses samples older than its retention (buckets.retention) with a 400, which ends the import unless --continue-on-error or --from leaves them out.`
}

func (c *importCommand) run(ctx context.Context, p process) error {
	screen := newScreen(p.stderr, "samples")
	defer screen.close()
	cfg := interchange.ImportConfig{
		Endpoint: c.endpoint(), Paths: c.Paths, Selection: interchange.Selection{From: timeOf(c.From), To: timeOf(c.To), Match: c.Match},
		BatchSamples: c.BatchSamples, Concurrency: c.Concurrency, StateFile: c.State, DryRun: c.DryRun,
		ContinueOnError: c.ContinueOnError, Patience: c.GiveUpAfter, Logger: screen.logger(),
		Progress: func(done, total uint64) { screen.show(float64(done), float64(total)) },
	}
	if err := cfg.Validate(); err != nil {
		return usageError{err}
	}
	report, err := interchange.Import(ctx, cfg)
	screen.close()
	if c.DryRun && err == nil {
		return printPlan(p.stdout, report)
	}
	if report.Requests > 0 || err == nil {
		err = errors.Join(err, printImport(p.stdout, report))
	}
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted; run the same command again to go on: %w", err)
	}
	return err
}

// printPlan prints what an import would do.
func printPlan(w io.Writer, report interchange.ImportReport) error {
	var series, samples uint64
	for _, b := range report.Blocks {
		state := "new"
		switch {
		case b.MinTime > b.MaxTime:
			state = "outside the range"
		case b.Done:
			state = "done"
		case b.Earlier > 0:
			state = fmt.Sprintf("%d done", b.Earlier)
		}
		series += b.Series
		samples += b.Samples
		if _, err := fmt.Fprintf(w, "block=%s from=%s to=%s series=%d samples=%d state=%q\n",
			b.ID, quorate.FormatTime(b.MinTime), quorate.FormatTime(b.MaxTime), b.Series, b.Samples, state); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "blocks=%d series=%d samples=%d (nothing was sent; where a selection cuts a block these are estimates)\n", len(report.Blocks), series, samples)
	return err
}

// printImport prints what an import did.
func printImport(w io.Writer, report interchange.ImportReport) error {
	for _, refusal := range report.Refusals {
		if _, err := fmt.Fprintf(w, "refused: %s\n", refusal); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "series=%d samples=%d histograms=%d bytes=%d seconds=%.1f refused=%d requests=%d retries=%d\n",
		report.Series, report.Samples, report.Histograms, report.Bytes, report.Elapsed.Seconds(), report.Refused, report.Requests, report.Retries)
	return err
}
