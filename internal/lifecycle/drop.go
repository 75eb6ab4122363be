package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/metasvc"
)

// Between the steps of a drop.
const (
	momentHidden moment = "the dropped replica is hidden and stopped"
	momentMoved  moment = "the dropped replica's files are in the trash"
)

// drop carries out the drop of a set, which every node knows of by now: nobody
// reads or writes it any more, but queries that hold views finish. Its files go
// to the trash, and the map is told (PROTOCOL 16).
func (m *Manager) drop(ctx context.Context, set *metasvc.ReplicaSet, r *replica) error {
	m.cfg.Replicas.Remove(r.set)
	if err := m.stop(r); err != nil {
		m.logger.Warn("closing a dropped replica failed", "set", r.set, "err", err)
	}
	if err := m.cfg.moment(momentHidden); err != nil {
		return err
	}
	if err := m.discard(set, r, "dropped"); err != nil {
		return fmt.Errorf("drop set %v, replica %v: %w", r.set, r.id, err)
	}
	if err := m.cfg.moment(momentMoved); err != nil {
		return err
	}
	if err := m.cfg.Client.ReportDropped(ctx, r.set, r.id); err != nil {
		return fmt.Errorf("report set %v as dropped: %w", r.set, err)
	}
	m.mu.Lock()
	r.dropped = true
	m.mu.Unlock()
	return nil
}

// stop closes what is open of a replica that is hidden already.
func (m *Manager) stop(r *replica) error {
	m.mu.Lock()
	was := &replica{group: r.group, sealed: r.sealed}
	r.group, r.shard, r.sealed, r.broken = nil, nil, nil, nil
	m.mu.Unlock()
	return was.close()
}

// DiscardMetadata moves the files of a replica of the metadata group to the trash.
// The replica is not open, and the metadata has it as removed.
func (m *Manager) DiscardMetadata(replica quorate.ReplicaID) error {
	has, err := m.cfg.Host.Exists(quorate.MetaReplicaSet, replica)
	if err != nil || !has {
		return err
	}
	entry, err := m.trash.newEntry(quorate.MetaReplicaSet, replica)
	if err != nil {
		return err
	}
	if err := m.cfg.Host.Remove(quorate.MetaReplicaSet, replica, entry); err != nil {
		return err
	}
	m.logger.Info("metadata replica moved to the trash", "replica", replica, "trash", entry)
	return nil
}

// discard moves all files of a replica to the trash. After a crash half-way the
// rest is moved to another entry.
func (m *Manager) discard(set *metasvc.ReplicaSet, r *replica, why string) error {
	runs, err := m.cfg.Host.Exists(r.set, r.id)
	if err != nil {
		return err
	}
	dir := setDir(m.cfg.DataDir, r.set, r.id)
	has, err := exists(dir)
	if err != nil || !runs && !has {
		return err
	}
	entry, err := m.trash.newEntry(r.set, r.id)
	if err != nil {
		return err
	}
	if err := m.cfg.Host.Remove(r.set, r.id, entry); err != nil {
		return err
	}
	if has {
		if err := durable.Rename(dir, filepath.Join(entry, trashedSets)); err != nil {
			return err
		}
	}
	if err := durable.SyncDir(filepath.Dir(dir)); err != nil {
		return err
	}
	m.metrics.dropped.Inc()
	m.logger.Info("replica moved to the trash", "why", why, "set", r.set, "replica", r.id, "range", set.Bounds.Range, "trash", entry)
	return nil
}

func exists(path string) (bool, error) {
	switch _, err := (durable.Disk{}).Stat(path); {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	default:
		return false, err
	}
}

// neededLocked tells whether a set that is to be dropped is the base of one
// that is not open here on a file of its own, which has the base's samples. It
// is awaited when such a one has tried to get its file and could not, or runs on
// its log: one that is merely not open yet, as at a start, mostly finds its file,
// and the base may be in the trash by then.
func (m *Manager) neededLocked(current *metasvc.Map, base *metasvc.ReplicaSet) (needed, awaited bool) {
	for set := range current.SetsOn(m.cfg.Node) {
		if set.Base != base.ID || set.State == metasvc.ReplicaSetDropping {
			continue
		}
		if r := m.replicas[set.ID]; r == nil || r.sealed == nil {
			needed = true
			awaited = awaited || r != nil && (r.group != nil || !r.again.IsZero())
		}
	}
	return needed, awaited
}
