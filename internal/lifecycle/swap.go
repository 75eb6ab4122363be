package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/tsdbshard"
)

// Between the steps of a swap.
const (
	momentVerified moment = "the canonical file is verified"
	momentServed   moment = "the sealed replica is served"
	momentStopped  moment = "the open replica is stopped"
	momentLogGone  moment = "the log is in the trash, the blocks are not"
	momentCleared  moment = "the log and the blocks are in the trash"
)

// replayTimeout bounds how long a sealed replica whose file is gone replays its
// log to build it anew.
const replayTimeout = 10 * time.Minute

// errNoFile tells that a sealed replica has no canonical file, cannot make one,
// and that no other node gives it.
var errNoFile = errors.New("the canonical file is not here")

// swap lets the canonical file take the place of log and blocks (PROTOCOL 14,
// (e)): of a set that the map has as sealed, for a replica that runs on its log.
func (m *Manager) swap(ctx context.Context, set *metasvc.ReplicaSet, r *replica) error {
	if err := m.prepare(ctx, set, r); err != nil {
		if errors.Is(err, errNoFile) {
			// Its own samples are not those agreed on: better none than those.
			group := r.group
			m.markBroken(r, err, !m.hasOthers(set))
			return errors.Join(err, group.Close())
		}
		return err
	}
	if err := m.cfg.moment(momentVerified); err != nil {
		return err
	}
	sealed, err := m.openFile(set, r)
	if err != nil {
		return err
	}
	group := m.serveSealed(r, sealed, true)
	if err := m.cfg.moment(momentServed); err != nil {
		return errors.Join(err, group.Close())
	}
	// Queries that hold views of the shard finish on them.
	if err := group.Close(); err != nil {
		m.logger.Warn("closing a sealed replica's log failed", "set", r.set, "err", err)
	}
	if err := m.cfg.moment(momentStopped); err != nil {
		return err
	}
	return m.clear(ctx, set, r)
}

// prepare makes sure that the canonical file is here and is what the map says,
// or fails. Errors wrap errNoFile when nothing that is open here can make it so.
func (m *Manager) prepare(ctx context.Context, set *metasvc.ReplicaSet, r *replica) error {
	differs := m.differs(set, r)
	err := m.verify(ctx, set, r)
	switch {
	case errors.Is(err, tsdbshard.ErrDamaged):
		if err := m.setAside(set, r, err); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if differs {
		return fmt.Errorf("set %v: %w, and this replica's samples are not what was sealed", r.set, errNoFile)
	}
	if m.wantsFetch(set, r) {
		return errNotYet
	}
	select {
	case <-r.group.Replayed():
	default:
		return errNotYet // the shard may not have its own seal again yet
	}
	return m.rebuild(ctx, set, r, r.shard)
}

// wantsFetch has a sealed set's file fetched next, if there is another node that
// may have it and none was just asked in vain. A replica fetches the file also
// where it could build it: that is less work, and what is served everywhere is
// then the file that the leader has read back.
func (m *Manager) wantsFetch(set *metasvc.ReplicaSet, r *replica) bool {
	others := m.hasOthers(set)
	m.mu.Lock()
	defer m.mu.Unlock()
	r.lacksFile = others && !r.fetchFailed
	r.fetchFailed = false
	return r.lacksFile
}

// differs tells whether the replica's own samples are known not to be those
// that its set was sealed as, and counts that, once.
func (m *Manager) differs(set *metasvc.ReplicaSet, r *replica) bool {
	own, known := r.seal.checksum, r.seal.known
	if report := reportOf(set, r.id); !known && report != nil {
		own, known = report.Checksum, true
	}
	if !known || own == set.Sealed.Checksum {
		return false
	}
	m.mu.Lock()
	counted := r.differs
	r.differs = true
	m.mu.Unlock()
	if counted {
		return true
	}
	m.metrics.differing.Inc()
	m.logger.Error("replica differs from what its set was sealed as", "set", r.set, "replica", r.id,
		"own", fmt.Sprintf("%x", own[:8]), "sealed", fmt.Sprintf("%x", set.Sealed.Checksum[:8]))
	return true
}

// verify returns nil when the canonical file is here: built by this process,
// received by it, or whole by its hash. The error wraps fs.ErrNotExist, tsdbshard.ErrDamaged, or
// what the disk said.
func (m *Manager) verify(ctx context.Context, set *metasvc.ReplicaSet, r *replica) error {
	if _, err := os.Stat(m.canonicalPath(set, r)); err != nil {
		return err
	}
	if r.seal.built != nil && r.seal.built.Hash == set.Sealed.File.Hash || r.received == set.Sealed.File.Hash {
		return nil
	}
	return tsdbshard.VerifySealed(ctx, m.shardConfig(r), set.Sealed.File)
}

// setAside renames a damaged canonical file, for one that can be built anew.
func (m *Manager) setAside(set *metasvc.ReplicaSet, r *replica, reason error) error {
	path := m.canonicalPath(set, r)
	m.metrics.damaged.Inc()
	m.mu.Lock()
	r.received = [32]byte{}
	m.mu.Unlock()
	m.logger.Error("canonical file is damaged and set aside", "set", r.set, "replica", r.id, "path", path+damagedSuffix, "err", reason)
	return durable.Rename(path, path+damagedSuffix)
}

func (m *Manager) canonicalPath(set *metasvc.ReplicaSet, r *replica) string {
	return filepath.Join(setDir(m.cfg.DataDir, r.set, r.id), tsdbshard.SealedFileName(set.Sealed.File))
}

// rebuild builds the canonical file from the replica's own samples, which must
// come out as the very file that was sealed. Where they do not although the
// samples are the same, the replica goes on being served from them.
func (m *Manager) rebuild(ctx context.Context, set *metasvc.ReplicaSet, r *replica, shard *tsdbshard.Shard) error {
	info, sealed := shard.Sealed()
	if !sealed || info.Index != set.Sealed.Index {
		return fmt.Errorf("set %v: %w, and this replica's log does not end with the seal at entry %d", r.set, errNoFile, set.Sealed.Index)
	}
	m.mu.Lock()
	r.seal.built = nil // whatever was built is not here any more
	m.mu.Unlock()
	if err := m.examine(ctx, set, r, shard, info, true); err != nil {
		return fmt.Errorf("build the canonical file of set %v anew: %w", r.set, err)
	}
	switch {
	case r.seal.checksum != set.Sealed.Checksum:
		return fmt.Errorf("set %v: %w, and this replica's samples are not what was sealed", r.set, errNoFile)
	case r.seal.built.Hash != set.Sealed.File.Hash:
		return fmt.Errorf("set %v: its canonical file comes out as %x, not as %x", r.set, r.seal.built.Hash[:8], set.Sealed.File.Hash[:8])
	}
	m.logger.Warn("canonical file was built anew", "set", r.set, "replica", r.id)
	return nil
}

// rebuildFromLog is rebuild for a replica that is not open. Its Raft is not over
// before the swap (PROTOCOL 14), so that its log may be opened once more; the
// router does not get to see it.
func (m *Manager) rebuildFromLog(ctx context.Context, set *metasvc.ReplicaSet, r *replica) (err error) {
	if m.differs(set, r) {
		return fmt.Errorf("set %v: %w, and this replica's samples are not what was sealed", r.set, errNoFile)
	}
	group, shard, err := m.openGroup(ctx, set, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, group.Close()) }()
	ctx, cancel := context.WithTimeout(ctx, replayTimeout)
	defer cancel()
	select {
	case <-group.Replayed():
	case <-group.Failed():
		return group.Status().Broken
	case <-ctx.Done():
		return fmt.Errorf("replay the log of set %v: %w", r.set, ctx.Err())
	}
	return m.rebuild(ctx, set, r, shard)
}

func (m *Manager) openFile(set *metasvc.ReplicaSet, r *replica) (*tsdbshard.Sealed, error) {
	return tsdbshard.OpenSealed(m.shardConfig(r), set.Sealed.Index, set.Bounds.Range, set.Sealed.File)
}

// openSealed opens a sealed replica that is not open: after a restart, or when
// its file was not here before. What a swap has left undone is found and done.
func (m *Manager) openSealed(ctx context.Context, set *metasvc.ReplicaSet, r *replica) error {
	err := m.openFromFile(ctx, set, r)
	if err != nil && ctx.Err() == nil && !errors.Is(err, errNotYet) {
		m.markBroken(r, err, true)
	}
	return err
}

func (m *Manager) openFromFile(ctx context.Context, set *metasvc.ReplicaSet, r *replica) error {
	logged, err := m.cfg.Host.Exists(r.set, r.id)
	if err != nil {
		return err
	}
	beside, err := m.besideFile(set, r)
	if err != nil {
		return err
	}
	there, err := exists(m.canonicalPath(set, r))
	leftover := logged || len(beside) > 0
	switch {
	case err != nil:
		return err
	case !there:
		err = m.obtain(ctx, set, r, logged)
	case leftover:
		// The log is given up for the file, so look at all of it first.
		err = m.verify(ctx, set, r)
	}
	switch {
	case errors.Is(err, tsdbshard.ErrDamaged) && there && (logged || m.hasOthers(set)):
		if err := m.setAside(set, r, err); err != nil {
			return err
		}
		err = m.obtain(ctx, set, r, logged)
	case errors.Is(err, tsdbshard.ErrDamaged) && there:
		// What can be read of it is all there is; nothing beside it is touched.
		m.metrics.damaged.Inc()
		m.logger.Error("canonical file is damaged", "set", r.set, "replica", r.id, "err", err)
		leftover, err = false, nil
	}
	if err != nil {
		return err
	}
	sealed, err := m.openFile(set, r)
	if errors.Is(err, tsdbshard.ErrDamaged) && m.hasOthers(set) {
		if err := m.setAside(set, r, err); err != nil {
			return err
		}
		return errNotYet // from another node, next
	}
	if err != nil {
		return err
	}
	m.serveSealed(r, sealed, leftover) // what is left over is cleared next
	m.logger.Debug("sealed replica opened", "set", r.set, "replica", r.id, "range", set.Bounds.Range, "samples", set.Sealed.File.Samples)
	return nil
}

// obtain gets the canonical file of a replica that is not open: from another
// node, which is other work, and else from the replica's own log.
func (m *Manager) obtain(ctx context.Context, set *metasvc.ReplicaSet, r *replica, logged bool) error {
	m.differs(set, r) // counts, however it is mended
	switch {
	case m.wantsFetch(set, r):
		return errNotYet
	case !logged:
		return fmt.Errorf("set %v: %w, and its log is gone", r.set, errNoFile)
	}
	return m.rebuildFromLog(ctx, set, r)
}

// besideFile lists what lies in a sealed replica's directory beside its file.
func (m *Manager) besideFile(set *metasvc.ReplicaSet, r *replica) (names []string, err error) {
	entries, err := os.ReadDir(setDir(m.cfg.DataDir, r.set, r.id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if e.Name() != tsdbshard.SealedFileName(set.Sealed.File) {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// clear moves what a sealed replica was before into the trash: its log, which
// never runs again (PROTOCOL 3), and then its own blocks. A log without blocks
// would promise, to a start after a crash in between, a replica that it cannot
// build any more; blocks without a log promise nothing.
func (m *Manager) clear(_ context.Context, set *metasvc.ReplicaSet, r *replica) error {
	names, err := m.besideFile(set, r)
	if err != nil {
		return err
	}
	entry, err := m.trash.newEntry(r.set, r.id)
	if err != nil {
		return err
	}
	dir := setDir(m.cfg.DataDir, r.set, r.id)
	if err := m.cfg.Host.Remove(r.set, r.id, entry); err != nil {
		return err
	}
	if err := m.cfg.moment(momentLogGone); err != nil {
		return err
	}
	aside := filepath.Join(entry, trashedSets)
	if err := durable.MkdirAll(aside); err != nil {
		return err
	}
	for _, name := range names {
		if err := durable.Rename(filepath.Join(dir, name), filepath.Join(aside, name)); err != nil {
			return err
		}
	}
	if err := durable.SyncDir(dir); err != nil {
		return err
	}
	m.mu.Lock()
	r.leftover = false
	m.mu.Unlock()
	m.metrics.swapped.Inc()
	m.logger.Info("set is sealed and served from its file", "set", r.set, "replica", r.id, "range", set.Bounds.Range,
		"series", set.Sealed.File.Series, "samples", set.Sealed.File.Samples, "bytes", set.Sealed.File.Bytes, "trash", entry)
	return m.cfg.moment(momentCleared)
}
