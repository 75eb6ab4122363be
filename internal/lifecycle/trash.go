package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/durable"
)

// sweepEvery is how often the trash is looked at.
const sweepEvery = 30 * time.Second

// TrashLimits say how long what was given up is kept.
type TrashLimits struct {
	// Keep is how long an entry stays. Default: 24 h.
	Keep time.Duration
	// MinFreeBytes is the free space of the file system below which entries go
	// at once, the oldest first, until there is as much. Default: it never hurries.
	MinFreeBytes int64
}

func (l TrashLimits) withDefaults() TrashLimits {
	if l.Keep <= 0 {
		l.Keep = 24 * time.Hour
	}
	return l
}

// trash is the one place from which files of samples are deleted.
type trash struct {
	dir     string
	limits  TrashLimits
	now     func() time.Time
	free    func(dir string) (int64, error)
	logger  *slog.Logger
	metrics *metrics
}

func openTrash(cfg Config, m *metrics) (*trash, error) {
	t := &trash{
		dir: filepath.Join(cfg.DataDir, TrashDir), limits: cfg.Trash,
		now: cfg.Now, free: cfg.Free, logger: cfg.Logger, metrics: m,
	}
	for _, dir := range []string{t.dir, filepath.Join(cfg.DataDir, SetsDir)} {
		if err := durable.MkdirAll(dir); err != nil {
			return nil, fmt.Errorf("lifecycle: %w", err)
		}
	}
	return t, nil
}

// newEntry makes an empty directory for what a replica gives up.
func (t *trash) newEntry(set setID, replica quorate.ReplicaID) (string, error) {
	ms := t.now().UnixMilli()
	for count := 0; ; count++ {
		path := filepath.Join(t.dir, trashName(ms, set, replica, count))
		switch err := os.Mkdir(path, 0o700); {
		case err == nil:
			return path, durable.SyncDir(t.dir)
		case !errors.Is(err, fs.ErrExist):
			return "", err
		}
	}
}

// run empties the trash until the context ends.
func (t *trash) run(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if err := t.sweep(ctx); err != nil {
			t.logger.Error("trash cannot be emptied", "dir", t.dir, "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// trashEntry is one directory in the trash.
type trashEntry struct {
	name string
	made time.Time
}

// sweep removes the entries that are old enough and, while space is short, the
// oldest of the others.
func (t *trash) sweep(ctx context.Context) error {
	entries, err := t.list()
	if err != nil {
		return err
	}
	for len(entries) > 0 && ctx.Err() == nil {
		reason := "old"
		if t.now().Sub(entries[0].made) < t.limits.Keep {
			free, err := t.free(t.dir)
			if err != nil {
				return fmt.Errorf("free space of %s: %w", t.dir, err)
			}
			if free >= t.limits.MinFreeBytes {
				break
			}
			reason = "space"
		}
		if err := t.remove(entries[0], reason); err != nil {
			return err
		}
		entries = entries[1:]
	}
	t.metrics.trashed.Set(float64(len(entries)))
	return nil
}

// list returns the entries, the oldest first. What else lies in the trash is
// not the trash's to delete.
func (t *trash) list() (entries []trashEntry, err error) {
	names, err := os.ReadDir(t.dir)
	if err != nil {
		return nil, err
	}
	for _, e := range names {
		if ms, ok := parseTrashName(e.Name()); ok && e.IsDir() {
			entries = append(entries, trashEntry{name: e.Name(), made: time.UnixMilli(ms)})
		}
	}
	slices.SortFunc(entries, func(a, b trashEntry) int { return a.made.Compare(b.made) })
	return entries, nil
}

func (t *trash) remove(e trashEntry, reason string) error {
	// What a crash leaves of the entry keeps its name and goes the next time.
	if err := os.RemoveAll(filepath.Join(t.dir, e.name)); err != nil {
		return err
	}
	t.metrics.removed.WithLabelValues(reason).Inc()
	t.logger.Info("trash removed", "entry", e.name, "made", e.made.UTC(), "reason", reason)
	return nil
}

// freeBytes returns the space that a file system has left for this process.
func freeBytes(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil //nolint:unconvert // their types differ between systems
}
