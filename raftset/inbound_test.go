package raftset

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate"
)

// PROTOCOL 2: a replica hears only what is meant for it, from whom it says.
func TestProtocol2MessagesForOthersAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		leader := c.leader(t)
		n := c.other(leader)
		term, _ := leader.group.Leadership()
		vote := &raft.RequestVoteRequest{Term: term + 10, LastLogIndex: 100, LastLogTerm: term + 9, LeadershipTransfer: true}
		pre := &raft.RequestPreVoteRequest{Term: term + 10, LastLogIndex: 100, LastLogTerm: term + 9}
		entries := &raft.AppendEntriesRequest{Term: term + 10}
		e := n.from(leader.member, askVote)
		with := func(change func(*envelope)) envelope {
			other := e
			change(&other)
			return other
		}
		appended := func(e envelope) []byte {
			e.kind = askAppend
			b, err := e.appendRequest(entries)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		flipped := e.voteRequest(vote)
		flipped[4] ^= 1
		future := e.voteRequest(vote)
		future = sealRecord(append([]byte{peerVersion + 1}, future[1:len(future)-recordCRCLen]...))
		for name, m := range map[string]struct {
			from    quorate.NodeID
			message []byte
			want    verdict
		}{
			"another set":                 {leader.member.Node, with(func(e *envelope) { e.set = otherSet }).voteRequest(vote), refusedNotOpen},
			"another replica":             {leader.member.Node, with(func(e *envelope) { e.to = 9 }).voteRequest(vote), refusedReplica},
			"a vote for a stranger":       {member(9).Node, with(func(e *envelope) { e.from = 9 }).voteRequest(vote), refusedSender},
			"a pre-vote for a stranger":   {member(9).Node, with(func(e *envelope) { e.from, e.kind = 9, askPreVote }).preVoteRequest(pre), refusedSender},
			"a stranger that hands over":  {member(9).Node, with(func(e *envelope) { e.from, e.kind = 9, askElection }).electionRequest(term), refusedSender},
			"a vote from another node":    {member(9).Node, e.voteRequest(vote), refusedSender},
			"entries from another node":   {member(9).Node, appended(e), refusedSender},
			"another life of the node":    {quorate.NodeID{Name: leader.member.Node.Name}, appended(e), refusedSender},
			"a flipped bit":               {leader.member.Node, flipped, refusedMalformed},
			"a later version":             {leader.member.Node, future, refusedMalformed},
			"nothing":                     {leader.member.Node, nil, refusedMalformed},
			"a kind that is not known":    {leader.member.Node, sealRecord(with(func(e *envelope) { e.kind = 99 }).begin(0)), refusedMalformed},
			"a body that is another's":    {leader.member.Node, with(func(e *envelope) { e.kind = askInstall }).voteRequest(vote), refusedMalformed},
			"a manifest of an older term": {leader.member.Node, with(func(e *envelope) { e.kind = askPrepare }).prepareRequest(preparation{term: term - 1}), refusedStale},
		} {
			wantVerdict(t, n, m.from, m.message, m.want, name)
		}
		if now, leads := leader.group.Leadership(); !leads || now != term {
			t.Errorf("the leader of term %d is in term %d (leads: %t)", term, now, leads)
		}
		if s := n.group.Status(); s.Term != term {
			t.Errorf("the follower is in term %d, want %d", s.Term, term)
		}
	})
}

// What would make the library's decoders panic never reaches it.
func TestEntriesThatCannotBeAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, leader := aloneInSet(t, MemoryLogs())
		entry := func(term uint64, kind raft.LogType, data string) *raft.Log {
			return &raft.Log{Index: 2, Term: term, Type: kind, Data: []byte(data)}
		}
		for name, l := range map[string]*raft.Log{
			"a configuration that is none": entry(50, raft.LogConfiguration, "\xc1 garbage"),
			"a configuration of who knows": entry(50, raft.LogConfiguration, string(raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "x"}}}))),
			"an outdated kind":             entry(50, raft.LogRemovePeerDeprecated, ""),
			"a kind that is not known":     entry(50, 77, ""),
			"a term after the leader's":    entry(51, raft.LogNoop, ""),
			"a term before the last's":     entry(0, raft.LogNoop, ""),
		} {
			message, err := n.from(leader, askAppend).appendRequest(&raft.AppendEntriesRequest{
				Term: 50, PrevLogEntry: genesisIndex, PrevLogTerm: genesisTerm, Entries: []*raft.Log{l},
			})
			if err != nil {
				t.Fatal(err)
			}
			wantVerdict(t, n, leader.Node, message, refusedMalformed, name)
		}
		if r := n.append(t, leader, 50, genesisIndex, genesisTerm, 1); !r.Success {
			t.Errorf("entries as they should be got %+v", r)
		}
	})
}

// After its first failure a replica acknowledges nothing and votes for nobody,
// though the library's goroutines go on until they are told.
func TestNothingLeavesAReplicaThatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFaults(MemoryLogs())
		c := newCluster(t, func(n *node, cfg *HostConfig) {
			if n.member.Replica == testReplica {
				cfg.LogStore, cfg.publish = f.open, f.publish
			}
		})
		n, candidate := c.nodes[2], c.nodes[0].member
		closeGroup(t, c.nodes[0].group)
		closeGroup(t, c.nodes[1].group)
		if r := n.append(t, candidate, 50, genesisIndex, genesisTerm, 1); !r.Success {
			t.Fatalf("before the failure entries got %+v", r)
		}
		f.with(func(f *faults) { f.storeErr = errDisk })
		message, err := n.from(candidate, askAppend).appendRequest(&raft.AppendEntriesRequest{
			Term: 50, PrevLogEntry: 2, PrevLogTerm: 50, Entries: []*raft.Log{{Index: 3, Term: 50, Type: raft.LogNoop}},
		})
		if err != nil {
			t.Fatal(err)
		}
		wantVerdict(t, n, candidate.Node, message, refusedStopped)
		vote := n.from(candidate, askVote).voteRequest(&raft.RequestVoteRequest{Term: 60, LastLogIndex: 100, LastLogTerm: 59})
		wantVerdict(t, n, candidate.Node, vote, refusedStopped)
		<-n.group.Failed()
		wantVerdict(t, n, candidate.Node, vote, refusedStopped)

		// A vote that cannot be saved is not given either.
		f.with(func(f *faults) { f.storeErr = nil })
		n.reopen(t)
		f.with(func(f *faults) { f.publishErr[voteFile] = errDisk })
		pauseFor(promiseSpan(defaultHeartbeatTimeout)) // in which it may vote again
		wantVerdict(t, n, candidate.Node, vote, refusedStopped)
		<-n.group.Failed()
		f.with(func(f *faults) { clear(f.publishErr) })
		n.reopen(t)
		if s := n.group.Status(); s.Term != 50 {
			t.Errorf("it is in term %d, want 50", s.Term)
		}
		wantVerdict(t, n, candidate.Node, vote, answered)
		closeGroup(t, n.group)
		wantVerdict(t, n, candidate.Node, vote, refusedNotOpen)
		n.open(t)
	})
}

// A member that hears and cannot be heard, or the other way round, does not
// stop the others for long.
func TestOneWayPartitions(t *testing.T) {
	for name, cut := range map[string]func(*network, quorate.NodeID){
		"the leader is deaf": (*network).deafen,
		"the leader is mute": (*network).mute,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				old := c.leader(t)
				propose(t, old.group, "x")
				cut(c.network, old.member.Node)
				next := c.leader(t, old)
				propose(t, next.group, "y")
				if _, err := old.group.ConfirmRead(t.Context()); err == nil {
					t.Error("the old leader confirms a read")
				}
				c.network.heal(old.member.Node)
				c.awaitSame(t, "x", "y")
				leaders := 0
				for _, n := range c.nodes {
					if _, leads := n.group.Leadership(); leads {
						leaders++
					}
				}
				if leaders != 1 {
					t.Errorf("%d lead", leaders)
				}
			})
		})
	}
}

// A leader's death costs its writers an election, and nothing that it
// acknowledged.
func TestALeadersDeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		lines := []string{}
		for _, prefix := range []string{"a", "b", "c", "d"} {
			leader := c.leader(t)
			lines = append(lines, proposeAll(t, leader.group, prefix, 5)...)
			closeGroup(t, leader.group)
			next := c.leader(t, leader)
			lines = append(lines, proposeAll(t, next.group, prefix+prefix, 5)...)
			leader.open(t)
		}
		c.awaitSame(t, lines...)
		if !slices.IsSorted([]uint64{genesisTerm, c.leader(t).group.Status().Term}) {
			t.Error("terms do not rise")
		}
	})
}
