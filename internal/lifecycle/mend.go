package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/quorate/quorate/internal/router"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/raftset"
	"github.com/quorate/quorate/tsdbshard"
)

// Between the steps of mending a sealed replica.
const momentAside moment = "the damaged file is set aside"

// noteDamage notes that a query, a scrub or a piece of work has met damage in a
// file of a replica, which is looked into next. It may be called by anybody who
// reads.
func (m *Manager) noteDamage(r *replica, err error) {
	m.mu.Lock()
	first := r.damage == nil
	if first {
		r.damage = err
	}
	m.mu.Unlock()
	if first {
		m.metrics.damaged.Inc()
		m.logger.Error("a file of a replica is damaged", "set", r.set, "replica", r.id, "err", err)
		m.notify()
	}
}

// damageDueLocked tells whether a replica's damage is still to be looked into.
// That of the only replica there is stays as it is: what can be read of it is all
// there is.
func (r *replica) damageDueLocked() bool { return r.damage != nil && !r.onlyCopy && r.isOpenLocked() }

// mend looks into the damage of a replica. A sealed one takes its file from
// another node; one that runs on its log is quarantined, for the repair loop to
// have another made in its place. Nothing is given up of a replica that no other
// can stand in for.
func (m *Manager) mend(ctx context.Context, set *metasvc.ReplicaSet, r *replica) error {
	found, err := m.examineFiles(ctx, r)
	if err != nil {
		return err
	}
	if found == nil {
		// Memory, or a disk that thinks better of it.
		m.logger.Warn("a file of a replica was found damaged and reads well now", "set", r.set, "replica", r.id, "err", r.damage)
		m.mu.Lock()
		r.damage = nil
		m.mu.Unlock()
		return nil
	}
	if !m.hasOthers(set) {
		m.mu.Lock()
		r.onlyCopy = true
		m.mu.Unlock()
		m.logger.Error("the only replica of a set is damaged; nothing of it is given up", "set", r.set, "replica", r.id, "err", found)
		return nil
	}
	if r.sealed != nil {
		return m.replaceFile(ctx, set, r, found)
	}
	return m.quarantine(ctx, r, found)
}

// examineFiles reads all files of a replica, and returns what is wrong with the
// first that is damaged. Err is why that could not be found out.
func (m *Manager) examineFiles(ctx context.Context, r *replica) (damage, err error) {
	return m.scrubReplica(ctx, r, r.sealed, r.shard, nil)
}

// scrubReplica reads what of a replica is open, at some pace.
func (m *Manager) scrubReplica(ctx context.Context, r *replica, sealed *tsdbshard.Sealed, shard *tsdbshard.Shard, pace func(context.Context, int) error) (damage, err error) {
	cfg := m.shardConfig(r)
	var files []tsdbshard.FileInfo
	switch {
	case sealed != nil:
		files = []tsdbshard.FileInfo{tsdbshard.SealedFileInfo(sealed.File())}
	case shard != nil:
		files = shard.Files()
	}
	for _, f := range files {
		err := tsdbshard.Scrub(ctx, cfg, f, pace)
		switch {
		case err == nil:
			m.metrics.scrubbed.Inc()
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, fs.ErrNotExist) && sealed == nil && !isNamed(shard.Files(), f):
			continue // merged away meanwhile
		case errors.Is(err, tsdbshard.ErrDamaged), errors.Is(err, fs.ErrNotExist):
			return err, nil
		default:
			return nil, err
		}
	}
	return nil, nil
}

func isNamed(files []tsdbshard.FileInfo, f tsdbshard.FileInfo) bool {
	for _, other := range files {
		if other.Name == f.Name {
			return true
		}
	}
	return false
}

// replaceFile has a sealed replica take its file from another node. Queries go to
// others meanwhile; the damaged file goes only when the other is here, whole.
func (m *Manager) replaceFile(ctx context.Context, set *metasvc.ReplicaSet, r *replica, damage error) error {
	m.cfg.Replicas.Break(r.set, damage, false)
	old := r.sealed
	served := func(err error) error { // what is whole of it may be all that is reached
		m.cfg.Replicas.Add(router.NewSealedReplica(r.set, old))
		return err
	}
	cfg, file := m.shardConfig(r), tsdbshard.SealedFileInfo(set.Sealed.File)
	if err := m.fetchFile(ctx, cfg, file, m.others(set)); err != nil {
		return served(err)
	}
	if err := m.setAside(set, r, damage); err != nil {
		return served(err)
	}
	if err := m.cfg.moment(momentAside); err != nil {
		return served(err)
	}
	if err := tsdbshard.AdoptFile(cfg, file); err != nil {
		return served(err)
	}
	sealed, err := m.openFile(set, r)
	if err != nil {
		return served(err)
	}
	m.mu.Lock()
	r.damage, r.received = nil, set.Sealed.File.Hash
	leftover := r.leftover
	m.mu.Unlock()
	m.serveSealed(r, sealed, leftover)
	if err := old.Close(); err != nil {
		m.logger.Warn("closing a damaged file failed", "set", r.set, "err", err)
	}
	m.metrics.mended.Inc()
	m.logger.Info("damaged file was replaced by another node's", "set", r.set, "replica", r.id, "file", file.Name)
	return nil
}

// quarantine takes a replica that runs on its log out of service for ever, when
// the others are a quorum without it: it never votes again, and is reported as
// broken, so that another is made in its place. Until then it goes on, and what it
// cannot read is an error.
func (m *Manager) quarantine(ctx context.Context, r *replica, damage error) error {
	voters := r.group.Configuration().Voters
	ready := 0
	for _, v := range voters {
		if v.Node == m.cfg.Node {
			continue
		}
		if ok, err := m.isReady(ctx, r.set, v); err == nil && ok {
			ready++
		}
	}
	if ready <= len(voters)/2 {
		return fmt.Errorf("set %v: replica %v is damaged and stays, since only %d of the %d others are ready to go on without it: %w", r.set, r.id, ready, len(voters)-1, damage)
	}
	if _, leads := r.group.Leadership(); leads {
		if to, ok := successor(r.group, r.group.Configuration(), r.id); ok {
			if err := transfer(ctx, r.group, to); err != nil && !errors.Is(err, errNotYet) {
				m.logger.Warn("a damaged replica could not hand its lead over", "set", r.set, "err", err)
			}
		}
	}
	group := r.group
	m.mu.Lock()
	r.forGood, r.failed = true, time.Now()
	m.mu.Unlock()
	m.markBroken(r, fmt.Errorf("%w: %w", raftset.ErrQuarantined, damage), false)
	if err := group.Close(); err != nil {
		m.logger.Warn("closing a damaged replica failed", "set", r.set, "err", err)
	}
	return m.cfg.Host.Quarantine(r.set, r.id, damage)
}
