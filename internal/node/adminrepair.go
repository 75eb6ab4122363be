package node

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/metasvc"
)

const (
	// repairTimeout is how long a repair request waits unless it says otherwise.
	repairTimeout = 10 * time.Minute
	// repairPoll is how often it looks how far the repair is.
	repairPoll = 20 * time.Millisecond
)

// repaired is what a repair did.
type repaired struct {
	Set quorate.ReplicaSetID `json:"set"`
	// Removed is the replica that was made anew, 0 when the set lacked one.
	Removed quorate.ReplicaID `json:"removed,omitempty"`
	Added   quorate.ReplicaID `json:"added"`
	Node    string            `json:"node"`
}

// repair makes a replica of a set anew: ?replica= or, without it, one that is
// broken or whose node does not answer, or one more where the set has fewer than
// its policy says. A new replica joins, on ?node= or the node that suits best, and
// the old one leaves when the new one is there. Where no other node can take one,
// the old one leaves first and the new one joins on its node. It is refused when
// nobody but the old one could be copied from, and waits until it is done.
func (a *clusterAdmin) repair(r *http.Request) (any, error) {
	id, err := a.findSet(r)
	if err != nil {
		return nil, err
	}
	timeout, err := parseTimeout(r, repairTimeout)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	if err := a.client.ConfirmMap(ctx); err != nil {
		return nil, err
	}
	set := a.client.Map().Set(id)
	if set == nil {
		return nil, quorate.Errorf(quorate.NotFound, "set %d does not exist", id)
	}
	replicas := a.gatherReplicas(ctx, id, nil)
	old, err := a.patient(r, set, replicas)
	if err != nil {
		return nil, err
	}
	if err := checkRepair(set, old, replicas); err != nil {
		return nil, err
	}
	return a.remake(ctx, r.FormValue("node"), set, old)
}

// patient is the member to make anew; zero is none, for a set that lacks one.
func (a *clusterAdmin) patient(r *http.Request, set *metasvc.ReplicaSet, replicas []listedReplica) (old metasvc.Member, err error) {
	if r.FormValue("replica") != "" {
		id, err := parseNumber[quorate.ReplicaID](r, "replica")
		if err != nil {
			return metasvc.Member{}, err
		}
		at := slices.IndexFunc(set.Members, func(m metasvc.Member) bool { return m.Replica == id })
		if at < 0 {
			return metasvc.Member{}, quorate.Errorf(quorate.NotFound, "replica %d is not a member of set %d", id, set.ID)
		}
		return set.Members[at], nil
	}
	for _, m := range set.Members {
		if !isWell(set, replicas, m.Replica) {
			return m, nil
		}
	}
	m := a.client.Map()
	for _, p := range m.Policies() {
		b := m.Bucket(p.ID, set.Bounds.Range.Start)
		if b != nil && b.ID == set.Bucket && len(set.Members) < p.Replicas {
			return metasvc.Member{}, nil
		}
	}
	return metasvc.Member{}, quorate.Errorf(quorate.Invalid, "all replicas of set %d are well, and there are as many as there are to be; say which one to make anew", set.ID)
}

// isWell tells whether a replica is there to be counted on, and copied from.
func isWell(set *metasvc.ReplicaSet, replicas []listedReplica, id quorate.ReplicaID) bool {
	return slices.ContainsFunc(replicas, func(r listedReplica) bool {
		return r.Replica == id && r.Broken == "" && (r.Role == roleVoter || r.Role == roleCopy) &&
			(r.Serving == "file" || r.Serving == "log" && !set.NeedsFile())
	})
}

// checkRepair refuses a repair that could not be done, or would cost the last
// copy (PROTOCOL 16): of an open set a majority has to agree to it, and of a
// sealed one somebody must have the file.
func checkRepair(set *metasvc.ReplicaSet, old metasvc.Member, replicas []listedReplica) error {
	well, others := 0, 0
	for _, m := range set.Members {
		if isWell(set, replicas, m.Replica) {
			well++
			if m != old {
				others++
			}
		}
	}
	switch {
	case set.State == metasvc.ReplicaSetForming || set.State == metasvc.ReplicaSetDropping:
		return quorate.Errorf(quorate.Invalid, "set %d is %s", set.ID, set.State)
	case others == 0 && len(set.Members) > 1:
		return quorate.Errorf(quorate.Invalid, "set %d: no replica but %d could be copied from: it may be the last copy, and is not removed", set.ID, old.Replica)
	case well == 0:
		return quorate.Errorf(quorate.Invalid, "set %d: its one replica %d is not well, so that there is nothing to copy", set.ID, old.Replica)
	case set.State != metasvc.ReplicaSetSealed && well <= len(set.Members)/2:
		return quorate.Errorf(quorate.Unavailable, "set %d: only %d of its %d replicas are well, and no majority can agree to change its members", set.ID, well, len(set.Members))
	}
	return nil
}

// remake makes a replica anew.
func (a *clusterAdmin) remake(ctx context.Context, node string, set *metasvc.ReplicaSet, old metasvc.Member) (any, error) {
	var to quorate.NodeID
	var err error
	switch {
	case node != "":
		to, err = a.findNode(node)
	default:
		to, err = a.client.Replacement(set.ID, old.Replica, a.node.beatList(ctx))
		if old.Replica != 0 && len(set.Members) > 1 && quorate.KindOf(err) == quorate.Unavailable {
			to, err = old.Node, nil // there is no other
		}
	}
	if err != nil {
		return nil, err
	}
	leaves := old.Replica
	if to == old.Node {
		// A node has one replica of a set at a time, so the old one goes first.
		if err := a.changeMembers(ctx, set.ID, quorate.NodeID{}, leaves); err != nil {
			return nil, err
		}
		leaves = 0
	}
	err = a.changeMembers(ctx, set.ID, to, leaves)
	for leaves == 0 && quorate.KindOf(err) == quorate.Unavailable && ctx.Err() == nil {
		// The repair loop sees that a replica is lacking, too, and may be at it.
		if err = a.pause(ctx); err == nil {
			err = a.changeMembers(ctx, set.ID, to, leaves)
		}
	}
	if err != nil && !a.isMember(set.ID, to, old.Replica) {
		return nil, err
	}
	done := repaired{Set: set.ID, Removed: old.Replica, Node: to.Name}
	if now := a.client.Map().Set(set.ID); now != nil {
		m, _ := now.MemberOn(to)
		done.Added = m.Replica
	}
	return done, nil
}

// pause waits a little.
func (a *clusterAdmin) pause(ctx context.Context) error {
	timer := time.NewTimer(repairPoll)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// isMember tells whether a node has a replica of a set that is not the old one.
func (a *clusterAdmin) isMember(id quorate.ReplicaSetID, node quorate.NodeID, old quorate.ReplicaID) bool {
	set := a.client.Map().Set(id)
	if set == nil {
		return false
	}
	m, member := set.MemberOn(node)
	return member && m.Replica != old
}

// changeMembers changes the members of a set and waits until that is done and
// the files of who left are out of the way.
func (a *clusterAdmin) changeMembers(ctx context.Context, id quorate.ReplicaSetID, add quorate.NodeID, remove quorate.ReplicaID) error {
	if _, err := a.client.BeginMembers(ctx, id, add, remove); err != nil {
		return err
	}
	tick := time.NewTicker(repairPoll)
	defer tick.Stop()
	for {
		set := a.client.Map().Set(id)
		if set == nil {
			return quorate.Errorf(quorate.NotFound, "set %d was dropped meanwhile", id)
		}
		_, there := set.MemberOn(add)
		switch _, changing := set.Changing(); {
		case changing:
		case set.HasMember(remove) || add != (quorate.NodeID{}) && !there:
			return quorate.Errorf(quorate.Unavailable, "set %d: the change of its members was given up; the log of the metadata leader says why", id)
		case add != (quorate.NodeID{}) || !slices.ContainsFunc(set.Left, func(m metasvc.Member) bool { return m.Replica == remove }):
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return quorate.Errorf(quorate.Unavailable, "set %d: the change of its members goes on: %w", id, ctx.Err())
		}
	}
}
