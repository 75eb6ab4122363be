package metasvc

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate"
)

const (
	// metaVoters and metaVotersMost are how many voters the metadata group is to
	// have when there are as many nodes for it.
	metaVoters     = 3
	metaVotersMost = 5
	// learnedEntries is how many entries a learner may be behind to be promoted.
	learnedEntries = 128
	// learnedContact is how long ago it must have answered at most.
	learnedContact = 5 * time.Second
)

// MetaGroup is the metadata group as the leader's replica of it sees it. Its
// changes are idempotent and return when the group has committed them.
type MetaGroup interface {
	Voters() []Member
	Learners() []Member
	AddLearner(ctx context.Context, m Member) error
	Promote(ctx context.Context, replica quorate.ReplicaID) error
	Remove(ctx context.Context, replica quorate.ReplicaID) error
	// Lag tells how many entries a member is behind and when it last answered.
	Lag(replica quorate.ReplicaID) (entries uint64, contact time.Time, ok bool)
}

// planMeta wants the metadata group grown to its size, and members replaced that
// are lost or leave; one change at a time. The group's own configuration is the
// truth, and is copied into the cluster's record.
func planMeta(cfg ControllerConfig, v view) ([]Action, error) {
	group, c := cfg.MetaGroup, v.state.cluster
	if group == nil || c == nil {
		return nil, nil
	}
	voters := byReplica(group.Voters())
	if len(voters) == 0 {
		return nil, nil // it does not know yet
	}
	if !slices.Equal(voters, c.Meta) {
		return one(action(LoopMeta, fmt.Sprintf("record the metadata group's voters, %d of them", len(voters)), RecordMeta{Voters: voters, Term: v.term})), nil
	}
	learners := group.Learners()
	joining := c.MetaJoining
	for _, l := range learners {
		if joining == nil || l.Replica != joining.Replica {
			return one(onGroup(fmt.Sprintf("remove replica %d, which nobody wants in the metadata group", l.Replica),
				func(ctx context.Context) error { return group.Remove(ctx, l.Replica) })), nil
		}
	}
	if joining != nil {
		return v.joinMeta(cfg, *joining, len(learners) > 0), nil
	}
	return v.resizeMeta(cfg, voters)
}

// joinMeta goes on with the replica that is to join.
func (v view) joinMeta(cfg ControllerConfig, joining Member, learns bool) []Action {
	group := cfg.MetaGroup
	if node := v.state.nodes[joining.Node]; node.State != NodeActive || v.silence(joining.Node) > cfg.ReplaceAfter {
		if learns {
			return one(onGroup(fmt.Sprintf("remove replica %d from the metadata group: its node %s is %s or silent", joining.Replica, joining.Node, node.State),
				func(ctx context.Context) error { return group.Remove(ctx, joining.Replica) }))
		}
		return one(action(LoopMeta, fmt.Sprintf("give up replica %d of the metadata group", joining.Replica), GiveUpMeta{Replica: joining.Replica, Term: v.term}))
	}
	if !learns {
		return one(onGroup(fmt.Sprintf("add replica %d on node %s to the metadata group as a learner", joining.Replica, joining.Node),
			func(ctx context.Context) error { return group.AddLearner(ctx, joining) }))
	}
	entries, contact, ok := group.Lag(joining.Replica)
	if !ok || entries > learnedEntries || v.now.Sub(contact) > learnedContact {
		return nil
	}
	return one(onGroup(fmt.Sprintf("make replica %d on node %s a voter of the metadata group", joining.Replica, joining.Node),
		func(ctx context.Context) error { return group.Promote(ctx, joining.Replica) }))
}

// resizeMeta begins the next change of the group, if any is wanted.
func (v view) resizeMeta(cfg ControllerConfig, voters []Member) ([]Action, error) {
	free := v.metaCandidates()
	want := metaVoters
	var leaving, draining []Member
	well := make(map[quorate.ReplicaID]bool)
	for _, m := range voters {
		node := v.state.nodes[m.Node]
		well[m.Replica] = node != nil && node.State != NodeRemoved && !v.absent(m.Node)
		switch {
		case node == nil || node.State == NodeRemoved || node.Roles&RoleMeta == 0 || v.silence(m.Node) > cfg.ReplaceAfter:
			leaving = append(leaving, m)
		case node.State == NodeActive:
		case v.hasReplicas(m.Node):
			draining = append(draining, m)
		default:
			leaving = append(leaving, m)
		}
	}
	// Of those that may go, first who is of no use any more.
	wellLast := func(a, b Member) int {
		switch {
		case well[a.Replica] == well[b.Replica]:
			return 0
		case well[b.Replica]:
			return -1
		}
		return 1
	}
	slices.SortStableFunc(draining, wellLast)
	if staying := len(voters) - len(leaving); staying+len(free) >= metaVotersMost {
		want = metaVotersMost
	}
	// A drain may take for ever, as when there is no node for what the node has:
	// until it is through the node votes on, unless another has come for it.
	active := len(voters) - len(leaving) - len(draining)
	replaced := min(max(active+len(draining)-want, 0), len(draining))
	leaving = append(leaving, draining[:replaced]...)
	slices.SortStableFunc(leaving, wellLast)
	switch {
	case active < want && len(free) > 0:
		to := free[0]
		return one(action(LoopMeta, fmt.Sprintf("have node %s join the metadata group", to.ID), JoinMeta{Node: to.ID, Term: v.term})), nil
	case len(leaving) == 0:
		return nil, nil
	}
	m := leaving[0]
	others := 0
	for _, other := range voters {
		if other != m && well[other.Replica] {
			others++
		}
	}
	if others <= (len(voters)-1)/2 {
		return nil, fmt.Errorf("replica %d of the metadata group on node %s is to leave, and the %d of %d others that are well are no majority", m.Replica, m.Node, others, len(voters)-1)
	}
	return one(onGroup(fmt.Sprintf("remove replica %d on node %s from the metadata group: its node leaves or is silent", m.Replica, m.Node),
		func(ctx context.Context) error { return cfg.MetaGroup.Remove(ctx, m.Replica) })), nil
}

// hasReplicas tells whether a node has, or is to have, a replica of a set.
func (v view) hasReplicas(node quorate.NodeID) bool {
	for _, set := range v.state.sets {
		add, _, _ := set.memberChange()
		if _, member := set.MemberOn(node); set.State != ReplicaSetDropping && (member || add.Node == node) {
			return true
		}
	}
	return false
}

// metaCandidates are the nodes that may join the metadata group, the best first:
// in the zones that have fewest of its members, then by admission.
func (v view) metaCandidates() (list []*Node) {
	zones := make(map[string]int)
	for _, m := range v.state.cluster.Meta {
		if n := v.state.nodes[m.Node]; n != nil {
			zones[n.Zone]++
		}
	}
	for _, n := range v.state.nodesByNumber() {
		if _, member := v.state.cluster.Replica(n.ID); !member && n.State == NodeActive && n.Roles&RoleMeta != 0 && !v.absent(n.ID) && v.heardOf(n.ID) {
			list = append(list, n)
		}
	}
	slices.SortStableFunc(list, func(a, b *Node) int { return cmp.Compare(zones[a.Zone], zones[b.Zone]) })
	return list
}

// heardOf tells whether a node has said anything since this one leads.
func (v view) heardOf(node quorate.NodeID) bool {
	_, heard := v.beatOf(node)
	return heard || node == v.self
}

func byReplica(members []Member) []Member {
	return slices.SortedFunc(slices.Values(members), func(a, b Member) int { return cmp.Compare(a.Replica, b.Replica) })
}

func onGroup(why string, do func(context.Context) error) Action {
	return Action{Loop: LoopMeta, Why: why, do: do}
}

func one(a Action) []Action { return []Action{a} }
