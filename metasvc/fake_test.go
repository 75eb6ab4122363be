package metasvc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// errNoLeader is what a fakeLeader that has lost its group answers.
var errNoLeader = quorate.Errorf(quorate.Unavailable, "no leader")

// fakeLeader is the leader of a metadata group of one state machine: commands
// go through real log entries into it, without a log.
type fakeLeader struct {
	machine *StateMachine

	mu      sync.Mutex // guards what follows
	encoder wire.Encoder
	index   uint64
	term    uint64
	leading bool
	err     error // of both calls, when set
	// afterApply, when set, is the error with which Propose answers although
	// the command was applied: an unknown outcome.
	afterApply error
	// onConfirm and onPropose, when set, are called within ConfirmRead and Propose.
	onConfirm, onPropose func()
	// elsewhere makes it the way to a leader on another node.
	elsewhere bool
	proposed  []Command
	entries   []quorate.LogEntry
}

func newFakeLeader(machine *StateMachine) *fakeLeader {
	return &fakeLeader{machine: machine, index: 1, term: 1, leading: true}
}

func (l *fakeLeader) Propose(ctx context.Context, command []byte) (any, error) {
	l.hook(func() func() { return l.onPropose })
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.failure(ctx); err != nil {
		return nil, err
	}
	decoded, err := DecodeCommand(command)
	if err != nil {
		return nil, fmt.Errorf("a proposal that would stop every replica: %w", err)
	}
	if completed := l.completed(decoded); completed != nil {
		decoded, command = completed, EncodeCommand(completed)
	}
	l.proposed = append(l.proposed, decoded)
	results, err := l.applyLocked(command)
	if err != nil {
		return nil, err
	}
	if l.afterApply != nil {
		return nil, l.afterApply
	}
	return results[0], nil
}

// completed is what a leader makes of a command that an operator asks for, to whom
// all nodes are well; nil of another.
func (l *fakeLeader) completed(c Command) Command {
	switch c := c.(type) {
	case BeginMembers:
		if c.Term == 0 {
			c.Term, c.Well = l.term, everyReplica
			return c
		}
	case CutBucket:
		if c.Term == 0 {
			c.Term = l.term
			if c.Now == 0 {
				c.Now = time.Now().UnixMilli()
			}
			return c
		}
	case AlterPolicy:
		if c.Term == 0 {
			c.Term = l.term
			return c
		}
	}
	return nil
}

// everyReplica are the numbers of all replicas of a small test.
var everyReplica = func() (ids []quorate.ReplicaID) {
	for id := range quorate.ReplicaID(100) {
		ids = append(ids, id+1)
	}
	return ids
}()

func (l *fakeLeader) ConfirmRead(ctx context.Context) error {
	l.hook(func() func() { return l.onConfirm })
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failure(ctx)
}

// hook calls a hook without the lock: it may wait.
func (l *fakeLeader) hook(get func() func()) {
	l.mu.Lock()
	call := get()
	l.mu.Unlock()
	if call != nil {
		call()
	}
}

func (l *fakeLeader) failure(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !l.leading {
		return errNoLeader
	}
	return l.err
}

func (l *fakeLeader) Leadership() (term uint64, leader bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.term, l.leading && !l.elsewhere
}

// applyLocked applies one entry of the given commands.
func (l *fakeLeader) applyLocked(commands ...[]byte) ([]any, error) {
	l.index++
	entry := quorate.LogEntry{Index: l.index, Term: l.term, Data: l.encoder.Append(nil, wire.KindMeta, commands...)}
	l.entries = append(l.entries, entry)
	results, err := l.machine.ApplyBatch([]quorate.LogEntry{entry})
	if err != nil {
		return nil, err
	}
	return results[0], nil
}

func (l *fakeLeader) set(change func(*fakeLeader)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(l)
}

func (l *fakeLeader) commands() []Command {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Command(nil), l.proposed...)
}

// must applies commands of a test's setting, each in its own entry, and fails
// the test on a refusal.
func (l *fakeLeader) must(t testing.TB, commands ...Command) (last any) {
	t.Helper()
	for _, c := range commands {
		result, err := l.Propose(t.Context(), EncodeCommand(c))
		if err != nil {
			t.Fatalf("%s: %v", c.Type(), err)
		}
		if refused, ok := result.(*Refusal); ok {
			t.Fatalf("%s refused: %v", c.Type(), refused)
		}
		last = result
	}
	return last
}

var errDisk = errors.New("disk on fire")

// pass lets virtual time pass, in a synctest bubble.
func pass(d time.Duration) { <-time.NewTimer(d).C }

// The cast of the tests.
var testCluster = quorate.ClusterID{0xc1}

func testNode(name string, incarnation byte) quorate.NodeID {
	return quorate.NodeID{Name: name, Incarnation: quorate.Incarnation{incarnation}}
}

func testNodeSpec(name, zone string) NodeSpec {
	return NodeSpec{ID: testNode(name, 1), Roles: AllRoles, Zone: zone, Address: name + ":9241"}
}

func bootstrap() Command {
	return Bootstrap{Cluster: testCluster, Created: 1, Node: testNodeSpec("n1", "a"), MetaReplica: 1}
}

func policy(name string, change func(*PolicySpec)) PolicySpec {
	p := DefaultPolicy()
	p.Name = name
	if change != nil {
		change(&p)
	}
	return p
}

const hour = int64(time.Hour / time.Millisecond)

func hours(from, to int64) quorate.TimeRange {
	return quorate.TimeRange{Start: from * hour, End: to * hour}
}

// planOn plans a bucket of policy 1 with one shard and one replica on each
// named node.
func planOn(r quorate.TimeRange, nodes ...string) PlanBucket {
	var ids []quorate.NodeID
	for _, n := range nodes {
		ids = append(ids, testNode(n, 1))
	}
	return PlanBucket{Policy: 1, Range: r, HashVersion: 1, Placement: [][]quorate.NodeID{ids}}
}

// covered has the commands that open a bucket of policy 1 on n1 that was planned
// ahead of the clock at now, so that this clock may drop. Its one set and
// replica get these numbers.
func covered(now int64, set quorate.ReplicaSetID, replica quorate.ReplicaID) []Command {
	plan := planOn(quorate.TimeRange{Start: now - now%hour, End: now - now%hour + hour}, "n1")
	plan.Now = plan.Range.Start - 1
	return []Command{plan, ReportFormed{set, replica}}
}

// openMachine returns a state machine opened at the genesis.
func openMachine(t testing.TB) *StateMachine {
	t.Helper()
	m := NewStateMachine(StateMachineConfig{})
	if err := m.Open(t.Context(), nil, 1); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}
