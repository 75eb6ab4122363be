package raftset

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/internal/wire"
)

// stalled starts a group whose log hangs, with one entry in it.
func stalled(t *testing.T, cfg HostConfig) (g *Group, l *ledger, release func()) {
	t.Helper()
	f := newFaults(MemoryLogs())
	cfg.Dir, cfg.LogStore = t.TempDir(), f.open
	_, g, l = start(t, cfg)
	hold := make(chan struct{})
	f.with(func(f *faults) { f.stall = hold })
	released := false
	release = func() {
		if !released {
			released = true
			f.with(func(f *faults) { f.stall = nil })
			close(hold)
		}
	}
	t.Cleanup(release)
	return g, l, release
}

// submitting proposes in the background and waits until the command is queued
// or on its way.
func submitting(t *testing.T, g *Group, ctx context.Context, kind wire.Kind, command []byte) chan error { //nolint:revive // t comes first in tests
	t.Helper()
	answer := make(chan error, 1)
	before := g.pending()
	go func() {
		_, err := g.Propose(ctx, kind, command)
		answer <- err
	}()
	testwait.For(t, "the command to be queued", func() bool { return g.pending() > before })
	return answer
}

// pending counts the calls that wait or are in flight.
func (g *Group) pending() int {
	p := g.proposer
	p.encoding.Lock()
	defer p.encoding.Unlock()
	p.queue.mu.Lock()
	defer p.queue.mu.Unlock()
	p.flights.mu.Lock()
	defer p.flights.mu.Unlock()
	n := len(p.queue.calls)
	for _, f := range p.flights.list {
		n += len(f.calls)
	}
	return n
}

func TestWhatWaitsTogetherIsJoinedByKind(t *testing.T) {
	g, l, release := stalled(t, HostConfig{InFlight: 1, BatchBytes: 10})
	ctx := context.WithoutCancel(t.Context())
	applies := l.applies
	answers := []chan error{submitting(t, g, ctx, wire.KindMeta, []byte("first"))}
	for _, c := range []struct {
		kind    wire.Kind
		command string
	}{
		// One entry of two commands, one of another kind, one cut by BatchBytes,
		// and the rest; a command over BatchBytes goes alone.
		{wire.KindMeta, "aaaa"}, {wire.KindMeta, "bbbb"},
		{wire.KindWrite, "cc"},
		{wire.KindMeta, "ddddd"}, {wire.KindMeta, "eeeee"},
		{wire.KindMeta, "ffffffffffffff"},
		{wire.KindMeta, "g"},
	} {
		answers = append(answers, submitting(t, g, ctx, c.kind, []byte(c.command)))
	}
	release()
	for _, a := range answers {
		if err := <-a; err != nil {
			t.Error(err)
		}
	}
	wantLines(t, l, "first", "aaaa", "bbbb", "cc", "ddddd", "eeeee", "ffffffffffffff", "g")
	if got, want := l.applies-applies, 6; got != want {
		t.Errorf("the commands made %d entries, want %d", got, want)
	}
}

func TestLittleWaitsForWhatIsInFlightAndMuchDoesNot(t *testing.T) {
	g, l, release := stalled(t, HostConfig{})
	ctx := context.WithoutCancel(t.Context())
	// flying tells that entries of so many commands each are in flight.
	flying := func(want ...int) func() bool {
		return func() bool {
			g.proposer.flights.mu.Lock()
			defer g.proposer.flights.mu.Unlock()
			var commands []int
			for _, f := range g.proposer.flights.list {
				commands = append(commands, len(f.calls))
			}
			return slices.Equal(commands, want)
		}
	}
	answers := []chan error{submitting(t, g, ctx, testKind, []byte("first"))}
	testwait.For(t, "the first to be in flight", flying(1)) // it hangs in the log
	much := strings.Repeat("m", worthwhileBytes)
	for _, command := range []string{"little", "more", much} {
		answers = append(answers, submitting(t, g, ctx, testKind, []byte(command)))
	}
	testwait.For(t, "the others to be a second entry in flight", flying(1, 3))
	answers = append(answers, submitting(t, g, ctx, testKind, []byte("last")))
	release()
	for _, a := range answers {
		if err := <-a; err != nil {
			t.Error(err)
		}
	}
	wantLines(t, l, "first", "little", "more", much, "last")
}

func TestGivingUpBeforeTheProposalTakesItBack(t *testing.T) {
	g, l, release := stalled(t, HostConfig{InFlight: 1})
	first := submitting(t, g, context.WithoutCancel(t.Context()), testKind, []byte("first"))
	ctx, cancel := context.WithCancel(t.Context())
	waiting := submitting(t, g, ctx, testKind, []byte("never"))
	cancel()
	err := <-waiting
	if !errors.Is(err, context.Canceled) || errors.Is(err, ErrOutcomeUnknown) || quorate.KindOf(err) != quorate.Unavailable {
		t.Errorf("got %v (%v), want a definite refusal", err, quorate.KindOf(err))
	}
	release()
	if err := <-first; err != nil {
		t.Error(err)
	}
	propose(t, g, "last")
	wantLines(t, l, "first", "last")
}

func TestGivingUpInFlightLeavesTheOutcomeUnknown(t *testing.T) {
	g, l, release := stalled(t, HostConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	command := []byte("reused")
	answer := submitting(t, g, ctx, testKind, command)
	cancel()
	if err := <-answer; !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want ErrOutcomeUnknown and context.Canceled", err)
	}
	copy(command, "xxxxxx") // Propose has returned: the command is the caller's
	release()
	propose(t, g, "last")
	wantLines(t, l, "reused", "last")
}

func TestAFullQueueRefuses(t *testing.T) {
	g, _, release := stalled(t, HostConfig{InFlight: 1, QueueBytes: 100})
	ctx := context.WithoutCancel(t.Context())
	answers := []chan error{
		submitting(t, g, ctx, testKind, make([]byte, 10)),
		submitting(t, g, ctx, testKind, []byte(strings.Repeat("q", 101))), // alone it may be longer
	}
	_, err := g.Propose(t.Context(), testKind, []byte("q"))
	if !errors.Is(err, ErrOverloaded) || quorate.KindOf(err) != quorate.Unavailable {
		t.Errorf("got %v, want ErrOverloaded", err)
	}
	release()
	for _, a := range answers {
		if err := <-a; err != nil {
			t.Error(err)
		}
	}
	propose(t, g, "there is room again")
}

func TestACommandTooLargeIsRefused(t *testing.T) {
	_, g, _ := start(t, HostConfig{Dir: t.TempDir(), LogStore: MemoryLogs()})
	if _, err := g.Propose(t.Context(), testKind, make([]byte, maxCommandBytes+1)); quorate.KindOf(err) != quorate.TooLarge {
		t.Errorf("got %v, want the kind TooLarge", err)
	}
}

func TestCloseAnswersEverybody(t *testing.T) {
	g, _, release := stalled(t, HostConfig{InFlight: 1})
	ctx := context.WithoutCancel(t.Context())
	inFlight := submitting(t, g, ctx, testKind, []byte("in flight"))
	waiting := submitting(t, g, ctx, testKind, []byte("waiting"))
	closed := make(chan error, 1)
	go func() { closed <- g.Close() }()
	if err := <-waiting; !errors.Is(err, ErrStopped) {
		t.Errorf("the waiting call got %v, want ErrStopped", err)
	}
	release()
	// The entry may still be applied on the way down.
	if err := <-inFlight; err != nil && !errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("the call in flight got %v, want ErrOutcomeUnknown", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if _, err := g.Propose(t.Context(), testKind, []byte("x")); !errors.Is(err, ErrStopped) || quorate.KindOf(err) != quorate.Unavailable {
		t.Errorf("after Close a proposal gets %v, want ErrStopped", err)
	}
	if _, err := g.ConfirmRead(t.Context()); !errors.Is(err, ErrStopped) {
		t.Errorf("after Close a read gets %v, want ErrStopped", err)
	}
	if err := g.Flush(t.Context()); !errors.Is(err, ErrStopped) {
		t.Errorf("after Close a flush gets %v, want ErrStopped", err)
	}
}

func TestAStateMachineThatAnswersWronglyIsStopped(t *testing.T) {
	for name, answer := range map[string]func([][]any) [][]any{
		"an entry too few":  func(r [][]any) [][]any { return r[:len(r)-1] },
		"a command too few": func(r [][]any) [][]any { return append(r[:len(r)-1], nil) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, HostConfig{Dir: t.TempDir(), LogStore: MemoryLogs()})
			form(t, h, testSet)
			g, err := h.Open(t.Context(), testSet, testReplica, &liar{answer: answer})
			if err != nil {
				t.Fatal(err)
			}
			awaitLeader(t, g)
			if _, err := g.Propose(t.Context(), testKind, []byte("x")); !errors.Is(err, ErrOutcomeUnknown) {
				t.Errorf("got %v, want ErrOutcomeUnknown", err)
			}
			<-g.Failed()
		})
	}
}

type liar struct {
	ledger
	answer func([][]any) [][]any
}

func (l *liar) ApplyBatch(entries []quorate.LogEntry) ([][]any, error) {
	results, err := l.ledger.ApplyBatch(entries)
	return l.answer(results), err
}

func TestFlightsLandInOrderAndNameTheLost(t *testing.T) {
	s := newFlights(4)
	list := make([]*flight, 4)
	for i := range list {
		s.slots <- struct{}{}
		list[i] = &flight{data: []byte{byte(i)}, term: uint64(2 + i/2)}
		s.push(list[i])
	}
	if f, lost := s.land([]byte{0}); f != nil || lost != nil {
		t.Error("an equal entry from elsewhere landed a flight")
	}
	if f, lost := s.land(list[1].data); f != list[1] || !slices.Equal(lost, list[:1]) {
		t.Errorf("landed %v, lost %v", f, lost)
	}
	if !s.drop(list[3]) || s.drop(list[3]) || s.drop(list[0]) {
		t.Error("drop is wrong about what is in flight")
	}
	if lost := s.others(3); len(lost) != 0 {
		t.Errorf("term 3 lost %v", lost)
	}
	if lost := s.others(4); !slices.Equal(lost, list[2:3]) {
		t.Errorf("term 4 lost %v", lost)
	}
	if len(s.slots) != 0 || len(s.list) != 0 {
		t.Errorf("%d slots and %d flights are left", len(s.slots), len(s.list))
	}
}

// Propose has returned, so the command is the caller's again, whatever the
// outcome: nothing half overwritten may reach the log. The race detector sees
// it sooner than the state machine.
func TestACommandIsNotReadAfterItsCallerGaveUp(t *testing.T) {
	_, g, l := start(t, HostConfig{Dir: t.TempDir(), LogStore: MemoryLogs()})
	const workers, each = 4, 200
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			command := make([]byte, 50_000)
			for i := range each {
				for j := range command {
					command[j] = byte('a' + (w+i)%26)
				}
				ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Duration(i)*time.Microsecond)
				_, err := g.Propose(ctx, testKind, command)
				cancel()
				if err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, line := range l.all()[1:] {
		if strings.Trim(line, line[:1]) != "" {
			t.Fatal("a command was overwritten while it was encoded")
		}
	}
}
