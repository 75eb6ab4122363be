package metasvc

import (
	"slices"

	"github.com/quorate/quorate"
)

func (c DrainNode) apply(s *state, _ uint64) any { return s.setNodeState(c.Node, NodeDraining) }

func (c UndrainNode) apply(s *state, _ uint64) any { return s.setNodeState(c.Node, NodeActive) }

func (s *state) setNodeState(id quorate.NodeID, to NodeState) any {
	node := s.nodes[id]
	switch {
	case node == nil:
		return refuse(ReasonNotFound, "node %s does not exist", id)
	case node.State == NodeRemoved:
		return refuse(ReasonConflict, "node %s was removed from the cluster", id)
	case node.State != to:
		s.putNodeState(node, to)
	}
	return NodeResult{Index: s.index, State: to}
}

func (s *state) putNodeState(node *Node, to NodeState) {
	changed := *node
	changed.State = to
	s.putNode(&changed)
}

func (c RemoveNode) apply(s *state, _ uint64) any {
	node := s.nodes[c.Node]
	switch {
	case node == nil:
		return refuse(ReasonNotFound, "node %s does not exist", c.Node)
	case node.State == NodeRemoved:
		return NodeResult{Index: s.index, State: NodeRemoved}
	}
	if m, ok := s.cluster.Replica(c.Node); ok {
		return refuse(ReasonBusy, "node %s cannot be removed: it has replica %d of the metadata group", c.Node, m.Replica)
	}
	sets := byKey(s.sets)
	for _, set := range sets {
		add, remove, _ := set.memberChange()
		if _, member := set.MemberOn(c.Node); set.State != ReplicaSetDropping && (member || add.Node == c.Node || remove.Node == c.Node) {
			return refuse(ReasonBusy, "node %s cannot be removed: it has or is to have a replica of set %d", c.Node, set.ID)
		}
	}
	s.putNodeState(node, NodeRemoved)
	for _, set := range sets {
		s.forgetNode(set, c.Node)
	}
	return NodeResult{Index: s.index, State: NodeRemoved}
}

// forgetNode waits no more for files that a node which is removed has of a set.
func (s *state) forgetNode(set *ReplicaSet, node quorate.NodeID) {
	after := *set
	after.Left = slices.DeleteFunc(slices.Clone(set.Left), func(m Member) bool { return m.Node == node })
	if len(after.Left) == 0 {
		after.Left = nil
	}
	if m, member := set.MemberOn(node); member {
		after.Dropped = with(set.Dropped, m.Replica)
	}
	if len(after.Left) != len(set.Left) || len(after.Dropped) != len(set.Dropped) {
		s.putOrRemove(&after)
	}
}
