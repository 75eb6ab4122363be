package lifecycle

import (
	"github.com/quorate/quorate"
	"github.com/quorate/quorate/metasvc"
)

// SetStatus describes one set that has a replica on this node.
type SetStatus struct {
	// Record is what the map says of the set.
	Record *metasvc.ReplicaSet
	// Replica is this node's.
	Replica quorate.ReplicaID
	// Serving tells from what: "log", "file", or "nothing".
	Serving string
	// Leader tells whether the replica leads its set, Learner whether it has no
	// vote in it.
	Leader, Learner bool
	// Term, AppliedIndex, LastIndex and LogBytes are those of a replica that runs
	// on its log: the term, the last entry applied, the last one that it has, and
	// the bytes past the manifest.
	Term, AppliedIndex, LastIndex uint64
	LogBytes                      int64
	// Files is how many files of samples it has, FileBytes their size.
	Files     int
	FileBytes int64
	// MemcacheBytes is roughly the memory of its unflushed samples.
	MemcacheBytes int64
	// Broken is why it is not open, nil when it is or is to be soon.
	Broken error
}

// Sets describes this node's sets by rising ID.
func (m *Manager) Sets() []SetStatus {
	current := m.cfg.Client.Map()
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []SetStatus
	for set, id := range current.SetsOn(m.cfg.Node) {
		s := SetStatus{Record: set, Replica: id, Serving: "nothing"}
		switch r := m.replicas[set.ID]; {
		case r == nil || r.id != id:
		case r.sealed != nil:
			s.Serving = "file"
			s.Files, s.FileBytes = 1, int64(r.sealed.File().Bytes) //nolint:gosec // a file's size
		case r.group != nil:
			s.Serving = "log"
			status := r.group.Status()
			_, s.Leader = r.group.Leadership()
			s.Learner = indexOf(r.group.Configuration().Learners, id) >= 0
			s.Term, s.AppliedIndex, s.LastIndex, s.LogBytes = status.Term, status.AppliedIndex, max(status.LastIndex, status.ManifestIndex), status.LogBytes
			s.Files, s.FileBytes = r.shard.FileSize()
			s.MemcacheBytes = r.shard.MemcacheBytes()
		default:
			s.Broken = r.broken
		}
		all = append(all, s)
	}
	return all
}

// Settled tells whether a sealed set is served from its file here, and what it
// was before is in the trash. A set that is broken is not.
func (m *Manager) Settled(set quorate.ReplicaSetID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.replicas[set]
	return r != nil && r.sealed != nil && !r.leftover
}
