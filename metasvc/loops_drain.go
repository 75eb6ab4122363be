package metasvc

import "github.com/quorate/quorate"

// planDrain wants replicas moved away from nodes that are draining. What the
// metadata group has there is the meta loop's.
func planDrain(cfg ControllerConfig, v view) ([]Action, error) {
	draining := make(map[quorate.NodeID]bool)
	for id, n := range v.state.nodes {
		if n.State == NodeDraining {
			draining[id] = true
		}
	}
	if len(draining) == 0 {
		return nil, nil
	}
	m := newMoves(cfg, v)
	var actions []Action
	for _, b := range byKey(v.state.buckets) {
		if b.State == BucketDropping {
			continue
		}
		for _, id := range b.SetIDs { // overlays follow
			set := v.state.sets[id]
			if set == nil || set.State == ReplicaSetForming {
				continue
			}
			for _, member := range set.Members {
				if !draining[member.Node] {
					continue
				}
				if !m.able(set) {
					m.lost = append(m.lost, set.ID)
					break
				}
				if a, ok := m.replace(LoopDrain, "its node is draining", set, member); ok {
					actions = append(actions, a)
					break // of one set one at a time
				}
			}
		}
	}
	if len(actions) > 0 {
		return actions, nil // what failed fails again when these are done
	}
	return nil, m.failure()
}
