package lifecycle

import (
	"context"
	"fmt"
	"time"

	"github.com/quorate/quorate/metasvc"
)

const (
	// preferAfter is how long the preferred leader must have been able to lead
	// before it is handed the lead.
	preferAfter = 10 * time.Second
	// The pause after a hand-over before this replica makes another, doubling
	// from first to most: one that comes back so soon means that the preferred
	// replica does not keep the lead.
	firstHandover = time.Minute
	mostHandover  = time.Hour
)

// preference is what a leader knows of the member that the map would rather see
// lead.
type preference struct {
	// since is since when it could lead; zero while it cannot.
	since time.Time
	// pause is the last pause after a hand-over, notBefore when it is over.
	pause     time.Duration
	notBefore time.Time
}

// handoverDueLocked notes whether the preferred member of a set that this
// replica leads could lead, and tells whether it is time to let it. It is asked
// at every pass.
func (m *Manager) handoverDueLocked(set *metasvc.ReplicaSet, r *replica, now time.Time) bool {
	if len(set.Members) < 2 || set.Members[0].Replica == r.id || r.group == nil {
		r.prefer.since = time.Time{}
		return false
	}
	preferred := set.Members[0].Replica
	_, leads := r.group.Leadership()
	space, known := m.neighbours.spaceOf(set.Members[0].Node, now)
	if !leads || indexOf(r.group.Configuration().Voters, preferred) < 0 || !isCaughtUp(r.group, preferred, now) ||
		known && space > metasvc.SpaceAmple {
		r.prefer.since = time.Time{}
		return false
	}
	if r.prefer.since.IsZero() {
		r.prefer.since = now
	}
	return r.prefer.ready(now)
}

func (p *preference) ready(now time.Time) bool {
	return !p.since.IsZero() && now.Sub(p.since) >= preferAfter && !now.Before(p.notBefore)
}

// made notes a hand-over. A pause that was over for as long again is forgotten.
func (p *preference) made(now time.Time) {
	if now.Sub(p.notBefore) > p.pause {
		p.pause = 0
	}
	p.pause = min(max(2*p.pause, firstHandover), mostHandover)
	p.since, p.notBefore = time.Time{}, now.Add(p.pause)
}

// handOver lets the preferred member lead.
func (m *Manager) handOver(ctx context.Context, set *metasvc.ReplicaSet, r *replica) error {
	preferred := set.Members[0]
	m.mu.Lock()
	r.prefer.made(time.Now()) // also when it fails: it is no matter of haste
	m.mu.Unlock()
	if err := transfer(ctx, r.group, preferred.Replica); err != nil {
		return fmt.Errorf("hand set %v over to its preferred leader %v: %w", r.set, preferred.Replica, err)
	}
	m.metrics.handovers.Inc()
	m.logger.Info("set handed over to its preferred leader", "set", r.set, "replica", preferred.Replica, "node", preferred.Node)
	return nil
}
