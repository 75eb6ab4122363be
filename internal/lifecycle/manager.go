package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/tsdbshard"
	"github.com/quorate/quorate/tsdbshard/block"
)

const (
	// reconcileEvery is how often the replicas are compared with the map when
	// nothing announces a change.
	reconcileEvery = time.Second
	// restEvery is how often sealed replicas let go of files that nobody has
	// read since.
	restEvery = time.Minute
	// The pause before work that failed is tried again, doubling from first to
	// most.
	firstPause = time.Second
	mostPause  = time.Minute
	// healthyAfter is how long an opened replica runs before an earlier
	// failure is forgotten: one that fails twice within it stays closed.
	healthyAfter = 10 * time.Minute
)

// errNotYet ends work that has to wait for another: for a leader, or a base. It
// is no failure; the work is tried again a little later.
var errNotYet = errors.New("its time has not come")

// Manager keeps this node's replicas as the map has them. Run works until its
// context ends, then Close closes what is open. The other methods may be called
// by many goroutines, between New and Close.
type Manager struct {
	cfg     Config
	logger  *slog.Logger
	metrics *metrics
	shards  *tsdbshard.Metrics
	pages   *block.Cache // of all replicas
	flusher *flusher
	trash   *trash
	space   *space
	// neighbours is what is known of the space on other nodes.
	neighbours neighbours

	// openers do what is quick, workers what reads all of a set's samples,
	// fetchers what waits for other nodes.
	openers, workers, fetchers *lane
	// fetchSlots has room for the files that are fetched at once, by fetchers
	// and for raftset.
	fetchSlots chan struct{}
	// fetching and sending count bytes.
	fetching, sending *rate.Limiter
	// wake has room for one: there may be something to do.
	wake chan struct{}

	mu       sync.Mutex // guards replicas and what they say they guard by it
	replicas map[setID]*replica
	// leaving are replicas that were removed from their sets, until that is
	// reported. They have no place in replicas.
	leaving map[quorate.ReplicaID]*replica
}

// New makes a manager, with the sets and trash directories if need be. Nothing
// runs before Run.
func New(cfg Config) (*Manager, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	m := &Manager{
		cfg: cfg, logger: cfg.Logger, metrics: newMetrics(),
		openers: newLane(cfg.Openers), workers: newLane(cfg.Workers),
		fetchers:   newLane(cfg.Fetchers),
		fetchSlots: make(chan struct{}, cfg.Fetchers),
		fetching:   newThrottle(cfg.FetchBytesPerSecond), sending: newThrottle(cfg.FetchBytesPerSecond),
		wake:     make(chan struct{}, 1),
		replicas: make(map[setID]*replica), leaving: make(map[quorate.ReplicaID]*replica),
	}
	m.pages = block.NewCache(cfg.PageCacheBytes)
	if m.shards, err = tsdbshard.NewMetrics(cfg.Registerer); err != nil {
		return nil, err
	}
	if err := m.metrics.register(cfg.Registerer); err != nil {
		return nil, fmt.Errorf("register lifecycle metrics: %w", err)
	}
	if m.trash, err = openTrash(cfg, m.metrics); err != nil {
		return nil, err
	}
	m.space = &space{dir: cfg.DataDir, limits: cfg.Space, measure: cfg.Free, logger: cfg.Logger, metrics: m.metrics}
	m.space.look()
	m.flusher = newFlusher(cfg.Flush, m.flushTargets, cfg.Logger)
	return m, nil
}

// Run works until the context ends, and returns when all it started has ended.
func (m *Manager) Run(ctx context.Context) {
	var parts sync.WaitGroup
	parts.Go(func() { m.followMap(ctx) })
	parts.Go(func() { m.flusher.run(ctx) })
	parts.Go(func() { m.trash.run(ctx) })
	parts.Go(func() { m.restNowAndThen(ctx) })
	parts.Go(func() { m.watchSpace(ctx) })
	parts.Go(func() { m.scrub(ctx) })
	tick := time.NewTicker(reconcileEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		m.reconcile(ctx, m.cfg.Client.Map())
		select {
		case <-ctx.Done():
		case <-m.wake:
		case <-tick.C:
		}
	}
	m.openers.wait.Wait()
	m.workers.wait.Wait()
	m.fetchers.wait.Wait()
	parts.Wait()
}

// followMap wakes the loop whenever the map changes.
func (m *Manager) followMap(ctx context.Context) {
	var seen *metasvc.Map
	for {
		current, err := m.cfg.Client.AwaitMap(ctx, seen)
		if err != nil {
			return // the context's end
		}
		seen = current
		m.notify()
	}
}

func (m *Manager) notify() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// work is a kind of work.
type work string

const (
	workOpen       work = "open"
	workReopen     work = "reopen"
	workSeal       work = "seal"
	workSwap       work = "swap"
	workClear      work = "clear"
	workOpenSealed work = "open sealed"
	workDrop       work = "drop"
	workJoin       work = "join"
	workFetch      work = "fetch"
	workJoined     work = "report joined"
	workLeave      work = "leave"
	workMembers    work = "change members"
	workBounds     work = "change bounds"
	workHandOver   work = "hand over"
	workMend       work = "mend"
)

// task is one piece of work that is due for one replica.
type task struct {
	what work
	lane *lane
	set  *metasvc.ReplicaSet
	r    *replica
	run  func(context.Context, *metasvc.ReplicaSet, *replica) error
}

// reconcile starts what is due and finds room.
func (m *Manager) reconcile(ctx context.Context, current *metasvc.Map) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgetLocked(current)
	for _, t := range m.dueLocked(current, time.Now()) {
		t.r.busy = true
		if !t.lane.try(func() { m.do(ctx, t) }, m.notify) {
			t.r.busy = false // its turn comes when other work ends
		}
	}
}

// forgetLocked drops the memory of replicas whose record is gone and of which
// nothing is open: they were dropped. One that is open without a record stays
// as it is (PROTOCOL 16).
func (m *Manager) forgetLocked(current *metasvc.Map) {
	for set, r := range m.replicas {
		if !r.busy && r.group == nil && r.sealed == nil && current.Set(set) == nil {
			delete(m.replicas, set)
		}
	}
	m.metrics.broken.Set(float64(m.countLocked(func(r *replica) bool { return r.broken != nil })))
}

// dueLocked lists what is to be done, the most urgent first: open sets before
// sealed ones and newer before older, since the newest is what is written to.
func (m *Manager) dueLocked(current *metasvc.Map, now time.Time) []task {
	var due []task
	disputed := 0
	for set, id := range current.LeftOn(m.cfg.Node) {
		if r := m.leavingLocked(set, id); r != nil && !r.busy && !now.Before(r.again) && !current.Loaded() {
			due = append(due, task{what: workLeave, lane: m.openers, set: set, r: r, run: m.leave})
		}
	}
	for set, id := range current.SetsOn(m.cfg.Node) {
		r := m.replicas[set.ID]
		if r == nil {
			r = newReplica(set.ID, id)
			m.replicas[set.ID] = r
		}
		if r.id != id || m.isLeftLocked(set.ID) {
			continue // an earlier replica of the set is here; it has to leave first
		}
		if set.State == metasvc.ReplicaSetDisputed {
			disputed++
		}
		if r.busy || now.Before(r.again) {
			continue
		}
		if t, ok := m.nextLocked(current, set, r); ok && (t.harmless() || !current.Loaded()) {
			due = append(due, t)
		}
	}
	m.metrics.disputed.Set(float64(disputed))
	slices.SortFunc(due, func(a, b task) int {
		if a.urgent() != b.urgent() {
			if a.urgent() {
				return -1
			}
			return 1
		}
		return cmp.Compare(b.set.ID, a.set.ID)
	})
	return due
}

func (t *task) urgent() bool {
	return t.set.State == metasvc.ReplicaSetOpen || t.set.State == metasvc.ReplicaSetForming
}

// harmless tells work that may be done by a map that is a copy from an earlier
// run: it opens what is here. Nothing is born, sealed or given up before the
// metadata has been heard, since the copy may be old, or of a history that was
// lost.
func (t *task) harmless() bool {
	switch t.what {
	case workOpen, workReopen:
		return !t.set.MayForm(t.r.id)
	case workOpenSealed:
		return true
	case workSeal, workSwap, workClear, workDrop, workJoin, workFetch, workJoined, workLeave, workMembers, workBounds, workHandOver, workMend:
	}
	return false
}

// nextLocked returns the next piece of work of a replica, if there is any. It
// follows from the set's record and from what of it is open here.
func (m *Manager) nextLocked(current *metasvc.Map, set *metasvc.ReplicaSet, r *replica) (task, bool) {
	t := task{set: set, r: r, lane: m.openers}
	sealed := set.State == metasvc.ReplicaSetSealed
	if set.State == metasvc.ReplicaSetDropping {
		if r.dropped || r.users > 0 {
			return t, false
		}
		needed, awaited := m.neededLocked(current, set)
		if !needed {
			t.what, t.run = workDrop, m.drop
			return t, true
		}
		if !awaited || set.Sealed == nil {
			return t, false
		}
		sealed = true // until its overlay has a file of its own
	}
	switch {
	case r.damageDueLocked() && (sealed && r.sealed != nil || set.State == metasvc.ReplicaSetOpen && r.group != nil && !hasFailed(r.group)):
		t.what, t.run, t.lane = workMend, m.mend, m.workers
	case sealed && r.sealed != nil && r.leftover:
		t.what, t.run = workClear, m.clear
	case sealed && r.sealed != nil:
		if !joins(set, r) {
			return t, false
		}
		t.what, t.run = workJoined, m.reportJoined
	case r.group != nil && hasFailed(r.group):
		t.what, t.run = workReopen, m.handleFailure
	case sealed && r.lacksFile:
		t.what, t.run, t.lane = workFetch, m.fetchSealed, m.fetchers
	case sealed && r.group != nil:
		t.what, t.run, t.lane = workSwap, m.swap, m.workers
	case sealed:
		t.what, t.run = workOpenSealed, m.openSealed
		if r.fetchFailed {
			t.lane = m.workers // it may have to build the file
		}
	case r.group == nil:
		if r.forGood {
			return t, false
		}
		t.what, t.run = workOpen, m.open
		if joins(set, r) {
			t.what, t.run, t.lane = workJoin, m.join, m.fetchers
		}
	case set.State == metasvc.ReplicaSetOpen && m.sealDueLocked(set, r) && m.space.now() < metasvc.SpaceFull:
		t.what, t.run, t.lane = workSeal, m.seal, m.workers
	default:
		return m.leadLocked(set, t)
	}
	return t, true
}

// leadLocked returns what a replica has to do for its set because it leads it:
// to carry out the intent, or to let the member lead that the map prefers.
func (m *Manager) leadLocked(set *metasvc.ReplicaSet, t task) (task, bool) {
	handover := m.handoverDueLocked(set, t.r, time.Now())
	if set.State != metasvc.ReplicaSetOpen || t.r.group == nil {
		return t, false
	}
	if set.Intent == nil {
		t.what, t.run = workHandOver, m.handOver
		return t, handover
	}
	switch set.Intent.Kind {
	case metasvc.IntentMembers:
		t.what, t.run = workMembers, m.changeMembers
	case metasvc.IntentBounds:
		t.what, t.run = workBounds, m.changeBounds
	case metasvc.IntentSeal:
		return t, false // see sealDueLocked
	}
	if set.Intent.ID < t.r.intent { // PROTOCOL 4
		return t, false
	}
	t.r.intent = set.Intent.ID
	_, leads := t.r.group.Leadership()
	return t, leads
}

// do runs a task and notes how it went.
func (m *Manager) do(ctx context.Context, t task) {
	err := t.run(ctx, t.set, t.r)
	m.mu.Lock()
	defer m.mu.Unlock()
	t.r.busy = false
	switch {
	case err == nil:
		t.r.pause, t.r.again = 0, time.Time{}
	case ctx.Err() != nil: // the manager closes
	case errors.Is(err, errNotYet):
		t.r.again = time.Now().Add(reconcileEvery)
		if t.what == workMembers {
			t.r.again = time.Now().Add(reconcileEvery / 2) // it is one step of several
		}
		m.logger.Debug("replica work waits", "work", t.what, "set", t.set.ID, "replica", t.r.id, "err", err)
	default:
		t.r.pause = min(max(2*t.r.pause, firstPause), mostPause)
		t.r.again = time.Now().Add(t.r.pause)
		m.metrics.failures.Inc()
		m.logger.Error("replica work failed", "work", t.what, "set", t.set.ID, "replica", t.r.id, "err", err,
			"again_in", t.r.pause, "for_good", t.r.forGood)
	}
}

// Close flushes what a restart would take long to replay, for as long as
// Config.Flush allows and the context lives, and closes all replicas, in
// parallel, since each waits for its disk. Run must have returned.
func (m *Manager) Close(ctx context.Context) error {
	m.flusher.flushForShutdown(ctx)
	m.mu.Lock()
	all := slices.AppendSeq(slices.Collect(maps.Values(m.replicas)), maps.Values(m.leaving))
	clear(m.replicas)
	clear(m.leaving)
	m.mu.Unlock()
	// Without the lock: a group waits for its fetches, which may ask for it.
	var wait sync.WaitGroup
	errs := make([]error, len(all))
	for i, r := range all {
		m.cfg.Replicas.Remove(r.set)
		wait.Go(func() {
			if err := r.close(); err != nil {
				errs[i] = fmt.Errorf("close set %v: %w", r.set, err)
			}
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}
