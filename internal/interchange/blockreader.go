package interchange

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/prometheus/prometheus/tsdb/tombstones"
)

// blockReader is an open block. Opening maps its files into memory read-only.
type blockReader struct {
	block      *tsdb.Block
	index      tsdb.IndexReader
	chunks     tsdb.ChunkReader
	tombstones tombstones.Reader
}

func openBlock(dir string) (_ *blockReader, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("open block %s: %w", dir, err)
		}
	}()
	r := &blockReader{}
	if r.block, err = tsdb.OpenBlock(slog.New(slog.DiscardHandler), dir, nil, nil); err != nil {
		return nil, err
	}
	if r.index, err = r.block.Index(); err == nil {
		if r.chunks, err = r.block.Chunks(); err == nil {
			if r.tombstones, err = r.block.Tombstones(); err == nil {
				return r, nil
			}
		}
	}
	return nil, errors.Join(err, r.Close())
}

// Close releases the block.
func (r *blockReader) Close() error {
	var errs []error
	if r.tombstones != nil {
		errs = append(errs, r.tombstones.Close())
	}
	if r.chunks != nil {
		errs = append(errs, r.chunks.Close())
	}
	if r.index != nil {
		errs = append(errs, r.index.Close())
	}
	return errors.Join(append(errs, r.block.Close())...)
}

// postings are the series that one of the selectors matches, all without a
// selector, in the order of labels, which is that of their references.
func (r *blockReader) postings(ctx context.Context, selectors [][]*labels.Matcher) (index.Postings, error) {
	if len(selectors) == 0 {
		name, value := index.AllPostingsKey()
		return r.index.Postings(ctx, name, value)
	}
	all := make([]index.Postings, len(selectors))
	for i, matchers := range selectors {
		var err error
		if all[i], err = tsdb.PostingsForMatchers(ctx, r.index, matchers...); err != nil {
			return nil, err
		}
	}
	return index.Merge(ctx, all...), nil
}

// count is how many series the selectors match.
func (r *blockReader) count(ctx context.Context, selectors [][]*labels.Matcher) (n uint64, err error) {
	p, err := r.postings(ctx, selectors)
	if err != nil {
		return 0, err
	}
	for p.Next() {
		n++
	}
	return n, p.Err()
}

// series goes over the matched series past the one at after that have samples in
// the closed range, with chunks that overlap it. Reference tells where the
// current one is.
func (r *blockReader) series(ctx context.Context, selectors [][]*labels.Matcher, after uint64, mint, maxt int64) (set storage.ChunkSeriesSet, reference func() uint64, err error) {
	p, err := r.postings(ctx, selectors)
	if err != nil {
		return nil, nil, err
	}
	from := &postingsFrom{Postings: p, after: storage.SeriesRef(after)}
	set = tsdb.NewBlockChunkSeriesSet(r.block.Meta().ULID, r.index, r.chunks, r.tombstones, from, mint, maxt, true)
	return set, func() uint64 { return uint64(from.At()) }, nil
}

// postingsFrom leaves out references up to and with after.
type postingsFrom struct {
	index.Postings
	after   storage.SeriesRef
	started bool
}

// Next implements index.Postings.
func (p *postingsFrom) Next() bool {
	if p.started || p.after == 0 {
		return p.Postings.Next()
	}
	p.started = true
	return p.Seek(p.after + 1)
}
