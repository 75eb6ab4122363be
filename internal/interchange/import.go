package interchange

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

const (
	defaultBatchSamples = 20_000
	defaultConcurrency  = 2
	defaultPatience     = 10 * time.Minute

	// refusalsListed is how many refusals are listed in full; more are counted.
	refusalsListed = 10
)

// ImportConfig says what Import carries where. The zero value of a field stands
// for the default that its sentence names.
type ImportConfig struct {
	// Endpoint is the server to write to.
	Endpoint Endpoint
	// Paths are TSDB data directories and single blocks; at least one.
	Paths []string
	// Selection says which samples are imported.
	Selection Selection
	// BatchSamples is about how many samples one request holds; 0 means 20,000.
	BatchSamples int
	// Concurrency is how many requests are in flight at most; 0 means 2.
	Concurrency int
	// StateFile is where the progress is recorded, so that the same import can
	// go on after an interruption; empty records nothing.
	StateFile string
	// DryRun finds and counts what would be imported and sends nothing.
	DryRun bool
	// ContinueOnError passes over samples that the server refuses with a 400,
	// counting them; otherwise the first refusal ends the import.
	ContinueOnError bool
	// Patience is how long one request is tried while the server cannot be
	// reached or answers 429 or 5xx; 0 means 10 minutes.
	Patience time.Duration
	// Logger takes what the user should know; nil discards it.
	Logger *slog.Logger
	// Progress, if not nil, is told how many samples are done and how many
	// there are, by the blocks' own counts. It is called by one goroutine at a
	// time and must not block.
	Progress func(done, total uint64)
	// Jitter gives a number in [0, 1) by which pauses differ; nil means chance.
	Jitter func() float64
}

func (c ImportConfig) withDefaults() ImportConfig {
	if c.BatchSamples == 0 {
		c.BatchSamples = defaultBatchSamples
	}
	if c.Concurrency == 0 {
		c.Concurrency = defaultConcurrency
	}
	if c.Patience == 0 {
		c.Patience = defaultPatience
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Progress == nil {
		c.Progress = func(uint64, uint64) {}
	}
	if c.Jitter == nil {
		c.Jitter = rand.Float64
	}
	return c
}

// Validate tells what is wrong with a configuration.
func (c *ImportConfig) Validate() error {
	errs := []error{c.Endpoint.Validate()}
	if len(c.Paths) == 0 {
		errs = append(errs, errors.New("no path of a TSDB is given"))
	}
	if c.BatchSamples < 0 || c.Concurrency < 0 || c.Patience < 0 {
		errs = append(errs, fmt.Errorf("batch of %d samples, concurrency of %d, patience of %s: they cannot be negative", c.BatchSamples, c.Concurrency, c.Patience))
	}
	_, err := c.Selection.parse()
	return errors.Join(append(errs, err)...)
}

// ImportReport says what an import did, or would do.
type ImportReport struct {
	// Blocks are the blocks found, in the order in which they are imported.
	Blocks []BlockReport
	// Series is how many different series were sent, Samples how many samples
	// were written, Histograms how many of them are native histograms.
	Series, Samples, Histograms uint64
	// Refused is how many samples the server refused; Refusals says why, for
	// the first few.
	Refused  uint64
	Refusals []string
	// Requests is how many requests the server answered, Retries how many were
	// sent again; Bytes is the size of their bodies.
	Requests, Retries uint64
	Bytes             uint64
	// Elapsed is how long it took.
	Elapsed time.Duration
}

// BlockReport is one block of an import.
type BlockReport struct {
	// ID is the block's ULID, Dir where it lies.
	ID, Dir string
	// MinTime and MaxTime (ms) are the closed range that is imported of it;
	// MinTime is greater than MaxTime when that is nothing.
	MinTime, MaxTime int64
	// Series and Samples are how many are imported: as the block says, or an
	// estimate if a selection cuts it.
	Series, Samples uint64
	// Earlier is how many of the samples earlier runs have imported, Done
	// whether that is all of them.
	Earlier uint64
	Done    bool
}

// Import carries the samples of TSDB blocks to a server. The report is valid
// beside an error too, for what was done until then. After an interruption the
// same call goes on where the state file says that this one came to.
func Import(ctx context.Context, cfg ImportConfig) (ImportReport, error) {
	if err := cfg.Validate(); err != nil {
		return ImportReport{}, fmt.Errorf("import: %w", err)
	}
	cfg = cfg.withDefaults()
	start := time.Now()
	i := &importer{cfg: cfg, batch: newBatch(), seen: make(map[uint64]struct{})}
	err := i.run(ctx)
	i.report.Series = uint64(len(i.seen))
	i.report.Elapsed = time.Since(start)
	if err != nil {
		err = fmt.Errorf("import: %w", err)
	}
	return i.report, err
}

// importer is one run of Import. It reads and encodes in the caller's
// goroutine; its outbox sends.
type importer struct {
	cfg       ImportConfig
	selectors [][]*labels.Matcher
	blocks    []blockDir
	state     *importState
	record    *importRecord
	batch     *batch
	out       *outbox
	report    ImportReport
	// seen holds the hashes of the series sent.
	seen map[uint64]struct{}
}

func (i *importer) run(ctx context.Context) (err error) {
	if i.selectors, err = i.cfg.Selection.parse(); err != nil {
		return err
	}
	if i.blocks, err = findBlocks(i.cfg.Paths, i.cfg.Logger); err != nil {
		return err
	}
	i.state = &importState{Version: importStateVersion}
	if i.cfg.StateFile != "" {
		if i.state, err = readImportState(i.cfg.StateFile); err != nil {
			return err
		}
	}
	i.record = i.state.record(&i.cfg.Endpoint, &i.cfg.Selection)
	if err := i.plan(ctx); err != nil || i.cfg.DryRun {
		return err
	}
	// Saved before anything is sent: an import that could not be resumed says
	// so now, not after hours.
	data, err := i.state.encode()
	if err != nil {
		return err
	}
	if err := publishState(i.cfg.StateFile, data); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	i.out = newOutbox(cancel, i)
	for n := range i.blocks {
		if i.report.Blocks[n].Done {
			continue
		}
		if err = i.sendBlock(ctx, n); err != nil {
			break
		}
	}
	return i.out.close(err)
}

// plan finds out how much there is to do.
func (i *importer) plan(ctx context.Context) error {
	for n := range i.blocks {
		r, err := i.planBlock(ctx, &i.blocks[n])
		if err != nil {
			return err
		}
		i.report.Blocks = append(i.report.Blocks, r)
	}
	return nil
}

func (i *importer) planBlock(ctx context.Context, b *blockDir) (BlockReport, error) {
	meta := &b.meta
	r := BlockReport{ID: b.id(), Dir: b.dir, Series: meta.Stats.NumSeries}
	// A block's MaxTime is not in it.
	r.MinTime, r.MaxTime = i.cfg.Selection.clip(meta.MinTime, meta.MaxTime-1)
	if r.MinTime > r.MaxTime {
		r.Series, r.Done = 0, true
		return r, nil
	}
	share := float64(r.MaxTime-r.MinTime+1) / float64(meta.MaxTime-meta.MinTime)
	if len(i.selectors) > 0 && meta.Stats.NumSeries > 0 {
		reader, err := openBlock(b.dir)
		if err != nil {
			return r, err
		}
		r.Series, err = reader.count(ctx, i.selectors)
		if err = errors.Join(err, reader.Close()); err != nil {
			return r, fmt.Errorf("block %s: %w", b.dir, err)
		}
		share *= float64(r.Series) / float64(meta.Stats.NumSeries)
	}
	r.Samples = uint64(share * float64(meta.Stats.NumSamples))
	if s, begun := i.record.Blocks[r.ID]; begun {
		r.Earlier, r.Done = s.Samples, s.Done
	}
	return r, nil
}

// sendBlock sends what is left of a block. It returns when all of it was
// acknowledged.
func (i *importer) sendBlock(ctx context.Context, n int) (err error) {
	plan := i.report.Blocks[n]
	reader, err := openBlock(plan.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	at := i.record.Blocks[plan.ID]
	i.out.startBlock(n, at)
	first := sliceStart(plan.MinTime)
	if at != (blockState{}) {
		first = max(first, at.Slice)
	}
	for slice := first; slice <= plan.MaxTime; slice += sliceSpan {
		after := uint64(0)
		if slice == at.Slice {
			after = at.Series
		}
		mint, maxt := max(slice, plan.MinTime), min(slice+sliceSpan-1, plan.MaxTime)
		if err := i.sendSlice(ctx, reader, slice, after, mint, maxt); err != nil {
			return fmt.Errorf("block %s: %w", plan.ID, err)
		}
	}
	return i.out.endBlock()
}

// sendSlice sends the series of a slice past the one at after.
func (i *importer) sendSlice(ctx context.Context, reader *blockReader, slice int64, after uint64, mint, maxt int64) error {
	set, reference, err := reader.series(ctx, i.selectors, after, mint, maxt)
	if err != nil {
		return err
	}
	// Within, since the slice goes on with the series of the one before.
	w := &sliceWriter{out: i.out, batch: i.batch, samples: i.cfg.BatchSamples, position: position{slice: slice, series: after}, within: true}
	for set.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		series := set.At()
		sent, err := w.write(ctx, series, mint, maxt)
		if err != nil {
			return fmt.Errorf("series %s: %w", series.Labels(), err)
		}
		if sent {
			i.seen[series.Labels().Hash()] = struct{}{}
		}
		if err := w.endSeries(ctx, reference()); err != nil {
			return err
		}
	}
	if err := set.Err(); err != nil {
		return err
	}
	// All of the slice is behind the start of the next.
	w.position = position{slice: slice + sliceSpan}
	return w.flush(ctx)
}
