package metasvc

import (
	"bytes"
	"context"
	"errors"
	"math"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate"
)

// everyResult has one result of each type.
func everyResult() []any {
	return []any{
		nil,
		refuse(ReasonBusy, "set %d is busy", 1),
		BootstrapResult{Index: 1, Cluster: testCluster},
		AdmitNodeResult{Index: 1, Number: 2},
		PolicyResult{Index: 1, Policy: 2, Created: true},
		TenantResult{Index: 1, Tenant: 2, Created: true},
		DeleteTenantResult{Index: 1},
		PlanBucketResult{Index: 1, Bucket: 2, Sets: []quorate.ReplicaSetID{3, 4}, Created: true},
		ReportFormedResult{Index: 1, Set: ReplicaSetOpen, Bucket: BucketPlanned},
		EffectBucketResult{Index: 1, Bucket: BucketOpen},
		IntentResult{Index: 1, Intent: 2},
		RequestSealResult{Index: 1},
		ReportSealResult{Index: 1, State: ReplicaSetSealed},
		JudgeSealResult{Index: 1, State: ReplicaSetDisputed},
		PlanOverlayResult{Index: 1, Overlay: 2, Created: true},
		EffectSetResult{Index: 1, State: ReplicaSetDropping},
		DeleteResult{Index: 1, Deletion: 2},
		DropResult{Index: 1, Pending: true},
		ReportDroppedResult{Index: 1, Gone: true},
		ReportJoinedResult{Index: 1},
		ReportLeftResult{Index: 1, Gone: true},
		CutBucketResult{Index: 1, Bucket: 2, At: -3},
		NodeResult{Index: 1, State: NodeDraining},
		MetaResult{Index: 1, Replica: 2},
		ReplanSetResult{Index: 1, Set: 2},
	}
}

func TestResultsSurviveTheirEncoding(t *testing.T) {
	for i, result := range everyResult() {
		encoded := AppendResult(nil, result)
		if encoded[1] != byte(i) {
			t.Errorf("%T has type %d, want %d", result, encoded[1], i)
		}
		decoded, err := DecodeResult(encoded)
		if err != nil || !reflect.DeepEqual(decoded, result) {
			t.Errorf("%+v decodes to %+v, %v", result, decoded, err)
		}
		for n := range encoded {
			if _, err := DecodeResult(encoded[:n]); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%d of %d bytes of a %T decode: %v", n, len(encoded), result, err)
			}
		}
	}
}

// TestEveryAnswerOfApplyHasAnEncoding: one that has none would be an answer
// without a word on every node but the leader's.
func TestEveryAnswerOfApplyHasAnEncoding(t *testing.T) {
	known := make(map[reflect.Type]bool)
	for _, r := range everyResult() {
		known[reflect.TypeOf(r)] = true
	}
	s := richState(t).snapshot()
	for _, c := range everyCommand() {
		s.index++
		if r := c.apply(s, 3); !known[reflect.TypeOf(r)] {
			t.Errorf("%s is answered with a %T, which is encoded as nothing", c.Type(), r)
		}
	}
}

func testHeartbeat() Heartbeat {
	return Heartbeat{
		Node: testNode("n2", 1), Clock: time.UnixMilli(12345), MapVersion: 7, Free: 1 << 40, Space: SpaceFull,
		Sets: []SetBeat{{Set: 1, Replica: 2, Leads: true, Applied: 10, LastWrite: 9}, {Set: 3, Replica: 4, Broken: true, Why: "disk on fire"}},
	}
}

func TestHeartbeatsSurviveTheirEncoding(t *testing.T) {
	want := testHeartbeat()
	encoded := AppendHeartbeat(nil, want)
	if got, err := DecodeHeartbeat(encoded); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v decodes to %+v, %v", want, got, err)
	}
	for n := range encoded {
		if _, err := DecodeHeartbeat(encoded[:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d of %d bytes decode: %v", n, len(encoded), err)
		}
	}
}

func TestProgressIsWhatLeadersOfLateSay(t *testing.T) {
	now := time.Now()
	book := Heartbeats{Now: func() time.Time { return now }}
	beat := func(name string, received time.Time, sets ...SetBeat) {
		book.Record(Heartbeat{Node: testNode(name, 1), Received: received, Sets: sets})
	}
	beat("n1", time.Time{}, SetBeat{Set: 1, Leads: true, LastWrite: 5}, SetBeat{Set: 2, LastWrite: 9})
	beat("n2", now.Add(-2*absentAfter), SetBeat{Set: 3, Leads: true, LastWrite: 7})
	beat("n3", now, SetBeat{Set: 1, Leads: true, LastWrite: 6})
	beat("n3", now, SetBeat{Set: 1, Leads: true, LastWrite: 4}) // replaces it
	if got, want := book.Progress(), map[quorate.ReplicaSetID]uint64{1: 5}; !reflect.DeepEqual(got, want) {
		t.Errorf("progress is %v, want %v", got, want)
	}
	if list := book.List(); len(list) != 3 || list[0].Node.Name != "n1" || !list[0].Received.Equal(now) {
		t.Errorf("the book has %+v", list)
	}
}

// followed feeds a watch of a machine into another one, over the wire.
func followed(t testing.TB, watch *Watch, into *StateMachine) {
	t.Helper()
	batch, err := watch.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := DecodeBatch(AppendBatch(nil, batch))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(decoded, batch) {
		t.Fatalf("the batch decodes to %+v, want %+v", decoded, batch)
	}
	if err := into.Follow(decoded); err != nil {
		t.Fatal(err)
	}
}

func TestAFollowerHasEverything(t *testing.T) {
	leader := newFakeLeader(richState(t))
	follower := NewStateMachine(StateMachineConfig{})
	followed(t, leader.machine.Watch(0), follower)
	want, got := leader.machine.snapshot(), follower.snapshot()
	if !reflect.DeepEqual(got.changesSince(0), want.changesSince(0)) || got.index != want.index {
		t.Fatal("the follower has other records")
	}
	if !reflect.DeepEqual(mapOf(got).tables, mapOf(want).tables) {
		t.Fatal("the follower has another map")
	}
	// What it would keep as its copy of the map is sound.
	if _, err := decodeMapFile(encodeMapFile(got)); err != nil {
		t.Fatal(err)
	}
	// A follower is watched like a replica.
	if b, err := follower.Watch(0).Next(t.Context()); err != nil || len(b.Changes) != len(want.changesSince(0)) {
		t.Fatalf("a watch of the follower gives %d changes, %v", len(b.Changes), err)
	}
	// The same batch again changes nothing.
	before := persist(t, follower)
	followed(t, leader.machine.Watch(0), follower)
	if !bytes.Equal(persist(t, follower), before) {
		t.Fatal("the batch that came twice changed the follower")
	}
}

func TestAFollowerThatLagsTooFarGetsTheWhole(t *testing.T) {
	leader := newCluster(t)
	follower := NewStateMachine(StateMachineConfig{})
	watch := leader.machine.Watch(0)
	leader.must(t, CreateTenant{Name: "old", Policy: 1})
	followed(t, watch, follower)
	own := follower.Watch(follower.AppliedIndex())
	leader.must(t, DeleteTenant{1})
	// So many removals that the follower's is forgotten.
	for i := range maxTombstones + 1 {
		leader.must(t, CreateTenant{Name: "new", Policy: 1}, DeleteTenant{quorate.TenantID(i + 2)})
	}
	leader.must(t, CreateTenant{Name: "last", Policy: 1})
	followed(t, watch, follower)
	if old, _ := follower.tenant("old"); old != nil {
		t.Error("a removed tenant is there still")
	}
	if last, _ := follower.tenant("last"); last == nil {
		t.Error("the newest tenant is missing")
	}
	if b, err := own.Next(t.Context()); err != nil || !b.Whole {
		t.Errorf("a watch of the follower gets %d changes, whole %t: %v", len(b.Changes), b.Whole, err)
	}
	if err := follower.snapshot().check(); err != nil {
		t.Error(err)
	}
}

func TestABatchThatCannotBeTrueIsRefused(t *testing.T) {
	leader := newCluster(t)
	follower := NewStateMachine(StateMachineConfig{})
	watch := leader.machine.Watch(0)
	followed(t, watch, follower)
	before := persist(t, follower)
	leader.must(t, planOn(hours(0, 24), "n1"))
	batch, err := watch.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func(b *Batch){
		"a bucket without its set":    func(b *Batch) { b.Changes = b.Changes[1:] },
		"changes out of order":        func(b *Batch) { b.Changes[0].Index = b.To; b.Changes[1].Index = 1 },
		"a change from the future":    func(b *Batch) { b.To-- },
		"a bucket of another's shard": func(b *Batch) { b.Changes[0].Record = &ReplicaSet{ID: 1, Bucket: 1, Shard: 5} },
	} {
		damaged := batch
		damaged.Changes = append([]Change(nil), batch.Changes...)
		damage(&damaged)
		if damaged.To == follower.AppliedIndex() {
			damaged.Whole = true // or it is ignored
		}
		if err := follower.Follow(damaged); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s was taken: %v", name, err)
		}
		if !bytes.Equal(persist(t, follower), before) {
			t.Fatalf("%s changed the follower", name)
		}
	}
	if err := follower.Follow(batch); err != nil {
		t.Error(err)
	}
}

// TestAFollowerBecomesAReplica: what it had followed to is ahead of the seed that
// it starts from, and tenants are looked up in between.
func TestAFollowerBecomesAReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leader := newCluster(t)
		seed, at := persist(t, leader.machine), leader.machine.AppliedIndex()
		leader.must(t, CreateTenant{Name: "acme", Policy: 1})
		node := NewStateMachine(StateMachineConfig{})
		followed(t, leader.machine.Watch(0), node)
		c := openClient(t, &fakeLeader{machine: node, leading: true}, nil)
		synctest.Wait()
		if err := node.Restore(t.Context(), seed, at); err != nil {
			t.Fatal(err)
		}
		found := make(chan bool)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			tenant, _, err := c.Tenant(ctx, "acme")
			found <- err == nil && tenant.Name == "acme"
		}()
		synctest.Wait() // the lookup waits, and spins not
		if _, err := node.ApplyBatch(leader.entries[len(leader.entries)-1:]); err != nil {
			t.Fatal(err)
		}
		if !<-found {
			t.Error("the tenant was not found")
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestAwaitEndsWithTheStateMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewStateMachine(StateMachineConfig{})
		done := make(chan error)
		go func() { done <- m.Await(t.Context(), 5) }()
		synctest.Wait()
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errors.Is(err, ErrClosed) {
			t.Errorf("the wait ended with %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := NewStateMachine(StateMachineConfig{}).Await(ctx, 5); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the wait ended with %v", err)
		}
	})
}

func FuzzDecodeResult(f *testing.F) {
	for _, r := range everyResult() {
		f.Add(AppendResult(nil, r))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeResult(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnknownVersion) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		if again := AppendResult(nil, r); !bytes.Equal(again, b) {
			t.Fatalf("%x decodes to %+v, which encodes to %x", b, r, again)
		}
	})
}

func FuzzDecodeHeartbeat(f *testing.F) {
	f.Add(AppendHeartbeat(nil, testHeartbeat()))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := DecodeHeartbeat(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnknownVersion) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		if again := AppendHeartbeat(nil, h); !bytes.Equal(again, b) {
			t.Fatalf("%x decodes to %+v, which encodes to %x", b, h, again)
		}
	})
}

func FuzzDecodeBatch(f *testing.F) {
	machine := richState(f)
	batch, err := machine.Watch(0).Next(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(AppendBatch(nil, batch))
	for _, c := range batch.Changes {
		f.Add(AppendBatch(nil, Batch{To: c.Index, Changes: []Change{c}}))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		batch, err := DecodeBatch(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnknownVersion) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		if again := AppendBatch(nil, batch); !bytes.Equal(again, b) {
			t.Fatalf("%x decodes to %+v, which encodes to %x", b, batch, again)
		}
		// Whatever decodes is refused, or makes a map that can be walked.
		follower := NewStateMachine(StateMachineConfig{})
		if follower.Follow(batch) != nil {
			return
		}
		m := mapOf(follower.snapshot())
		for _, p := range m.Policies() {
			for _, bucket := range m.Buckets(p.ID) {
				for shard := range bucket.SetIDs {
					bucket.Readable(shard)
					bucket.Writable(shard)
				}
			}
		}
		follower.snapshot().load()
	})
}

// TestALeaseThatMayHoldIsWaitedFor: a node that has just joined, or whose
// heartbeats are lost while its maps are confirmed, may serve an old map.
func TestALeaseThatMayHoldIsWaitedFor(t *testing.T) {
	now := time.Now()
	s := newCluster(t).machine.snapshot()
	s.nodes[testNode("n2", 1)] = &Node{NodeSpec: testNodeSpec("n2", "b"), Number: 2, State: NodeActive}
	for name, c := range map[string]struct {
		seen time.Duration // before now
		beat *Heartbeat
		want uint64
	}{
		"silent since this node leads":     {time.Hour, nil, math.MaxUint64},
		"joined just now":                  {MapLease, nil, 0},
		"silent since it joined":           {MapLease + 1, nil, math.MaxUint64},
		"knows":                            {time.Hour, &Heartbeat{Received: now, MapVersion: 7}, 7},
		"fell silent":                      {time.Hour, &Heartbeat{Received: now.Add(-MapLease - 1), MapVersion: 7}, math.MaxUint64},
		"fell silent, its map is current":  {time.Hour, &Heartbeat{Received: now.Add(-time.Minute), Confirmed: now.Add(-MapLease), MapVersion: 7}, 7},
		"was never heard, map is current":  {time.Hour, &Heartbeat{Confirmed: now}, 0},
		"both are over":                    {time.Hour, &Heartbeat{Received: now.Add(-time.Minute), Confirmed: now.Add(-MapLease - 1), MapVersion: 7}, math.MaxUint64},
		"told a leader before this one it": {time.Hour, &Heartbeat{Received: now.Add(-2 * time.Hour), Confirmed: now, MapVersion: 7}, 0},
	} {
		v := view{state: s, now: now, self: testNode("n1", 1), leadingSince: now.Add(-time.Hour),
			seen: map[quorate.NodeID]time.Time{testNode("n2", 1): now.Add(-c.seen)}}
		if c.beat != nil {
			c.beat.Node = testNode("n2", 1)
			v.beats = []Heartbeat{*c.beat}
		}
		if got := v.index().knownEverywhere(); got != c.want {
			t.Errorf("%s: version %d is known everywhere, want %d", name, got, c.want)
		}
	}
}

func TestConfirmationsAreKeptBesideHeartbeats(t *testing.T) {
	now := time.Now()
	book := Heartbeats{Now: func() time.Time { return now }}
	book.Confirm(testNode("n2", 1))
	if list := book.List(); len(list) != 1 || !list[0].Confirmed.Equal(now) || !list[0].Received.IsZero() {
		t.Fatalf("the book has %+v", list)
	}
	confirmed := now
	now = now.Add(time.Second)
	book.Record(testHeartbeat())
	if got := book.List()[0]; !got.Confirmed.Equal(confirmed) || !got.Received.Equal(now) || got.MapVersion != 7 {
		t.Errorf("the book has %+v", got)
	}
	now = now.Add(time.Second)
	book.Confirm(testNode("n2", 1))
	if got := book.List()[0]; !got.Confirmed.Equal(now) || got.Received.Equal(now) || got.MapVersion != 7 {
		t.Errorf("the book has %+v", got)
	}
}

// A batch covers several entries, and has a bucket as it was at each of them.
func TestABatchMayNameSetsThatAreGoneAtItsEnd(t *testing.T) {
	bucket := func(set quorate.ReplicaSetID) *BucketRecord {
		return &BucketRecord{ID: 1, Policy: 1, State: BucketOpen, SetIDs: []quorate.ReplicaSetID{set}, OverlayIDs: []quorate.ReplicaSetID{0}}
	}
	set := &ReplicaSet{ID: 2, Bucket: 1, State: ReplicaSetOpen}
	batch := Batch{To: 3, Changes: []Change{
		{Index: 1, Kind: KindBucket, ID: 1, Record: bucket(1)},
		{Index: 2, Kind: KindReplicaSet, ID: 1, Removed: true},
		{Index: 2, Kind: KindReplicaSet, ID: 2, Record: set},
		{Index: 3, Kind: KindBucket, ID: 1, Record: bucket(2)},
	}}
	if err := NewStateMachine(StateMachineConfig{}).Follow(batch); err != nil {
		t.Errorf("it was refused: %v", err)
	}
	batch.Changes = batch.Changes[:3]
	if err := NewStateMachine(StateMachineConfig{}).Follow(batch); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a bucket that ends without its set got %v, want ErrCorrupt", err)
	}
}
