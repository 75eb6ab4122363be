package metasvc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate"
)

// manySealed returns a cluster with a bucket of many sealed sets, all named by
// as many deletions, and an open bucket at the clock that drops it.
func manySealed(t testing.TB, shards, deletions int) (leader *fakeLeader, sets []quorate.ReplicaSetID, now int64) {
	leader = newCluster(t)
	leader.must(t, CreateTenant{"acme", 1, 5})
	leader.must(t, PlanBucket{Policy: 1, Range: hours(0, 24), HashVersion: 1, Placement: nodesOf(slices.Repeat([]string{"n1"}, shards)...)})
	for i := range shards {
		set, replica := quorate.ReplicaSetID(i+1), quorate.ReplicaID(i+2)
		leader.must(t, ReportFormed{set, replica})
		sets = append(sets, set)
	}
	for i, set := range sets {
		leader.must(t, sealedAs(set, IntentID(i+1), sealPayload(), quorate.ReplicaID(i+2))...)
	}
	for i := range deletions {
		leader.must(t, CreateDelete{testBody(fmt.Sprint("m", i)), sets})
	}
	now = 24*hour + DefaultPolicy().Retention.Milliseconds()
	leader.must(t, covered(now, quorate.ReplicaSetID(shards+1), quorate.ReplicaID(shards+2))...)
	return leader, sets, now
}

// TestADropTouchesEachRecordOnce: a bucket of many shards under many deletions
// must not cost their product.
func TestADropTouchesEachRecordOnce(t *testing.T) {
	const shards, deletions = 200, 20
	leader, sets, now := manySealed(t, shards, deletions)
	// One deletion names a set of another bucket, and so stays.
	leader.must(t, planOn(hours(24, 48), "n1"), ReportFormed{shards + 2, shards + 3})
	leader.must(t, sealedAs(shards+2, shards+1, sealPayload(), shards+3)...)
	leader.must(t, CreateDelete{testBody("stays"), append(slices.Clone(sets), shards+2)})
	leader.must(t, BeginDrop{Bucket: 1, Term: 1, Now: now})
	before := leader.machine.snapshot()
	made := testing.AllocsPerRun(3, func() {
		s := before.clone()
		s.index++
		EffectDrop{Bucket: 1}.apply(s, 1)
		if got, want := len(s.takeChanges()), 1+shards+deletions+1; got != want {
			t.Errorf("%d changes, want one of each of %d records", got, want)
		}
		if err := s.check(); err != nil {
			t.Error(err)
		}
		if d := s.deletions[deletions+1]; len(s.deletions) != 1 || d == nil || !slices.Equal(d.Sets, []quorate.ReplicaSetID{shards + 2}) {
			t.Errorf("the deletions left are %v", s.deletions)
		}
	})
	if most := 20.0 * (shards + deletions); made > most {
		t.Errorf("the drop made %.0f allocations, want at most %.0f", made, most)
	}
}

func TestAnEntryHoldsOneChangeOfARecord(t *testing.T) {
	s := newState()
	s.index = 7
	for i := range 3 {
		s.putDeletion(&DeletionRecord{ID: 1, Announced: uint64(i)})
		s.putDeletion(&DeletionRecord{ID: 2})
	}
	s.removeDeletion(s.deletions[2])
	if len(s.changes) != 2 {
		t.Fatalf("the entry holds %d changes while it is applied, want 2", len(s.changes))
	}
	changes := s.takeChanges()
	if first := changes[0].Record.(*DeletionRecord); first.ID != 1 || first.Announced != 2 || !changes[1].Removed || changes[1].ID != 2 {
		t.Errorf("got %+v", changes)
	}
	s.putDeletion(&DeletionRecord{ID: 1})
	if got := s.takeChanges(); len(got) != 1 {
		t.Errorf("the next entry has %+v", got)
	}
}

func TestDeletionsNameABoundedNumberOfSets(t *testing.T) {
	const shards = MaxShards
	leader, sets, _ := manySealed(t, shards, 0)
	for i := range MaxDeletionSets / shards {
		leader.must(t, CreateDelete{testBody(fmt.Sprint("m", i)), sets})
	}
	_, err := propose[DeleteResult](t.Context(), leader, CreateDelete{testBody("over"), sets[:1]})
	var refused *Refusal
	if !errors.As(err, &refused) || refused.Reason != ReasonBudget {
		t.Errorf("one set more was answered %v", err)
	}
	leader.must(t, CreateDelete{testBody("m0"), sets[:1]}) // it is there already
	if err := leader.machine.snapshot().check(); err != nil {
		t.Error(err)
	}
}

// TestTheDeletionsOfAMapAreMadeAnewOnlyWhenOneChanged: they may name a hundred
// thousand sets, and a report of one replica must not cost that.
func TestTheDeletionsOfAMapAreMadeAnewOnlyWhenOneChanged(t *testing.T) {
	leader, _, _ := manySealed(t, 3, 2)
	m := newMirror()
	watch := leader.machine.Watch(0)
	next := func(commands ...Command) uintptr {
		t.Helper()
		leader.must(t, commands...)
		batch, err := watch.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		m.apply(batch)
		built := m.build()
		if want := mapOf(leader.machine.snapshot()); !reflect.DeepEqual(built.tables, want.tables) {
			t.Fatalf("the map has %+v, want %+v", built.tables, want.tables)
		}
		return reflect.ValueOf(built.tables.deletions).Pointer()
	}
	first := next()
	if same := next(PlanOverlay{1, 9}); same != first {
		t.Error("an overlay made the deletions anew")
	}
	if other := next(EffectDelete{1}); other == first {
		t.Error("a deletion that became effective is not in the map")
	}
}

// TestProtocol17AClockThatJumpsDropsNothing: it jumps far beyond what was planned ahead,
// and comes back.
func TestProtocol17AClockThatJumpsDropsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var jump atomic.Int64
		p := startPaperCluster(t, func(c *ControllerConfig) {
			c.Now = func() time.Time { return time.Now().Add(time.Duration(jump.Load())) } // its monotonic clock jumps along
		})
		defer p.close(t)
		pass(2 * time.Hour)
		before := len(p.client.Map().Buckets(1))
		jump.Store(int64(400 * day))
		pass(11 * time.Second)
		var failed error
		for _, l := range p.controller.Status() {
			if l.Name == LoopRetention {
				failed = l.Err
			}
		}
		if failed == nil || !strings.Contains(failed.Error(), "may have jumped") {
			t.Errorf("the retention loop says %v", failed)
		}
		jump.Store(0)
		pass(time.Hour)
		pol := p.client.Map().Policy(1)
		if err := pol.CheckTime(time.Now().UnixMilli(), time.Now()); err != nil || pol.Horizon != NoHorizon {
			t.Errorf("after the clock came back a sample is answered %v, and the horizon is %s", err, quorate.FormatTime(pol.Horizon))
		}
		if b := p.client.Map().Bucket(1, time.Now().UnixMilli()); b == nil || b.State != BucketOpen || len(p.client.Map().Buckets(1)) <= before {
			t.Errorf("the bucket of now is %+v", b)
		}

		// Who was off for so long drops again once the next bucket has begun.
		jump.Store(int64(400 * day))
		pass(day + 2*time.Hour)
		m := p.client.Map()
		if oldest := m.Buckets(1)[0].Range.Start; oldest < ago(-370*day) {
			t.Errorf("a day later the bucket at %s is still there", quorate.FormatTime(oldest))
		}
	})
}

func TestADropWaitsForALeaderWithASteadyClock(t *testing.T) {
	start := time.Now()
	var c steadyClock
	for _, step := range []struct {
		what string
		at   time.Time
		set  time.Duration // by how much the wall clock was set in between
		want bool
	}{
		{"the first reading", start, 0, false},
		{"an hour less a second later", start.Add(time.Hour - time.Second), 0, false},
		{"an hour later", start.Add(time.Hour), 0, true},
		{"slewed by less than the tolerance", start.Add(2 * time.Hour), 50 * time.Second, true},
		{"set ahead by a year", start.Add(3 * time.Hour), 365 * day, false},
		{"an hour after that", start.Add(4 * time.Hour), 0, true},
		{"set back", start.Add(5 * time.Hour), -365 * day, false},
	} {
		c.wall = c.wall.Add(-step.set)
		c.observe(step.at)
		if got := c.runs(step.at, time.Hour); got != step.want {
			t.Errorf("%s: %t, want %t", step.what, got, step.want)
		}
	}
	s := newState()
	if actions, err := planRetention(view{state: s}); actions != nil || err != nil {
		t.Errorf("a leader that is new wants %v, %v", actions, err)
	}
}

// TestARefusedActionKeepsNoOtherFromBeingCommitted: loops go on after a refusal.
func TestARefusedActionKeepsNoOtherFromBeingCommitted(t *testing.T) {
	leader := newCluster(t)
	c, err := NewController(ControllerConfig{
		StateMachine: leader.machine, Leader: leader, Leadership: leader.Leadership, Cluster: testCluster, Node: testNodeSpec("n1", "a"),
	})
	if err != nil {
		t.Fatal(err)
	}
	wants := loop{name: "test", plan: func(v view) (actions []Action, err error) {
		for i := range 10 {
			actions = append(actions, Action{Loop: "test", Why: fmt.Sprint("no tenant ", i), Command: DeleteTenant{99}})
		}
		if v.state.tenantByName["acme"] == nil {
			actions = append(actions, Action{Loop: "test", Why: "a tenant", Command: CreateTenant{"acme", 1, 5}})
		}
		return actions, nil
	}}
	committed, err := c.run(t.Context(), wants, time.Now())
	var refused *Refusal
	if committed != 1 || !errors.As(err, &refused) || !strings.Contains(err.Error(), "no tenant 7") || !strings.Contains(err.Error(), "and 2 more") {
		t.Errorf("committed %d, and then %v", committed, err)
	}
	leader.set(func(l *fakeLeader) { l.err = errNoLeader })
	proposed := len(leader.commands())
	if _, err := c.run(t.Context(), wants, time.Now()); !errors.Is(err, errNoLeader) || len(leader.commands()) != proposed {
		t.Errorf("without a leader the loop fails with %v", err)
	}
}

// TestASealThatLiveReplicasDisagreeOnIsAnAlarm: one of three is away, and the
// other two differ.
func TestASealThatLiveReplicasDisagreeOnIsAnAlarm(t *testing.T) {
	leader := newCluster(t)
	leader.must(t, AdmitNode{testNodeSpec("n2", "b")}, AdmitNode{testNodeSpec("n3", "c")}, planOn(hours(48, 72), "n1", "n2", "n3"))
	leader.must(t, ReportFormed{1, 2}, ReportFormed{1, 3}, BeginIntent{1, IntentSeal, 1, sealPayload()})
	leader.must(t, ReportSeal{1, SealReport{Replica: 2, Intent: 1, Index: 3}})
	now := time.Now()
	beat := []Heartbeat{{Node: testNode("n2", 1), Received: now}}
	undecided := func() []quorate.ReplicaSetID {
		return view{state: leader.machine.snapshot(), now: now, leadingSince: now.Add(-time.Hour), self: testNode("n1", 1), beats: beat}.index().undecided()
	}
	if got := undecided(); got != nil {
		t.Errorf("before all live ones have reported, %v are undecided", got)
	}
	leader.must(t, ReportSeal{1, SealReport{Replica: 3, Intent: 1, Index: 4}})
	if got := undecided(); !slices.Equal(got, []quorate.ReplicaSetID{1}) {
		t.Errorf("two that differ leave %v undecided, want set 1", got)
	}

	warned := &countingHandler{}
	c, err := NewController(ControllerConfig{
		StateMachine: leader.machine, Leader: leader, Leadership: leader.Leadership, Cluster: testCluster, Node: testNodeSpec("n1", "a"),
		Logger: slog.New(warned),
	})
	if err != nil {
		t.Fatal(err)
	}
	c.noteUndecided(undecided())
	c.noteUndecided(undecided())
	if warned.n != 1 {
		t.Errorf("warned %d times, want once", warned.n)
	}

	leader.must(t, ReportSeal{1, SealReport{Replica: 3, Intent: 1, Index: 3}})
	if got := undecided(); got != nil {
		t.Errorf("when two of three agree, %v are undecided", got)
	}
}

// countingHandler counts records.
type countingHandler struct{ n int }

func (h *countingHandler) Enabled(context.Context, slog.Level) bool  { return true }
func (h *countingHandler) Handle(context.Context, slog.Record) error { h.n++; return nil }
func (h *countingHandler) WithAttrs([]slog.Attr) slog.Handler        { return h }
func (h *countingHandler) WithGroup(string) slog.Handler             { return h }

// TestProtocol19ASealFoldsInTheBytesThatAreKept and no others (PROTOCOL 19).
func TestProtocol19ASealFoldsInTheBytesThatAreKept(t *testing.T) {
	leader := newCluster(t)
	leader.must(t, CreateTenant{"acme", 1, 5}, planOn(hours(48, 72), "n1"), ReportFormed{1, 2})
	leader.must(t, sealedAs(1, 1, sealPayload(), 2)...)
	leader.must(t, CreateDelete{testBody("secret"), []quorate.ReplicaSetID{1}}, EffectDelete{1}, PlanOverlay{1, 9}, ReportFormed{2, 3}, EffectSet{Set: 2})
	_, err := propose[IntentResult](t.Context(), leader, BeginIntent{2, IntentSeal, 1, sealPayload(foldOf(1, "up"))})
	if quorate.KindOf(err) != quorate.Invalid || !strings.Contains(err.Error(), "another deletion") {
		t.Errorf("a seal with another body was answered %v", err)
	}
	s := leader.machine.snapshot()
	payload, err := view{state: s}.sealPayload(nil, s.sets[2])
	if err != nil {
		t.Fatal(err)
	}
	folded, ok := readSealPayload(payload)
	if !ok || len(folded) != 1 || !folded[0].is(s.deletions[1]) {
		t.Errorf("the payload has %v", folded)
	}
	leader.must(t, sealedAs(2, 2, payload, 3)...)
	if s := leader.machine.snapshot(); len(s.deletions) != 0 || s.check() != nil {
		t.Errorf("after the seal: %v, %v", s.deletions, s.check())
	}
}
