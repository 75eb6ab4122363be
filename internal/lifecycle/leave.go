package lifecycle

import (
	"context"
	"fmt"

	"github.com/quorate/quorate/metasvc"
)

// Between the steps of a leave.
const (
	momentLeftHidden moment = "the removed replica is hidden and stopped"
	momentLeftMoved  moment = "the removed replica's files are in the trash"
)

// leavingLocked returns the replica of this node that was removed from a set. It
// gives its place in the table up, since another one may join in its stead. Nil
// while work is under way for it.
func (m *Manager) leavingLocked(set *metasvc.ReplicaSet, id replicaID) *replica {
	if l := m.leaving[id]; l != nil {
		return l
	}
	l := m.replicas[set.ID]
	switch {
	case l == nil || l.id != id:
		l = newReplica(set.ID, id)
	case l.busy || l.users > 0:
		return nil
	default:
		delete(m.replicas, set.ID)
	}
	m.leaving[id] = l
	return l
}

// isLeftLocked tells whether an earlier replica of this node is to be moved away
// before another one of the same set may open.
func (m *Manager) isLeftLocked(set setID) bool {
	for _, l := range m.leaving {
		if l.set == set {
			return true
		}
	}
	return false
}

// leave moves the files of a replica to the trash that the map has as removed,
// quarantined ones too, and reports it (PROTOCOL 16).
func (m *Manager) leave(ctx context.Context, set *metasvc.ReplicaSet, r *replica) error {
	if !m.takesPlace(r) {
		m.cfg.Replicas.Remove(r.set)
	}
	if err := m.stop(r); err != nil {
		m.logger.Warn("closing a removed replica failed", "set", r.set, "err", err)
	}
	if err := m.cfg.moment(momentLeftHidden); err != nil {
		return err
	}
	if err := m.discard(set, r, "removed from its set"); err != nil {
		return fmt.Errorf("remove replica %v of set %v: %w", r.id, r.set, err)
	}
	if err := m.cfg.moment(momentLeftMoved); err != nil {
		return err
	}
	if err := m.cfg.Client.ReportLeft(ctx, r.set, r.id); err != nil {
		return fmt.Errorf("report that replica %v has left set %v: %w", r.id, r.set, err)
	}
	m.mu.Lock()
	delete(m.leaving, r.id)
	m.mu.Unlock()
	return nil
}

// takesPlace tells whether another replica of the set is here already, whose the
// router's entry is.
func (m *Manager) takesPlace(r *replica) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	other := m.replicas[r.set]
	return other != nil && other.id != r.id && other.isOpenLocked()
}
