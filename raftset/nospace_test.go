package raftset

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/quorate/quorate"
)

// A follower whose disk has no room stores nothing and stays one; a leader takes
// no proposals and goes on confirming reads. Both go on when there is room.
func TestADiskWithoutRoomIsNotWrittenTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		exhausted := make(map[*node]*atomic.Bool)
		c := newCluster(t, func(n *node, cfg *HostConfig) {
			full := &atomic.Bool{}
			exhausted[n], cfg.Exhausted = full, full.Load
		})
		leader := c.leader(t)
		lines := proposeAll(t, leader.group, "x", 3)
		c.awaitSame(t, lines...)
		full := c.other(leader)
		exhausted[full].Store(true)
		stored, err := full.group.log.LastIndex()
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, proposeAll(t, leader.group, "y", 20)...)
		if now, err := full.group.log.LastIndex(); err != nil || now != stored {
			t.Errorf("a disk without room was given entries %d to %d, %v", stored+1, now, err)
		}
		if got := full.ledger.all(); len(got) != 4 {
			t.Errorf("the follower has applied %v", got)
		}
		if s := full.group.Status(); s.Broken != nil || s.Leader != leader.member {
			t.Errorf("the follower is %+v, want one of %s that is not broken", s, leader.member)
		}
		exhausted[full].Store(false)
		c.awaitSame(t, lines...)

		exhausted[leader].Store(true)
		if _, err := leader.group.Propose(t.Context(), testKind, []byte("z")); !errors.Is(err, ErrNoSpace) || quorate.KindOf(err) != quorate.Unavailable {
			t.Errorf("a leader without room answers %v", err)
		}
		if _, err := leader.group.ConfirmRead(t.Context()); err != nil {
			t.Errorf("a leader without room confirms no read: %v", err)
		}
		if got := leader.ledger.all(); !slices.Equal(got[1:], lines) {
			t.Errorf("the leader has applied %v", got)
		}
		exhausted[leader].Store(false)
		lines = append(lines, proposeAll(t, c.leader(t).group, "z", 1)...)
		c.awaitSame(t, lines...)
	})
}
