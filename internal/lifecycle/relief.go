package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/router"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/raftset"
)

const (
	// askSpaceEvery is how often the nodes of the other members of sets led here
	// are asked for their space, spaceKnown how long an answer holds.
	askSpaceEvery = 5 * time.Second
	spaceKnown    = 3 * askSpaceEvery
	// relieveAgain is the pause after a lead that could not be handed over.
	relieveAgain = 5 * time.Second
)

// neighbours is what this node knows of the space on others. Its zero value
// knows nothing.
type neighbours struct {
	mu    sync.Mutex
	known map[quorate.NodeID]neighbour
}

type neighbour struct {
	space metasvc.Space
	asked time.Time
}

func (n *neighbours) note(node quorate.NodeID, s metasvc.Space, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known == nil {
		n.known = make(map[quorate.NodeID]neighbour)
	}
	n.known[node] = neighbour{s, now}
}

// spaceOf returns a node's level, if it was heard of lately.
func (n *neighbours) spaceOf(node quorate.NodeID, now time.Time) (s metasvc.Space, known bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	of, ok := n.known[node]
	return of.space, ok && now.Sub(of.asked) <= spaceKnown
}

// watchSpace measures the free space, hands on what this node should not lead
// for want of it, and has writes refused that would not fit, until the context
// ends.
func (m *Manager) watchSpace(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var asked time.Time
	var leads relief
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-timer.C:
			before := m.space.now()
			m.space.look()
			groups := m.led(m.cfg.Metadata())
			if (now.Sub(asked) >= askSpaceEvery || m.space.now() > before) && m.cfg.Peers != nil {
				asked = now
				m.askSpace(ctx, groups)
			}
			m.judgeWrites(now)
			every := measureEvery
			if m.space.now() > metasvc.SpaceAmple {
				every = measureShortEvery
				leads.handOn(ctx, m, groups, now)
			}
			timer.Reset(every)
		}
	}
}

// led lists the groups that are led here and have other voters: of the sets, and
// of some others, nil ones aside.
func (m *Manager) led(others ...*raftset.Group) (groups []*raftset.Group) {
	add := func(g *raftset.Group) {
		if g == nil {
			return
		}
		if _, leads := g.Leadership(); leads && len(g.Configuration().Voters) > 1 {
			groups = append(groups, g)
		}
	}
	for _, g := range others {
		add(g)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.replicas {
		add(r.group)
	}
	return groups
}

// askSpace asks the nodes of the groups' other members, all at the same time.
func (m *Manager) askSpace(ctx context.Context, groups []*raftset.Group) {
	nodes := make(map[quorate.NodeID]bool)
	for _, g := range groups {
		for _, v := range g.Configuration().Voters {
			nodes[v.Node] = v.Node != m.cfg.Node
		}
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	var all sync.WaitGroup
	for node, other := range nodes {
		if other {
			all.Go(func() { m.askSpaceOf(ctx, node) })
		}
	}
	all.Wait()
}

func (m *Manager) askSpaceOf(ctx context.Context, node quorate.NodeID) {
	b, err := m.cfg.Peers.Call(ctx, node, methodSpace, beginMessage())
	if err != nil {
		return // it stays as it was known, until that is too old
	}
	answer, err := decodeSpaceAnswer(b)
	if err != nil {
		m.logger.Warn("another node's space is not known", "node", node, "err", err)
		return
	}
	m.neighbours.note(node, answer.Space, time.Now())
}

// handleSpace answers with this node's level of space.
func (m *Manager) handleSpace(_ context.Context, _ quorate.NodeID, req []byte) ([]byte, error) {
	c, err := openMessage(req)
	if err != nil {
		return nil, err
	}
	if err := c.Finish(errMessage, "question for the space"); err != nil {
		return nil, err
	}
	return spaceAnswer{Space: m.space.now()}.encode(), nil
}

// better finds a voter that can lead in this replica's stead and has more space
// than this node: ample, or enough for writes where this node takes none.
func (m *Manager) better(g *raftset.Group, now time.Time) (to replicaID, ok bool) {
	most, own := metasvc.SpaceExhausted, m.space.now()
	for _, v := range g.Configuration().Voters {
		s, known := m.neighbours.spaceOf(v.Node, now)
		if v.Node == m.cfg.Node || !known || s >= own || s >= most || s >= metasvc.SpaceFull || !isCaughtUp(g, v.Replica, now) {
			continue
		}
		to, ok, most = v.Replica, true, s
	}
	return to, ok
}

// relief hands leads on.
type relief struct{ notBefore map[setID]time.Time }

// handOn hands the groups on to members that have more space than this node.
func (l *relief) handOn(ctx context.Context, m *Manager, groups []*raftset.Group, now time.Time) {
	if l.notBefore == nil {
		l.notBefore = make(map[setID]time.Time)
	}
	for _, g := range groups {
		if now.Before(l.notBefore[g.Set()]) {
			continue
		}
		to, ok := m.better(g, now)
		if !ok {
			continue
		}
		err := transfer(ctx, g, to)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			delete(l.notBefore, g.Set())
			m.metrics.reliefs.Inc()
			m.logger.Info("set handed over for want of space here", "set", g.Set(), "replica", to)
		default:
			l.notBefore[g.Set()] = now.Add(relieveAgain)
			if !errors.Is(err, errNotYet) {
				m.logger.Warn("set was not handed over for want of space here", "set", g.Set(), "replica", to, "err", err)
			}
		}
	}
}

// judgeWrites judges, for each replica that runs on its log, whether writes to it fit.
func (m *Manager) judgeWrites(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.replicas {
		if r.group == nil {
			continue
		}
		if err := m.inadmissible(r.group, now); err != nil {
			r.refusal.Store(&err)
		} else {
			r.refusal.Store(nil)
		}
	}
}

// inadmissible is why no writes are proposed to a group: this node is full, or
// so many members' nodes are that no majority could store them. That is passing,
// and waited for by requests, while a member is about to take the lead that has
// space.
func (m *Manager) inadmissible(g *raftset.Group, now time.Time) error {
	own := m.space.now()
	voters := g.Configuration().Voters
	full := 0
	for _, v := range voters {
		s, known := m.neighbours.spaceOf(v.Node, now)
		if v.Node == m.cfg.Node {
			s, known = own, true
		}
		if known && s >= metasvc.SpaceFull {
			full++
		}
	}
	switch {
	case full > len(voters)/2 && own < metasvc.SpaceFull:
		return &quorate.Error{
			Kind: quorate.Unavailable, RetryAfter: refusedRetry,
			Err: fmt.Errorf("the disks of %d of the %d nodes that hold set %v are full (storage.full_space_bytes)", full, len(voters), g.Set()),
		}
	case own < metasvc.SpaceFull:
		return nil
	}
	err := fmt.Errorf("set %v takes no writes on node %s: %w", g.Set(), m.cfg.Node.Name, m.space.refusal())
	if _, leads := g.Leadership(); leads && full <= len(voters)/2 {
		if _, ok := m.better(g, now); ok {
			return router.Passing(err)
		}
	}
	return err
}

// refused is what router.Replica.AdmitBy asks: why a write is not proposed here.
func (m *Manager) refused(r *replica) error {
	reason := r.refusal.Load()
	if reason == nil {
		return nil
	}
	m.metrics.refused.Inc()
	return *reason
}
