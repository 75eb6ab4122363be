package node

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/router"
)

// FlushConfig says when a shard's memcache is written to a file.
type FlushConfig struct {
	// MaxMemcacheBytes flushes a shard whose memcache holds more. Zero means 64 MiB.
	MaxMemcacheBytes int64
	// MaxLogBytes flushes a shard whose log has grown by more since the last
	// flush, which bounds how much a restart replays. Zero means 256 MiB.
	MaxLogBytes int64
	// MaxAge flushes a shard whose oldest unflushed write is older. Zero means
	// 30 min. Each shard draws its own age from the upper half, so that
	// replicas do not flush together.
	MaxAge time.Duration
	// CheckEvery is how often the shards are looked at. Zero means 1 s.
	CheckEvery time.Duration
}

func (c FlushConfig) withDefaults() FlushConfig {
	if c.MaxMemcacheBytes == 0 {
		c.MaxMemcacheBytes = 64 << 20
	}
	if c.MaxLogBytes == 0 {
		c.MaxLogBytes = 256 << 20
	}
	if c.MaxAge == 0 {
		c.MaxAge = 30 * time.Minute
	}
	if c.CheckEvery == 0 {
		c.CheckEvery = time.Second
	}
	return c
}

// flusher decides when shards flush. It looks at all of them in turn, so one
// shard flushes at a time and the disk is left to the log.
type flusher struct {
	config   FlushConfig
	replicas *router.Replicas
	logger   *slog.Logger
	due      map[quorate.ReplicaSetID]time.Time // when a shard with unflushed writes is too old
}

// run flushes until the context ends.
func (f *flusher) run(ctx context.Context) {
	tick := time.NewTicker(f.config.CheckEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			f.pass(ctx, now)
		}
	}
}

func (f *flusher) pass(ctx context.Context, now time.Time) {
	seen := make(map[quorate.ReplicaSetID]bool)
	for _, r := range f.replicas.All() {
		status := r.Group().Status()
		seen[status.Set] = true
		if !f.isDue(r, now) {
			continue
		}
		delete(f.due, status.Set)
		start := time.Now()
		if err := r.Group().Flush(ctx); err != nil {
			// The memcache is kept and the log with it: nothing is lost, and
			// the next pass tries again.
			f.logger.Error("flush failed", "set", status.Set, "error", err)
			continue
		}
		f.logger.Info("flushed", "set", status.Set, "index", status.AppliedIndex, "took", time.Since(start))
	}
	for set := range f.due {
		if !seen[set] {
			delete(f.due, set)
		}
	}
}

func (f *flusher) isDue(r *router.Replica, now time.Time) bool {
	bytes := r.Shard().MemcacheBytes()
	status := r.Group().Status()
	if bytes == 0 || status.AppliedIndex <= status.ManifestIndex {
		delete(f.due, status.Set)
		return false
	}
	if bytes >= f.config.MaxMemcacheBytes || status.LogBytes >= f.config.MaxLogBytes {
		return true
	}
	due, ok := f.due[status.Set]
	if !ok {
		half := f.config.MaxAge / 2
		f.due[status.Set] = now.Add(half + rand.N(half+1))
		return false
	}
	return now.After(due)
}
