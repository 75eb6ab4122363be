package lifecycle

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/raftset"
	"github.com/quorate/quorate/tsdbshard"
)

// wantMembers checks who is a member of a set, by the map and by its own log.
func (c *cluster) wantMembers(t *testing.T, set setID, nodes ...*rig) {
	t.Helper()
	record := c.one().client.Map().Set(set)
	var byMap, want []string
	for _, m := range record.Members {
		byMap = append(byMap, m.Node.Name)
	}
	for _, r := range nodes {
		want = append(want, r.node.Name)
	}
	slices.Sort(byMap)
	slices.Sort(want)
	if !slices.Equal(byMap, want) {
		t.Errorf("the map has members on %v, want %v", byMap, want)
	}
	if record.State == metasvc.ReplicaSetSealed {
		return
	}
	leader := c.leading(t, set)
	group, _ := leader.host.Group(set)
	var byLog []string
	configuration := group.Configuration()
	for _, v := range configuration.Voters {
		byLog = append(byLog, v.Node.Name)
	}
	slices.Sort(byLog)
	if !slices.Equal(byLog, want) || len(configuration.Learners) > 0 {
		t.Errorf("the log has voters on %v and learners %v, want voters on %v", byLog, configuration.Learners, want)
	}
}

// wantGone checks that a node has nothing of a set but in the trash.
func (r *rig) wantGone(t *testing.T, set setID) {
	t.Helper()
	if got := r.files(t, SetsDir); len(got) != 0 {
		t.Errorf("%s has %v of sets", r.node.Name, got)
	}
	if got := r.files(t, "raft"); len(got) != 0 {
		t.Errorf("%s has %v of logs", r.node.Name, got)
	}
	if got := r.files(t, TrashDir); len(got) == 0 {
		t.Errorf("the trash of %s is empty", r.node.Name)
	}
	if _, ok := r.host.Group(set); ok {
		t.Errorf("the group of set %v runs on %s", set, r.node.Name)
	}
}

func TestAReplicaMovesToAnotherNode(t *testing.T) {
	for says, leads := range map[string]bool{"from a follower": false, "from the leader": true} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 4)
			c.start(t)
			c.awaitOpen(t)
			set := c.set()
			c.write(t, early)
			leader := c.leading(t, set.ID)
			if _, err := leader.manager.FlushAll(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.awaitApplied(t, set.ID, c.nodes[:3]...)
			newcomer := c.nodes[3]
			old := leader
			if !leads {
				old = c.nodes[(slices.Index(c.nodes, leader)+1)%3]
			}
			member, _ := set.MemberOn(old.node)
			c.change(t, set.ID, newcomer.node, member.Replica)
			c.awaitChanged(t, set.ID)
			rest := slices.DeleteFunc(slices.Clone(c.nodes), func(r *rig) bool { return r == old })
			c.wantMembers(t, set.ID, rest...)
			testwait.For(t, "the old replica to be gone", func() bool { return len(old.manager.Sets()) == 0 })
			old.wantGone(t, set.ID)
			c.write(t, later)
			c.awaitApplied(t, set.ID, newcomer)
			// It counts: with it and one other the set goes on.
			for _, r := range rest {
				if r != newcomer {
					r.close(t)
					break
				}
			}
			if got := c.leading(t, set.ID).read(t); got != wroteAll {
				t.Errorf("read\n%s", got)
			}
		})
	}
}

func TestAMoveThatIsCutShortAnywhereIsFinishedAfterARestart(t *testing.T) {
	type who int
	const (
		newcomer who = iota
		leader
		old
	)
	for at, crashes := range map[moment]who{
		momentPiece: newcomer, momentReceived: newcomer, momentSeeded: newcomer, momentJoined: newcomer,
		momentLearner: leader, momentPromoted: leader, momentRemoved: leader,
		momentLeftHidden: old, momentLeftMoved: old,
	} {
		t.Run(strings.ReplaceAll(string(at), " ", "-"), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 4)
			c.start(t)
			c.awaitOpen(t)
			set := c.set()
			c.write(t, early)
			first := c.leading(t, set.ID)
			if _, err := first.manager.FlushAll(t.Context()); err != nil { // there are files to fetch
				t.Fatal(err)
			}
			c.awaitApplied(t, set.ID, c.nodes[:3]...)
			goes := c.nodes[(slices.Index(c.nodes, first)+1)%3]
			crash := crashAt(at)
			var crashed *rig
			switch crashes {
			case newcomer:
				crashed = c.nodes[3]
			case leader:
				crashed = first
			case old:
				crashed = goes
			}
			crashed.close(t)
			crashed.start(t, crash.reach)
			if crashes == leader {
				// Whoever leads now is the one to crash.
				for _, r := range c.nodes[:3] {
					if r != crashed {
						r.close(t)
						r.start(t, crash.reach)
					}
				}
			}
			c.leading(t, set.ID)
			member, _ := set.MemberOn(goes.node)
			c.change(t, set.ID, c.nodes[3].node, member.Replica)
			c.await(t, "the crash", crash.isHit)
			for _, r := range c.nodes {
				if r == crashed || crashes == leader && r != c.nodes[3] {
					r.close(t)
					r.start(t, nil)
				}
			}
			c.awaitChanged(t, set.ID)
			c.wantMembers(t, set.ID, slices.DeleteFunc(slices.Clone(c.nodes), func(r *rig) bool { return r == goes })...)
			testwait.For(t, "the old replica to be gone", func() bool { return len(goes.manager.Sets()) == 0 })
			goes.wantGone(t, set.ID)
			c.write(t, later)
			c.awaitApplied(t, set.ID, c.nodes[3])
			if got := c.leading(t, set.ID).read(t); got != wroteAll {
				t.Errorf("read\n%s", got)
			}
		})
	}
}

// What only the leader's log says is no fact yet: a voter that gave its files up
// for it would be missing if it never became one.
func TestProtocol4AChangeIsConfirmedOnlyWhenItIsCommitted(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 4)
	c.start(t)
	c.awaitOpen(t)
	set := c.set()
	c.write(t, early)
	leader := c.leading(t, set.ID)
	c.awaitApplied(t, set.ID, c.nodes[:3]...)
	goes := c.nodes[(slices.Index(c.nodes, leader)+1)%3]
	member, _ := set.MemberOn(goes.node)
	stall := func(stalled bool) {
		c.network.mu.Lock()
		defer c.network.mu.Unlock()
		c.network.stalled = map[quorate.NodeID]bool{leader.node: stalled}
	}
	leader.close(t)
	leader.start(t, func(m moment) error {
		if m == momentPromoted {
			stall(true)
		}
		return nil
	})
	testwait.Until(t, "the leader to lead again", func() error {
		now := c.leading(t, set.ID)
		if now == leader {
			return nil
		}
		mine, _ := set.MemberOn(leader.node)
		group, _ := now.host.Group(set.ID)
		return errors.Join(errors.New("another leads"), group.TransferLeadership(t.Context(), mine.Replica))
	})
	c.change(t, set.ID, c.nodes[3].node, member.Replica)
	group, _ := leader.host.Group(set.ID)
	c.await(t, "the old member to be gone from the leader's log", func() bool {
		return indexOf(group.Configuration().Voters, member.Replica) < 0
	})
	leader.manager.mu.Lock()
	r := leader.manager.replicas[set.ID]
	leader.manager.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := leader.manager.remove(ctx, r, member.Replica); err == nil {
		t.Error("the removal passes for made before it is committed")
	}
	if now := c.one().client.Map().Set(set.ID); now.Intent == nil {
		t.Errorf("the change is confirmed: %+v", now)
	}
	stall(false)
	c.awaitChanged(t, set.ID)
	c.wantMembers(t, set.ID, slices.DeleteFunc(slices.Clone(c.nodes), func(r *rig) bool { return r == goes })...)
}

// A copy of the record that is older than one that was seen has nothing for the
// set's leader to do.
func TestProtocol4ALeaderCarriesOutNoIntentOlderThanOneItHasSeen(t *testing.T) {
	r := newRig(t)
	r.awaitOpen(t)
	set := *r.set()
	m := r.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	own := m.replicas[set.ID]
	if _, leads := own.group.Leadership(); !leads {
		t.Fatal("the only replica does not lead")
	}
	for _, step := range []struct {
		intent metasvc.IntentID
		kind   metasvc.IntentKind
		due    bool
	}{
		{4, metasvc.IntentMembers, true},
		{6, metasvc.IntentBounds, true},
		{5, metasvc.IntentMembers, false},
		{5, metasvc.IntentBounds, false},
		{6, metasvc.IntentBounds, true}, // until it is confirmed
		{7, metasvc.IntentMembers, true},
	} {
		set.Intent = &metasvc.Intent{ID: step.intent, Kind: step.kind}
		if _, due := m.nextLocked(m.cfg.Client.Map(), &set, own); due != step.due {
			t.Errorf("intent %d of kind %v is to be carried out: %v, want %v", step.intent, step.kind, due, step.due)
		}
	}
}

// A node that is gone for good is replaced without it, and moves its files away
// when it comes back after all.
func TestAReplicaOfALostNodeIsReplaced(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 4)
	c.start(t)
	c.awaitOpen(t)
	set := c.set()
	c.write(t, early)
	c.awaitApplied(t, set.ID, c.nodes[:3]...)
	lost := c.nodes[2]
	lost.close(t)
	member, _ := set.MemberOn(lost.node)
	c.change(t, set.ID, c.nodes[3].node, member.Replica)
	c.await(t, "the members to be changed", func() bool { return len(c.one().client.Map().Set(set.ID).Left) == 1 })
	c.wantMembers(t, set.ID, c.nodes[0], c.nodes[1], c.nodes[3])
	c.write(t, later)
	lost.start(t, nil)
	c.awaitChanged(t, set.ID)
	lost.wantGone(t, set.ID)
}

// After its replica has left, and not before, a node may get another one.
func TestANodeGetsAnotherReplicaOfASet(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 4)
	c.start(t)
	c.awaitOpen(t)
	set := c.set()
	c.write(t, early)
	c.awaitApplied(t, set.ID, c.nodes[:3]...)
	there := c.nodes[1]
	first, _ := set.MemberOn(there.node)
	c.change(t, set.ID, c.nodes[3].node, first.Replica)
	c.awaitChanged(t, set.ID)
	record := c.one().client.Map().Set(set.ID)
	spare, _ := record.MemberOn(c.nodes[3].node)
	c.change(t, set.ID, there.node, spare.Replica)
	c.awaitChanged(t, set.ID)
	c.wantMembers(t, set.ID, c.nodes[:3]...)
	second, _ := c.one().client.Map().Set(set.ID).MemberOn(there.node)
	if second.Replica == first.Replica {
		t.Error("a ReplicaID was used again")
	}
	if got := there.files(t, SetsDir); len(got) != 1 || got[0] != filepath.Base(setDir("", set.ID, second.Replica)) {
		t.Errorf("%s has %v", there.node.Name, got)
	}
}

func TestAReplicaOfASealedSetMovesToAnotherNode(t *testing.T) {
	for _, at := range []moment{"", momentPiece, momentReceived, momentLeftHidden, momentLeftMoved} {
		t.Run("cut short: "+strings.ReplaceAll(string(at), " ", "-"), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 4)
			c.start(t)
			c.awaitOpen(t)
			set := c.set()
			c.write(t, early)
			c.awaitApplied(t, set.ID, c.nodes[:3]...)
			c.one().seal(t, set)
			c.awaitSettled(t, set.ID, c.nodes[:3]...)
			newcomer, old := c.nodes[3], c.nodes[1]
			crash := crashAt(at)
			for _, r := range []*rig{newcomer, old} {
				r.close(t)
				r.start(t, crash.reach)
			}
			member, _ := set.MemberOn(old.node)
			c.change(t, set.ID, newcomer.node, member.Replica)
			if at != "" {
				c.await(t, "the crash", crash.isHit)
				for _, r := range []*rig{newcomer, old} {
					r.close(t)
					r.start(t, nil)
				}
			}
			c.awaitChanged(t, set.ID)
			c.awaitSettled(t, set.ID, newcomer)
			c.wantMembers(t, set.ID, c.nodes[0], c.nodes[2], c.nodes[3])
			c.wantFile(t, newcomer, set, wroteEarly)
			old.wantGone(t, set.ID)
			if got := newcomer.files(t, TrashDir); len(got) != 0 {
				t.Errorf("the newcomer's trash has %v", got)
			}
		})
	}
}

func TestProtocol13ALeaderCarriesOutAnIntentOfBounds(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.start(t)
	c.awaitOpen(t)
	set := c.set()
	c.write(t, early)
	// The bucket is cut while its time lasts.
	at := c.one().do(t, metasvc.CutBucket{Policy: 1, Now: bucketStart + time.Minute.Milliseconds(), Term: term}).(metasvc.CutBucketResult).At
	bounds := set.Bounds
	bounds.Version++
	bounds.Range.End = at
	c.await(t, "the intent to be confirmed", func() bool {
		done := c.one().client.Map().Set(set.ID).Done
		return done != nil && done.Kind == metasvc.IntentBounds && done.LogIndex > 0
	})
	for _, r := range c.nodes {
		testwait.For(t, "the bounds on "+r.node.Name, func() bool {
			replica, err := r.open.Get(set.ID)
			return err == nil && replica.Shard().Bounds().Range == bounds.Range && replica.Shard().Bounds().Version == bounds.Version
		})
	}
}

func TestALeaderHandsOverToThePreferredOne(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.start(t)
	c.awaitOpen(t)
	set := c.set()
	c.write(t, early)
	preferred := c.one()
	if c.leading(t, set.ID) == preferred {
		preferred.close(t)
		c.write(t, later)
		preferred.start(t, nil)
	}
	start := time.Now()
	c.await(t, "the preferred node to lead", func() bool {
		g, ok := preferred.host.Group(set.ID)
		if !ok {
			return false
		}
		_, leads := g.Leadership()
		return leads
	})
	if took := time.Since(start); took < preferAfter/2 {
		t.Errorf("it leads after %v, and was to prove itself for %v", took, preferAfter)
	}
}

func TestANodeThatStopsHandsOverWhatItLeads(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.start(t)
	c.awaitOpen(t)
	set := c.set()
	c.write(t, early)
	leader := c.leading(t, set.ID)
	group, _ := leader.host.Group(set.ID)
	term, _ := group.Leadership()
	c.await(t, "the lead to be handed over", func() bool {
		if err := leader.manager.Relinquish(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, leads := group.Leadership()
		return !leads // a member that had not caught up yet was passed over
	})
	c.write(t, later)
	next, _ := c.leading(t, set.ID).host.Group(set.ID)
	if now, _ := next.Leadership(); now != term+1 {
		t.Errorf("the next leader is of term %d, want %d: by a hand-over, not by an election", now, term+1)
	}
	if err := leader.manager.Relinquish(t.Context()); err != nil {
		t.Errorf("handing over what it does not lead: %v", err)
	}
}

func TestAPreferredLeaderThatDoesNotKeepTheLeadIsGivenItLessAndLess(t *testing.T) {
	var p preference
	now := clock
	if p.ready(now) {
		t.Error("ready before it was seen")
	}
	p.since = now
	if p.ready(now.Add(preferAfter-1)) || !p.ready(now.Add(preferAfter)) {
		t.Error("it has to be seen for some time")
	}
	for _, want := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute} {
		p.made(now)
		if p.pause != want || !p.since.IsZero() {
			t.Fatalf("the pause is %v since %v, want %v", p.pause, p.since, want)
		}
		p.since = now
		if p.ready(now.Add(want-1)) || !p.ready(now.Add(max(want, preferAfter))) {
			t.Errorf("it is not given the lead after %v", want)
		}
		now = now.Add(want) // it lost it at once
	}
	for range 10 {
		p.made(now)
		now = p.notBefore
	}
	if p.pause != mostHandover {
		t.Errorf("the longest pause is %v", p.pause)
	}
	p.made(now.Add(2*mostHandover + 1))
	if p.pause != firstHandover {
		t.Errorf("after a long time it is %v", p.pause)
	}
}

// flushed writes a sample and flushes it, and returns the set and its only file.
func (r *rig) flushed(t *testing.T) (set *metasvc.ReplicaSet, file tsdbshard.FileInfo) {
	t.Helper()
	set = r.set()
	r.write(t, early)
	if _, err := r.manager.FlushAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	group, _ := r.host.Group(set.ID)
	info, err := raftset.ParseSeed(group.Seed())
	if err != nil {
		t.Fatal(err)
	}
	files, err := tsdbshard.FilesOf(info.Payload)
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	return set, files[0]
}

// Another node goes on fetching a file that a merge has replaced meanwhile.
func TestProtocol23AFileThatIsBeingSentOutlivesItsMerge(t *testing.T) {
	r := newRig(t)
	set, file := r.flushed(t)
	path := filepath.Join(setDir(r.dir, set.ID, set.Members[0].Replica), file.Name)
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []byte
	messages := 0
	err = r.manager.handleFile(t.Context(), r.node, fileRequest{Set: set.ID, Name: file.Name}.encode(), func(b []byte) error {
		if messages++; messages > 1 {
			got = append(got, b...)
			return nil
		}
		r.write(t, later)
		if err := r.manager.Compact(t.Context(), set.ID); err != nil {
			return err
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the merge has left the file: %v", err)
		}
		return nil
	})
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d of %d bytes were sent as they are, %v", len(got), len(want), err)
	}
}

func TestOnlyFilesThatASetHasAreServed(t *testing.T) {
	r := newRig(t)
	set, file := r.flushed(t)
	get := func(set setID, name string, offset uint64) (messages int, err error) {
		err = r.manager.handleFile(t.Context(), r.node, fileRequest{Set: set, Name: name, Offset: offset}.encode(), func([]byte) error { messages++; return nil })
		return messages, err
	}
	if n, err := get(set.ID, file.Name, 10); err != nil || n != 2 {
		t.Errorf("a file came in %d messages, %v", n, err)
	}
	if n, err := get(set.ID, file.Name, file.Bytes); err != nil || n != 1 {
		t.Errorf("the end of a file came in %d messages, %v", n, err)
	}
	if _, err := get(set.ID, file.Name, file.Bytes+1); quorate.KindOf(err) != quorate.Invalid {
		t.Errorf("an offset behind the file gives %v", err)
	}
	own := filepath.Base(setDir("", set.ID, set.Members[0].Replica))
	for _, name := range []string{
		"", ".", "..", "../" + own + "/" + file.Name, "../../raft/" + own + "/vote", "/etc/passwd", file.Name + "\x00",
		"incoming", strings.ToUpper(file.Name),
	} {
		if n, err := get(set.ID, name, 0); quorate.KindOf(err) != quorate.NotFound || n != 0 {
			t.Errorf("%q gives %d messages, %v", name, n, err)
		}
	}
	if _, err := get(set.ID+1, file.Name, 0); quorate.KindOf(err) != quorate.NotFound {
		t.Errorf("another set's file gives %v", err)
	}
}
