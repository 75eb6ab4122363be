package interchange

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/quorate/quorate"
)

const (
	metaFile = "meta.json"
	// knownMetaVersion is the version of meta.json that the tsdb library reads.
	knownMetaVersion = 1
)

// blockDir is a block of Prometheus' TSDB on disk.
type blockDir struct {
	dir  string
	meta tsdb.BlockMeta
}

func (b *blockDir) id() string { return b.meta.ULID.String() }

// findBlocks lists the blocks at the paths, each of which is a block or a data
// directory full of them, in order of time. Blocks that others were compacted
// from are left out, and so is a block that is named twice.
func findBlocks(paths []string, logger *slog.Logger) ([]blockDir, error) {
	found := map[ulid.ULID]blockDir{}
	for _, path := range paths {
		blocks, err := blocksAt(path, logger)
		if err != nil {
			return nil, err
		}
		for _, b := range blocks {
			found[b.meta.ULID] = b
		}
	}
	superseded := map[ulid.ULID]string{}
	for id, b := range found {
		for _, parent := range b.meta.Compaction.Parents {
			if parent.ULID != id {
				superseded[parent.ULID] = b.dir
			}
		}
	}
	blocks := make([]blockDir, 0, len(found))
	for id, b := range found {
		if into, old := superseded[id]; old {
			logger.Info("a block is left out: another was compacted from it", "block", b.dir, "into", into)
			continue
		}
		blocks = append(blocks, b)
	}
	slices.SortFunc(blocks, func(a, b blockDir) int {
		return cmp.Or(cmp.Compare(a.meta.MinTime, b.meta.MinTime), a.meta.ULID.Compare(b.meta.ULID))
	})
	return blocks, nil
}

// blocksAt lists the block or blocks at one path.
func blocksAt(path string, logger *slog.Logger) ([]blockDir, error) {
	if b, err := readBlock(path); err == nil {
		return []blockDir{b}, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var blocks []blockDir
	head := false
	for _, e := range entries {
		if e.Name() == "wal" || e.Name() == "chunks_head" {
			head = true
			continue
		}
		if _, err := ulid.ParseStrict(e.Name()); err != nil || !e.IsDir() {
			continue
		}
		b, err := readBlock(filepath.Join(path, e.Name()))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			logger.Warn("a block without meta.json is left out: it is not complete", "block", filepath.Join(path, e.Name()))
		case err != nil:
			return nil, err
		default:
			blocks = append(blocks, b)
		}
	}
	switch {
	case len(blocks) > 0 && head:
		logger.Warn("the head is not read: samples that Prometheus has not yet put into a block, about the last 2 to 3 hours, are not imported (a snapshot by its admin API has them in a block)", "path", path)
	case head:
		return nil, fmt.Errorf("%s is a TSDB directory that has no block yet: its samples are in the head (wal, chunks_head), which is not read; import a snapshot by Prometheus' admin API, which has them in a block", path)
	case len(blocks) == 0:
		return nil, fmt.Errorf("%s is neither a TSDB block nor a directory of blocks", path)
	}
	return blocks, nil
}

// readBlock reads what a block says of itself. The error wraps fs.ErrNotExist
// if the directory is no block.
func readBlock(dir string) (blockDir, error) {
	data, err := os.ReadFile(filepath.Join(dir, metaFile))
	if err != nil {
		return blockDir{}, err
	}
	b := blockDir{dir: dir}
	if err := json.Unmarshal(data, &b.meta); err != nil {
		return blockDir{}, fmt.Errorf("block %s: %s: %w", dir, metaFile, err)
	}
	if b.meta.Version != knownMetaVersion {
		return blockDir{}, fmt.Errorf("block %s: %s has version %d; version %d is known here", dir, metaFile, b.meta.Version, knownMetaVersion)
	}
	if b.meta.ULID == (ulid.ULID{}) || b.meta.MinTime > b.meta.MaxTime {
		return blockDir{}, fmt.Errorf("block %s: %s makes no sense: block %s from %d to %d", dir, metaFile, b.id(), b.meta.MinTime, b.meta.MaxTime)
	}
	return b, nil
}

func formatTime(ms int64) string { return quorate.FormatTime(ms) }

// sliceSpan is how much time of a block is sent at a time: the server's buckets
// are a day long unless configured otherwise.
const sliceSpan = int64(24 * time.Hour / time.Millisecond)

// sliceStart is the start of the slice that holds a time.
func sliceStart(t int64) int64 {
	start := t - t%sliceSpan
	if start > t {
		start -= sliceSpan
	}
	return start
}
