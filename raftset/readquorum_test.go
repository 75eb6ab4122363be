package raftset

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
)

// gullible is a transport whose quorum round is skipped: what ConfirmRead would
// be if a leader took its own word.
type gullible struct{ *peerTransport }

func (gullible) confirmQuorum(context.Context, uint64) error { return nil }

// staleRead cuts a leader off that goes on believing in itself for long, writes
// at its successor, and asks the old one for a confirmed read.
func staleRead(t *testing.T, transport func(*Group) transport) error {
	c := newCluster(t, func(n *node, cfg *HostConfig) {
		cfg.newTransport = transport
		if n.member.Replica == 1 {
			cfg.HeartbeatTimeout = 20 * time.Second
		}
	})
	old := c.nodes[0]
	for {
		leader := c.leader(t)
		if leader == old {
			break
		}
		testwait.Until(t, "the patient one to lead", func() error {
			return leader.group.TransferLeadership(t.Context(), old.member.Replica)
		})
	}
	propose(t, old.group, "x")
	if _, err := old.group.ConfirmRead(t.Context()); err != nil {
		t.Fatalf("the leader in office confirms no read: %v", err)
	}
	c.network.isolate(old.member.Node)
	next := c.leader(t, old)
	propose(t, next.group, "y")
	if _, leads := old.group.Leadership(); !leads {
		t.Fatal("the old leader has noticed; the test shows nothing")
	}
	_, err := old.group.ConfirmRead(t.Context())
	return err
}

func TestProtocol24ACutOffLeaderConfirmsNoRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := staleRead(t, nil)
		if err == nil {
			t.Fatal("it confirmed a read that misses an acknowledged write")
		}
		if quorate.KindOf(err) != quorate.Unavailable {
			t.Errorf("the kind of %v is %v", err, quorate.KindOf(err))
		}
	})
}

// The test above can fail: without the round it would.
func TestProtocol24WithoutItsRoundACutOffLeaderConfirmsAStaleRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		skip := func(g *Group) transport { return gullible{newPeerTransport(g).(*peerTransport)} }
		if err := staleRead(t, skip); err != nil {
			t.Fatalf("the mutant refuses too (%v): the scenario shows nothing", err)
		}
	})
}

func TestAReadNeedsTheMajorityOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		leader := c.leader(t)
		for _, n := range c.nodes {
			if n != leader {
				c.network.isolate(n.member.Node)
				break
			}
		}
		begin := time.Now()
		if _, err := leader.group.ConfirmRead(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took > 0 {
			t.Errorf("it waited %v for the one that does not answer", took)
		}
	})
}

// heldMessenger keeps what is sent until the test answers it.
type heldMessenger struct {
	mu   sync.Mutex
	held []func([]byte, error)
	sent [][]byte
}

func (m *heldMessenger) Send(_ quorate.NodeID, _ uint8, message []byte, _ time.Duration, done func([]byte, error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held, m.sent = append(m.held, done), append(m.sent, message)
}

func (m *heldMessenger) seats(t *testing.T, i int) []seat {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if i >= len(m.sent) {
		t.Fatalf("%d messages were sent, not %d", len(m.sent), i+1)
	}
	_, c, err := openMessage(m.sent[i])
	if err != nil {
		t.Fatal(err)
	}
	seats, err := readSeats(c)
	if err != nil {
		t.Fatal(err)
	}
	return seats
}

// Who asks while a round is under way gets the next one's answer, however late
// the first one's comes; and everybody who waits is in one message.
func TestProtocol24AnAnswerIsToAQuestionAskedBeforeItsMessageLeft(t *testing.T) {
	m := &heldMessenger{}
	metrics, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &rounds{messenger: m, timeout: time.Second, metrics: metrics, nodes: make(map[quorate.NodeID]*round)}
	node := member(2).Node
	ask := func(set quorate.ReplicaSetID, term uint64) chan bool {
		answer := make(chan bool, 1)
		r.ask(node, question{seat: seat{set: set, replica: 2}, term: term, answer: answer})
		return answer
	}
	early := ask(1, 5)
	late, again, elsewhere, outdated := ask(1, 5), ask(1, 5), ask(9, 7), ask(9, 6)
	if n := len(m.sent); n != 1 {
		t.Fatalf("%d messages are under way, want 1", n)
	}
	m.held[0](termsReply([]uint64{5}), nil)
	if !<-early {
		t.Error("the first question got no for an answer")
	}
	select {
	case <-late:
		t.Fatal("a question got the answer to a message that was sent before it was asked")
	default:
	}
	if got := m.seats(t, 1); len(m.sent) != 2 || fmt.Sprint(got) != fmt.Sprint([]seat{{1, 2}, {9, 2}}) {
		t.Fatalf("%d messages, the second asks for %v", len(m.sent), got)
	}
	m.held[1](termsReply([]uint64{5, 7}), nil)
	if !<-late || !<-again || !<-elsewhere || <-outdated {
		t.Error("a question of the second round got the wrong answer")
	}
	for name, answer := range map[string]struct {
		bytes []byte
		err   error
	}{
		"nothing":         {nil, errLost},
		"garbage":         {[]byte("garbage"), nil},
		"too few terms":   {termsReply(nil), nil},
		"a refusal":       {refusal(refuse(refusedStopped)), nil},
		"not running":     {termsReply([]uint64{0}), nil},
		"a later term":    {termsReply([]uint64{6}), nil},
		"an earlier term": {termsReply([]uint64{4}), nil},
	} {
		last := len(m.held)
		asked := ask(1, 5)
		m.held[last](answer.bytes, answer.err)
		if <-asked {
			t.Errorf("%s counts as agreement", name)
		}
	}
}

// However many readers of however many sets wait, each node is asked by one
// message at a time.
func TestReadersShareTheirRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		leader := c.leader(t)
		c.network.with(func() { c.network.delay[LaneControl] = 10 * time.Millisecond })
		const readers = 100
		before := c.network.count(askTerms)
		errs := make(chan error, readers)
		for range readers {
			go func() {
				_, err := leader.group.ConfirmRead(t.Context())
				errs <- err
			}()
		}
		for range readers {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if sent := c.network.count(askTerms) - before; sent > 4 {
			t.Errorf("%d readers sent %d messages to 2 nodes, want 2 rounds at most", readers, sent)
		}
	})
}

// A replica that does not run, or is not the one asked for, answers no term.
func TestTermsAreThoseOfRunningReplicas(t *testing.T) {
	h, g, l := start(t, HostConfig{Dir: t.TempDir()})
	term, _ := g.Leadership()
	seats := []seat{{testSet, testReplica}, {testSet, 4}, {otherSet, testReplica}}
	if got := h.terms(seats); fmt.Sprint(got) != fmt.Sprint([]uint64{term, 0, 0}) {
		t.Errorf("terms are %v, want only the first, %d", got, term)
	}
	l.with(func(l *ledger) { l.applyErr = errDisk })
	if _, err := g.Propose(t.Context(), testKind, []byte("x")); !errors.Is(err, ErrOutcomeUnknown) {
		t.Error(err)
	}
	if got := h.terms(seats[:1]); got[0] != 0 {
		t.Errorf("a failed replica answers term %d", got[0])
	}
}
