package node

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/quorate/quorate/internal/router"
	"github.com/quorate/quorate/raftset"
)

// flushAgain is how long a replica whose flush failed is left alone.
const flushAgain = 10 * time.Second

// metaLogBytes is the size of the metadata log past its manifest at which the
// metadata is flushed: a snapshot of it is small, and a start replays the rest.
const metaLogBytes = 1 << 20

// flushLimits say when a replica is flushed. All are positive.
type flushLimits struct {
	// memcacheBytes flushes a shard whose memcache holds more.
	memcacheBytes int64
	// logBytes flushes a replica whose log has grown by more since the last
	// flush, which bounds how much a restart replays.
	logBytes int64
	// age flushes a replica whose oldest unflushed entry is older. Each
	// replica draws its own age from the upper half, so that they do not flush
	// together.
	age time.Duration
}

// flushTarget is one replica as the flusher sees it.
type flushTarget struct {
	group         *raftset.Group
	memcacheBytes int64
	limits        flushLimits
}

// flusher decides when replicas flush: those of samples and the metadata's. It
// looks at all of them in turn, so one replica flushes at a time and the disk
// is left to the log.
type flusher struct {
	limits   flushLimits
	meta     *raftset.Group
	replicas *router.Replicas
	logger   *slog.Logger
	// due is when a replica with unflushed entries is flushed for its age,
	// notBefore until when one whose flush failed is left alone.
	due, notBefore map[setID]time.Time
}

func newFlusher(limits flushLimits, meta *raftset.Group, replicas *router.Replicas, logger *slog.Logger) *flusher {
	return &flusher{
		limits: limits, meta: meta, replicas: replicas, logger: logger,
		due: make(map[setID]time.Time), notBefore: make(map[setID]time.Time),
	}
}

// run flushes until the context ends.
func (f *flusher) run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
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

func (f *flusher) targets() []flushTarget {
	ofMeta := f.limits
	ofMeta.logBytes = min(ofMeta.logBytes, metaLogBytes)
	targets := []flushTarget{{group: f.meta, limits: ofMeta}}
	for _, r := range f.replicas.All() {
		targets = append(targets, flushTarget{group: r.Group(), memcacheBytes: r.Shard().MemcacheBytes(), limits: f.limits})
	}
	return targets
}

func (f *flusher) pass(ctx context.Context, now time.Time) {
	for _, t := range f.targets() {
		status := t.group.Status()
		if !f.isDue(t, status, now) {
			continue
		}
		start := time.Now()
		if err := t.group.Flush(ctx); err != nil {
			// The memcache is kept and the log with it: nothing is lost.
			f.notBefore[status.Set] = now.Add(flushAgain)
			f.logger.Error("flush failed", "set", status.Set, "error", err)
			continue
		}
		delete(f.due, status.Set)
		f.logger.Debug("flushed", "set", status.Set, "index", status.AppliedIndex, "took", time.Since(start))
	}
}

func (f *flusher) isDue(t flushTarget, status raftset.Status, now time.Time) bool {
	if status.LogBytes == 0 || status.AppliedIndex <= status.ManifestIndex {
		delete(f.due, status.Set)
		return false
	}
	due, waiting := f.due[status.Set]
	if !waiting {
		half := t.limits.age / 2
		due = now.Add(half + rand.N(half+1))
		f.due[status.Set] = due
	}
	if now.Before(f.notBefore[status.Set]) {
		return false
	}
	return now.After(due) || t.memcacheBytes >= t.limits.memcacheBytes || status.LogBytes >= t.limits.logBytes
}
