package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/raftset"
)

const (
	// caughtUpEntries is how far behind its leader a learner may be to be made
	// a voter, or a voter to be given the lead: what is in flight while writes
	// go on.
	caughtUpEntries = 16
	// caughtUpLooks is how many times in a row it must be seen so.
	caughtUpLooks = 2
	// inContact is how old the last answer of a member may be that is counted
	// on.
	inContact = 2 * time.Second
	// readyTimeout bounds the question whether a newcomer runs.
	readyTimeout = 5 * time.Second
	// stepTimeout bounds one change of the configuration.
	stepTimeout = 10 * time.Second
	// transferTimeout bounds the hand-over of the lead, during which nothing is
	// written. The successor has caught up when it begins.
	transferTimeout = 2 * time.Second
)

// Between the steps of a change of members.
const (
	momentLearner  moment = "the newcomer is a learner"
	momentPromoted moment = "the newcomer is a voter"
	momentRemoved  moment = "the old member is removed"
)

// changeMembers carries out the change of members that the map intends, as the
// set's leader (PROTOCOL 4): the newcomer becomes a learner, then, caught up, a
// voter; and only then is the old member removed. Each step is an entry of the
// set's log; after a crash or under another leader the next step follows from
// the configuration alone.
func (m *Manager) changeMembers(ctx context.Context, set *metasvc.ReplicaSet, r *replica) error {
	change, ok := set.Changing()
	if !ok {
		return nil
	}
	if err := confirmLead(ctx, r.group); err != nil {
		return err
	}
	if err := m.stillIntended(ctx, set); err != nil {
		return err
	}
	if err := m.removeStrangers(ctx, set, r, change); err != nil {
		return err
	}
	if change.Add.Replica != 0 {
		if err := m.admit(ctx, r, raftset.Member{Node: change.Add.Node, Replica: change.Add.Replica}); err != nil {
			return err
		}
	}
	if change.Remove != 0 {
		if err := m.stillIntended(ctx, set); err != nil {
			return err
		}
		if err := m.remove(ctx, r, change.Remove); err != nil {
			return err
		}
	}
	configuration := r.group.Configuration()
	if err := m.cfg.Client.ConfirmIntent(ctx, r.set, set.Intent.ID, configuration.Index); err != nil {
		return fmt.Errorf("confirm the members of set %v: %w", r.set, err)
	}
	m.logger.Info("members of a set changed", "set", r.set, "added", change.Add.Replica, "removed", change.Remove, "index", configuration.Index)
	return nil
}

// stillIntended makes sure that the metadata leader still has the intent that a
// set's record carries: one that was given up meanwhile must not be carried out.
func (m *Manager) stillIntended(ctx context.Context, set *metasvc.ReplicaSet) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if err := m.cfg.Client.ConfirmMap(ctx); err != nil {
		return errors.Join(errNotYet, err)
	}
	if now := m.cfg.Client.Map().Set(set.ID); now == nil || now.Intent == nil || now.Intent.ID != set.Intent.ID {
		return errNotYet
	}
	return nil
}

// confirmLead makes sure that a replica leads, or says that it does not yet.
func confirmLead(ctx context.Context, g *raftset.Group) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	_, err := g.ConfirmRead(ctx)
	return elsewhere(err)
}

// elsewhere turns the error of a replica that does not lead into errNotYet, since
// the one that does carries the work out, and adds it to what the group cannot do
// now and may in a moment: a member has just not answered, or lacks entries.
func elsewhere(err error) error {
	switch {
	case errors.As(err, new(*raftset.NotLeaderError)):
		return errNotYet
	case quorate.KindOf(err) == quorate.Unavailable && !errors.Is(err, raftset.ErrBroken):
		return fmt.Errorf("%w: %w", errNotYet, err)
	}
	return err
}

// step bounds one change of the configuration.
func step(ctx context.Context, change func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	return elsewhere(change(ctx))
}

// transfer hands the lead over.
func transfer(ctx context.Context, g *raftset.Group, to replicaID) error {
	ctx, cancel := context.WithTimeout(ctx, transferTimeout)
	defer cancel()
	return elsewhere(g.TransferLeadership(ctx, to))
}

func indexOf(members []raftset.Member, replica replicaID) int {
	return slices.IndexFunc(members, func(m raftset.Member) bool { return m.Replica == replica })
}

// replicaOn returns the replica of the member on a node, 0 without one.
func replicaOn(members []raftset.Member, node quorate.NodeID) replicaID {
	for _, m := range members {
		if m.Node == node {
			return m.Replica
		}
	}
	return 0
}

// removeStrangers removes the learners that a change which was given up has left
// behind. They count for nothing and only take the log.
func (m *Manager) removeStrangers(ctx context.Context, set *metasvc.ReplicaSet, r *replica, change metasvc.MemberChange) error {
	for _, learner := range r.group.Configuration().Learners {
		if learner.Replica == change.Add.Replica || set.HasMember(learner.Replica) {
			continue
		}
		m.logger.Warn("learner of an earlier change is removed", "set", r.set, "replica", learner.Replica, "node", learner.Node)
		if err := step(ctx, func(ctx context.Context) error { return r.group.RemoveMember(ctx, learner.Replica) }); err != nil {
			return fmt.Errorf("remove learner %v of set %v: %w", learner.Replica, r.set, err)
		}
	}
	return nil
}

// admit makes a newcomer a voter, or says that it is not one yet. When it returns
// nil, that is committed: that the latest configuration in the log says so would
// not do.
func (m *Manager) admit(ctx context.Context, r *replica, newcomer raftset.Member) error {
	configuration := r.group.Configuration()
	if indexOf(configuration.Voters, newcomer.Replica) >= 0 {
		return m.promote(ctx, r, newcomer)
	}
	if indexOf(configuration.Learners, newcomer.Replica) < 0 {
		// Not before it runs: a seed in whose configuration it is would not be
		// one that it could start from.
		ready, err := m.isReady(ctx, r.set, newcomer)
		if err != nil || !ready {
			return errors.Join(errNotYet, err)
		}
		if err := step(ctx, func(ctx context.Context) error { return r.group.AddLearner(ctx, newcomer) }); err != nil {
			return fmt.Errorf("add learner %v to set %v: %w", newcomer, r.set, err)
		}
		m.mu.Lock()
		r.caughtUp = 0
		m.mu.Unlock()
		if err := m.cfg.moment(momentLearner); err != nil {
			return err
		}
	}
	looks := 0
	if isCaughtUp(r.group, newcomer.Replica, time.Now()) {
		looks = r.caughtUp + 1
	}
	m.mu.Lock()
	r.caughtUp = looks
	m.mu.Unlock()
	if looks < caughtUpLooks {
		return errNotYet
	}
	if err := m.promote(ctx, r, newcomer); err != nil {
		return err
	}
	return m.cfg.moment(momentPromoted)
}

func (m *Manager) promote(ctx context.Context, r *replica, newcomer raftset.Member) error {
	if err := step(ctx, func(ctx context.Context) error { return r.group.Promote(ctx, newcomer.Replica) }); err != nil {
		return fmt.Errorf("make %v a voter of set %v: %w", newcomer, r.set, err)
	}
	return nil
}

// isReady asks a newcomer's node whether the newcomer runs.
func (m *Manager) isReady(ctx context.Context, set setID, newcomer raftset.Member) (bool, error) {
	if newcomer.Node == m.cfg.Node || m.cfg.Peers == nil {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	b, err := m.cfg.Peers.Call(ctx, newcomer.Node, methodReady, replicaRequest{Set: set, Replica: newcomer.Replica}.encode())
	if err != nil {
		return false, err
	}
	answer, err := decodeReadyAnswer(b)
	return answer.Open, err
}

// isCaughtUp tells whether a member has nearly all of its leader's log, and
// answers. One that lacks so much as an entry which the log does not have any more
// waits for a manifest and its files, however few entries that stands for.
func isCaughtUp(g *raftset.Group, replica replicaID, now time.Time) bool {
	entries, contact, ok := g.Lag(replica)
	if !ok || entries > caughtUpEntries || now.Sub(contact) > inContact {
		return false
	}
	s := g.Status()
	return entries == 0 || s.FirstIndex > 0 && entries <= s.LastIndex+1-s.FirstIndex
}

// remove removes a member; when it returns nil, that is committed. A leader that
// is to go hands the lead over first, and the next one removes it.
func (m *Manager) remove(ctx context.Context, r *replica, old replicaID) error {
	configuration := r.group.Configuration()
	if old == r.id {
		to, ok := successor(r.group, configuration, r.id)
		if !ok {
			return errNotYet
		}
		if err := transfer(ctx, r.group, to); err != nil {
			return fmt.Errorf("hand set %v over to %v: %w", r.set, to, err)
		}
		return errNotYet
	}
	if err := step(ctx, func(ctx context.Context) error { return r.group.RemoveMember(ctx, old) }); err != nil {
		return fmt.Errorf("remove member %v of set %v: %w", old, r.set, err)
	}
	return m.cfg.moment(momentRemoved)
}

// successor finds a voter that can lead in a replica's stead.
func successor(g *raftset.Group, c raftset.Configuration, but replicaID) (to replicaID, ok bool) {
	now := time.Now()
	for _, v := range c.Voters {
		if v.Replica != but && isCaughtUp(g, v.Replica, now) {
			return v.Replica, true
		}
	}
	return 0, false
}

// replicaID shortens the type of replicas' numbers.
type replicaID = quorate.ReplicaID
