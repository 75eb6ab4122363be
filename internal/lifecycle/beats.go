package lifecycle

import (
	"time"

	"github.com/quorate/quorate/metasvc"
)

// brokenAfter is how long a replica must have been broken to be reported as
// such, if that is not for good: most failures are mended by opening it again.
const brokenAfter = time.Minute

// Beats describes this node's replicas for its heartbeat, by which the metadata
// leader knows who leads, how far replicas have come, and which are broken, to
// be replaced.
func (m *Manager) Beats() []metasvc.SetBeat {
	current := m.cfg.Client.Map()
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	var beats []metasvc.SetBeat
	for set, id := range current.SetsOn(m.cfg.Node) {
		r := m.replicas[set.ID]
		if r == nil || r.id != id {
			continue
		}
		beat := metasvc.SetBeat{Set: r.set, Replica: r.id}
		switch {
		case r.group != nil:
			beat.Applied = r.group.Status().AppliedIndex
			_, beat.Leads = r.group.Leadership()
			if r.isReplayedLocked() {
				beat.LastWrite = r.shard.LastWriteIndex()
			}
		case r.broken != nil && (r.forGood || now.Sub(r.brokenSince) >= brokenAfter):
			beat.Broken, beat.Why = true, r.broken.Error()
		}
		beats = append(beats, beat)
	}
	return beats
}
