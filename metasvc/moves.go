package metasvc

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/quorate/quorate"
)

// moves is what the loops that change members have to keep to: so many sets at
// once, so many on one node, on nodes that are fit. It counts what is under way in
// the state, so that two loops, and two leaders, share one budget.
type moves struct {
	v    view
	fit  fitness
	left int // how many more sets may begin to change
	// perNode is how many replicas may join at once on a node, and joining how
	// many do.
	perNode int
	joining map[quorate.NodeID]int
	// load is how many replicas each node has, nil until it is asked for.
	load map[quorate.NodeID]int
	// waiting are the sets that a replica is to join and no node can take it, lost
	// those whose members cannot be changed any more.
	waiting, lost []quorate.ReplicaSetID
}

func newMoves(cfg ControllerConfig, v view) *moves {
	m := &moves{v: v, fit: v.fitness(), left: cfg.MaxMoves, perNode: cfg.MaxMovesPerNode, joining: make(map[quorate.NodeID]int)}
	for _, set := range v.moving() {
		if !m.able(set) {
			continue // one that cannot go on holds nobody up
		}
		m.left--
		if add, _, _ := set.memberChange(); add.Replica != 0 {
			m.joining[add.Node]++
		}
	}
	return m
}

// movable tells whether a set's members may change now.
func (m *moves) movable(set *ReplicaSet) bool { return m.v.state.checkMovable(set) == nil }

// well tells whether a member is there to be counted on.
func (m *moves) well(set *ReplicaSet, member Member) bool {
	return set.hasFormed(member.Replica) && !m.v.absent(member.Node) && m.v.sick[member] == ""
}

// able tells whether a set can change its members: a majority of an open one is
// there to agree, and one replica of a sealed one to be copied.
func (m *moves) able(set *ReplicaSet) bool { return m.spare(set) >= 0 }

// spare is how many members more a set may lose before its members cannot be
// changed any more; less than 0 when they cannot.
func (m *moves) spare(set *ReplicaSet) int {
	well := 0
	for _, member := range set.Members {
		if m.well(set, member) {
			well++
		}
	}
	if set.State == ReplicaSetSealed {
		return well - 1
	}
	return well - len(set.Members)/2 - 1
}

// standsWithout tells whether a set goes on when a member leaves and none comes for
// it: those others that are well are a majority of an open set's rest, and of a
// sealed one, one of them is known to have what it was sealed as.
func (m *moves) standsWithout(set *ReplicaSet, leaves quorate.ReplicaID) bool {
	well := 0
	for _, member := range set.Members {
		if member.Replica != leaves && m.well(set, member) && (set.State != ReplicaSetSealed || set.verified(member.Replica)) {
			well++
		}
	}
	if set.State == ReplicaSetSealed {
		return well > 0
	}
	return well > (len(set.Members)-1)/2
}

// holds tells whether a node may have replicas of a set's policy.
func (m *moves) holds(set *ReplicaSet, node quorate.NodeID) bool {
	policy := m.v.state.policies[m.v.state.buckets[set.Bucket].Policy]
	return slices.ContainsFunc(m.v.state.candidates(policy, m.fit), func(c *candidate) bool { return c.node.ID == node })
}

// replace wants a member replaced by a replica on another node, if the budget
// allows it and there is a node.
func (m *moves) replace(loop, why string, set *ReplicaSet, member Member) (Action, bool) {
	if m.left <= 0 || !m.movable(set) {
		return Action{}, false
	}
	to, possible := m.target(set, member)
	if !possible {
		m.waiting = append(m.waiting, set.ID)
	}
	if to == (quorate.NodeID{}) {
		return Action{}, false
	}
	return m.begin(loop, fmt.Sprintf("move replica %d of set %d from node %s to %s: %s", member.Replica, set.ID, member.Node, to, why), set, to, member.Replica), true
}

func (m *moves) begin(loop, why string, set *ReplicaSet, add quorate.NodeID, remove quorate.ReplicaID) Action {
	m.left--
	if add != (quorate.NodeID{}) {
		m.joining[add]++
		if m.load != nil {
			m.load[add]++
		}
	}
	return action(loop, why, BeginMembers{Set: set.ID, Term: m.v.term, Add: add, Remove: remove, Well: m.v.well(set)})
}

// target chooses the node that takes a member's place, as place would, but never
// one that is short of space: in a zone
// that the other members lie in least, then the one that has least to do for the
// space it has left. When too many replicas join on all of these already there is
// none for now, since a worse zone would be for good. It tells, too, whether there
// is any node at all.
func (m *moves) target(set *ReplicaSet, leaves Member) (to quorate.NodeID, possible bool) {
	policy := m.v.state.policies[m.v.state.buckets[set.Bucket].Policy]
	zones := make(map[string]int)
	for _, member := range set.Members {
		if node := m.v.state.nodes[member.Node]; member != leaves && node != nil {
			zones[node.Zone]++
		}
	}
	list := m.v.state.candidates(policy, m.fit)
	list = slices.DeleteFunc(list, func(c *candidate) bool {
		return c.space > SpaceAmple || m.v.state.checkJoins(set, c.node.ID) != nil
	})
	if len(list) == 0 {
		return quorate.NodeID{}, false
	}
	if m.load == nil {
		m.load, _ = m.v.state.load()
	}
	best := slices.MinFunc(list, func(a, b *candidate) int {
		busy := func(c *candidate) int { return min(m.joining[c.node.ID]/m.perNode, 1) }
		return cmp.Or(
			cmp.Compare(zones[a.node.Zone], zones[b.node.Zone]),
			cmp.Compare(busy(a), busy(b)),
			cmp.Compare((m.load[a.node.ID]+1)*b.weight, (m.load[b.node.ID]+1)*a.weight),
			cmp.Compare(a.node.Number, b.node.Number),
		)
	})
	if m.joining[best.node.ID] >= m.perNode {
		return quorate.NodeID{}, true
	}
	return best.node.ID, true
}

// failure tells of sets that could not be helped. Its text stays the same while
// they are the same.
func (m *moves) failure() error {
	var failed error
	if len(m.lost) > 0 {
		failed = errors.Join(failed, fmt.Errorf("sets %s have lost too many replicas to be mended", some(m.lost)))
	}
	if len(m.waiting) > 0 {
		failed = errors.Join(failed, fmt.Errorf("sets %s wait for a node that can take a replica", some(m.waiting)))
	}
	return failed
}

// some names the first of many sets.
func some(sets []quorate.ReplicaSetID) string {
	const most = 8
	sets = slices.Compact(slices.Sorted(slices.Values(sets)))
	if len(sets) <= most {
		return fmt.Sprint(sets)
	}
	return fmt.Sprintf("%v and %d more", sets[:most], len(sets)-most)
}
