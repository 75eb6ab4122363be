package metasvc

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate"
)

// TestProtocol13ACutMakesRoomForANewBucket, in which nothing is written before every node
// knows (PROTOCOL 8, 13).
func TestProtocol13ACutMakesRoomForANewBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPaperCluster(t, nil)
		defer p.close(t)
		pass(passEvery)
		p.leader.must(t, AdmitNode{NodeSpec{ID: testNode("n2", 1), Roles: RoleGateway}})
		before := p.client.Map().Bucket(1, time.Now().UnixMilli())
		now := time.Now()
		at, err := p.client.CutBucket(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		future := DefaultPolicy().FutureBound
		guarded := future + MapLease + clockTolerance
		if early, late := now.Add(guarded).UnixMilli(), now.Add(guarded+time.Second).UnixMilli(); at < early || at > late || at%1000 != 0 {
			t.Errorf("the cut is at %d, want a full second from %d to %d", at, early, late)
		}
		beat := func(version uint64) {
			p.beats.Store(&[]Heartbeat{{Node: testNode("n2", 1), Received: time.Now(), Clock: time.Now(), MapVersion: version}})
		}
		beat(0)
		pass(passEvery / 2)
		m := p.client.Map()
		cut, next := m.Bucket(1, at-1), m.Bucket(1, at)
		if cut.ID != before.ID || cut.Range.End != at || !cut.Cut || cut.State != BucketOpen {
			t.Errorf("the cut bucket is %+v", cut.BucketRecord)
		}
		if next == nil || next.Range != (quorate.TimeRange{Start: at, End: before.Range.End}) || next.State != BucketPlanned || !next.Pending {
			t.Fatalf("the bucket after the cut is %+v", next)
		}
		for _, set := range cut.Sets {
			if v, err := p.client.ConfirmBounds(t.Context(), set.ID); v != 2 || err != nil {
				t.Errorf("a new leader of set %d is told bounds version %d, %v", set.ID, v, err)
			}
			want := quorate.Bounds{Version: 2, Range: cut.Range, State: quorate.SetOpen}
			if b, ok := set.Intent.Bounds(); !ok || b != want || set.Bounds.Version != 1 {
				t.Errorf("set %d is to have %+v, want %+v, and has %+v", set.ID, b, want, set.Bounds)
			}
			// One set is told; the other has lost its quorum, say.
			if set.Shard == 0 {
				if err := p.client.ConfirmIntent(t.Context(), set.ID, set.Intent.ID, 7); err != nil {
					t.Error(err)
				}
				if b := p.client.Map().Set(set.ID).Bounds; b != want {
					t.Errorf("set %d was told and has %+v", set.ID, b)
				}
			}
		}
		for range 4 {
			beat(p.client.Map().Version)
			pass(passEvery)
		}
		if next = p.client.Map().Bucket(1, at); next.State != BucketOpen {
			t.Errorf("every node knows, and the bucket after the cut is %s", next.State)
		}
		if v, err := p.client.ConfirmBounds(t.Context(), cut.Sets[1].ID); v != 2 || err != nil {
			t.Errorf("a new leader of the set that was not told is told bounds version %d, %v", v, err)
		}
	})
}

// TestASetThatIsBusyIsToldOfItsCutAfterwards, and until then a new leader of it is
// told of what is to come.
func TestASetThatIsBusyIsToldOfItsCutAfterwards(t *testing.T) {
	w := newWard(t, "a", "b", "c", "d")
	id := w.bucket(hours(0, 24), "n1 n2 n3")[0]
	w.must(t, BeginMembers{Set: id, Add: testNode("n4", 1)})
	at := w.must(t, CutBucket{Policy: 1, Now: 10 * hour}).(CutBucketResult).At
	intended := func() quorate.BoundsVersion {
		s := w.state()
		return s.sets[id].intendedBounds(s.buckets[1].Range)
	}
	bounds := func(_ ControllerConfig, v view) ([]Action, error) { return planBounds(v), nil }
	if actions, err := w.run(bounds); len(actions) != 0 || err != nil || intended() != 2 {
		t.Fatalf("the set is busy, and %v is wanted, %v; version %d is intended", actions, err, intended())
	}
	w.must(t, RequestSeal{[]quorate.ReplicaSetID{id}})
	w.settle(bounds)
	set := w.state().sets[id]
	want := quorate.Bounds{Version: 2, Range: quorate.TimeRange{Start: 0, End: at}, State: quorate.SetOpen}
	if set.Bounds != want || len(set.Members) != 4 || intended() != 2 {
		t.Errorf("the set has %+v and %d members", set.Bounds, len(set.Members))
	}
}

func TestTheSealWaitsForTheCut(t *testing.T) {
	w := newWard(t, "a", "b", "c")
	id := w.bucket(hours(0, 24), "n1 n2 n3")[0]
	w.must(t, RequestSeal{[]quorate.ReplicaSetID{id}}, CutBucket{Policy: 1, Now: 10 * hour})
	if actions, err := planSeal(w.view()); len(actions) != 0 || err != nil {
		t.Errorf("before the set has its new bounds %v is wanted, %v", actions, err)
	}
	w.carryOut()
	if actions, err := planSeal(w.view()); len(actions) != 1 || err != nil {
		t.Errorf("with its new bounds %v is wanted, %v", actions, err)
	}
}

func TestNodesJoinAndLeaveThroughTheClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leader := newCluster(t)
		c := openClient(t, leader, nil)
		n2 := testNodeSpec("n2", "b")
		if number, err := c.Join(t.Context(), n2); number != 2 || err != nil {
			t.Fatalf("the node joined as %d, %v", number, err)
		}
		leader.must(t, planOn(hours(0, 24), "n1"), ReportFormed{1, 2})
		intent, err := c.BeginMembers(t.Context(), 1, n2.ID, 2)
		if err != nil {
			t.Fatal(err)
		}
		var here []quorate.ReplicaID
		for _, replica := range c.Map().SetsOn(n2.ID) {
			here = append(here, replica)
		}
		change, moving := c.Map().Set(1).Changing()
		if !moving || change.Remove != 2 || len(here) != 1 || here[0] != change.Add.Replica {
			t.Errorf("the change is %+v, and the node is to have %v", change, here)
		}
		if err := c.RemoveNode(t.Context(), n2.ID); quorate.KindOf(err) != quorate.Unavailable {
			t.Errorf("a node that a replica joins on was removed: %v", err)
		}
		if err := c.ConfirmIntent(t.Context(), 1, intent, 5); err != nil {
			t.Error(err)
		}
		if err := c.ReportLeft(t.Context(), 1, 2); err != nil || len(c.Map().Set(1).Left) != 0 {
			t.Errorf("%v have left, %v", c.Map().Set(1).Left, err)
		}
		for _, step := range []struct {
			do   func() error
			want NodeState
		}{
			{func() error { return c.DrainNode(t.Context(), n2.ID) }, NodeDraining},
			{func() error { return c.UndrainNode(t.Context(), n2.ID) }, NodeActive},
		} {
			if err := step.do(); err != nil || c.Map().Node(n2.ID).State != step.want {
				t.Errorf("the node is %s, want %s: %v", c.Map().Node(n2.ID).State, step.want, err)
			}
		}
		if err := c.DrainNode(t.Context(), testNode("n9", 1)); quorate.KindOf(err) != quorate.NotFound {
			t.Errorf("a node that is not there drains: %v", err)
		}
		if err := c.ReportJoined(t.Context(), 1, 3); quorate.KindOf(err) != quorate.Unavailable {
			t.Errorf("a replica joined an open set by its file: %v", err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestABusySetIsNotSealedBeforeItIsToldOfItsCut(t *testing.T) {
	w := newWard(t, "a", "b", "c", "d")
	id := w.bucket(hours(0, 24), "n1 n2 n3")[0]
	moving := w.must(t, BeginMembers{Set: id, Add: testNode("n4", 1)}).(IntentResult).Intent
	w.must(t, CutBucket{Policy: 1, Now: 10 * hour}, ConfirmIntent{Set: id, Intent: moving, LogIndex: 9})
	_, err := propose[IntentResult](t.Context(), w, BeginIntent{id, IntentSeal, 1, sealPayload()})
	var refused *Refusal
	if !errors.As(err, &refused) || refused.Reason != ReasonBusy {
		t.Errorf("the seal was answered %v", err)
	}
	w.must(t, BeginBounds{id, 1})
	w.carryOut()
	w.must(t, BeginIntent{id, IntentSeal, 1, sealPayload()})
}

// TestTheBucketAfterACutIsPendingByAnyClock: the planner's may be behind that of
// whoever cut.
func TestTheBucketAfterACutIsPendingByAnyClock(t *testing.T) {
	w := newWard(t, "a", "b", "c")
	w.bucket(hours(0, 24), "n1 n2 n3")
	at := w.must(t, CutBucket{Policy: 1, Now: 10 * hour}).(CutBucketResult).At
	s := w.state()
	plan, err := s.planBucket(s.policies[1], at, time.UnixMilli(9*hour), fitness{})
	if err != nil || !plan.Pending || plan.Range.Start != at {
		t.Errorf("the bucket is planned as %+v, %v", plan, err)
	}
}
