package interchange

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/quorate/quorate/internal/durable"
)

const (
	defaultBlockSpan = 2 * time.Hour
	// everything is the selector of an export that has none.
	everything = `{__name__=~".+"}`

	spoolFile = "quorate-export.spool"
	// unfinishedSuffix ends the name of a block that the compactor is writing.
	unfinishedSuffix = ".tmp-for-creation"
)

// ExportConfig says what Export writes where. The zero value of a field stands
// for the default that its sentence names.
type ExportConfig struct {
	// Endpoint is the server to read from.
	Endpoint Endpoint
	// From and To bound the samples' timestamps (ms), From included, To not.
	From, To int64
	// Match is a series selector as PromQL writes it; empty means every series
	// that has a name.
	Match string
	// BlockSpan is how much time one block covers; blocks start at multiples of
	// it (UTC). 0 means 2 h, which is Prometheus' own.
	BlockSpan time.Duration
	// Dir is where the blocks go: a new directory, an empty one, or that of
	// the same export, which then goes on.
	Dir string
	// Patience is how long one block is tried while the server cannot be
	// reached or answers 429 or 5xx; 0 means 10 minutes.
	Patience time.Duration
	// Logger takes what the user should know; nil discards it.
	Logger *slog.Logger
	// Progress, if not nil, is told how many blocks are done of how many, how
	// many samples were written, and how many series of the block at work have
	// come. It is called by one goroutine and must not block.
	Progress func(done, total int, samples uint64, series int)
	// Jitter gives a number in [0, 1) by which pauses differ; nil means chance.
	Jitter func() float64
}

func (c ExportConfig) withDefaults() ExportConfig {
	if c.Match == "" {
		c.Match = everything
	}
	if c.BlockSpan == 0 {
		c.BlockSpan = defaultBlockSpan
	}
	if c.Patience == 0 {
		c.Patience = defaultPatience
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Progress == nil {
		c.Progress = func(int, int, uint64, int) {}
	}
	if c.Jitter == nil {
		c.Jitter = rand.Float64
	}
	return c
}

// Validate tells what is wrong with a configuration.
func (c *ExportConfig) Validate() error {
	errs := []error{c.Endpoint.Validate()}
	if c.Dir == "" {
		errs = append(errs, errors.New("no output directory is given"))
	}
	if c.From >= c.To {
		errs = append(errs, fmt.Errorf("the range from %s to %s is empty", formatTime(c.From), formatTime(c.To)))
	}
	if c.BlockSpan < 0 || c.BlockSpan > 0 && c.BlockSpan < time.Minute || c.BlockSpan%time.Millisecond != 0 || c.Patience < 0 {
		errs = append(errs, fmt.Errorf("block span %s, patience %s: want at least a minute, and nothing negative", c.BlockSpan, c.Patience))
	}
	if c.Match != "" {
		_, err := (&Selection{Match: []string{c.Match}}).parse()
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// ExportReport says what an export did.
type ExportReport struct {
	// Blocks is how many blocks were written, Earlier how many windows were
	// done by earlier runs, Empty how many had no samples.
	Blocks, Earlier, Empty int
	// Series is the sum over the blocks written, Samples how many samples they
	// hold, Histograms how many of them are native histograms.
	Series, Samples, Histograms uint64
	// Bytes is the size of the blocks written; Retries is how often the server
	// was asked again.
	Bytes, Retries uint64
	// Elapsed is how long it took.
	Elapsed time.Duration
}

// Export reads samples from a server and writes them as TSDB blocks. The report
// is valid beside an error too. After an interruption the same call goes on
// after the last block that is complete.
func Export(ctx context.Context, cfg ExportConfig) (ExportReport, error) {
	if err := cfg.Validate(); err != nil {
		return ExportReport{}, fmt.Errorf("export: %w", err)
	}
	cfg = cfg.withDefaults()
	start := time.Now()
	x := &exporter{
		cfg: cfg, client: cfg.Endpoint.client(1),
		retrier: &retrier{patience: cfg.Patience, jitter: cfg.Jitter, logger: cfg.Logger},
	}
	err := x.run(ctx)
	x.report.Retries = uint64(x.retrier.retries.Load())
	x.report.Elapsed = time.Since(start)
	if err != nil {
		err = fmt.Errorf("export: %w", err)
	}
	return x.report, err
}

// exporter is one run of Export, in one goroutine.
type exporter struct {
	cfg      ExportConfig
	client   *http.Client
	retrier  *retrier
	matchers []*labels.Matcher
	state    *exportState
	windows  []window
	done     int
	report   ExportReport
}

// window is the half-open range [start, end) of one block, in ms.
type window struct{ start, end int64 }

// windowsOf cuts a range at the multiples of a span.
func windowsOf(from, to, span int64) []window {
	var all []window
	for start := from; start < to; {
		end := start - start%span + span
		if start%span < 0 {
			end -= span
		}
		end = min(end, to)
		all = append(all, window{start, end})
		start = end
	}
	return all
}

func (x *exporter) run(ctx context.Context) error {
	selectors, err := (&Selection{Match: []string{x.cfg.Match}}).parse()
	if err != nil {
		return err
	}
	x.matchers = selectors[0]
	x.windows = windowsOf(x.cfg.From, x.cfg.To, x.cfg.BlockSpan.Milliseconds())
	if err := durable.MkdirAll(x.cfg.Dir); err != nil {
		return err
	}
	if x.state, err = openExportState(x.cfg.Dir, newExportState(&x.cfg)); err != nil {
		return err
	}
	if err := x.settle(); err != nil {
		return err
	}
	for _, w := range x.windows {
		x.progress(0)
		if _, done := x.state.Windows[w.start]; done {
			x.report.Earlier++
		} else if err := x.exportWindow(ctx, w); err != nil {
			return fmt.Errorf("block from %s to %s: %w", formatTime(w.start), formatTime(w.end), err)
		}
		x.done++
	}
	x.progress(0)
	return nil
}

func (x *exporter) progress(series int) {
	x.cfg.Progress(x.done, len(x.windows), x.report.Samples, series)
}

// settle makes state and directory agree: a block that was cut short is removed,
// one that was finished but not noted is noted, and one that is noted and gone
// is to be written again.
func (x *exporter) settle() error {
	entries, err := os.ReadDir(x.cfg.Dir)
	if err != nil {
		return err
	}
	there := map[string]window{}
	for _, e := range entries {
		path := filepath.Join(x.cfg.Dir, e.Name())
		if name, cut := strings.CutSuffix(e.Name(), unfinishedSuffix); cut && isULID(name) {
			x.cfg.Logger.Info("a block that was cut short is removed", "path", path)
			if err := os.RemoveAll(path); err != nil {
				return err
			}
			continue
		}
		if !isULID(e.Name()) {
			continue
		}
		b, err := readBlock(path)
		if err != nil {
			return err
		}
		there[e.Name()] = window{b.meta.MinTime, b.meta.MaxTime}
	}
	for start, id := range x.state.Windows {
		if _, ok := there[id]; !ok && id != "" {
			x.cfg.Logger.Warn("a block of an earlier run is gone and is written again", "block", id, "start", formatTime(start))
			delete(x.state.Windows, start)
		}
		delete(there, id)
	}
	for id, held := range there {
		for _, w := range x.windows {
			if held == w {
				x.state.Windows[w.start] = id
			}
		}
	}
	return nil
}

func isULID(name string) bool {
	_, err := ulid.ParseStrict(name)
	return err == nil
}

// exportWindow writes the block of one window.
func (x *exporter) exportWindow(ctx context.Context, w window) error {
	var series *spool
	err := x.retrier.do(ctx, func(ctx context.Context) (err error) {
		if series != nil {
			if err := series.remove(); err != nil {
				return fmt.Errorf("%w: %w", errPermanent, err)
			}
		}
		series, err = x.receive(ctx, w)
		return err
	})
	if series != nil {
		defer func() {
			// A spool that stays behind is overwritten by the next.
			if err := series.remove(); err != nil {
				x.cfg.Logger.Warn("the spool cannot be removed", "error", err)
			}
		}()
	}
	if err != nil {
		if ctx.Err() == nil {
			err = fmt.Errorf("read from %s: %w%s", x.cfg.Endpoint.name(), err, hint(err))
		}
		return err
	}
	id, err := x.writeBlock(ctx, series, w)
	if err != nil {
		return err
	}
	x.state.Windows[w.start] = id
	return x.state.save(x.cfg.Dir)
}

// receive spools the series of a window. The spool is to be removed even if
// there is an error.
func (x *exporter) receive(ctx context.Context, w window) (*spool, error) {
	s, err := createSpool(filepath.Join(x.cfg.Dir, spoolFile), w.start, w.end-1)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errPermanent, err)
	}
	err = streamSeries(ctx, &x.cfg.Endpoint, x.client, w.start, w.end-1, x.matchers, func(lset labels.Labels, chks []chunks.Meta) error {
		if err := s.add(lset, chks); err != nil {
			// Of the order of series or of the disk: no attempt would better it.
			return fmt.Errorf("%w: %w", errPermanent, err)
		}
		x.progress(s.series())
		return nil
	})
	if err != nil {
		return s, err
	}
	if err := s.finish(); err != nil {
		return s, fmt.Errorf("%w: %w", errPermanent, err)
	}
	return s, nil
}

// writeBlock writes what was spooled as a block and returns its ULID, or nothing
// if the window has no samples.
func (x *exporter) writeBlock(ctx context.Context, s *spool, w window) (string, error) {
	compactor, err := tsdb.NewLeveledCompactorWithOptions(ctx, nil, slog.New(slog.DiscardHandler),
		[]int64{x.cfg.BlockSpan.Milliseconds()}, nil, tsdb.LeveledCompactorOptions{EnableOverlappingCompaction: true})
	if err != nil {
		return "", err
	}
	ids, err := compactor.Write(x.cfg.Dir, s, w.start, w.end, nil)
	if err != nil {
		return "", err
	}
	if len(ids) == 0 {
		x.report.Empty++
		return "", nil
	}
	id := ids[0].String()
	b, err := readBlock(filepath.Join(x.cfg.Dir, id))
	if err != nil {
		return "", err
	}
	bytes, err := directoryBytes(b.dir)
	if err != nil {
		return "", err
	}
	x.report.Blocks++
	x.report.Series += b.meta.Stats.NumSeries
	x.report.Samples += b.meta.Stats.NumSamples
	x.report.Histograms += b.meta.Stats.NumHistogramSamples
	x.report.Bytes += bytes
	return id, nil
}

func directoryBytes(dir string) (n uint64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += uint64(info.Size())
		}
		return err
	})
	return n, err
}
