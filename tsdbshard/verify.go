package tsdbshard

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/quorate/quorate/tsdbshard/block"
)

// VerifyReport says what Verify read.
type VerifyReport struct {
	// Files is the number of delta blocks, Bytes their length.
	Files int
	Bytes uint64
	// Series is the number of series defined, Samples that of the samples;
	// a sample that is in two blocks counts twice.
	Series  uint64
	Samples uint64
	// Tombstones is the number of deletes that are not folded in yet.
	Tombstones int
	// Sealed tells that the set was sealed.
	Sealed bool
}

// Verify reads every byte of the blocks that the payload of a replica's
// manifest names, checks them, and loads them as Open does. The replica must
// not be open. An error wraps ErrDamaged, ErrFormat or fs.ErrNotExist and names
// the file.
func Verify(ctx context.Context, cfg Config, payload []byte, index uint64) (VerifyReport, error) {
	var report VerifyReport
	m, err := decodeManifest(payload)
	if err != nil {
		return report, err
	}
	for i := range m.files {
		e := &m.files[i]
		path := filepath.Join(cfg.Dir, e.name())
		found, err := verifyFile(ctx, cfg, path)
		if err != nil {
			return report, fmt.Errorf("block %s: %w", path, err)
		}
		if got := entryOf(e.lo, e.hi, found, found.Hash); got != *e {
			return report, fmt.Errorf("block %s: %w: the manifest says %+v, the file is %+v", path, ErrDamaged, *e, got)
		}
		report.Files++
		report.Bytes += found.Bytes
		report.Series += uint64(found.Series)
		report.Samples += found.Samples
	}
	report.Tombstones, report.Sealed = len(m.tombstones), m.seal != nil
	s, err := New(cfg)
	if err != nil {
		return report, err
	}
	st, err := s.loadState(ctx, payload, index)
	if err != nil {
		return report, err
	}
	releaseAll(st.files)
	return report, nil
}

// verifyFile reads and checks all of a block.
func verifyFile(ctx context.Context, cfg Config, path string) (_ block.Summary, err error) {
	f, err := cfg.open(path)
	if err != nil {
		return block.Summary{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return block.Summary{}, err
	}
	found, err := block.Verify(ctx, f, info.Size())
	return found, blockError(err)
}
