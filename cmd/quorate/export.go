package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/quorate/quorate/internal/interchange"
)

// exportCommand writes a server's samples as TSDB blocks.
type exportCommand struct {
	endpointFlags

	From        *instant `name:"from" required:"" placeholder:"TIME" help:"Export samples at or after this time (RFC 3339, or seconds since 1970)."`
	To          *instant `name:"to" required:"" placeholder:"TIME" help:"Export samples before this time."`
	Match       string   `name:"match" placeholder:"SELECTOR" help:"Export the series that match, such as '{job=\"node\"}' (default: all that have a name)."`
	BlockSpan   duration `name:"block-span" default:"2h" placeholder:"DURATION" help:"How much time one block covers (default ${default}, as Prometheus makes them). Blocks start at multiples of it."`
	Output      string   `name:"output" required:"" placeholder:"DIR" help:"Where the blocks go: a new or empty directory, or that of the same export, which then goes on."`
	GiveUpAfter duration `name:"give-up-after" default:"10m" placeholder:"DURATION" help:"How long a server is tried that cannot be reached or is overloaded (default ${default})."`
}

// Help says what the summary leaves out.
func (*exportCommand) Help() string {
	return `Each block is read by one streamed remote read and written when all of it has come; it appears in the output under its final name when it is complete. Run the same command again to go on after an interruption.

The output is a TSDB directory: Prometheus serves it with --storage.tsdb.path (mind its retention, which is 15 days unless set), promtool tsdb list and analyze read it, and its blocks can be moved into that of another Prometheus or uploaded to an object store.

Floats, native histograms, staleness markers and start timestamps are exported exactly as they are stored; exemplars and metadata have no place in a block.`
}

func (c *exportCommand) run(ctx context.Context, p process) error {
	screen := newScreen(p.stderr, "blocks")
	defer screen.close()
	cfg := interchange.ExportConfig{
		Endpoint: c.endpoint(), From: timeOf(c.From), To: timeOf(c.To), Match: c.Match, BlockSpan: c.BlockSpan, Dir: c.Output,
		Patience: c.GiveUpAfter, Logger: screen.logger(),
		Progress: func(done, total int, samples uint64, series int) {
			screen.note(fmt.Sprintf("%d samples; %d series of this block", samples, series))
			screen.show(float64(done), float64(total))
		},
	}
	if err := cfg.Validate(); err != nil {
		return usageError{err}
	}
	report, err := interchange.Export(ctx, cfg)
	screen.close()
	if report.Blocks > 0 || err == nil {
		_, printErr := fmt.Fprintf(p.stdout, "blocks=%d empty=%d earlier=%d series=%d samples=%d histograms=%d bytes=%d seconds=%.1f retries=%d\n",
			report.Blocks, report.Empty, report.Earlier, report.Series, report.Samples, report.Histograms, report.Bytes, report.Elapsed.Seconds(), report.Retries)
		err = errors.Join(err, printErr)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted; run the same command again to go on: %w", err)
	}
	return err
}
