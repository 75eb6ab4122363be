package lifecycle

// Progress returns, of each set that this node leads, the index in its log of
// the last entry that stored a sample. A set whose index stands still is quiet,
// which is when overlays and buckets of old time are sealed (PROTOCOL 15).
func (m *Manager) Progress() map[setID]uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	progress := make(map[setID]uint64)
	for set, r := range m.replicas {
		if r.group == nil {
			continue
		}
		if _, leads := r.group.Leadership(); leads && r.isReplayedLocked() {
			progress[set] = r.shard.LastWriteIndex()
		}
	}
	return progress
}

// isReplayedLocked tells whether an open replica has caught up with its own log.
func (r *replica) isReplayedLocked() bool {
	select {
	case <-r.group.Replayed():
		return true
	default:
		return false
	}
}
