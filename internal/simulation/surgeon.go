package simulation

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// The surgeon replaces a member every so often.
	leastReplacePause = 20 * time.Second
	mostReplacePause  = 150 * time.Second
	// surgery is how long a replacement may take once everything is healed.
	surgery = 2 * time.Minute
	// linger is how long a removed member goes on at most.
	linger = 20 * time.Second
	// changeTimeout bounds one step of a replacement.
	changeTimeout = 10 * time.Second
)

// surgeon replaces members, in all their sets, one after the other: a new node
// gets the files that a seed names, joins, becomes learner and voter, and then an
// old member goes. Whatever fails on the way is tried again, with whoever leads
// then.
type surgeon struct {
	sim    *simulation
	chance *chance
	// next numbers nodes.
	next int
}

func newSurgeon(s *simulation) *surgeon {
	return &surgeon{sim: s, chance: newChance(s.cfg.Seed, streamMembers), next: founders + 1}
}

// run replaces members until over is closed, and brings the last replacement to
// its end.
func (g *surgeon) run(ctx context.Context, over <-chan struct{}) {
	for {
		timer := time.NewTimer(g.chance.between(leastReplacePause, mostReplacePause))
		select {
		case <-timer.C:
		case <-over:
			timer.Stop()
			return
		}
		if err := g.replace(ctx, over); err != nil {
			g.sim.must(err)
			return
		}
	}
}

func (g *surgeon) replace(ctx context.Context, over <-chan struct{}) error {
	s := g.sim
	victim := s.anyNode(g.chance)
	newcomer := newNode(s, g.next)
	g.next++
	if err := newcomer.start(ctx); err != nil {
		return err
	}
	sets := s.admit(newcomer, victim)
	s.trace.add("%s is to be replaced by %s in %d sets", victim, newcomer, len(sets))
	var healed time.Time
	for len(sets) > 0 {
		err := g.advance(ctx, sets[0], newcomer, victim)
		if err == nil {
			s.trace.add("%s has been replaced by %s in set %d", victim, newcomer, sets[0].id)
			sets = sets[1:]
			continue
		}
		select {
		case <-over:
			if healed.IsZero() {
				healed = time.Now()
			}
			if time.Since(healed) > surgery {
				return fmt.Errorf("%s was not replaced by %s, %v after everything healed: %w", victim, newcomer, surgery, err)
			}
		default:
		}
		if !pause(ctx, 500*time.Millisecond) {
			return ctx.Err()
		}
	}
	s.count("members replaced", 1)
	// Who was removed goes on for a while, and is asked as before.
	timer := time.NewTimer(g.chance.between(0, linger))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-over:
	}
	s.drop(victim)
	return victim.retire()
}

// advance does what is next for a replacement in one set, as far as it gets; nil
// tells that it is done.
func (g *surgeon) advance(ctx context.Context, set *replicaSet, newcomer, victim *node) error {
	s := g.sim
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	leader := s.leading(set)
	if leader == nil {
		return errors.New("nobody leads")
	}
	if err := newcomer.join(ctx, leader); err != nil {
		s.trace.add("%s joins set %d: %v", newcomer, set.id, err)
		return err
	}
	lead := leader.group
	if err := lead.AddLearner(ctx, set.member(newcomer)); err != nil {
		return err
	}
	if err := lead.Promote(ctx, set.member(newcomer).Replica); err != nil {
		return err
	}
	if leader.node == victim && g.chance.happens(0.7) {
		s.handOver(ctx, leader, set.member(newcomer).Replica)
		return errors.New("the victim leads")
	}
	return lead.RemoveMember(ctx, set.member(victim).Replica)
}
