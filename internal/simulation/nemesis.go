package simulation

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// strikePause is how long the nemesis waits at most between two strikes.
	strikePause = 5 * time.Second
	// longestHang is how long an append hangs at most.
	longestHang = 12 * time.Second
	// flushTimeout is how long who asks for a flush waits for it.
	flushTimeout = 30 * time.Second
)

// nemesis makes things go wrong, and well again.
type nemesis struct {
	sim    *simulation
	chance *chance
	kinds  []strike
	// active are the faults that are to be undone.
	active []fault
	// calls are those under way that it has asked nodes for.
	calls sync.WaitGroup
}

// strike is a kind of fault.
type strike struct {
	name   string
	weight int
	// least and most say how long it lasts.
	least, most time.Duration
	// do does it and says to whom. What undo does is nil when there is nothing.
	do func(ctx context.Context) (to string, undo func())
}

// fault is a strike that lasts.
type fault struct {
	name  string
	until time.Time
	undo  func()
}

func newNemesis(s *simulation) *nemesis {
	m := &nemesis{sim: s, chance: newChance(s.cfg.Seed, streamNemesis)}
	m.kinds = slices.Concat(m.networkStrikes(), m.nodeStrikes())
	return m
}

func (m *nemesis) networkStrikes() []strike {
	net := m.sim.network
	return []strike{
		{"partition", 6, 500 * time.Millisecond, 12 * time.Second, func(context.Context) (string, func()) {
			n := m.victim()
			return m.block(n, slices.Concat(m.linksTo(n), m.linksFrom(n)))
		}},
		{"deaf node", 4, 500 * time.Millisecond, 8 * time.Second, func(context.Context) (string, func()) {
			n := m.victim()
			return m.block(n, m.linksTo(n))
		}},
		{"mute node", 4, 500 * time.Millisecond, 8 * time.Second, func(context.Context) (string, func()) {
			n := m.victim()
			return m.block(n, m.linksFrom(n))
		}},
		{"cut link", 3, 500 * time.Millisecond, 15 * time.Second, func(context.Context) (string, func()) {
			n := m.victim()
			l := pick(m.chance, m.linksFrom(n))
			return m.block(n, []link{l, {l.to, l.from}})
		}},
		{"one-way link", 3, 500 * time.Millisecond, 15 * time.Second, func(context.Context) (string, func()) {
			n := m.victim()
			return m.block(n, []link{pick(m.chance, m.linksFrom(n))})
		}},
		{"loss", 3, time.Second, 15 * time.Second, func(context.Context) (string, func()) {
			share := 0.02 + 0.3*float64(m.chance.below(100))/100
			net.with(func() { net.loss = share })
			return fmt.Sprintf("%.0f %% of all", 100*share), func() { net.with(func() { net.loss = 0 }) }
		}},
		{"slow links", 5, time.Second, 15 * time.Second, m.slowLinks},
		{"held messages", 4, 100 * time.Millisecond, 4 * time.Second, func(context.Context) (string, func()) {
			id := m.victim().id
			net.hold(id)
			return id.Name, func() { net.release(id) }
		}},
	}
}

func (m *nemesis) nodeStrikes() []strike {
	s := m.sim
	return []strike{
		{"killed leader", 4, 0, 6 * time.Second, func(ctx context.Context) (string, func()) {
			return m.kill(ctx, "a strike", m.leader(s.someSet(m.chance)))
		}},
		{"killed follower", 3, 0, 10 * time.Second, func(ctx context.Context) (string, func()) {
			return m.kill(ctx, "a strike", m.follower(s.someSet(m.chance)))
		}},
		{"follower away", 2, 40 * time.Second, 90 * time.Second, func(ctx context.Context) (string, func()) {
			return m.kill(ctx, "it will be away", m.follower(s.someSet(m.chance)))
		}},
		{"killed majority", 2, 0, 5 * time.Second, func(ctx context.Context) (string, func()) {
			all := s.members()
			skip := m.chance.below(len(all))
			return m.kill(ctx, "a majority goes", slices.Delete(all, skip, skip+1)...)
		}},
		{"power failure", 1, 0, 5 * time.Second, func(ctx context.Context) (string, func()) {
			return m.kill(ctx, "the power fails", s.members()...)
		}},
		{"restart", 2, 0, 3 * time.Second, func(ctx context.Context) (string, func()) {
			n := m.victim()
			n.stop(n.process())
			return n.String(), func() { s.must(n.start(ctx)) }
		}},
		{"slow disk", 4, time.Second, 15 * time.Second, func(context.Context) (string, func()) {
			n := m.victim()
			pace := m.chance.between(20*time.Millisecond, 500*time.Millisecond)
			n.disk.set(func(d *disk) { d.pace = pace })
			return fmt.Sprintf("%s, up to %v", n, pace), func() { n.disk.set(func(d *disk) { d.pace = usualPace }) }
		}},
		{"disk that may hang", 1, time.Second, 2 * time.Second, func(context.Context) (string, func()) {
			n := m.victim()
			hang := m.chance.between(3*time.Second, longestHang)
			n.disk.set(func(d *disk) { d.hang = hang })
			return fmt.Sprintf("%s, for %v", n, hang), func() { n.disk.set(func(d *disk) { d.hang = 0 }) }
		}},
		{"transfer", 3, 0, 0, m.transfer},
		{"flush", 14, 0, 0, m.flush},
	}
}

// run strikes until over is closed, and then undoes everything.
func (m *nemesis) run(ctx context.Context, over <-chan struct{}) {
	defer m.calls.Wait()
	next := time.Now().Add(m.chance.between(time.Second, strikePause))
	for {
		wake := next
		for _, f := range m.active {
			if f.until.Before(wake) {
				wake = f.until
			}
		}
		timer := time.NewTimer(time.Until(wake))
		select {
		case <-timer.C:
		case <-over:
			timer.Stop()
			m.undo(func(fault) bool { return true })
			m.sim.trace.add("everything is healed")
			return
		}
		now := time.Now()
		m.undo(func(f fault) bool { return !f.until.After(now) })
		if !next.After(now) {
			m.strike(ctx)
			next = time.Now().Add(m.chance.between(0, strikePause))
		}
	}
}

// strike does one of the kinds that are not under way.
func (m *nemesis) strike(ctx context.Context) {
	total := 0
	for _, k := range m.kinds {
		total += k.weight
	}
	n := m.chance.below(total)
	i := 0
	for n >= m.kinds[i].weight {
		n -= m.kinds[i].weight
		i++
	}
	k := m.kinds[i]
	if slices.ContainsFunc(m.active, func(f fault) bool { return f.name == k.name }) {
		return
	}
	to, undo := k.do(ctx)
	m.sim.count(k.name, 1)
	if undo == nil {
		m.sim.trace.add("%s: %s", k.name, to)
		return
	}
	lasts := m.chance.between(k.least, k.most)
	m.sim.trace.add("%s: %s, for %v", k.name, to, lasts.Round(time.Millisecond))
	m.active = append(m.active, fault{name: k.name, until: time.Now().Add(lasts), undo: undo})
}

// undo undoes those of the active faults that it is asked to.
func (m *nemesis) undo(which func(fault) bool) {
	for _, f := range m.active {
		if which(f) {
			f.undo()
			m.sim.trace.add("%s is over", f.name)
		}
	}
	m.active = slices.DeleteFunc(m.active, which)
}

func pick[T any](c *chance, of []T) T { return of[c.below(len(of))] }

// victim is any node, half of the time one that leads.
func (m *nemesis) victim() *node {
	if m.chance.happens(0.5) {
		return m.leader(m.sim.someSet(m.chance))
	}
	return m.sim.anyNode(m.chance)
}

// leader is the node that leads a set, or any.
func (m *nemesis) leader(set *replicaSet) *node {
	if r := m.sim.leading(set); r != nil {
		return r.node
	}
	return m.sim.anyNode(m.chance)
}

func (m *nemesis) follower(set *replicaSet) *node {
	leader := m.leader(set)
	return pick(m.chance, slices.DeleteFunc(m.sim.members(), func(n *node) bool { return n == leader }))
}

func (m *nemesis) linksFrom(n *node) (links []link) {
	for _, other := range m.sim.members() {
		if other != n {
			links = append(links, link{n.id, other.id})
		}
	}
	return links
}

func (m *nemesis) linksTo(n *node) (links []link) {
	for _, l := range m.linksFrom(n) {
		links = append(links, link{l.to, l.from})
	}
	return links
}

func (m *nemesis) block(n *node, links []link) (to string, undo func()) {
	m.sim.network.block(links...)
	return fmt.Sprintf("%s, %d links", n, len(links)), func() { m.sim.network.unblock(links...) }
}

// slowLinks makes half of all links slow, each in its own way: answers may be
// slow where questions are not.
func (m *nemesis) slowLinks(context.Context) (to string, undo func()) {
	net := m.sim.network
	var slow []link
	for _, n := range m.sim.members() {
		for _, l := range m.linksFrom(n) {
			if m.chance.happens(0.5) {
				slow = append(slow, l)
			}
		}
	}
	net.with(func() {
		for _, l := range slow {
			net.slow[l] = m.chance.between(10*time.Millisecond, 900*time.Millisecond)
		}
	})
	return fmt.Sprintf("%d links", len(slow)), func() { net.with(func() { clear(net.slow) }) }
}

func (m *nemesis) kill(ctx context.Context, why string, nodes ...*node) (to string, undo func()) {
	m.sim.kill(why, nodes...)
	return fmt.Sprint(nodes), func() {
		for _, n := range nodes {
			m.sim.must(n.start(ctx))
		}
	}
}

// transfer has the leader of a set hand over to a member of its choice.
func (m *nemesis) transfer(ctx context.Context) (to string, undo func()) {
	set := m.sim.someSet(m.chance)
	r, target := m.sim.leading(set), m.follower(set)
	if r == nil {
		return fmt.Sprintf("nobody leads set %d", set.id), nil
	}
	m.calls.Go(func() { m.sim.handOver(ctx, r, set.member(target).Replica) })
	return fmt.Sprintf("set %d from %s to %s", set.id, r.node, target), nil
}

// flush has any node flush a set.
func (m *nemesis) flush(ctx context.Context) (to string, undo func()) {
	n, set := m.sim.anyNode(m.chance), m.sim.someSet(m.chance)
	r := n.replica(set)
	if r == nil {
		return fmt.Sprintf("set %d at %s, where it is not open", set.id, n), nil
	}
	m.calls.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, flushTimeout)
		defer cancel()
		err := r.group.Flush(ctx)
		switch {
		case r.dead():
		case err != nil:
			m.sim.count("flushes failed", 1)
			m.sim.trace.add("%s: flush of set %d: %v", n, set.id, err)
		default:
			m.sim.count("flushes done", 1)
		}
	})
	return fmt.Sprintf("set %d at %s", set.id, n), nil
}
