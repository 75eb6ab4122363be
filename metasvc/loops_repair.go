package metasvc

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate"
)

// planRepair wants replicas replaced that are lost: their node has been silent
// for too long, or says that they are broken, or they did not form in time. Sets
// that can lose least come first. A lost replica whose node is there is made anew
// on it when no other node can take one. Changes that wait for a node that is lost
// itself are given up. An overlay follows its base, so that the two lie together
// in the end; a replica of an overlay that is lost is replaced by moving the
// base's replica on its node, too. Sets that have fewer replicas than their policy
// says get more.
func planRepair(cfg ControllerConfig, v view) ([]Action, error) {
	if v.state.cluster == nil {
		return nil, nil
	}
	if given := v.giveUp(cfg); len(given) > 0 {
		return given, nil
	}
	m := newMoves(cfg, v)
	var patients []patient
	for _, b := range byKey(v.state.buckets) {
		for shard, id := range b.SetIDs {
			set := v.state.sets[id]
			if set == nil || b.State == BucketDropping || set.State == ReplicaSetForming {
				continue
			}
			overlay := v.state.sets[b.OverlayIDs[shard]]
			for _, member := range set.Members {
				p := patient{set: set, member: member, why: v.lost(cfg, set, member), spare: m.spare(set)}
				p.sick, p.ill = set, member
				if on, also := overlayMember(overlay, member.Node); p.why == "" && also {
					p.sick, p.ill, p.why = overlay, on, v.lost(cfg, overlay, on)
				}
				if p.why != "" {
					patients = append(patients, p)
				}
			}
		}
	}
	slices.SortStableFunc(patients, func(a, b patient) int { return cmp.Compare(a.spare, b.spare) })
	var actions []Action
	begun := make(map[quorate.ReplicaSetID]bool)
	for _, p := range patients {
		switch {
		case begun[p.set.ID]:
		case p.spare < 0:
			m.lost = append(m.lost, p.set.ID)
		default:
			if a, ok := m.mend(p); ok {
				actions = append(actions, a)
				begun[p.set.ID] = true
			}
		}
	}
	actions = append(actions, m.followBases()...)
	actions = append(actions, m.restore()...)
	actions = append(actions, m.replan(cfg)...)
	if len(actions) > 0 {
		return actions, nil // what failed fails again when these are done
	}
	return nil, m.failure()
}

// patient is a member of a set that is to be replaced.
type patient struct {
	set    *ReplicaSet
	member Member
	// sick is the set whose replica on the member's node is lost, that one itself
	// or the overlay over it, and ill the replica.
	sick  *ReplicaSet
	ill   Member
	why   string
	spare int
}

func overlayMember(overlay *ReplicaSet, node quorate.NodeID) (Member, bool) {
	if overlay == nil || overlay.State == ReplicaSetForming {
		return Member{}, false
	}
	return overlay.MemberOn(node)
}

// lost says why a member is to be replaced, empty when it is not.
func (v view) lost(cfg ControllerConfig, set *ReplicaSet, member Member) string {
	if v.silence(member.Node) > cfg.ReplaceAfter {
		return fmt.Sprintf("its node has been silent for more than %v", cfg.ReplaceAfter)
	}
	if why := v.sick[member]; why != "" {
		return why
	}
	if set.Moved && !set.hasFormed(member.Replica) {
		return "it did not form before the set's members changed"
	}
	return ""
}

// joinWithin is how long a replica may take to join its set, counted since this
// node leads. One that takes longer is given up, so that it holds up no others; the
// set gets another.
const joinWithin = 2 * time.Hour

// giveUp wants those changes given up whose new replica lies on a node that is
// lost, or is to take none any more, or is broken itself, or does not catch up.
func (v view) giveUp(cfg ControllerConfig) (actions []Action) {
	for _, set := range v.moving() {
		add, _, _ := set.memberChange()
		if add.Replica == 0 {
			continue
		}
		why := ""
		switch node := v.state.nodes[add.Node]; {
		case v.silence(add.Node) > cfg.ReplaceAfter:
			why = fmt.Sprintf("its node has been silent for more than %v", cfg.ReplaceAfter)
		case node.State != NodeActive:
			why = "its node is " + node.State.String()
		case v.joiningFor(set.Intent.ID) > joinWithin:
			why = fmt.Sprintf("it has not caught up within %v", joinWithin)
		default:
			why = v.sick[add]
		}
		if why != "" {
			actions = append(actions, action(LoopRepair, fmt.Sprintf("give up replica %d, which joins set %d on node %s: %s", add.Replica, set.ID, add.Node, why),
				CancelIntent{Set: set.ID, Intent: set.Intent.ID}))
		}
	}
	return actions
}

// joiningFor is how long a change of members has been under way, as far as this
// leader knows.
func (v view) joiningFor(change IntentID) time.Duration {
	begun, known := v.begun[change]
	if !known {
		return 0
	}
	return v.now.Sub(begun)
}

// moving lists the sets whose members change, by ID.
func (v view) moving() (list []*ReplicaSet) {
	for _, set := range v.state.sets {
		if set.Intent != nil && set.Intent.Kind == IntentMembers {
			list = append(list, set)
		}
	}
	slices.SortFunc(list, func(a, b *ReplicaSet) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// followBases has overlays move to the nodes of their base, one replica at a time.
func (m *moves) followBases() (actions []Action) {
	for _, b := range byKey(m.v.state.buckets) {
		for shard, id := range b.OverlayIDs {
			overlay, base := m.v.state.sets[id], m.v.state.sets[b.SetIDs[shard]]
			if overlay == nil || base == nil || base.Intent != nil || b.State == BucketDropping || m.left <= 0 ||
				!m.movable(overlay) || togetherStill(base, overlay) || !m.able(overlay) {
				continue
			}
			if a, ok := m.follow(base, overlay); ok {
				actions = append(actions, a)
			}
		}
	}
	return actions
}

func (m *moves) follow(base, overlay *ReplicaSet) (Action, bool) {
	var add quorate.NodeID
	if i := slices.IndexFunc(base.Members, func(b Member) bool { _, there := overlay.MemberOn(b.Node); return !there }); i >= 0 {
		add = base.Members[i].Node
	}
	var remove quorate.ReplicaID
	if i := slices.IndexFunc(overlay.Members, func(o Member) bool { _, there := base.MemberOn(o.Node); return !there }); i >= 0 {
		remove = overlay.Members[i].Replica
	}
	none := quorate.NodeID{}
	if add != none && (m.v.absent(add) || m.joining[add] >= m.perNode || m.v.state.checkJoins(overlay, add) != nil) ||
		add == none && !m.standsWithout(overlay, remove) {
		return Action{}, false
	}
	return m.begin(LoopRepair, fmt.Sprintf("have overlay %d follow its base %d", overlay.ID, base.ID), overlay, add, remove), true
}

// mend wants a lost replica replaced by one on another node, or made anew on its
// own when no other can take it and its node is there: it leaves first, and once
// its node has moved its files away, restore adds another there. Of an overlay only
// that one leaves, and follows its base again.
func (m *moves) mend(p patient) (Action, bool) {
	if _, possible := m.target(p.set, p.member); possible || m.v.absent(p.member.Node) ||
		m.fit.space[p.member.Node] > SpaceAmple || !m.holds(p.set, p.member.Node) {
		return m.replace(LoopRepair, p.why, p.set, p.member)
	}
	if m.left <= 0 || !m.movable(p.sick) {
		return Action{}, false
	}
	if !m.standsWithout(p.sick, p.ill.Replica) {
		m.waiting = append(m.waiting, p.set.ID)
		return Action{}, false
	}
	return m.begin(LoopRepair, fmt.Sprintf("remove replica %d of set %d from node %s, to be made anew there since no other node can take it: %s", p.ill.Replica, p.sick.ID, p.ill.Node, p.why),
		p.sick, quorate.NodeID{}, p.ill.Replica), true
}

// restore wants replicas added to sets that have fewer than their policy says:
// one was removed, or the policy says more than it did. Overlays follow.
func (m *moves) restore() (actions []Action) {
	for _, b := range byKey(m.v.state.buckets) {
		want := m.v.state.policies[b.Policy].Replicas
		for _, id := range b.SetIDs {
			set := m.v.state.sets[id]
			if set == nil || b.State == BucketDropping || len(set.Members) >= want || m.left <= 0 || !m.movable(set) || !m.able(set) {
				continue
			}
			to, possible := m.target(set, Member{})
			switch {
			case to != (quorate.NodeID{}):
				actions = append(actions, m.begin(LoopRepair, fmt.Sprintf("add a replica of set %d on node %s: it has %d of %d", id, to, len(set.Members), want), set, to, 0))
			case !possible && len(set.Left) == 0: // whose files go makes room
				m.waiting = append(m.waiting, id)
			}
		}
	}
	return actions
}

// replan wants sets planned anew that are still forming, when the nodes on which
// they would are lost, and so many of them that they never can.
func (m *moves) replan(cfg ControllerConfig) (actions []Action) {
	v := m.v
	for _, b := range byKey(v.state.buckets) {
		if b.State == BucketDropping {
			continue
		}
		for _, id := range slices.Concat(b.SetIDs, b.OverlayIDs) {
			set := v.state.sets[id]
			if set == nil || set.State != ReplicaSetForming || v.mayForm(cfg, set) {
				continue
			}
			c := ReplanSet{Set: id, Term: v.term}
			if set.Base == 0 {
				policy := *v.state.policies[b.Policy]
				policy.Shards = 1
				placement, err := v.state.place(&policy, m.fit)
				if err != nil {
					m.waiting = append(m.waiting, id)
					continue
				}
				c.Nodes = placement[0]
			}
			actions = append(actions, action(LoopRepair, fmt.Sprintf("plan set %d of bucket %v anew: its nodes are lost and it has not formed", id, b.Range), c))
		}
	}
	return actions
}

// mayForm tells whether a majority of a forming set has formed or still may.
func (v view) mayForm(cfg ControllerConfig, set *ReplicaSet) bool {
	hope := 0
	for _, member := range set.Members {
		if v.lost(cfg, set, member) == "" {
			hope++
		}
	}
	return hope > len(set.Members)/2
}
