package lifecycle

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/router"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/raftset"
	"github.com/quorate/quorate/tsdbshard"
)

// replica is one replica of this node: open on its log, open on its canonical
// file, broken, or not open yet. All fields but the first two are guarded by
// Manager.mu. While the replica is busy only the work under way changes them,
// which may therefore read them without the lock.
type replica struct {
	set setID
	id  quorate.ReplicaID

	busy bool
	// group and shard are set while the replica runs on its log, sealed while
	// it is served from its canonical file.
	group  *raftset.Group
	shard  *tsdbshard.Shard
	sealed *tsdbshard.Sealed
	// leftover tells that the replica is sealed and what it was before is not
	// in the trash yet.
	leftover bool
	// users counts the overlays whose work reads sealed.
	users int
	// dropped tells that the drop was carried out and reported.
	dropped bool

	// broken is why the replica is not open; forGood when opening it again
	// would not help: its files are damaged, or it failed twice within
	// healthyAfter.
	broken  error
	forGood bool
	// pause is the last pause after failed work, again when it is over.
	pause time.Duration
	again time.Time
	// failed is when the replica last stopped by itself.
	failed time.Time

	// brokenSince is when the replica became broken; zero while it is not.
	brokenSince time.Time

	// lacksFile tells that the canonical file of a sealed set has to come from
	// another node, fetchFailed that none gave it when it was last asked for.
	lacksFile, fetchFailed bool
	// differs tells that the replica's own samples were found not to be those
	// that its set was sealed as.
	differs bool
	// damage is what was found in a file of the replica and is not mended yet;
	// onlyCopy that it cannot be, since there is no other replica.
	damage   error
	onlyCopy bool
	// received is the hash of the canonical file that this process has fetched.
	received [32]byte
	// intent is the newest intent that was seen to be carried out (PROTOCOL 4).
	intent metasvc.IntentID
	// caughtUp is how many times in a row the newcomer was seen to be so, by a
	// leader that has made it a learner.
	caughtUp int
	prefer   preference
	// refusal is why writes are not proposed for now, nil when they are. Anybody
	// may read it.
	refusal atomic.Pointer[error]
	// staging is held while files of another replica's manifest are fetched.
	staging chan struct{}

	seal sealing
}

func newReplica(set setID, id quorate.ReplicaID) *replica {
	return &replica{set: set, id: id, staging: make(chan struct{}, 1)}
}

// sealing is what this process knows of the seal of a replica's set.
type sealing struct {
	// intent is the newest intent to seal that was seen (PROTOCOL 4).
	intent metasvc.IntentID
	// checksum is that of the replica's own samples, once it is known.
	checksum [32]byte
	known    bool
	// built is the canonical file that this process has built, if it has.
	built *wire.SealedFile
}

func (r *replica) isOpenLocked() bool { return r.group != nil || r.sealed != nil }

// close closes what is open of the replica, without noting it. Views that are
// open go on showing what they show.
func (r *replica) close() error {
	var errs []error
	if r.group != nil {
		errs = append(errs, r.group.Close())
	}
	if r.sealed != nil {
		errs = append(errs, r.sealed.Close())
	}
	return errors.Join(errs...)
}

func hasFailed(g *raftset.Group) bool {
	select {
	case <-g.Failed():
		return true
	default:
		return false
	}
}

// serveOpen makes a replica that runs on its log known to the router.
func (m *Manager) serveOpen(r *replica, group *raftset.Group, shard *tsdbshard.Shard) {
	m.mu.Lock()
	r.group, r.shard, r.broken, r.forGood, r.brokenSince = group, shard, nil, false, time.Time{}
	m.mu.Unlock()
	m.metrics.opened.Inc()
	served := router.NewReplica(r.set, group, shard, router.ClientMeta{Client: m.cfg.Client})
	served.AdmitBy(func() error { return m.refused(r) })
	m.cfg.Replicas.Add(served)
}

// serveSealed makes a sealed replica known to the router, in the place of what
// was there. What the replica was before is to be cleared away. It returns the
// group that is served no more, if there was one.
func (m *Manager) serveSealed(r *replica, sealed *tsdbshard.Sealed, leftover bool) *raftset.Group {
	m.cfg.Replicas.Add(router.NewSealedReplica(r.set, sealed))
	m.mu.Lock()
	defer m.mu.Unlock()
	group := r.group
	r.group, r.shard, r.sealed = nil, nil, sealed
	r.broken, r.forGood, r.brokenSince, r.leftover = nil, false, time.Time{}, leftover
	r.lacksFile, r.fetchFailed = false, false
	return group
}

// restNowAndThen has sealed replicas close what nobody reads, until the context
// ends.
func (m *Manager) restNowAndThen(ctx context.Context) {
	tick := time.NewTicker(restEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			m.rest()
		}
	}
}

// rest closes the canonical files that were not read since the last rest, and
// frees what was kept for them. The next query opens them again.
func (m *Manager) rest() {
	m.mu.Lock()
	open := make(map[setID]*tsdbshard.Sealed, len(m.replicas))
	for set, r := range m.replicas {
		if r.sealed != nil {
			open[set] = r.sealed
		}
	}
	m.mu.Unlock()
	for set, sealed := range open {
		if err := sealed.Rest(); err != nil {
			m.logger.Warn("closing an idle canonical file failed", "set", set, "err", err)
		}
	}
}

// markBroken notes why a replica is not open, and tells the router. When
// failFast is set, requests fail at once; else they wait, within their
// deadline, for the replica to be opened again.
func (m *Manager) markBroken(r *replica, reason error, failFast bool) {
	// Hidden before it is closed, so that no request finds it half closed.
	m.cfg.Replicas.Break(r.set, reason, failFast)
	m.mu.Lock()
	defer m.mu.Unlock()
	r.group, r.shard, r.sealed, r.broken = nil, nil, nil, reason
	if r.brokenSince.IsZero() {
		r.brokenSince = time.Now()
	}
}

// countLocked counts the replicas for which a condition holds.
func (m *Manager) countLocked(holds func(*replica) bool) int {
	n := 0
	for _, r := range m.replicas {
		if holds(r) {
			n++
		}
	}
	return n
}
