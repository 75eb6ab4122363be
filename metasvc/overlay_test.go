package metasvc

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// TestProtocol15LateSamplesGetAnOverlay goes through an overlay's life.
func TestProtocol15LateSamplesGetAnOverlay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, ts := sealedDay(t, nil)
		defer p.close(t)
		base := p.setsAt(t, ts)[0]
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				overlay, err := p.client.EnsureOverlay(t.Context(), base.ID)
				if err != nil || overlay.Base != base.ID || overlay.Generation != 1 || !overlay.Writable() ||
					overlay.Bounds != (quorate.Bounds{Version: 1, Range: base.Bounds.Range, State: quorate.SetOpen}) {
					t.Errorf("the overlay is %+v, %v", overlay, err)
				}
			})
		}
		wg.Wait()
		b := p.client.Map().Bucket(1, ts)
		first := b.Overlays[0]
		if b.Writable(0) != first || b.Writable(1) != nil || b.Overlays[1] != nil {
			t.Fatalf("shards 0 and 1 are written to %v and %v", b.Writable(0), b.Writable(1))
		}
		if set, over := b.Readable(0); set.ID != base.ID || over != first || first.Members[0].Node != base.Members[0].Node {
			t.Errorf("the shard is read as %+v under %+v", set, over)
		}
		p.still()
		pass(4*time.Hour - time.Minute) // twice the late window, in generation 1
		if got := p.client.Map().Set(first.ID).State; got != ReplicaSetOpen {
			t.Fatalf("the overlay is %s before it was quiet long enough", got)
		}
		pass(2 * time.Minute)
		b = p.client.Map().Bucket(1, ts)
		if b.Sets[0].ID != first.ID || b.Overlays[0] != nil || b.Sets[0].State != ReplicaSetSealed || !b.Sets[0].NeedsFile() {
			t.Fatalf("quiet, the shard is %+v under %+v", b.Sets[0], b.Overlays[0])
		}
		if p.client.Map().Set(base.ID) != nil {
			t.Error("the base that was replaced and dropped is in the map")
		}
		if _, err := p.client.EnsureOverlay(t.Context(), base.ID); quorate.KindOf(err) != quorate.Unavailable {
			t.Errorf("an overlay over a set that is gone was answered %v", err)
		}
		second, err := p.client.EnsureOverlay(t.Context(), first.ID)
		if err != nil || second.Generation != 2 || second.Base != first.ID {
			t.Errorf("the next overlay is %+v, %v", second, err)
		}
		if err := p.leader.machine.snapshot().check(); err != nil {
			t.Error(err)
		}
	})
}

// TestProtocol8OverlaysWaitForTheNodes: nothing is written to an overlay that
// another node would not read, and whoever knows of it reads it.
func TestProtocol8OverlaysWaitForTheNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, ts := sealedDay(t, nil)
		defer p.close(t)
		p.leader.must(t, AdmitNode{NodeSpec{ID: testNode("n2", 1), Roles: RoleGateway}})
		beat := func(version uint64) {
			p.beats.Store(&[]Heartbeat{{Node: testNode("n2", 1), Received: time.Now(), Clock: time.Now(), MapVersion: version}})
		}
		beat(0)
		base := p.setsAt(t, ts)[0].ID
		if _, err := p.client.EnsureOverlay(t.Context(), base); quorate.KindOf(err) != quorate.Unavailable {
			t.Fatalf("an overlay takes writes that a node with a lease does not know of: %v", err)
		}
		b := p.client.Map().Bucket(1, ts)
		overlay := b.Overlays[0]
		if overlay.State != ReplicaSetOpen || !overlay.Pending || b.Writable(0) != nil {
			t.Fatalf("the overlay is %+v, want it formed and pending", overlay)
		}
		if _, read := b.Readable(0); read != overlay {
			t.Error("this node does not read an overlay that the others may write to because it knows of it")
		}
		beat(overlay.Announced - 1)
		pass(passEvery)
		if !p.client.Map().Set(overlay.ID).Pending {
			t.Fatal("the overlay is effective before node n2 knows of it")
		}
		beat(overlay.Announced)
		pass(passEvery)
		if set, err := p.client.EnsureOverlay(t.Context(), base); err != nil || set.ID != overlay.ID {
			t.Fatalf("all nodes know of the overlay, and it is %+v, %v", set, err)
		}

		// The base that it replaces waits in the same way.
		beat(p.leader.machine.AppliedIndex())
		if err := p.client.RequestSeal(t.Context(), []quorate.ReplicaSetID{overlay.ID}); err != nil {
			t.Fatal(err)
		}
		pass(5 * time.Second)
		if set := p.client.Map().Set(base); set == nil || set.State != ReplicaSetSealed || !set.Pending {
			t.Fatalf("before node n2 knows of its replacement the base is %+v", set)
		}
		beat(p.leader.machine.AppliedIndex())
		pass(passEvery)
		if set := p.client.Map().Set(base); set != nil {
			t.Errorf("once all know the base is %+v", set)
		}
	})
}

func TestProtocol15OverlaysAreBudgeted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, ts := sealedDay(t, func(cfg *ControllerConfig) {
			cfg.DefaultPolicy = policy(DefaultPolicyName, func(p *PolicySpec) { p.Shards = 8 })
		})
		defer p.close(t)
		c := openClient(t, p.leader, func(cfg *ClientConfig) { cfg.MaxOverlays = 3 })
		synctest.Wait()
		var made, refused int
		for _, set := range p.setsAt(t, ts) {
			_, err := c.EnsureOverlay(t.Context(), set.ID)
			var e *quorate.Error
			switch {
			case err == nil:
				made++
			case errors.As(err, &e) && e.Kind == quorate.Unavailable && e.RetryAfter > 0:
				refused++
			default:
				t.Errorf("an overlay over the budget was answered %v", err)
			}
		}
		if made != 3 || refused != 5 {
			t.Errorf("%d overlays were made and %d refused, of a budget of 3", made, refused)
		}
		if got := gauge(t, c, "quorate_meta_overlays", ""); got != 3 {
			t.Errorf("%v overlays are counted", got)
		}
		// Sealed, they give the budget back.
		var ids []quorate.ReplicaSetID
		for _, set := range p.client.Map().Bucket(1, ts).Overlays {
			if set != nil {
				ids = append(ids, set.ID)
			}
		}
		if err := c.RequestSeal(t.Context(), ids); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		if _, err := c.EnsureOverlay(t.Context(), p.setsAt(t, ts)[7].ID); err != nil {
			t.Errorf("with the budget given back the answer is %v", err)
		}
	})
}

func TestAnOverlayThatCannotBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, ts := sealedDay(t, nil)
		defer p.close(t)
		now := p.setsAt(t, time.Now().UnixMilli())[0].ID
		for name, id := range map[string]quorate.ReplicaSetID{"an open set": now, "no set": 999, "the metadata group": 0} {
			if _, err := p.client.EnsureOverlay(t.Context(), id); quorate.KindOf(err) != quorate.Unavailable {
				t.Errorf("an overlay over %s was answered %v", name, err)
			}
		}
		// While it is being sealed there is none, and no deletion either.
		overlay, err := p.client.EnsureOverlay(t.Context(), p.setsAt(t, ts)[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		p.sealers.Store(new([]string))
		if err := p.client.RequestSeal(t.Context(), []quorate.ReplicaSetID{overlay.ID}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		start := time.Now()
		if _, err := p.client.EnsureOverlay(t.Context(), overlay.Base); quorate.KindOf(err) != quorate.Unavailable || time.Since(start) > 0 {
			t.Errorf("an overlay being sealed was answered after %v: %v", time.Since(start), err)
		}
		p.leader.must(t, CreateTenant{Name: "acme", Policy: 1})
		if _, err := p.client.Delete(t.Context(), testDeletion(1, "up", hours(0, 1)), []quorate.ReplicaSetID{overlay.Base}); quorate.KindOf(err) != quorate.Unavailable {
			t.Errorf("a deletion under an overlay being sealed was answered %v", err)
		}
	})
}

// TestProtocol19ADeletionIsAnsweredWhenEffective on two nodes, and folded in by
// the seal of an overlay.
func TestProtocol19ADeletionIsAnsweredWhenEffective(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, ts := sealedDay(t, nil)
		defer p.close(t)
		p.leader.must(t, CreateTenant{Name: "acme", Policy: 1}, AdmitNode{NodeSpec{ID: testNode("n2", 1), Roles: RoleGateway}})
		beat := func(version uint64) {
			p.beats.Store(&[]Heartbeat{{Node: testNode("n2", 1), Received: time.Now(), Clock: time.Now(), MapVersion: version}})
		}
		beat(0)
		sets := p.setsAt(t, ts)
		d := testDeletion(1, "up", hours(0, 1))
		d.Matchers = append(d.Matchers, labels.MustNewMatcher(labels.MatchRegexp, "job", "a|b.*"))
		answered := make(chan uint64)
		start := time.Now()
		go func() {
			id, err := p.client.Delete(t.Context(), d, []quorate.ReplicaSetID{sets[1].ID, sets[0].ID, sets[1].ID})
			if err != nil {
				t.Error(err)
			}
			answered <- id
		}()
		synctest.Wait()
		for _, set := range sets {
			list := p.client.Map().DeletionsOf(set.ID)
			if len(list) != 1 || list[0].ID != 1 || !list[0].Deletion.Matchers[1].Matches("bcd") || list[0].Deletion.MaxTime != d.MaxTime {
				t.Errorf("set %d has deletions %+v as soon as the map knows", set.ID, list)
			}
		}
		if p.client.Map().DeletionsOf(999) != nil {
			t.Error("a set without deletions has some")
		}
		if got := testing.AllocsPerRun(100, func() { p.client.Map().DeletionsOf(sets[0].ID) }); got != 0 {
			t.Errorf("asking for deletions allocates %v times", got)
		}
		pass(7 * time.Second)
		beat(p.leader.machine.AppliedIndex())
		if id := <-answered; id != 1 || time.Since(start) < 7*time.Second {
			t.Errorf("deletion %d was answered after %v, before node n2 knew of it", id, time.Since(start))
		}

		// The overlay's seal names it, and takes it over.
		beat(1 << 40)
		overlay, err := p.client.EnsureOverlay(t.Context(), sets[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.client.RequestSeal(t.Context(), []quorate.ReplicaSetID{overlay.ID}); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		for _, c := range p.leader.commands() {
			if begin, ok := c.(BeginIntent); ok && begin.Set == overlay.ID {
				seal, err := wire.DecodeSeal(begin.Payload)
				if err != nil || len(seal.Deletions) != 1 || seal.Deletions[0].ID != 1 {
					t.Errorf("the overlay's seal says %+v, %v", seal, err)
				}
			}
		}
		m := p.client.Map()
		if m.DeletionsOf(overlay.ID) != nil || m.DeletionsOf(sets[0].ID) != nil || len(m.DeletionsOf(sets[1].ID)) != 1 {
			t.Errorf("sealed, the sets have deletions %v, %v and %v", m.DeletionsOf(overlay.ID), m.DeletionsOf(sets[0].ID), m.DeletionsOf(sets[1].ID))
		}
		if got := gauge(t, p.client, "quorate_meta_sealed_deletions", ""); got != 1 {
			t.Errorf("%v deletions are counted", got)
		}
	})
}

func TestDeletionsThatAreNone(t *testing.T) {
	leader := newCluster(t)
	c := openClient(t, leader, nil)
	confirmed(t, c)
	good := testDeletion(1, "up", hours(0, 1))
	for name, change := range map[string]func(*wire.Deletion){
		"without matchers":  func(d *wire.Deletion) { d.Matchers = nil },
		"of no time":        func(d *wire.Deletion) { d.MaxTime = d.MinTime - 1 },
		"too many matchers": func(d *wire.Deletion) { d.Matchers = make([]*labels.Matcher, wire.MaxDeletionMatchers+1) },
	} {
		d := good
		change(&d)
		if _, err := c.Delete(t.Context(), d, []quorate.ReplicaSetID{1}); quorate.KindOf(err) != quorate.Invalid {
			t.Errorf("a deletion %s was answered %v", name, err)
		}
	}
	if _, err := c.Delete(t.Context(), good, []quorate.ReplicaSetID{1}); quorate.KindOf(err) != quorate.NotFound {
		t.Errorf("a deletion of no tenant was answered %v", err)
	}
	leader.must(t, CreateTenant{Name: "acme", Policy: 1})
	if _, err := c.Delete(t.Context(), good, nil); quorate.KindOf(err) != quorate.Invalid {
		t.Errorf("a deletion on no set was answered %v", err)
	}
	if _, err := c.Delete(t.Context(), good, []quorate.ReplicaSetID{7}); quorate.KindOf(err) != quorate.NotFound {
		t.Errorf("a deletion on a set that is none was answered %v", err)
	}
}

// TestADeletionOfANewerBinaryHidesMore: what is deleted must not show, also
// where this binary cannot tell what it was.
func TestADeletionOfANewerBinaryHidesMore(t *testing.T) {
	d := testDeletion(3, "up", hours(5, 6))
	d.Matchers = append(d.Matchers, &labels.Matcher{Type: labels.MatchRegexp, Name: "job", Value: "(?newer)"})
	record := &DeletionRecord{ID: 4, Body: d.Append(nil)}
	if _, r := checkDeletion(record.Body); r != nil {
		t.Fatalf("Apply looked at the regular expression: %v", r)
	}
	got := record.decode()
	if got.ID != 4 || got.Deletion.Tenant != 3 || got.Deletion.MinTime != d.MinTime || got.Deletion.MaxTime != d.MaxTime || len(got.Deletion.Matchers) != 1 {
		t.Fatalf("it is taken as %+v", got)
	}
	for _, name := range []string{"", "up", "anything"} {
		if !got.Deletion.Matchers[0].Matches(name) {
			t.Errorf("it shows series %q", name)
		}
	}
}

// TestDeletionsAreLimited fills both limits.
func TestDeletionsAreLimited(t *testing.T) {
	leader := newCluster(t)
	leader.must(t, CreateTenant{Name: "acme", Policy: 1}, planOn(hours(0, 24), "n1"), ReportFormed{1, 2})
	leader.must(t, BeginIntent{Set: 1, Kind: IntentSeal, Term: 1, Payload: new(wire.Seal).Append(nil)})
	leader.must(t, ReportSeal{1, SealReport{Replica: 2, Intent: 1, Index: 5, File: &wire.SealedFile{}}}, JudgeSeal{1, 1, 1, nil})
	s := leader.machine.snapshot()
	s.index++
	create := func(metric string) any {
		d := testDeletion(1, metric, hours(0, 1))
		return CreateDelete{Body: d.Append(nil), Sets: []quorate.ReplicaSetID{1}}.apply(s, 1)
	}
	big := string(make([]byte, 60<<10))
	made := 0
	for ; made < 1000; made++ {
		if refused, ok := create(big + string(rune('a'+made))).(*Refusal); ok {
			if refused.Reason != ReasonBudget {
				t.Errorf("deletions of too many bytes were refused: %v", refused)
			}
			break
		}
	}
	if made != maxDeletionBytes/(60<<10) {
		t.Errorf("%d large deletions are within %d bytes", made, maxDeletionBytes)
	}
	for id := range s.deletions {
		delete(s.deletions, id)
	}
	for i := range uint64(MaxDeletions) {
		s.deletions[i+1] = &DeletionRecord{ID: i + 1, Body: []byte{1, 0, 0, 1, 0, 0, 0}, Sets: []quorate.ReplicaSetID{1}}
	}
	if refused, ok := create("up").(*Refusal); !ok || refused.Reason != ReasonBudget || refused.Kind() != quorate.Unavailable {
		t.Errorf("one deletion too many was answered %+v", refused)
	}
}

// TestTheControllerWantsOnlyWhatApplyTakes: a refused action would fail its
// loop, and hold up the others', for as long as what it waits for takes.
func TestTheControllerWantsOnlyWhatApplyTakes(t *testing.T) {
	leader := newCluster(t)
	leader.must(t, CreateTenant{Name: "acme", Policy: 1}, AdmitNode{NodeSpec{ID: testNode("n2", 1), Roles: RoleGateway}})
	start := today().UnixMilli()/hour - 24
	leader.must(t, PlanBucket{Policy: 1, Range: hours(start, start+24), HashVersion: 1, Placement: nodesOf("n1", "n1", "n1")},
		ReportFormed{1, 2}, ReportFormed{2, 3}, ReportFormed{3, 4})
	leader.must(t, sealedAs(1, 1, sealPayload(), 2)...)
	leader.must(t, sealedAs(2, 2, sealPayload(), 3)...)
	// Set 1 has an overlay that is asked to be sealed, and a deletion that node
	// n2 does not know of; the overlay over set 2 is forming.
	leader.must(t, PlanOverlay{1, 9}, ReportFormed{4, 5}, EffectSet{Set: 4}, RequestSeal{[]quorate.ReplicaSetID{4}}, PlanOverlay{2, 9})
	d := testDeletion(1, "up", hours(0, 1))
	known := leader.machine.AppliedIndex()
	leader.must(t, CreateDelete{Body: d.Append(nil), Sets: []quorate.ReplicaSetID{1}})

	want := func(version uint64, seals bool) {
		t.Helper()
		c, err := NewController(ControllerConfig{
			StateMachine: leader.machine, Leader: leader, Leadership: leader.Leadership, Cluster: testCluster, Node: testNodeSpec("n1", "a"),
			Heartbeats: func() []Heartbeat {
				return []Heartbeat{{Node: testNode("n2", 1), Received: time.Now().Add(time.Second), Clock: time.Now().Add(time.Second), MapVersion: version}}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		actions, err := c.DryRun()
		if err != nil {
			t.Errorf("an action was refused: %v", err)
		}
		found := false
		for _, a := range actions {
			begin, ok := a.Command.(BeginIntent)
			found = found || ok && begin.Set == 4
			if _, ok := a.Command.(EffectSet); ok {
				t.Errorf("the controller wants to %s", a.Why)
			}
		}
		if found != seals {
			t.Errorf("with n2 at %d the overlay is to be sealed: %t, want %t", version, found, seals)
		}
	}
	want(known, false)
	leader.must(t, EffectDelete{1})
	want(known, true)
}
