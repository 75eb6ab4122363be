package engine

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// head is Prometheus' engine: a Head without a write-ahead log, since the log
// of the other is not measured either, and the block that it is compacted to.
type head struct {
	dir     string
	head    *tsdb.Head
	written *tsdb.Block
	refs    []storage.SeriesRef
	labels  []labels.Labels // of the first round
}

func newHead(_ context.Context, dir string, w *workload) (engine, error) {
	opts := tsdb.DefaultHeadOptions()
	opts.ChunkRange = tsdb.DefaultBlockDuration
	opts.ChunkDirRoot = filepath.Join(dir, "head")
	h, err := tsdb.NewHead(nil, slog.New(slog.DiscardHandler), nil, nil, opts, tsdb.NewHeadStats())
	if err != nil {
		return nil, err
	}
	return &head{dir: dir, head: h, refs: make([]storage.SeriesRef, w.cfg.Series)}, nil
}

func (h *head) prepare(w *workload) {
	if w.round > 0 {
		h.labels = nil
		return
	}
	h.labels = make([]labels.Labels, w.cfg.Series)
	for i := range h.labels {
		list := labelsOf(i)
		h.labels[i] = labels.New(list[:]...)
	}
}

func (h *head) apply(ctx context.Context, w *workload) error {
	for from := 0; from < w.cfg.Series; from += samplesPerEntry {
		app := h.head.Appender(ctx)
		for i := from; i < min(from+samplesPerEntry, w.cfg.Series); i++ {
			var l labels.Labels
			if h.labels != nil {
				l = h.labels[i]
			}
			ref, err := app.Append(h.refs[i], l, w.time(i), w.values[i])
			if err != nil {
				return err
			}
			h.refs[i] = ref
		}
		if err := app.Commit(); err != nil {
			return err
		}
	}
	h.labels = nil // which the head has taken over
	return nil
}

// flush compacts the head to a block.
func (h *head) flush(ctx context.Context) error {
	discard := slog.New(slog.DiscardHandler)
	compactor, err := tsdb.NewLeveledCompactor(ctx, nil, discard, []int64{tsdb.DefaultBlockDuration}, chunkenc.NewPool(), nil)
	if err != nil {
		return err
	}
	mint, maxt := h.head.MinTime(), h.head.MaxTime()
	dir := filepath.Join(h.dir, "block")
	ids, err := compactor.Write(dir, tsdb.NewRangeHead(h.head, mint, maxt), mint, maxt+1, nil)
	if err != nil {
		return err
	}
	if len(ids) != 1 {
		return errors.New("the head was not compacted to one block")
	}
	h.written, err = tsdb.OpenBlock(discard, filepath.Join(dir, ids[0].String()), chunkenc.NewPool(), nil)
	return err
}

func (h *head) memory() (tsdb.BlockReader, error) {
	return tsdb.NewRangeHead(h.head, h.head.MinTime(), h.head.MaxTime()), nil
}

func (h *head) block() (tsdb.BlockReader, error) { return h.written, nil }

func (h *head) release() error { return nil }

func (h *head) close() error {
	var err error
	if h.written != nil {
		err = h.written.Close()
	}
	return errors.Join(err, h.head.Close())
}
