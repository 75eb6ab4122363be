package engine

import (
	"context"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// engine is what is measured.
type engine interface {
	// prepare makes the workload's present round ready for apply.
	prepare(w *workload)
	// apply stores it; the first round creates the series.
	apply(ctx context.Context, w *workload) error
	// flush writes all samples to disk and opens what it wrote.
	flush(ctx context.Context) error
	// memory and block read what was applied and what was flushed; what is
	// read from memory is let go of by release.
	memory() (tsdb.BlockReader, error)
	block() (tsdb.BlockReader, error)
	release() error
	close() error
}

// figures are what is measured of an engine.
type figures struct {
	newSeries            float64 // ns of CPU
	created, after       float64 // bytes of memory a series
	apply                float64 // ns a sample
	selected             float64 // ns a sample, from memory
	flush                float64 // ns a sample
	blockSelected        float64 // ns a sample, from the block
	blockBytes, sampleBs float64 // bytes a sample: all, without what describes series
	checksum             uint64  // of what was selected from the block
}

// measure measures an engine, but for its bytes on disk.
func measure(ctx context.Context, cfg Config, open func(context.Context, string, *workload) (engine, error), dir string) (e engine, f figures, err error) {
	w := newWorkload(cfg)
	base := heap()
	if e, err = open(ctx, dir, w); err != nil {
		return nil, f, err
	}
	var create, apply, flush clock
	round := func(c *clock) error {
		w.next()
		e.prepare(w)
		return c.run(func() error { return e.apply(ctx, w) })
	}
	if err := round(&create); err != nil {
		return e, f, fmt.Errorf("create series: %w", err)
	}
	f.newSeries = create.each(cfg.Series)
	f.created = float64(heap()-base) / float64(cfg.Series)
	for w.round+1 < cfg.BlockRounds {
		if err := round(&apply); err != nil {
			return e, f, fmt.Errorf("apply round %d: %w", w.round, err)
		}
		if w.round+1 == cfg.Rounds {
			f.after = float64(heap()-base) / float64(cfg.Series)
		}
	}
	f.apply = apply.each(cfg.Series * (cfg.BlockRounds - 1))
	if f.selected, _, err = selectAll(ctx, e.memory); err != nil {
		return e, f, fmt.Errorf("select from memory: %w", err)
	}
	if err := e.release(); err != nil {
		return e, f, err
	}
	if err := flush.run(func() error { return e.flush(ctx) }); err != nil {
		return e, f, fmt.Errorf("flush: %w", err)
	}
	f.flush = flush.each(cfg.Series * cfg.BlockRounds)
	return e, f, nil
}

// passes is how often a selection is made: the first finds the caches cold.
const passes = 3

// selectAll selects every series by a regular expression and walks all samples,
// and returns the CPU time of one, in ns, and a checksum of them.
func selectAll(ctx context.Context, open func() (tsdb.BlockReader, error)) (each float64, checksum uint64, err error) {
	b, err := open()
	if err != nil {
		return 0, 0, err
	}
	var c clock
	samples := 0
	for range passes {
		checksum = 0
		if err := c.run(func() error { return walk(ctx, b, &samples, &checksum) }); err != nil {
			return 0, 0, err
		}
	}
	return c.each(samples), checksum, nil
}

func walk(ctx context.Context, b tsdb.BlockReader, samples *int, checksum *uint64) error {
	q, err := tsdb.NewBlockQuerier(b, math.MinInt64, math.MaxInt64)
	if err != nil {
		return err
	}
	set := q.Select(ctx, true, nil, labels.MustNewMatcher(labels.MatchRegexp, labels.MetricName, "http_server_.*"))
	var it chunkenc.Iterator
	for set.Next() {
		it = set.At().Iterator(it)
		for it.Next() != chunkenc.ValNone {
			t, v := it.At()
			*checksum = *checksum*31 + uint64(t) ^ math.Float64bits(v)
			*samples++
		}
		if err := it.Err(); err != nil {
			return err
		}
	}
	if err := set.Err(); err != nil {
		return err
	}
	return q.Close()
}

// bytesIn returns the bytes of all files in a directory.
func bytesIn(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		total += info.Size()
		return nil
	})
	return total, err
}
