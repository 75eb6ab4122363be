package metasvc

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate"
)

// leading returns a controller of the ward's that leads, after its first look.
func (w *ward) leading(change func(*ControllerConfig)) *Controller {
	w.t.Helper()
	cfg := w.cfg
	cfg.Now = func() time.Time { return w.now }
	cfg.Heartbeats = func() []Heartbeat { return w.view().beats }
	if change != nil {
		change(&cfg)
	}
	c, err := NewController(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	c.observe(1, w.now.Add(-time.Hour))
	return c
}

// TestProtocol13TheLeaderSaysWhenACutIs: by its clock, if it agrees with the others' (PROTOCOL
// 13, 17).
func TestProtocol13TheLeaderSaysWhenACutIs(t *testing.T) {
	w := newWard(t, "a", "b", "c")
	c := w.leading(nil)
	decide := func(c *Controller, command Command) (Command, error) {
		encoded, err := c.Decide(t.Context(), EncodeCommand(command))
		if err != nil {
			return nil, err
		}
		return DecodeCommand(encoded)
	}
	got, err := decide(c, CutBucket{Policy: 1, Now: 5})
	if want := (CutBucket{Policy: 1, Now: w.now.UnixMilli(), Term: 1}); got != want || err != nil {
		t.Errorf("the cut is %+v, %v, want %+v", got, err, want)
	}
	if got, err := decide(c, CutBucket{Policy: 1, Now: 5, Term: 7}); got != (CutBucket{1, 5, 7}) || err != nil {
		t.Errorf("a cut that was decided is %+v, %v", got, err)
	}
	if got, err := decide(c, DeleteTenant{3}); got != (DeleteTenant{3}) || err != nil {
		t.Errorf("what no leader decides is %+v, %v", got, err)
	}
	altered, err := decide(c, AlterPolicy{ID: 1, Policy: DefaultPolicy()})
	if a, ok := altered.(AlterPolicy); !ok || a.Term != 1 || a.Now != w.now.UnixMilli() || err != nil {
		t.Errorf("the change of a policy is %+v, %v", altered, err)
	}
	off := w.leading(func(cfg *ControllerConfig) {
		cfg.Heartbeats = func() []Heartbeat {
			beats := w.view().beats
			for i := range beats {
				beats[i].Clock = w.now.Add(-2 * clockTolerance)
			}
			return beats
		}
	})
	if _, err := decide(off, CutBucket{Policy: 1}); quorate.KindOf(err) != quorate.Unavailable || !strings.Contains(err.Error(), "clock") {
		t.Errorf("a leader with a wrong clock cuts: %v", err)
	}
	w.set(func(l *fakeLeader) { l.term = 2 })
	if _, err := decide(c, CutBucket{Policy: 1}); quorate.KindOf(err) != quorate.Unavailable {
		t.Errorf("a leader that has not looked yet cuts: %v", err)
	}
	w.set(func(l *fakeLeader) { l.leading = false })
	if _, err := decide(c, CutBucket{Policy: 1}); quorate.KindOf(err) != quorate.Unavailable {
		t.Errorf("a node that does not lead cuts: %v", err)
	}
}

// TestProtocol16TheLastReadableCopyStays: a replica that is known to have what the set was
// sealed as is of no use while its node is away or says that it is broken (PROTOCOL 16).
func TestProtocol16TheLastReadableCopyStays(t *testing.T) {
	for _, sealed := range []bool{true, false} {
		w := newWard(t, "a", "b", "c")
		id := w.bucket(hours(0, 24), "n1 n2 n3")[0]
		if sealed {
			w.seal(id)
		}
		w.silent["n2"] = true
		w.ill("n3", id)
		c := w.leading(nil)
		leave := func() error {
			command, err := c.Decide(t.Context(), EncodeCommand(BeginMembers{Set: id, Remove: w.state().sets[id].Members[0].Replica}))
			if err != nil {
				t.Fatal(err)
			}
			decided, err := DecodeCommand(command)
			if err != nil {
				t.Fatal(err)
			}
			_, err = propose[IntentResult](t.Context(), w, decided)
			return err
		}
		var refused *Refusal
		if err := leave(); !errors.As(err, &refused) || refused.Reason != ReasonBusy {
			t.Errorf("sealed %t: the last replica that is well left: %v", sealed, err)
		}
		w.silent, w.sick = nil, nil
		if err := leave(); err != nil {
			t.Errorf("sealed %t: one of three that are well may not leave: %v", sealed, err)
		}
	}
}

func TestAReplicaThatDoesNotCatchUpIsGivenUp(t *testing.T) {
	w := newWard(t, "a", "b", "c", "d")
	id := w.bucket(hours(0, 24), "n1 n2 n3")[0]
	w.must(t, BeginMembers{Set: id, Add: testNode("n4", 1), Remove: w.state().sets[id].Members[2].Replica})
	held := tenure{seen: make(map[quorate.NodeID]time.Time)}
	look := func() []Action {
		s := w.state()
		held.observe(s, w.now)
		v := w.view()
		v.begun = held.begun
		return v.giveUp(w.cfg)
	}
	if actions := look(); len(actions) != 0 {
		t.Errorf("at once %v is wanted", actions)
	}
	w.now = w.now.Add(joinWithin)
	if actions := look(); len(actions) != 0 {
		t.Errorf("in time %v is wanted", actions)
	}
	w.now = w.now.Add(time.Millisecond)
	actions := look()
	if len(actions) != 1 || !strings.Contains(actions[0].Why, "not caught up") {
		t.Fatalf("too late %v is wanted", actions)
	}
	w.must(t, actions[0].Command)
	if actions := look(); len(actions) != 0 {
		t.Errorf("that it is removed again is given up: %v", actions)
	}
}

// TestADryRunOfALeaderKnowsWhoIsSilent: what it would do is what it does.
func TestADryRunOfALeaderKnowsWhoIsSilent(t *testing.T) {
	w := newWard(t, "a", "b", "c", "d")
	w.bucket(hours(100*24, 101*24), "n1 n2 n3")
	w.silent["n3"] = true
	moves := func(c *Controller) (n int) {
		actions, err := c.DryRun()
		if err != nil && !strings.Contains(err.Error(), "is dropped by a clock") { // which just began
			t.Fatal(err)
		}
		for _, a := range actions {
			if _, ok := a.Command.(BeginMembers); ok {
				n++
			}
		}
		return n
	}
	if got := moves(w.leading(nil)); got != 1 {
		t.Errorf("a leader would begin %d moves, want 1", got)
	}
	c, err := NewController(w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if got := moves(c); got != 0 {
		t.Errorf("a node that does not lead, and has heard of nobody, would begin %d moves", got)
	}
}

func TestOfAnEvenNumberOfClocksBothInTheMiddleCount(t *testing.T) {
	now := time.UnixMilli(1 << 40)
	self := testNode("n1", 1)
	for _, c := range []struct {
		others []time.Duration
		want   bool
	}{
		{nil, true},
		{[]time.Duration{2 * time.Minute}, false},
		{[]time.Duration{-2 * time.Minute}, false},
		{[]time.Duration{-2 * time.Minute, 0}, true},
		{[]time.Duration{-2 * time.Minute, -2 * time.Minute, 0}, false},
		{[]time.Duration{-2 * time.Minute, 2 * time.Minute, 0}, true},
	} {
		var beats []Heartbeat
		for i, off := range c.others {
			beats = append(beats, Heartbeat{Node: testNode("other", byte(i)), Received: now, Clock: now.Add(off)})
		}
		if off, trusted := clockTrusted(self, beats, now); trusted != c.want {
			t.Errorf("beside clocks off by %v this one is off by %v, trusted %t", c.others, off, trusted)
		}
	}
}

// TestTheLeadersOwnMapIsWaitedFor: it serves requests from it (PROTOCOL 8).
func TestTheLeadersOwnMapIsWaitedFor(t *testing.T) {
	w := newWard(t, "a")
	version := uint64(3)
	v := w.view()
	v.mapVersion = func() uint64 { return version }
	if got := v.knownEverywhere(); got != 3 {
		t.Errorf("with its own map at 3, %d is known everywhere", got)
	}
	v.mapVersion = nil // its heartbeat says 0
	if got := v.knownEverywhere(); got != 0 {
		t.Errorf("with its own heartbeat at 0, %d is known everywhere", got)
	}
}

// TestAFileIsNotTheClustersPolicy: of several nodes, whichever leads.
func TestAFileIsNotTheClustersPolicy(t *testing.T) {
	w := newWard(t, "a", "b")
	w.cfg.DefaultPolicy = policy(DefaultPolicyName, func(p *PolicySpec) { p.Retention, p.Replicas = 48*time.Hour, 1 })
	loop := func(cfg ControllerConfig, v view) ([]Action, error) { return planPolicy(cfg, v), nil }
	if actions, err := w.run(loop); len(actions) != 0 || err != nil {
		t.Errorf("in a cluster of two nodes %v is wanted, %v", actions, err)
	}
	if got := differing(w.cfg.DefaultPolicy, w.state()); strings.Join(got, " ") != "buckets.replicas buckets.retention" {
		t.Errorf("the settings that differ are %v", got)
	}
	w.must(t, RemoveNode{testNode("n2", 1)})
	if got := differing(w.cfg.DefaultPolicy, w.state()); got != nil {
		t.Errorf("of a lone node %v differ", got)
	}
	if actions, err := w.run(loop); len(actions) != 1 || err != nil {
		t.Errorf("on a lone node %v is wanted, %v", actions, err)
	}
	if p := w.state().policies[1]; !p.PolicySpec.equal(w.cfg.DefaultPolicy) {
		t.Errorf("the policy is %+v", p)
	}
}

// TestProtocol13ReadsGoPastACutToWhatWasTakenBefore: until a set is told of its cut it may take
// samples past it, and what it has then stays there (PROTOCOL 13).
func TestProtocol13ReadsGoPastACutToWhatWasTakenBefore(t *testing.T) {
	w := newWard(t, "a", "b", "c")
	sets := w.bucket(hours(0, 24), "n1 n2 n3", "n1 n2 n3")
	at := w.must(t, CutBucket{Policy: 1, Now: 10 * hour}).(CutBucketResult).At
	read := func(mint, maxt int64) int { return len(mapOf(w.state()).BucketsToRead(1, mint, maxt)) }
	if got := read(at, 23*hour); got != 1 {
		t.Errorf("before the sets are told %d buckets are read past the cut, want the one that was cut", got)
	}
	if got := read(24*hour, 25*hour); got != 0 {
		t.Errorf("past the old end %d buckets are read", got)
	}
	for i, id := range sets {
		newest := at - 1
		if i == 1 {
			newest = at + 5
		}
		w.must(t, ConfirmIntent{Set: id, Intent: w.state().sets[id].Intent.ID, LogIndex: 7, Newest: newest})
	}
	w.bucket(quorate.TimeRange{Start: at, End: 24 * hour}, "n1 n2 n3", "n1 n2 n3")
	for _, c := range []struct {
		mint, maxt int64
		want       int
	}{{at, 23 * hour, 2}, {at + 5, at + 5, 2}, {at + 6, 23 * hour, 1}, {0, at - 1, 1}, {0, at, 2}} {
		if got := read(c.mint, c.maxt); got != c.want {
			t.Errorf("for [%d, %d] %d buckets are read, want %d", c.mint, c.maxt, got, c.want)
		}
	}
	told := mapOf(w.state())
	if a, b := told.Set(sets[0]).ReadRange().End, told.Set(sets[1]).ReadRange().End; a != at || b != at+6 {
		t.Errorf("the sets are read to %d and %d, want %d and %d", a, b, at, at+6)
	}
	if err := w.state().check(); err != nil {
		t.Error(err)
	}
}
