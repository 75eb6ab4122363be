package verify

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/raftset"
	"github.com/quorate/quorate/tsdbshard"
	"github.com/quorate/quorate/tsdbshard/block"
)

const (
	deltaSuffix  = ".qdelta"
	sealedPrefix = "sealed-"
	sealedSuffix = ".qblock"
)

// samples checks a replica's directory below setsName, by what its log says of
// it: the delta blocks of an open replica, the canonical block of a sealed one,
// or both where a seal was cut short.
func (c *check) samples(ctx context.Context, f found, log *raftset.Report, r *Replica) error {
	dir := filepath.Join(setsName, f.key.String())
	entries, err := os.ReadDir(filepath.Join(c.cfg.Dir, dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.problem(Finding{File: dir, Offset: -1, What: err.Error(), Remedy: remedyReplica})
		return nil
	}
	var deltas, blocks []string
	for _, e := range entries {
		switch name := e.Name(); {
		case strings.HasSuffix(name, deltaSuffix):
			deltas = append(deltas, name)
		case strings.HasPrefix(name, sealedPrefix) && strings.HasSuffix(name, sealedSuffix):
			blocks = append(blocks, name)
		default:
			c.note(Finding{File: filepath.Join(dir, name), Offset: -1, What: "this is no file that counts; the server removes or ignores it"})
		}
	}
	good, err := c.sealed(ctx, dir, f, blocks, r)
	if err != nil {
		return err
	}
	set := c.records.sets[f.key.set]
	if f.raft == "" {
		if !c.canonical[f.key] && len(deltas) > 0 && (set == nil || !slices.Contains(set.Dropped, f.key.replica)) {
			c.problem(Finding{
				File: dir, Offset: -1, What: fmt.Sprintf("%d delta blocks, but no log: nobody knows what they are", len(deltas)), Remedy: remedyGone,
			})
		}
		return nil
	}
	if good && set != nil && set.State == metasvc.ReplicaSetSealed {
		c.note(Finding{File: dir, Offset: -1, What: "the replica is sealed; the next start moves its log and its delta blocks to the trash"})
		return nil
	}
	if log.Index == 0 {
		return nil // without a manifest nobody knows which files count
	}
	return c.open(ctx, dir, f, log, deltas, r)
}

// open checks the delta blocks that the manifest names. Until a set is recorded
// as sealed, they and the log are what counts, whatever else lies there.
func (c *check) open(ctx context.Context, dir string, f found, log *raftset.Report, deltas []string, r *Replica) error {
	cfg := tsdbshard.Config{Dir: filepath.Join(c.cfg.Dir, dir), Set: f.key.set}
	report, err := tsdbshard.Verify(ctx, cfg, log.Payload, log.Index)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	r.State = StateOpen
	r.Files, r.Series, r.Samples, r.Bytes = report.Files, report.Series, report.Samples, report.Bytes
	if err == nil {
		return nil
	}
	// It stops at the first thing that is wrong. Each file by itself says what
	// else there is.
	named := 0
	for _, name := range deltas {
		_, fileErr := verifyFile(ctx, filepath.Join(cfg.Dir, name))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if fileErr != nil {
			named++
			c.problem(Finding{File: filepath.Join(dir, name), Offset: -1, What: fileErr.Error(), Remedy: remedyOf(fileErr, remedyReplica)})
		}
	}
	if named == 0 {
		c.problem(Finding{File: dir, Offset: -1, What: err.Error(), Remedy: remedyOf(err, remedyReplica)})
	}
	return nil
}

// sealed checks the canonical blocks of a replica. Good tells that the one that
// counts is there and whole.
func (c *check) sealed(ctx context.Context, dir string, f found, names []string, r *Replica) (good bool, err error) {
	for _, name := range names {
		path := filepath.Join(dir, name)
		hash := strings.TrimSuffix(strings.TrimPrefix(name, sealedPrefix), sealedSuffix)
		if set := c.records.sets[f.key.set]; set != nil && set.Sealed != nil && hash != hex.EncodeToString(set.Sealed.File.Hash[:]) {
			c.note(Finding{File: path, Offset: -1, What: fmt.Sprintf("the set was sealed as %x, not as this file", set.Sealed.File.Hash)})
			continue
		}
		c.canonical[f.key] = true
		summary, err := verifyFile(ctx, filepath.Join(c.cfg.Dir, path))
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if err == nil && hash != hex.EncodeToString(summary.Hash[:]) {
			err = fmt.Errorf("%w: its content has the hash %x", block.ErrDamaged, summary.Hash)
		}
		if err != nil {
			c.problem(Finding{File: path, Offset: -1, What: err.Error(), Remedy: remedyOf(err, remedySealed)})
			continue
		}
		good = true
		r.State, r.Files, r.Series, r.Samples, r.Bytes = StateSealed, 1, uint64(summary.Series), summary.Samples, summary.Bytes
	}
	return good, nil
}

// verifyFile reads and checks a whole block.
func verifyFile(ctx context.Context, path string) (summary block.Summary, err error) {
	file, err := durable.Disk{}.Open(path)
	if err != nil {
		return block.Summary{}, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return block.Summary{}, err
	}
	return block.Verify(ctx, file, info.Size())
}

// remedyOf is what to do about an error of a file.
func remedyOf(err error, otherwise string) string {
	if isVersion(err) {
		return remedyVersion
	}
	return otherwise
}

// isVersion tells errors about formats that this binary does not know.
func isVersion(err error) bool {
	return errors.Is(err, block.ErrFormat) || errors.Is(err, tsdbshard.ErrFormat) || errors.Is(err, metasvc.ErrUnknownVersion)
}
