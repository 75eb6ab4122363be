package metasvc

import (
	"slices"

	"github.com/quorate/quorate"
)

// The metadata group grows and heals like any set, one member at a time, but its
// record is the cluster's: the group's own configuration is the truth, and the
// record copies it (PROTOCOL 4).
//
//	JoinMeta   -> MetaJoining; the leader adds it to the group as a learner
//	RecordMeta -> it is a voter; or a voter was removed
//	GiveUpMeta -> it never became one

func (c JoinMeta) apply(s *state, term uint64) any {
	if s.cluster == nil {
		return refuseNoCluster()
	}
	node, joining := s.nodes[c.Node], s.cluster.MetaJoining
	switch {
	case c.Term != term:
		return refuse(ReasonOutdated, "metadata group: a new member was decided in term %d, this is term %d", c.Term, term)
	case joining != nil && joining.Node == c.Node:
		return MetaResult{Index: s.index, Replica: joining.Replica}
	case joining != nil:
		return refuse(ReasonBusy, "metadata group: replica %d is joining", joining.Replica)
	case node == nil:
		return refuse(ReasonNotFound, "node %s does not exist", c.Node)
	case node.Roles&RoleMeta == 0:
		return refuse(ReasonInvalid, "node %s does not hold metadata", c.Node)
	case node.State != NodeActive:
		return refuse(ReasonOutdated, "node %s is %s", c.Node, node.State)
	case len(s.cluster.Meta) >= MaxReplicas:
		return refuse(ReasonLimit, "the metadata group has %d members, the most there may be", MaxReplicas)
	}
	if m, ok := s.cluster.Replica(c.Node); ok {
		return refuse(ReasonConflict, "node %s has replica %d of the metadata group already", c.Node, m.Replica)
	}
	s.last.replica++
	changed := *s.cluster
	changed.MetaJoining = &Member{Node: c.Node, Replica: quorate.ReplicaID(s.last.replica)}
	s.putCluster(&changed)
	return MetaResult{Index: s.index, Replica: changed.MetaJoining.Replica}
}

func (c RecordMeta) apply(s *state, term uint64) any {
	if s.cluster == nil {
		return refuseNoCluster()
	}
	if c.Term != term {
		return refuse(ReasonOutdated, "metadata group: its voters were read in term %d, this is term %d", c.Term, term)
	}
	if len(c.Voters) == 0 {
		return refuse(ReasonInvalid, "the metadata group cannot be without voters")
	}
	for i, m := range c.Voters {
		if i > 0 && c.Voters[i-1].Replica >= m.Replica {
			return refuse(ReasonInvalid, "replica %d stands after replica %d", m.Replica, c.Voters[i-1].Replica)
		}
		if known, ok := s.cluster.Replica(m.Node); !ok || known != m {
			return refuse(ReasonConflict, "replica %d on node %s was no member of the metadata group and was not to join it", m.Replica, m.Node)
		}
	}
	changed := *s.cluster
	changed.Meta = c.Voters
	if j := changed.MetaJoining; j != nil && slices.Contains(c.Voters, *j) {
		changed.MetaJoining = nil
	}
	if !slices.Equal(changed.Meta, s.cluster.Meta) {
		s.putCluster(&changed)
	}
	return MetaResult{Index: s.index, Replica: joiningReplica(s.cluster)}
}

func (c GiveUpMeta) apply(s *state, term uint64) any {
	if s.cluster == nil {
		return refuseNoCluster()
	}
	if c.Term != term {
		return refuse(ReasonOutdated, "metadata group: a new member was given up in term %d, this is term %d", c.Term, term)
	}
	if j := s.cluster.MetaJoining; j != nil && j.Replica == c.Replica {
		changed := *s.cluster
		changed.MetaJoining = nil
		s.putCluster(&changed)
	}
	return MetaResult{Index: s.index, Replica: joiningReplica(s.cluster)}
}

func joiningReplica(c *Cluster) quorate.ReplicaID {
	if c.MetaJoining == nil {
		return 0
	}
	return c.MetaJoining.Replica
}
