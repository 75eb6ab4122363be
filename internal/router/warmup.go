package router

import (
	"context"
	"sync"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

const (
	// maxWarmSeries and maxWarmBytes (of labels) bound what waits to be made
	// known. What is over them is dropped, and offered again by the next
	// request that brings it.
	maxWarmSeries = 64 << 10
	maxWarmBytes  = 16 << 20
	// warmEvery is the pause between two rounds. Each is a log entry with an
	// fsync per set, which the current bucket's sets need more.
	warmEvery = time.Second
	// warmTimeout bounds the sending of one batch.
	warmTimeout = 5 * time.Second
)

// warmup makes series known to sets before they have samples for them, beside
// the requests that brought the series. It is an optimisation: it never makes a
// request wait, and gives up on whatever does not succeed.
type warmup struct {
	router *Router
	every  time.Duration

	mu      sync.Mutex // guards what follows
	waiting map[warmTarget]*warmBatch
	series  int // in all of waiting
	bytes   int // of their labels
	started bool
	closed  bool
	cancel  context.CancelFunc // of the batch under way

	wake chan struct{} // something waits
	stop chan struct{}
	done chan struct{} // closed by run at its end
}

// warmTarget is where a batch goes.
type warmTarget struct {
	tenant quorate.TenantID
	set    quorate.ReplicaSetID
}

// warmBatch is the series of one tenant that one set is to know.
type warmBatch struct {
	warmTarget
	ctx    context.Context //nolint:containedctx // of the request that began the batch, without its end
	cache  *routeCache
	batch  wire.Batch // definitions alone
	arena  []byte     // of the definitions
	keys   []wire.SeriesKey
	routes []warmRoute
	known  map[wire.SeriesKey]struct{} // keys, since requests may repeat a series
}

// warmRoute is what the route cache is to know of a series besides its ref.
type warmRoute struct {
	hash uint64
	keep keepSets
}

func newWarmup(r *Router) *warmup {
	return &warmup{
		router: r, every: warmEvery, waiting: make(map[warmTarget]*warmBatch),
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
}

// offer takes a series in, or drops it and returns false where too many wait.
// The first one starts the goroutine, so that a router that never sees the end
// of a bucket has none; close ends it.
func (w *warmup) offer(ctx context.Context, s warmSeries) (room bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	target := warmTarget{s.tenant, s.set.ID}
	b := w.waiting[target]
	if b != nil {
		if _, known := b.known[s.key]; known {
			return true
		}
	}
	if w.closed || w.series >= maxWarmSeries || w.bytes+len(s.labels) > maxWarmBytes || b != nil && len(b.arena) >= maxPartBytes {
		w.router.metrics.notWarmed.Inc()
		return false
	}
	if b == nil {
		b = &warmBatch{warmTarget: target, ctx: context.WithoutCancel(ctx), cache: s.cache, known: make(map[wire.SeriesKey]struct{})}
		b.batch.Reset(s.tenant, s.set.Bounds.Version)
		w.waiting[target] = b
	}
	b.add(s)
	w.series++
	w.bytes += len(s.labels)
	if !w.started {
		w.started = true
		go w.run() //nolint:contextcheck // it outlives the request; each batch has a context
	}
	select {
	case w.wake <- struct{}{}:
	default: // awake already
	}
	return true
}

func (b *warmBatch) add(s warmSeries) {
	start := len(b.arena)
	// When the arena moves, earlier labels stay where they were.
	b.arena = append(b.arena, s.labels...)
	b.batch.Definitions = append(b.batch.Definitions, b.arena[start:len(b.arena):len(b.arena)])
	b.keys = append(b.keys, s.key)
	b.routes = append(b.routes, warmRoute{s.hash, s.keep})
	b.known[s.key] = struct{}{}
}

// take empties what waits.
func (w *warmup) take() map[warmTarget]*warmBatch {
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := w.waiting
	w.waiting, w.series, w.bytes = make(map[warmTarget]*warmBatch), 0, 0
	return taken
}

// run sends what waits, round by round, until close.
func (w *warmup) run() {
	defer close(w.done)
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-w.wake:
		case <-w.stop:
			return
		}
		select {
		case <-pause.C: // since the round before
		case <-w.stop:
			return
		}
		for _, b := range w.take() {
			w.send(b)
		}
		pause.Reset(w.every)
	}
}

// send has a set define the series of a batch, and notes their refs.
func (w *warmup) send(b *warmBatch) {
	ctx, cancel := context.WithTimeout(b.ctx, warmTimeout)
	defer cancel()
	w.mu.Lock()
	if w.closed {
		cancel()
	}
	w.cancel = cancel
	w.mu.Unlock()
	result, err := w.router.define(ctx, b)
	if err != nil {
		w.router.metrics.notWarmed.Add(float64(len(b.keys)))
		w.router.logger.Debug("series were not made known to the next bucket", "set", b.set, "series", len(b.keys), "error", err)
		return
	}
	w.router.metrics.warmed.Add(float64(len(b.keys)))
	b.cache.update(b.keys, func(i int, r *cachedRoute) {
		r.hash = b.routes[i].hash
		r.learn(b.set, result.Defined[i], b.routes[i].keep)
	})
}

// define has a batch of definitions applied by its set.
func (r *Router) define(ctx context.Context, b *warmBatch) (*wire.BatchResult, error) {
	result, err := r.write(ctx, b.set, b.batch.Append(nil))
	if err != nil {
		return nil, err
	}
	if result.Status != wire.BatchApplied || len(result.Defined) != len(b.keys) {
		return nil, quorate.Errorf(quorate.Unavailable, "set %v refused definitions: %v", b.set, result.Status)
	}
	return result, nil
}

// close ends the goroutine and drops what waits. It may be called again.
func (w *warmup) close() {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		close(w.stop)
	}
	if w.cancel != nil {
		w.cancel()
	}
	started := w.started
	w.mu.Unlock()
	if started {
		<-w.done
	}
}
