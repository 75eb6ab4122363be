package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/raftset"
)

const (
	// flushEvery is how often the flusher looks.
	flushEvery = time.Second
	// flushAgain is how long a replica whose flush failed is left alone.
	flushAgain = 10 * time.Second
	// metaLogBytes is the size of the metadata log past its manifest at which
	// the metadata is flushed: a snapshot of it is small, and a start replays
	// the rest.
	metaLogBytes = 1 << 20
	// replayQuickly is the size of a log that a start replays in no time, so
	// that a shutdown does not flush for it.
	replayQuickly = 1 << 20
)

// FlushLimits say when a replica is flushed.
type FlushLimits struct {
	// MemcacheBytes flushes a shard whose memcache holds more. Default: 64 MiB.
	MemcacheBytes int64
	// TotalMemcacheBytes flushes shards, the largest first, while all memcaches
	// of the node together hold more. Default: 256 MiB.
	TotalMemcacheBytes int64
	// LogBytes flushes a replica whose log has grown by more since the last
	// flush, which bounds how much a restart replays. Default: 256 MiB.
	LogBytes int64
	// Age flushes a replica whose oldest unflushed entry is older. Each replica
	// draws its own age from the upper half, so that they do not flush together.
	// Default: 30 min.
	Age time.Duration
	// ShutdownTimeout bounds the flush when the node closes. 0 makes none: the
	// log has everything, and the next start replays it.
	ShutdownTimeout time.Duration
}

func (l FlushLimits) withDefaults() FlushLimits {
	for _, f := range []struct {
		field  *int64
		preset int64
	}{{&l.MemcacheBytes, 64 << 20}, {&l.TotalMemcacheBytes, 256 << 20}, {&l.LogBytes, 256 << 20}} {
		if *f.field <= 0 {
			*f.field = f.preset
		}
	}
	if l.Age <= 0 {
		l.Age = 30 * time.Minute
	}
	return l
}

// flushable is what the flusher needs of a raftset.Group.
type flushable interface {
	Status() raftset.Status
	Flush(ctx context.Context) error
}

// flushTarget is one replica as the flusher sees it.
type flushTarget struct {
	group flushable
	// memcacheBytes tells the memory of the replica's unflushed samples.
	memcacheBytes func() int64
	// logBytes is the FlushLimits.LogBytes of this one.
	logBytes int64
}

// flusher decides when replicas flush: those of samples and the metadata's. It
// looks at all of them in turn, so one replica flushes at a time and the disk
// is left to the log.
type flusher struct {
	limits  FlushLimits
	targets func() []flushTarget
	logger  *slog.Logger
	// due is when a replica with unflushed entries is flushed for its age,
	// notBefore until when one whose flush failed is left alone. Both belong to
	// run.
	due, notBefore map[setID]time.Time
}

func newFlusher(limits FlushLimits, targets func() []flushTarget, logger *slog.Logger) *flusher {
	return &flusher{
		limits: limits, targets: targets, logger: logger,
		due: make(map[setID]time.Time), notBefore: make(map[setID]time.Time),
	}
}

// flushTargets lists what can be flushed now: the metadata group, and the
// replicas that run on their logs.
func (m *Manager) flushTargets() []flushTarget {
	var targets []flushTarget
	if group := m.cfg.Metadata(); group != nil {
		none := func() int64 { return 0 }
		targets = append(targets, flushTarget{group, none, min(m.cfg.Flush.LogBytes, metaLogBytes)})
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.replicas {
		if r.group != nil {
			targets = append(targets, flushTarget{r.group, r.shard.MemcacheBytes, m.cfg.Flush.LogBytes})
		}
	}
	return targets
}

// run flushes until the context ends.
func (f *flusher) run(ctx context.Context) {
	tick := time.NewTicker(flushEvery)
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

// pass flushes the replicas that are due, and then the largest while all
// together take too much memory.
func (f *flusher) pass(ctx context.Context, now time.Time) {
	targets := f.targets()
	f.forget(targets)
	for _, t := range targets {
		if status := t.group.Status(); f.isDue(t, status, now) {
			f.flush(ctx, t, status, now)
		}
	}
	total := int64(0)
	for _, t := range targets {
		total += t.memcacheBytes()
	}
	if total <= f.limits.TotalMemcacheBytes {
		return
	}
	slices.SortFunc(targets, func(a, b flushTarget) int { return cmp.Compare(b.memcacheBytes(), a.memcacheBytes()) })
	for _, t := range targets {
		before := t.memcacheBytes()
		status := t.group.Status()
		if total <= f.limits.TotalMemcacheBytes || before == 0 {
			return
		}
		if now.Before(f.notBefore[status.Set]) {
			continue
		}
		f.flush(ctx, t, status, now)
		total += t.memcacheBytes() - before
	}
}

// forget lets go of the times of replicas that are not open any more.
func (f *flusher) forget(targets []flushTarget) {
	if len(f.due)+len(f.notBefore) <= 2*len(targets) {
		return
	}
	open := make(map[setID]bool, len(targets))
	for _, t := range targets {
		open[t.group.Status().Set] = true
	}
	for _, times := range []map[setID]time.Time{f.due, f.notBefore} {
		for set := range times {
			if !open[set] {
				delete(times, set)
			}
		}
	}
}

func (f *flusher) flush(ctx context.Context, t flushTarget, status raftset.Status, now time.Time) {
	start := time.Now()
	if err := t.group.Flush(ctx); err != nil {
		// The memcache is kept and the log with it: nothing is lost.
		f.notBefore[status.Set] = now.Add(flushAgain)
		if ctx.Err() == nil && !errors.Is(err, raftset.ErrStopped) {
			f.logger.Error("flush failed", "set", status.Set, "err", err)
		}
		return
	}
	delete(f.due, status.Set)
	f.logger.Debug("flushed", "set", status.Set, "index", status.AppliedIndex, "took", time.Since(start))
}

func (f *flusher) isDue(t flushTarget, status raftset.Status, now time.Time) bool {
	if !hasUnflushed(status) {
		delete(f.due, status.Set)
		return false
	}
	due, waiting := f.due[status.Set]
	if !waiting {
		half := f.limits.Age / 2
		due = now.Add(half + rand.N(half+1))
		f.due[status.Set] = due
	}
	if now.Before(f.notBefore[status.Set]) {
		return false
	}
	return now.After(due) || t.memcacheBytes() >= f.limits.MemcacheBytes || status.LogBytes >= t.logBytes
}

func hasUnflushed(s raftset.Status) bool { return s.LogBytes > 0 && s.AppliedIndex > s.ManifestIndex }

// FlushReport is what FlushAll did.
type FlushReport struct {
	// Sets is how many replicas had something to flush, the metadata's included.
	Sets int
	// Bytes is how much memory their unflushed samples had taken.
	Bytes int64
	// Took is how long all of it took.
	Took time.Duration
}

// FlushAll flushes every replica that has something to flush, and waits for it.
func (m *Manager) FlushAll(ctx context.Context) (FlushReport, error) {
	return m.flusher.flushAll(ctx, 0)
}

// flushAll flushes, as many at once as there are CPUs, the replicas whose logs
// hold at least some bytes past the manifest, the longest log first.
func (f *flusher) flushAll(ctx context.Context, logBytes int64) (FlushReport, error) {
	start := time.Now()
	type candidate struct {
		flushTarget
		raftset.Status
	}
	var all []candidate
	for _, t := range f.targets() {
		if s := t.group.Status(); hasUnflushed(s) && s.LogBytes >= logBytes && s.Broken == nil {
			all = append(all, candidate{t, s})
		}
	}
	slices.SortFunc(all, func(a, b candidate) int { return cmp.Compare(b.LogBytes, a.LogBytes) })
	var mu sync.Mutex
	var errs []error
	var report FlushReport
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, c := range all {
		group.Go(func() error {
			before := c.memcacheBytes()
			err := c.group.Flush(ctx)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				report.Sets++
				report.Bytes += max(before-c.memcacheBytes(), 0)
			}
			errs = append(errs, err)
			return nil
		})
	}
	_ = group.Wait() // the errors are in errs, all of them
	report.Took = time.Since(start)
	return report, errors.Join(errs...)
}

// flushForShutdown flushes what the next start would take long to replay.
func (f *flusher) flushForShutdown(ctx context.Context) {
	if f.limits.ShutdownTimeout <= 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, f.limits.ShutdownTimeout)
	defer cancel()
	report, err := f.flushAll(ctx, replayQuickly)
	switch {
	case err != nil:
		// The log has everything; the next start replays it.
		f.logger.Warn("not all was flushed before the shutdown", "sets", report.Sets, "took", report.Took, "err", err)
	case report.Sets > 0:
		f.logger.Info("flushed before the shutdown", "sets", report.Sets, "took", report.Took)
	}
}

// Compact has the shard of an open set write its blocks anew, without what was
// deleted from them, and waits for it. A set that does not run on a log here
// has nothing to compact.
func (m *Manager) Compact(ctx context.Context, set quorate.ReplicaSetID) error {
	m.mu.Lock()
	r := m.replicas[set]
	if r == nil || r.group == nil {
		m.mu.Unlock()
		return nil
	}
	group, shard := r.group, r.shard
	m.mu.Unlock()
	return compact(ctx, shard, group)
}

// compactable is what Compact needs of a tsdbshard.Shard, rewriter what it needs
// of a raftset.Group.
type (
	compactable interface{ RequestCompaction() }
	rewriter    interface {
		Flush(ctx context.Context) error
		Rewrite(ctx context.Context) error
	}
)

// compact asks for a compaction and returns when it is published. A flush that
// froze the shard before the request does not carry it out, and would leave a
// Rewrite that waited for it nothing new to publish. One flush runs at a time,
// so once another has come through, every later one, whoever started it, froze
// the shard after the request.
func compact(ctx context.Context, shard compactable, group rewriter) error {
	shard.RequestCompaction()
	if err := group.Flush(ctx); err != nil {
		return err
	}
	return group.Rewrite(ctx)
}
