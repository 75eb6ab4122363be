package metasvc

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// everyCommand has one command of each type.
func everyCommand() []Command {
	return []Command{
		bootstrap(),
		AdmitNode{testNodeSpec("n2", "b")},
		CreatePolicy{policy("zoned", func(p *PolicySpec) { p.Zones = []string{"a", "b"} })},
		AlterPolicy{1, DefaultPolicy(), 2, 12345},
		CreateTenant{"acme", 1, 12345},
		MoveTenant{1, 2, -5},
		DeleteTenant{1},
		PlanBucket{Policy: 1, Range: hours(-24, 0), HashVersion: 1, OnDemand: true, Now: -12345, Placement: nodesOf("n1 n2")},
		ReportFormed{1, 2},
		EffectBucket{1},
		BeginIntent{1, IntentBounds, 3, []byte("payload")},
		ConfirmIntent{Set: 1, Intent: 2, LogIndex: 3},
		CancelIntent{1, 2},
		RequestSeal{[]quorate.ReplicaSetID{1, 3}},
		ReportSeal{1, SealReport{Replica: 2, Intent: 3, Index: 4, Checksum: [32]byte{5}, File: &wire.SealedFile{Hash: [32]byte{6}, Bytes: 7, Series: 8, Samples: 9, MinTime: -1, MaxTime: 2}}},
		JudgeSeal{1, 2, 3, []quorate.ReplicaID{2, 3}},
		PlanOverlay{1, 64},
		EffectSet{1, 9},
		CreateDelete{testBody("up"), []quorate.ReplicaSetID{1, 3}},
		EffectDelete{1},
		BeginDrop{1, 2, 12345},
		EffectDrop{1},
		ReportDropped{1, 2},
		SetTenantRetention{1, 48 * time.Hour},
		BeginMembers{Set: 1, Term: 2, Add: testNode("n2", 1), Remove: 3, Well: []quorate.ReplicaID{1, 4}},
		ReportJoined{1, 2},
		ReportLeft{1, 2},
		CutBucket{1, 12345, 2},
		BeginBounds{1, 2},
		DrainNode{testNode("n2", 1)},
		UndrainNode{testNode("n2", 1)},
		RemoveNode{testNode("n2", 1)},
		JoinMeta{testNode("n2", 1), 3},
		RecordMeta{[]Member{{testNode("n1", 1), 1}, {testNode("n2", 1), 9}}, 3},
		GiveUpMeta{9, 3},
		ReplanSet{1, 3, []quorate.NodeID{testNode("n1", 1), testNode("n2", 1)}},
	}
}

func testBody(metric string) []byte {
	d := testDeletion(1, metric, hours(48, 72))
	return d.Append(nil)
}

func sealPayload(folds ...*DeletionRecord) []byte { return appendSealPayload(nil, nil, folds) }

// foldOf is a deletion of testBody as a seal folds it in.
func foldOf(id uint64, metric string) *DeletionRecord {
	return &DeletionRecord{ID: id, Body: testBody(metric)}
}

// sealedAs has the commands that seal a set of replicas that agree.
func sealedAs(set quorate.ReplicaSetID, intent IntentID, payload []byte, replicas ...quorate.ReplicaID) []Command {
	list := []Command{BeginIntent{set, IntentSeal, 1, payload}}
	for _, replica := range replicas {
		list = append(list, ReportSeal{set, SealReport{Replica: replica, Intent: uint64(intent), Index: 5, File: &wire.SealedFile{Hash: [32]byte{byte(replica)}}}})
	}
	return append(list, JudgeSeal{set, intent, 1, replicas})
}

func TestCommandsSurviveTheirEncoding(t *testing.T) {
	for i, c := range everyCommand() {
		if int(c.Type()) != i+1 {
			t.Errorf("%T has type %d, want %d", c, c.Type(), i+1)
		}
		encoded := EncodeCommand(c)
		decoded, err := DecodeCommand(encoded)
		if err != nil || !reflect.DeepEqual(decoded, c) {
			t.Errorf("%s decodes to %+v, %v", c.Type(), decoded, err)
		}
		for n := range encoded {
			if _, err := DecodeCommand(encoded[:n]); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%d of %d bytes of %s decode: %v", n, len(encoded), c.Type(), err)
			}
		}
		if _, err := DecodeCommand(append(encoded, 0)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s with a byte more decodes: %v", c.Type(), err)
		}
	}
}

func TestProtocol22UnknownCommandsStopTheReplica(t *testing.T) {
	leader := newCluster(t)
	before := persist(t, leader.machine)
	good := EncodeCommand(CreateTenant{Name: "a", Policy: 1})
	for name, c := range map[string]struct {
		command []byte
		want    error
	}{
		"a type of the future":    {[]byte{99, commandVersion}, ErrUnknownVersion},
		"type zero":               {[]byte{0, commandVersion}, ErrUnknownVersion},
		"a version of the future": {[]byte{byte(TypeDeleteTenant), commandVersion + 1, 1}, ErrUnknownVersion},
		"the version before":      {[]byte{byte(TypeDeleteTenant), commandVersion - 1, 1}, ErrUnknownVersion},
		"nothing":                 {nil, ErrCorrupt},
		"a body too long":         {append(bytes.Clone(good), 1), ErrCorrupt},
		"a number too long":       {[]byte{byte(TypeDeleteTenant), commandVersion, 0x81, 0x00}, ErrCorrupt},
	} {
		// The good command before it in the entry must have no effect either.
		if _, err := leader.applyLocked(good, c.command); !errors.Is(err, c.want) {
			t.Errorf("%s was applied: %v", name, err)
		}
		if !bytes.Equal(persist(t, leader.machine), before) {
			t.Fatalf("an entry with %s changed the state", name)
		}
	}
	entry := leader.entries[0].Data
	for name, data := range map[string][]byte{
		"damaged bytes": append([]byte{'X'}, entry[1:]...),
		"a write entry": new(wire.Encoder).Append(nil, wire.KindWrite, good),
		"no bytes":      nil,
	} {
		results, err := leader.machine.ApplyBatch([]quorate.LogEntry{{Index: 1000, Term: 1, Data: data}})
		if err == nil || len(results) != 0 {
			t.Errorf("an entry of %s was applied", name)
		}
	}
}

// TestCommandsOutOfRangeAreNotProposed: a command whose bytes do not decode
// would stop every replica for good.
func TestCommandsOutOfRangeAreNotProposed(t *testing.T) {
	leader := newCluster(t)
	for _, c := range []Command{
		CreatePolicy{policy("x", func(p *PolicySpec) { p.Shards = -1 })},
		CreatePolicy{policy("x", func(p *PolicySpec) { p.Retention = -1e9 })},
	} {
		if _, err := propose[PolicyResult](t.Context(), leader, c); quorate.KindOf(err) != quorate.Invalid {
			t.Errorf("%+v was proposed: %v", c, err)
		}
	}
}

// richState is a state with something in every table.
func richState(t testing.TB) *StateMachine {
	leader := newFakeLeader(openMachine(t))
	leader.must(t, bootstrap(), AdmitNode{testNodeSpec("n2", "b")}, CreatePolicy{policy("zoned", func(p *PolicySpec) { p.Zones = []string{"a", "b"} })})
	leader.must(t, CreateTenant{"acme", 1, 5}, CreateTenant{"gone", 1, 6}, DeleteTenant{2}, CreatePolicy{DefaultPolicy()})
	leader.must(t, planOn(hours(0, 24), "n1", "n2"), planOn(hours(24, 48), "n1"), ReportFormed{2, 4}, MoveTenant{1, 2, 48 * hour})
	richLife(t, leader)
	richCluster(t, leader)
	return leader.machine
}

// richCluster adds sets whose members and bounds change, nodes that leave, and a
// replica that joins the metadata group.
func richCluster(t testing.TB, leader *fakeLeader) {
	begin := func(c Command) IntentID { return leader.must(t, c).(IntentResult).Intent }
	plan := func(r quorate.TimeRange, shards ...string) []*ReplicaSet {
		var sets []*ReplicaSet
		for _, id := range leader.must(t, PlanBucket{Policy: 1, Range: r, HashVersion: 1, Placement: nodesOf(shards...)}).(PlanBucketResult).Sets {
			set := leader.machine.snapshot().sets[id]
			for _, m := range set.Members {
				leader.must(t, ReportFormed{id, m.Replica})
			}
			sets = append(sets, set)
		}
		return sets
	}
	for _, n := range []string{"n3", "n4", "n5", "n6"} {
		leader.must(t, AdmitNode{testNodeSpec(n, "c")})
	}
	// Set 14 has left n2 and is to be on n5 as well.
	set := plan(hours(120, 144), "n1 n2 n3")[0]
	id := begin(BeginMembers{Set: set.ID, Add: testNode("n4", 1), Remove: set.Members[1].Replica})
	leader.must(t, ConfirmIntent{Set: set.ID, Intent: id, LogIndex: 9}, BeginMembers{Set: set.ID, Add: testNode("n5", 1)})
	// Sets 15 and 16 are of a bucket that was cut, as 16 knows.
	sets := plan(hours(144, 168), "n1 n2", "n1 n2")
	leader.must(t, CutBucket{Policy: 1, Now: 150 * hour})
	leader.must(t, ConfirmIntent{Set: sets[1].ID, Intent: leader.machine.snapshot().sets[sets[1].ID].Intent.ID, LogIndex: 9})
	// Set 17 is sealed, has left n2 for n3, and is to leave n3 for n4.
	set = plan(hours(168, 192), "n1 n2")[0]
	id = begin(BeginIntent{set.ID, IntentSeal, 1, sealPayload()})
	for i, m := range set.Members {
		leader.must(t, ReportSeal{set.ID, SealReport{Replica: m.Replica, Intent: uint64(id), Index: 5, File: &wire.SealedFile{Hash: [32]byte{byte(i)}}}})
	}
	leader.must(t, JudgeSeal{set.ID, id, 1, nil}, BeginMembers{Set: set.ID, Add: testNode("n3", 1), Remove: set.Members[1].Replica})
	change, _ := leader.machine.snapshot().sets[set.ID].Changing()
	leader.must(t, ReportJoined{set.ID, change.Add.Replica}, BeginMembers{Set: set.ID, Add: testNode("n4", 1), Remove: change.Add.Replica})
	leader.must(t, DrainNode{testNode("n5", 1)}, RemoveNode{testNode("n6", 1)}, JoinMeta{testNode("n3", 1), 1})
}

// richLife adds buckets in all parts of their lives.
func richLife(t testing.TB, leader *fakeLeader) {
	must := func(commands ...Command) { leader.must(t, commands...) }
	// Bucket 3 has set 3 under the overlay 4, which is being sealed.
	must(planOn(hours(48, 72), "n1"), ReportFormed{3, 5})
	must(sealedAs(3, 1, sealPayload(), 5)...)
	must(CreateDelete{testBody("up"), []quorate.ReplicaSetID{3}}, EffectDelete{1}, PlanOverlay{3, 9}, ReportFormed{4, 6}, EffectSet{Set: 4})
	must(BeginIntent{4, IntentSeal, 1, sealPayload(foldOf(1, "up"))}, ReportSeal{4, SealReport{Replica: 6, Intent: 2, Index: 3}})
	// Bucket 4 has set 5, in dispute.
	must(planOn(hours(72, 96), "n1", "n2"), ReportFormed{5, 7}, ReportFormed{5, 8}, BeginIntent{5, IntentSeal, 1, sealPayload()})
	must(ReportSeal{5, SealReport{Replica: 7, Intent: 3, Index: 3}}, ReportSeal{5, SealReport{Replica: 8, Intent: 3, Index: 4}}, JudgeSeal{5, 3, 1, nil})
	// Bucket 5 has set 7, which has replaced set 6, and a forming overlay 8;
	// set 7 has a deletion that is pending, and once had one that is gone.
	must(planOn(hours(96, 120), "n1", "n2"), ReportFormed{6, 9}, ReportFormed{6, 10})
	must(sealedAs(6, 4, sealPayload(), 9, 10)...)
	must(CreateDelete{testBody("down"), []quorate.ReplicaSetID{6}}, EffectDelete{2}, PlanOverlay{6, 9}, ReportFormed{7, 11}, ReportFormed{7, 12}, EffectSet{Set: 7})
	must(sealedAs(7, 5, sealPayload(foldOf(2, "down")), 11, 12)...)
	must(CreateDelete{testBody("down"), []quorate.ReplicaSetID{7}}, PlanOverlay{7, 9})
	// Bucket 6 is dropping, with set 9 half gone and another set gone; bucket
	// 7 is about to, and bucket 8 is gone.
	must(PlanBucket{Policy: 1, Range: hours(-48, -24), HashVersion: 1, Placement: nodesOf("n1 n2", "n1")}, ReportFormed{9, 15})
	must(planOn(hours(-24, 0), "n1"), planOn(hours(-72, -48), "n1"), SetTenantRetention{1, time.Hour}, RequestSeal{[]quorate.ReplicaSetID{2}})
	must(covered(DefaultPolicy().Retention.Milliseconds(), 13, 20)...)
	for _, bucket := range []quorate.BucketID{6, 7, 8} {
		must(BeginDrop{bucket, 1, DefaultPolicy().Retention.Milliseconds()})
	}
	must(EffectDrop{6}, EffectDrop{8}, ReportDropped{9, 15}, ReportDropped{10, 17}, ReportDropped{12, 19})
}

func TestEveryBitOfAMapFileIsGuarded(t *testing.T) {
	file := encodeMapFile(richState(t).snapshot())
	if _, err := decodeMapFile(file); err != nil {
		t.Fatal(err)
	}
	for i := range file {
		for bit := range 8 {
			file[i] ^= 1 << bit
			if _, err := decodeMapFile(file); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("with bit %d of byte %d flipped the file decodes: %v", bit, i, err)
			}
			file[i] ^= 1 << bit
		}
	}
	for n := range file {
		if _, err := decodeMapFile(file[:n]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%d of %d bytes decode: %v", n, len(file), err)
		}
	}
}

func TestStatesThatBreakAnInvariantDoNotOpen(t *testing.T) {
	for name, damage := range map[string]func(*state){
		"a record from the future":          func(s *state) { s.policies[1].ModIndex = 1000 },
		"a tenant that was never minted":    func(s *state) { s.last.tenant = 0 },
		"a bucket without its set":          func(s *state) { delete(s.sets, 1) },
		"a set on no node":                  func(s *state) { s.sets[1].Members[0].Node.Name = "other" },
		"an open set that is not formed":    func(s *state) { s.sets[2].Formed = nil },
		"overlapping buckets":               func(s *state) { s.buckets[1].Range.End++ },
		"a replica twice":                   func(s *state) { s.sets[1].Members[0].Replica = 4 },
		"a tenant without placements":       func(s *state) { s.tenants[1].Placements = nil },
		"a tenant under no policy":          func(s *state) { s.tenants[1].Placements[1].Policy = 7 },
		"records without a cluster":         func(s *state) { s.cluster = nil },
		"two policies of one name":          func(s *state) { s.policies[2].Name = "zoned" },
		"an intent older than the last":     func(s *state) { s.sets[14].Intent.ID = s.sets[14].Done.ID - 1 },
		"an intent of no kind":              func(s *state) { s.sets[14].Intent.Kind = 9 },
		"tombstones out of order":           func(s *state) { s.forgotten = 900 },
		"a policy without shards":           func(s *state) { s.policies[1].Shards = 0 },
		"a bucket in a state of the future": func(s *state) { s.buckets[1].State = 7 },

		"a bucket without room for overlays":        func(s *state) { s.buckets[1].OverlayIDs = nil },
		"an overlay over another set":               func(s *state) { s.sets[4].Base = 1 },
		"an overlay that does not exist":            func(s *state) { s.buckets[3].OverlayIDs[0] = 99 },
		"an overlay of the wrong generation":        func(s *state) { s.sets[4].Generation = 2 },
		"a set without a base but a generation":     func(s *state) { s.sets[1].Generation = 1 },
		"a set that no bucket names":                func(s *state) { s.buckets[3].OverlayIDs[0] = 0 },
		"a replaced set that is not pending":        func(s *state) { s.sets[6].Pending = false },
		"a set of a bucket that is dropped":         func(s *state) { s.sets[2].State = ReplicaSetDropping },
		"a pending set that is open":                func(s *state) { s.sets[2].Pending = true },
		"a seal that forgets a deletion":            func(s *state) { s.sets[4].Intent.Payload = sealPayload() },
		"a seal over a pending deletion":            func(s *state) { s.deletions[1].Pending = true },
		"a sealed set without a record":             func(s *state) { s.sets[3].Sealed = nil },
		"a sealed set that nobody confirmed":        func(s *state) { s.sets[3].Done = nil },
		"a sealed set with open bounds":             func(s *state) { s.sets[3].Bounds.State = quorate.SetOpen },
		"a sealed set that the majority is not":     func(s *state) { s.sets[6].Reports[1].Checksum[0]++ },
		"a sealed set whose file nobody built":      func(s *state) { s.sets[3].Reports[0].File = nil },
		"a sealed set with an intent":               func(s *state) { s.sets[3].Intent = &Intent{ID: 8, Kind: IntentMembers} },
		"an open set with a seal recorded":          func(s *state) { s.sets[2].Sealed = s.sets[3].Sealed },
		"a disputed set without an intent":          func(s *state) { s.sets[5].Intent = nil },
		"a report of a stranger":                    func(s *state) { s.sets[3].Reports[0].Replica = 99 },
		"reports out of order":                      func(s *state) { slices.Reverse(s.sets[5].Reports) },
		"a report of no place in the log":           func(s *state) { s.sets[5].Reports[0].Index = 0 },
		"a report of an intent never minted":        func(s *state) { s.sets[5].Reports[0].Intent = 99 },
		"a sealed set that was asked to be sealed":  func(s *state) { s.sets[3].SealAsked = true },
		"a set dropped by all, still there":         func(s *state) { s.sets[9].Dropped = []quorate.ReplicaID{15, 16} },
		"an open set dropped by one":                func(s *state) { s.sets[2].Dropped = []quorate.ReplicaID{4} },
		"a dropped bucket past the horizon":         func(s *state) { s.policies[1].Horizon = NoHorizon },
		"a dropped bucket with a set that is open":  func(s *state) { s.sets[9].State = ReplicaSetOpen },
		"a dropped bucket without sets":             func(s *state) { delete(s.sets, 9) },
		"a bucket about to drop with an intent":     func(s *state) { s.sets[11].Intent = &Intent{ID: 8, Kind: IntentMembers} },
		"a deletion on no set":                      func(s *state) { s.deletions[1].Sets = nil },
		"a deletion on an open set":                 func(s *state) { s.deletions[1].Sets[0] = 2 },
		"a deletion on a replaced set":              func(s *state) { s.deletions[3].Sets[0] = 6 },
		"a deletion that was never minted":          func(s *state) { s.last.deletion = 2 },
		"a deletion without a body":                 func(s *state) { s.deletions[1].Body = nil },
		"a deletion announced in the future":        func(s *state) { s.deletions[1].Announced = 1000 },
		"a node in a state of the future":           func(s *state) { s.nodes[testNode("n3", 1)].State = 9 },
		"a replica on a node that was removed":      func(s *state) { s.nodes[testNode("n2", 1)].State = NodeRemoved },
		"metadata on a node that was removed":       func(s *state) { s.nodes[testNode("n3", 1)].State = NodeRemoved },
		"a metadata replica that was never minted":  func(s *state) { s.cluster.MetaJoining.Replica = 999 },
		"two metadata replicas on a node":           func(s *state) { s.cluster.MetaJoining.Node = testNode("n1", 1) },
		"a change of members of no form":            func(s *state) { s.sets[14].Intent.Payload = []byte{0, 0} },
		"a change of members that forgets it began": func(s *state) { s.sets[14].Moved = false },
		"a replica that joins where one is": func(s *state) {
			s.sets[14].Intent.Payload = membersPayload(Member{testNode("n1", 1), quorate.ReplicaID(s.last.replica)}, Member{})
		},
		"a replica that joins with another's number": func(s *state) {
			s.sets[14].Intent.Payload = membersPayload(Member{testNode("n5", 1), 2}, Member{})
		},
		"a replica that leaves and never was there": func(s *state) {
			add, _, _ := s.sets[14].memberChange()
			s.sets[14].Intent.Payload = membersPayload(add, Member{testNode("n1", 1), 2})
		},
		"a change that leaves no majority": func(s *state) { s.sets[14].Formed = s.sets[14].Formed[:1] },
		"a former member that is one":      func(s *state) { s.sets[14].Left[0] = s.sets[14].Members[0] },
		"two members on a node":            func(s *state) { s.sets[14].Members[1].Node = testNode("n1", 1) },
		"a stranger with the file":         func(s *state) { s.sets[17].Joined = []quorate.ReplicaID{2} },
		"an open set joined by its file":   func(s *state) { s.sets[14].Joined = s.sets[14].Formed[:1] },
		"a set sealed by fewer than voted": func(s *state) { s.sets[17].Sealed.Voters = 5 },
		"bounds beyond the bucket's":       func(s *state) { s.sets[2].Bounds.Range.End++ },
		"bounds within the bucket's":       func(s *state) { s.sets[2].Bounds.Range.End-- },
		"intended bounds of no form":       func(s *state) { s.sets[15].Intent.Payload = []byte{1} },
		"intended bounds that are old": func(s *state) {
			s.sets[15].Intent.Payload = appendBoundsPayload(nil, s.sets[15].Bounds)
		},
		"a cut that nobody made": func(s *state) { s.buckets[s.sets[15].Bucket].Cut = false },
		"a tenant kept for ever": func(s *state) { s.tenants[1].Retention = MaxRetention + time.Millisecond },
		"a tombstone of what is there": func(s *state) {
			s.tombstones[len(s.tombstones)-1] = Tombstone{Kind: KindReplicaSet, ID: 1, ModIndex: 100}
		},
		"a tombstone of a node":            func(s *state) { s.tombstones[0].Kind = KindNode },
		"a tombstone of a set with a name": func(s *state) { s.tombstones[len(s.tombstones)-1].Name = "x" },
	} {
		s, err := decodeState(persist(t, richState(t)), 100)
		if err != nil {
			t.Fatal(err)
		}
		damage(s)
		if err := NewStateMachine(StateMachineConfig{}).Open(t.Context(), appendState(nil, s), 100); !errors.Is(err, ErrCorrupt) {
			t.Errorf("a state with %s opened: %v", name, err)
		}
	}
}

func FuzzDecodeCommand(f *testing.F) {
	for _, c := range everyCommand() {
		f.Add(EncodeCommand(c))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeCommand(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnknownVersion) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		if again := EncodeCommand(c); !bytes.Equal(again, b) {
			t.Fatalf("%x decodes to %+v, which encodes to %x", b, c, again)
		}
		// Whatever decodes can be applied, and leaves a sound state or no trace.
		machine := richState(t)
		s := machine.snapshot()
		s.index++
		if _, refused := c.apply(s, 1).(*Refusal); refused {
			s.index--
			if !bytes.Equal(appendState(nil, s), persist(t, machine)) {
				t.Fatalf("the refused %+v left a trace", c)
			}
		}
		if err := s.check(); err != nil {
			t.Fatalf("%+v made an unsound state: %v", c, err)
		}
	})
}

func FuzzDecodeState(f *testing.F) {
	f.Add(persist(f, richState(f)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeState(b, 1<<40)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnknownVersion) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		if again := appendState(nil, s); len(b) > 0 && !bytes.Equal(again, b) {
			t.Fatalf("the state encodes to other bytes")
		}
		mapOf(s)
	})
}

func FuzzDecodeDump(f *testing.F) {
	d, err := richState(f).Dump(time.UnixMilli(7))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(d.Encode(), false)
	f.Add([]byte(dumpMagic), true)
	f.Fuzz(func(t *testing.T, b []byte, sum bool) {
		if sum { // get past the checksum
			b = binary.LittleEndian.AppendUint32(bytes.Clone(b), crc32.Checksum(b, castagnoli))
		}
		d, err := DecodeDump(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnknownVersion) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		if !bytes.Equal(d.Encode(), b) {
			t.Fatal("the dump encodes to other bytes")
		}
		if _, err := json.Marshal(d); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Restore(testNodeSpec("restored", "")); errors.Is(err, ErrCorrupt) {
			t.Fatalf("a sound dump cannot be restored: %v", err)
		}
	})
}

func FuzzDecodeMapFile(f *testing.F) {
	f.Add(encodeMapFile(richState(f).snapshot()), false)
	f.Add([]byte(mapFileMagic), true)
	f.Fuzz(func(t *testing.T, b []byte, sum bool) {
		if sum { // get past the checksum
			b = binary.LittleEndian.AppendUint32(bytes.Clone(b), crc32.Checksum(b, castagnoli))
		}
		s, err := decodeMapFile(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnknownVersion) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		if !bytes.Equal(encodeMapFile(s), b) {
			t.Fatal("the file encodes to other bytes")
		}
	})
}
