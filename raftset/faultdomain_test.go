package raftset

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate"
)

// beside forms and opens another set on the same hosts.
func (c *cluster) beside(t *testing.T, set quorate.ReplicaSetID) *cluster {
	t.Helper()
	other := &cluster{network: c.network}
	var members []Member
	for _, n := range c.nodes {
		members = append(members, n.member)
	}
	for _, n := range c.nodes {
		gen := Genesis{Set: set, Replica: n.member.Replica, Voters: members, Payload: []byte("genesis")}
		if err := n.host.Form(t.Context(), gen); err != nil {
			t.Fatal(err)
		}
		o := &node{host: n.host, member: n.member, ledger: &ledger{}}
		var err error
		if o.group, err = n.host.Open(t.Context(), set, n.member.Replica, o.ledger); err != nil {
			t.Fatal(err)
		}
		other.nodes = append(other.nodes, o)
	}
	return other
}

// A fatal state is one replica's: its set goes on with the two other members, and
// the other set on the same hosts, which the very host leads, does not notice.
func TestAFatalStateInOneSetDoesNotTakeDownTheOthers(t *testing.T) {
	for name, c := range map[string]struct {
		// breaks has the replica fail at the next entry, mends takes that back.
		breaks, mends func(*node, *faults)
		cause         error
		text          string
		// stored tells that the entry which meets the failure is on the disk.
		stored bool
	}{
		"the state machine panics": {
			breaks: func(n *node, _ *faults) { n.ledger.with(func(l *ledger) { l.applyPanic = "index out of range" }) },
			mends:  func(*node, *faults) {}, // with the next ledger
			text:   "index out of range", stored: true,
		},
		"the log fails": {
			breaks: func(_ *node, f *faults) { f.with(func(f *faults) { f.storeErr = errDisk }) },
			mends:  func(_ *node, f *faults) { f.with(func(f *faults) { f.storeErr = nil }) },
			cause:  errDisk, text: "append to the log",
		},
	} {
		for role, leads := range map[string]bool{"of the leader": true, "of a follower": false} {
			t.Run(name+" "+role, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := startFaultDomains(t, leads)
					c.breaks(s.sick, s.faults)
					s.meet(t, c.stored)
					s.wantBroken(t, c.cause, c.text)
					s.wantOthersWell(t, "broken")
					closeGroup(t, s.sick.group)
					if _, ok := s.sick.host.Group(testSet); ok {
						t.Error("the closed replica is still to be found")
					}
					s.wantOthersWell(t, "closed")
					c.mends(s.sick, s.faults)
					s.sick.open(t)
					s.wantOthersWell(t, "open again")
					s.one.awaitSame(t, s.lines...)
					s.one.lead(t, s.sick)
					propose(t, s.sick.group, "again")
				})
			})
		}
	}
}

// faultDomains are two sets on three hosts. A replica of the first is about to
// fail on the host that leads the second.
type faultDomains struct {
	faults        *faults
	one, two      *cluster
	sick          *node // of the first set
	beside        *node // of the second, on the same host
	leader        *node // of the first
	term          uint64
	lines, others []string
}

func startFaultDomains(t *testing.T, leads bool) *faultDomains {
	t.Helper()
	s := &faultDomains{faults: newFaults(WAL())}
	s.one = newCluster(t, func(n *node, cfg *HostConfig) {
		cfg.Fatal = func(reason error) { t.Errorf("%s: %v", n.member, reason) }
		if n.member.Replica == testReplica {
			cfg.LogStore = s.faults.open
		}
	})
	s.two = s.one.beside(t, otherSet)
	s.sick, s.beside = s.one.nodes[2], s.two.nodes[2]
	s.leader = s.sick
	if !leads {
		s.leader = s.one.nodes[0]
	}
	s.one.lead(t, s.leader)
	s.two.lead(t, s.beside)
	s.term, _ = s.beside.group.Leadership()
	s.lines = proposeAll(t, s.leader.group, "x", 3)
	s.others = proposeAll(t, s.beside.group, "x", 3)
	s.one.awaitSame(t, s.lines...)
	s.two.awaitSame(t, s.others...)
	return s
}

// meet has the sick replica meet its failure, and its set go on.
func (s *faultDomains) meet(t *testing.T, stored bool) {
	t.Helper()
	begin := time.Now()
	const command = "met by the failure"
	switch _, err := s.leader.group.Propose(t.Context(), testKind, []byte(command)); {
	case s.leader != s.sick:
		if err != nil {
			t.Errorf("the set of three has one broken follower and answers %v", err)
		}
		s.lines = append(s.lines, command)
	default:
		if !errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("the leader that broke answers %v, want ErrOutcomeUnknown", err)
		}
		if stored { // and so it was committed
			s.lines = append(s.lines, command)
		}
	}
	s.propose(t)
	took := time.Since(begin)
	if took > writesGoOnWithin {
		t.Errorf("the set's writes went on after %v, want %v at most", took, writesGoOnWithin)
	}
	t.Logf("the broken set's writes went on after %v", took)
}

// propose has both sets commit something, the first by whoever leads it.
func (s *faultDomains) propose(t *testing.T) {
	t.Helper()
	prefix := time.Now().String()
	// The second goes first: it waits for nothing.
	begin := time.Now()
	s.others = append(s.others, proposeAll(t, s.beside.group, prefix, 3)...)
	confirm(t, s.beside)
	if took := time.Since(begin); took > 0 {
		t.Errorf("the other set's writes and its read took %v", took)
	}
	leader := s.one.leader(t, s.sick)
	s.lines = append(s.lines, proposeAll(t, leader.group, prefix, 3)...)
	confirm(t, leader)
}

// wantBroken checks what the failed replica says of itself.
func (s *faultDomains) wantBroken(t *testing.T, cause error, text string) {
	t.Helper()
	g := s.sick.group
	<-g.Failed()
	status := g.Status()
	if err := status.Broken; err == nil || cause != nil && !errors.Is(err, cause) || !strings.Contains(err.Error(), text) {
		t.Errorf("Broken is %v", err)
	}
	if status.State != StateStopped {
		t.Errorf("the broken replica is a %s", status.State)
	}
	for call, err := range map[string]error{
		"propose": second(g.Propose(t.Context(), testKind, []byte("refused"))),
		"read":    second(g.ConfirmRead(t.Context())),
	} {
		if !errors.Is(err, ErrBroken) || quorate.KindOf(err) != quorate.Unavailable || !strings.Contains(err.Error(), text) {
			t.Errorf("%s gives %v, want ErrBroken with its reason", call, err)
		}
	}
}

// wantOthersWell checks that the set whose replica is not well and the other set
// on the same host both go on, and that the latter never had another leader.
func (s *faultDomains) wantOthersWell(t *testing.T, when string) {
	t.Helper()
	s.propose(t)
	pauseFor(2 * defaultHeartbeatTimeout)
	s.propose(t)
	for _, n := range s.two.nodes {
		if broken := n.group.Status().Broken; broken != nil {
			t.Errorf("%s: the other set's replica on %s broke: %v", when, n.member, broken)
		}
	}
	if term, leads := s.beside.group.Leadership(); !leads || term != s.term {
		t.Errorf("%s: the other set's leader is in term %d (leads: %t), want to lead in %d still", when, term, leads, s.term)
	}
	s.two.awaitSame(t, s.others...)
}
