package engine

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"text/tabwriter"
)

// Report is what Compare measured.
type Report struct {
	cfg                 Config
	quorate, prometheus figures
	sealBytes           float64 // bytes a sample of the canonical block
	seal                float64 // ns a sample
	codecs              []codecRow
}

// Compare measures both engines. It fails if what they answer differs, since
// then one of them is not measured.
func Compare(ctx context.Context, cfg Config) (*Report, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	r := &Report{cfg: cfg}
	if err := r.measureHead(ctx); err != nil {
		return nil, fmt.Errorf("measure Prometheus: %w", err)
	}
	if err := r.measureShard(ctx); err != nil {
		return nil, fmt.Errorf("measure Quorate: %w", err)
	}
	if r.quorate.checksum != r.prometheus.checksum {
		return nil, fmt.Errorf("the engines' samples differ: checksums %x and %x", r.quorate.checksum, r.prometheus.checksum)
	}
	var err error
	if r.codecs, err = compareCodecs(cfg); err != nil {
		return nil, fmt.Errorf("compare encodings: %w", err)
	}
	return r, nil
}

func (r *Report) samples() float64 { return float64(r.cfg.Series) * float64(r.cfg.BlockRounds) }

func (r *Report) measureHead(ctx context.Context) error {
	dir := filepath.Join(r.cfg.Dir, "prometheus")
	e, f, err := measure(ctx, r.cfg, newHead, dir)
	if e != nil {
		defer e.close() //nolint:errcheck // only read from by then
	}
	if err != nil {
		return err
	}
	if f.blockSelected, f.checksum, err = selectAll(ctx, e.block); err != nil {
		return fmt.Errorf("select from the block: %w", err)
	}
	total, err := bytesIn(filepath.Join(dir, "block"))
	if err != nil {
		return err
	}
	chunks, err := bytesIn(filepath.Join(e.(*head).written.Dir(), "chunks"))
	f.blockBytes, f.sampleBs = float64(total)/r.samples(), float64(chunks)/r.samples()
	r.prometheus = f
	return err
}

func (r *Report) measureShard(ctx context.Context) error {
	dir := filepath.Join(r.cfg.Dir, "quorate")
	e, f, err := measure(ctx, r.cfg, newShard, dir)
	if e != nil {
		defer e.close() //nolint:errcheck // only read from by then
	}
	if err != nil {
		return err
	}
	s := e.(*shard)
	total, err := bytesIn(s.config().Dir)
	if err != nil {
		return err
	}
	described, err := definedBytes(ctx, filepath.Join(r.cfg.Dir, "described"), newWorkload(r.cfg))
	if err != nil {
		return fmt.Errorf("block of series: %w", err)
	}
	f.blockBytes, f.sampleBs = float64(total)/r.samples(), float64(total-described)/r.samples()
	if f.blockSelected, f.checksum, err = selectAll(ctx, e.memory); err != nil {
		return fmt.Errorf("select from the delta block: %w", err)
	}
	var seal clock
	if err := seal.run(func() error { return s.seal(ctx) }); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	r.seal = seal.each(int(r.samples()))
	r.sealBytes = float64(s.sealed.File().Bytes) / r.samples()
	_, checksum, err := selectAll(ctx, e.block)
	if err == nil && checksum != f.checksum {
		err = fmt.Errorf("the sealed block's samples differ: checksums %x and %x", checksum, f.checksum)
	}
	r.quorate = f
	return err
}

// WriteTo prints the report: a table of the engines and one of the encodings.
func (r *Report) WriteTo(w io.Writer) (int64, error) {
	out := &counter{w: w}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(what, format string, a, b float64) {
		fmt.Fprintf(t, "%s\t"+format+"\t"+format+"\t%.2f\t\n", what, a, b, a/b) //nolint:errcheck // Flush tells
	}
	q, p := &r.quorate, &r.prometheus
	fmt.Fprintf(t, "%d series, %d samples each\tQuorate\tPrometheus\tratio\t\n", r.cfg.Series, r.cfg.BlockRounds) //nolint:errcheck // Flush tells
	row("new series per CPU-second", "%.0f", 1e9/q.newSeries, 1e9/p.newSeries)
	row("memory of a series with one sample, B", "%.0f", q.created, p.created)
	row(fmt.Sprintf("memory of a series with %d, B", r.cfg.Rounds), "%.0f", q.after, p.after)
	row("apply a sample, ns", "%.1f", q.apply, p.apply)
	row("select and iterate in memory, ns", "%.1f", q.selected, p.selected)
	row("flush a sample, ns", "%.1f", q.flush, p.flush)
	row("block: samples, B", "%.3f", q.sampleBs, p.sampleBs)
	row("block: with series and index, B", "%.3f", q.blockBytes, p.blockBytes)
	row("select and iterate on disk, ns", "%.1f", q.blockSelected, p.blockSelected)
	row("seal and read back a sample, ns", "%.1f", r.seal, p.flush)
	row("sealed block: with series and index, B", "%.3f", r.sealBytes, p.blockBytes)
	if err := t.Flush(); err != nil {
		return out.n, err
	}
	if _, err := fmt.Fprintln(out); err != nil {
		return out.n, err
	}
	return out.n, writeCodecs(out, r.codecs)
}

// counter counts what is written.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}
