package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/quorate/quorate/internal/verify"
)

// verifyCommand checks a data directory.
type verifyCommand struct {
	Verbose bool `name:"verbose" short:"v" help:"Print a line for each replica, and what the next start settles by itself."`
	JSON    bool `name:"json" help:"Print one JSON object instead of lines."`

	Dir string `arg:"" name:"DIR" help:"The data directory of a server that does not run."`
}

// Help says what the summary leaves out.
func (*verifyCommand) Help() string {
	return `Every byte is read and checked: the identity, each replica's manifest, vote, low-water mark and log, and every page of every block of samples; and that every replica that is recorded for the node is there. Nothing is written and nothing repaired.

Each problem is printed with the file, where in it, what is wrong and what to do. The last line says what the blocks hold: a series counts once in each set that has it, and what is in logs alone is not counted.

The exit code is 0 when nothing is damaged, 1 when something is, 2 when the directory could not be checked, as when a server is using it.`
}

func (c *verifyCommand) run(ctx context.Context, p process) error {
	screen := newScreen(p.stderr, "bytes")
	defer screen.close()
	report, err := verify.Run(ctx, verify.Config{
		Dir: c.Dir, Progress: func(done, total int64) { screen.show(float64(done), float64(total)) },
	})
	screen.close()
	if err != nil {
		return usageError{err}
	}
	if c.JSON {
		encoder := json.NewEncoder(p.stdout)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(report)
	} else {
		err = c.print(p.stdout, &report)
	}
	if err == nil && len(report.Problems) > 0 {
		err = fmt.Errorf("%s: %d problems found", c.Dir, len(report.Problems))
	}
	return err
}

func (c *verifyCommand) print(w io.Writer, report *verify.Report) error {
	var lines []string
	if c.Verbose {
		for _, r := range report.Replicas {
			lines = append(lines, r.String())
		}
		for _, n := range report.Notes {
			lines = append(lines, "note: "+n.String())
		}
	}
	for _, f := range report.Problems {
		lines = append(lines, "problem: "+f.String())
	}
	if text := report.InLogs(); text != "" {
		lines = append(lines, text)
	}
	for _, line := range append(lines, report.Summary()) {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}
