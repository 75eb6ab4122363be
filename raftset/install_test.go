package raftset

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
)

// fetcher stands for the files that a manifest names.
type fetcher struct {
	mu    sync.Mutex
	calls []string
	err   error
	hold  chan struct{} // a fetch waits until it is closed
}

func (f *fetcher) fetch(ctx context.Context, set quorate.ReplicaSetID, replica quorate.ReplicaID, from quorate.NodeID, payload []byte) error {
	f.mu.Lock()
	hold, err := f.hold, f.err
	f.calls = append(f.calls, set.String()+"-"+replica.String()+" from "+from.Name+": "+string(payload[:min(len(payload), 7)]))
	f.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

func (f *fetcher) with(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fetcher) count() (n int) {
	f.with(func() { n = len(f.calls) })
	return n
}

// lag makes a cluster in which one follower was away while the others flushed
// and deleted the log that it needs.
func lag(t *testing.T, f *fetcher) (c *cluster, leader, away *node, lines []string) {
	t.Helper()
	c = newCluster(t, keepNoTrail, func(_ *node, cfg *HostConfig) { cfg.Fetch = f.fetch })
	leader = c.leader(t)
	away = c.other(leader)
	lines = proposeAll(t, leader.group, "x", 3)
	c.awaitSame(t, lines...)
	closeGroup(t, away.group)
	lines = append(lines, proposeAll(t, leader.group, "y", 10)...)
	for _, n := range c.nodes {
		if n == away {
			continue
		}
		// Whoever leads later must not have the log either.
		testwait.Until(t, "a flush of all", func() error {
			if err := n.group.Flush(t.Context()); err != nil {
				return err
			}
			if len(n.ledger.all()) != len(lines)+1 {
				return errors.New("not all is applied")
			}
			return nil
		})
	}
	return c, leader, away, lines
}

func TestAManifestIsInstalledOnlyWhenItsFilesAreThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fetcher{err: errDisk}
		c, leader, away, lines := lag(t, f)
		away.open(t)
		testwait.For(t, "two fetches that fail", func() bool { return f.count() >= 2 })
		if m := away.group.Status().ManifestIndex; m != genesisIndex {
			t.Fatalf("a manifest at index %d was installed without its files", m)
		}
		hold := make(chan struct{})
		f.with(func() { f.err, f.hold = nil, hold })
		before := f.count()
		testwait.For(t, "a fetch to begin", func() bool { return f.count() > before })

		// Meanwhile the follower hears, votes and answers.
		propose(t, leader.group, "meanwhile")
		pause := time.NewTimer(5 * defaultHeartbeatTimeout)
		<-pause.C
		if s := away.group.Status(); s.Leader != leader.member || s.State != StateFollower || s.ManifestIndex != genesisIndex {
			t.Errorf("while it fetches, the follower is %+v", s)
		}
		close(hold)
		c.awaitSame(t, append(lines, "meanwhile")...)
		if m := away.group.Status().ManifestIndex; m == genesisIndex {
			t.Error("it caught up without a manifest; the test shows nothing")
		}
		want := "7-" + away.member.Replica.String() + " from " + leader.member.Node.Name + ": genesis"
		if got := f.calls[len(f.calls)-1]; got != want {
			t.Errorf("it fetched %q, want %q", got, want)
		}
		away.reopen(t)
		c.awaitSame(t, append(lines, "meanwhile")...)
	})
}

func TestAFetchEndsWithItsReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fetcher{hold: make(chan struct{})}
		_, _, away, _ := lag(t, f)
		away.open(t)
		testwait.For(t, "a fetch to begin", func() bool { return f.count() > 0 })
		begin := time.Now()
		closeGroup(t, away.group)
		if took := time.Since(begin); took > 0 {
			t.Errorf("closing waited %v for the fetch", took)
		}
	})
}

// A leader that is deposed stops waiting for a follower's fetch.
func TestAnInstallationEndsWithItsLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fetcher{hold: make(chan struct{})}
		c, leader, away, lines := lag(t, f)
		away.open(t)
		testwait.For(t, "a fetch to begin", func() bool { return f.count() > 0 })
		target := c.other(leader, away)
		testwait.Until(t, "another leader", func() error {
			return leader.group.TransferLeadership(t.Context(), target.member.Replica)
		})
		testwait.For(t, "the new leader to ask for a fetch", func() bool { return f.count() > 1 })
		close(f.hold)
		c.awaitSame(t, lines...)
	})
}

// One who lags behind the flush by less than what is kept needs no manifest.
func TestTheLogsEndIsKeptForWhoLags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, func(_ *node, cfg *HostConfig) { cfg.LogStore = MemoryLogs() })
		leader := c.leader(t)
		away := c.other(leader)
		closeGroup(t, away.group)
		lines := proposeAll(t, leader.group, "x", 20)
		for _, n := range c.nodes {
			if n != away {
				testwait.For(t, "all to be applied", func() bool { return len(n.ledger.all()) == 21 })
				if err := n.group.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		if s := leader.group.Status(); s.FirstIndex != genesisIndex+1 || s.LogBytes != 0 || s.ManifestIndex == genesisIndex {
			t.Errorf("after the flush the status is %+v", s)
		}
		away.open(t)
		c.awaitSame(t, lines...)
		if m := away.group.Status().ManifestIndex; m != genesisIndex {
			t.Errorf("it was sent a manifest, at index %d", m)
		}
		leader.reopen(t)
		c.awaitSame(t, lines...)
	})
}

// aloneInSet opens one member of a set of three; the test plays the others.
func aloneInSet(t *testing.T, logs LogStoreFactory) (*node, Member) {
	t.Helper()
	c := newCluster(t, func(_ *node, cfg *HostConfig) { cfg.LogStore = logs })
	n, leader := c.nodes[0], c.nodes[1].member
	closeGroup(t, c.nodes[1].group)
	closeGroup(t, c.nodes[2].group)
	return n, leader
}

func (n *node) from(leader Member, kind messageKind) envelope {
	return envelope{kind: kind, set: testSet, to: n.member.Replica, from: leader.Replica}
}

// install has a leader install a manifest with the ledger's first lines, at an
// entry of the leader's own term.
func (n *node) install(t *testing.T, leader Member, term, index uint64) (*raft.InstallSnapshotResponse, error) {
	t.Helper()
	return n.installEntry(t, leader, term, index, term)
}

// installEntry is install at an entry of another term.
func (n *node) installEntry(t *testing.T, leader Member, term, index, entryTerm uint64) (*raft.InstallSnapshotResponse, error) {
	t.Helper()
	servers := n.group.manifests.current().servers
	message, err := n.from(leader, askInstall).installRequest(&raft.InstallSnapshotRequest{
		Term: term, LastLogIndex: index, LastLogTerm: entryTerm, ConfigurationIndex: genesisIndex,
		Configuration: raft.EncodeConfiguration(toConfiguration(servers)),
	}, []byte("genesis\ninstalled"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := openReply(deliver(t, n, leader.Node, message))
	if err != nil {
		return nil, err
	}
	r := &raft.InstallSnapshotResponse{}
	return r, readReply(c, r)
}

// append has a leader append entries behind one.
func (n *node) append(t *testing.T, leader Member, term, prev, prevTerm uint64, entries int) *raft.AppendEntriesResponse {
	t.Helper()
	r := &raft.AppendEntriesRequest{Term: term, PrevLogEntry: prev, PrevLogTerm: prevTerm}
	for i := range entries {
		r.Entries = append(r.Entries, &raft.Log{Index: prev + 1 + uint64(i), Term: term, Type: raft.LogNoop})
	}
	message, err := n.from(leader, askAppend).appendRequest(r)
	if err != nil {
		t.Fatal(err)
	}
	c, err := openReply(deliver(t, n, leader.Node, message))
	if err != nil {
		t.Fatal(err)
	}
	resp := &raft.AppendEntriesResponse{}
	if err := readReply(c, resp); err != nil {
		t.Fatal(err)
	}
	return resp
}

// A manifest that is installed over a longer log leaves the library unable to go
// on (hashicorp/raft#697); opening the replica anew cures it.
func TestAManifestOverALongerLogFailsTheReplicaOnce(t *testing.T) {
	for name, logs := range map[string]LogStoreFactory{"wal": WAL(), "memory": MemoryLogs()} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, leader := aloneInSet(t, logs)
				if r := n.append(t, leader, 50, genesisIndex, genesisTerm, 10); !r.Success {
					t.Fatalf("the entries got %+v", r)
				}
				if _, err := n.install(t, leader, 51, 5); err == nil {
					t.Log("the installation was acknowledged before the replica failed")
				}
				<-n.group.Failed()
				if broken := n.group.Status().Broken; !errors.Is(broken, ErrReopen) {
					t.Errorf("Broken is %v", broken)
				}
				n.reopen(t)
				if s := n.group.Status(); s.ManifestIndex != 5 || s.LastIndex != 0 || s.Term != 51 {
					t.Errorf("after that it stands at %+v", s)
				}
				if r := n.append(t, leader, 51, 5, 51, 3); !r.Success || r.LastLog != 5 {
					t.Errorf("entries behind the manifest got %+v", r)
				}
				if got := n.ledger.all(); !slices.Equal(got, []string{"genesis", "installed"}) {
					t.Errorf("the state is %q", got)
				}
			})
		})
	}
}

func TestAManifestThatDoesNotHelpFailsTheReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, leader := aloneInSet(t, WAL())
		for i := range maxInstalls {
			if r, err := n.install(t, leader, 50, 5); err != nil || !r.Success {
				t.Fatalf("installation %d got %+v, %v", i, r, err)
			}
		}
		if _, err := n.install(t, leader, 50, 5); err == nil {
			t.Error("it was acknowledged once more")
		}
		<-n.group.Failed()
		n.reopen(t)
		if r := n.append(t, leader, 50, 5, 50, 1); !r.Success {
			t.Errorf("after that, entries got %+v", r)
		}
	})
}

// What a message brings that comes late, or twice, is there already; what was
// acknowledged behind it stays.
func TestAManifestThatComesAgainDeletesNothing(t *testing.T) {
	for name, again := range map[string]struct{ term, entryTerm uint64 }{
		"in the same term": {50, 50}, "by another leader": {52, 50}, "at an entry of the log": {52, 51},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, leader := aloneInSet(t, WAL())
				if r, err := n.install(t, leader, 50, 5); err != nil || !r.Success {
					t.Fatalf("the installation got %+v, %v", r, err)
				}
				index := uint64(5)
				term := again.entryTerm
				if r := n.append(t, leader, term, 5, 50, 10); !r.Success {
					t.Fatalf("the entries got %+v", r)
				}
				if term > 50 {
					index = 8
				}
				if r, err := n.installEntry(t, leader, again.term, index, term); err != nil || !r.Success {
					t.Errorf("the second message got %+v, %v", r, err)
				}
				if broken := n.group.Status().Broken; broken != nil {
					t.Errorf("the replica failed: %v", broken)
				}
				n.reopen(t)
				if s := n.group.Status(); s.LastIndex != 15 || s.ManifestIndex != 5 {
					t.Errorf("the log is [%d, %d] behind the manifest at %d, want it to end at 15", s.FirstIndex, s.LastIndex, s.ManifestIndex)
				}
			})
		})
	}
}

func TestAManifestOfAnOlderTermIsRefusedWithoutHarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, leader := aloneInSet(t, WAL())
		if r, err := n.install(t, leader, 50, 5); err != nil || !r.Success {
			t.Fatalf("the installation got %+v, %v", r, err)
		}
		if r := n.append(t, leader, 51, 5, 50, 10); !r.Success {
			t.Fatalf("the entries got %+v", r)
		}
		for range maxInstalls + 1 {
			if r, err := n.install(t, leader, 50, 5); err == nil && r.Success {
				t.Errorf("it got %+v", r)
			}
		}
		if broken := n.group.Status().Broken; broken != nil {
			t.Errorf("the replica failed: %v", broken)
		}
	})
}

// Whatever durable step of an installation a crash comes before or after, the
// member catches up when it is back.
func TestAMemberThatDiesAnywhereInAnInstallationCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, away, lines := lag(t, &fetcher{})
		cfg := &away.host.cfg
		r := &recorder{t: t, dir: cfg.Dir}
		publish, open := cfg.publish, cfg.LogStore
		cfg.publish, cfg.LogStore = r.publish, r.open
		away.open(t)
		c.awaitSame(t, lines...)
		closeGroup(t, away.group)
		r.record("the end")
		installed := 0
		for _, p := range r.crashes {
			cfg.Dir, cfg.publish, cfg.LogStore = p.dir, publish, open
			before := c.network.count(askInstall)
			away.open(t)
			c.awaitSame(t, lines...)
			installed += c.network.count(askInstall) - before
			closeGroup(t, away.group)
		}
		if all := len(r.crashes); installed == 0 || installed == all {
			t.Errorf("after %d of %d crashes the manifest was sent again", installed, all)
		}
		t.Logf("caught up after %d crashes, with the manifest sent again in %d of them", len(r.crashes), installed)
		away.open(t)
	})
}

// A state machine may take longer to open than a message is waited for otherwise.
func TestASlowRestoreIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, away, lines := lag(t, &fetcher{})
		away.ledger = &ledger{restoreTakes: 3 * dataTimeout}
		g, err := away.host.Open(t.Context(), testSet, away.member.Replica, away.ledger)
		if err != nil {
			t.Fatal(err)
		}
		away.group = g
		testwait.For(t, "the replica to catch up", func() bool { return len(away.ledger.all()) == len(lines)+1 })
		if n := c.network.count(askInstall); n != 1 {
			t.Errorf("the manifest was sent %d times", n)
		}
	})
}

// PROTOCOL 21: a manifest is installed only when its files are there.
func TestAManifestWhoseFilesWereNotFetchedIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, func(_ *node, cfg *HostConfig) { cfg.Fetch = (&fetcher{}).fetch })
		n, leader := c.nodes[0], c.nodes[1].member
		closeGroup(t, c.nodes[1].group)
		closeGroup(t, c.nodes[2].group)
		if r, err := n.install(t, leader, 50, 5); err == nil {
			t.Errorf("it got %+v", r)
		}
		prepare := n.from(leader, askPrepare).prepareRequest(preparation{term: 50, index: 5, manifestTerm: 50, payload: []byte("genesis\ninstalled")})
		if _, err := openReply(deliver(t, n, leader.Node, prepare)); err != nil {
			t.Fatal(err)
		}
		if r, err := n.install(t, leader, 50, 5); err != nil || !r.Success {
			t.Errorf("with its files it got %+v, %v", r, err)
		}
	})
}

func TestMarksTellWhereALogsEndBegins(t *testing.T) {
	const entries, size, keep = 1000, 1000, 100_000
	marks := newTrail(keep)
	for i := range entries {
		marks.stored(&raft.Log{Index: uint64(i) + 2, Data: bytes.Repeat([]byte{1}, size)})
	}
	kept := func() int64 { return int64(entries+2-int(marks.begin(keep))) * (size + trailEntry) }
	if got := kept(); got < keep || got > keep+keep/10 {
		t.Errorf("%d bytes are kept, want %d and little more", got, keep)
	}
	if marks.begin(1<<30) != 0 {
		t.Error("a log shorter than what is to be kept loses something")
	}
	begin := marks.begin(keep)
	marks.deleted(begin - 1)
	if got := marks.begin(keep); got != begin {
		t.Errorf("after the deletion the end begins at %d, before at %d", got, begin)
	}
	if n := len(marks.marks); n > 2*trailMarks {
		t.Errorf("%d marks are left", n)
	}
	marks.truncated(950)
	marks.stored(&raft.Log{Index: 950, Data: make([]byte, size)})
	if got := marks.begin(keep); got != 0 && got >= begin {
		t.Errorf("of a log that lost its end the last bytes begin at %d, not before %d", got, begin)
	}
	marks.truncated(0)
	if marks.begin(1) != 0 || len(marks.marks) != 0 {
		t.Error("a deleted log has an end")
	}
}

// A replica whose log begins right behind its manifest is asked for the term of
// the manifest's entry, which the log has no more, when what follows is another
// leader's. Its manifest is newer than that of any other: nothing else helps it.
func TestEntriesRightBehindTheManifestAreOverwritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, keepNoTrail)
		old := c.leader(t)
		lines := proposeAll(t, old.group, "x", 3)
		c.awaitSame(t, lines...)
		c.network.isolate(old.member.Node)
		if _, err := old.group.Propose(t.Context(), testKind, []byte("lost")); !errors.Is(err, ErrOutcomeUnknown) {
			t.Fatalf("a proposal of a leader that is cut off got %v", err)
		}
		if err := old.group.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := old.group.Status(); s.FirstIndex != s.ManifestIndex+1 || s.LastIndex <= s.ManifestIndex {
			t.Fatalf("the log is [%d, %d] behind the manifest at %d; the test shows nothing", s.FirstIndex, s.LastIndex, s.ManifestIndex)
		}
		lines = append(lines, proposeAll(t, c.leader(t, old).group, "y", 3)...)
		c.network.heal(old.member.Node)
		c.awaitSame(t, lines...)
		old.reopen(t)
		c.awaitSame(t, lines...)
	})
}
