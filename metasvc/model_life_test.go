package metasvc

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// TestRandomLivesKeepThePromises plays seals, overlays, deletions and drops,
// many of them wrong, on a small world, and holds the state machine against a
// dumb model of PROTOCOL 8, 14, 15, 16 and 19. The map that a watch builds must
// be the state's.
func TestRandomLivesKeepThePromises(t *testing.T) {
	reached := make(map[string]bool)
	rapid.Check(t, func(rt *rapid.T) {
		machine := NewStateMachine(StateMachineConfig{ChangeLog: 8})
		noError(rt, machine.Open(t.Context(), nil, 1))
		leader := newFakeLeader(machine)
		model := newLifeModel()
		watch, mirror := machine.Watch(0), newMirror()
		remote, remoteAt := NewStateMachine(StateMachineConfig{ChangeLog: 8}), machine.Watch(0)
		model.apply(rt, leader, []Command{
			bootstrap(), AdmitNode{testNodeSpec("n2", "b")}, AdmitNode{testNodeSpec("n3", "c")}, AdmitNode{testNodeSpec("n4", "d")},
			CreatePolicy{Policy: policy("p1", nil)}, CreateTenant{Name: "acme", Policy: 1},
			PlanBucket{Policy: 1, Range: quorate.TimeRange{Start: 0, End: 10}, HashVersion: 1, Placement: nodesOf("n1 n2 n3", "n1")},
			PlanBucket{Policy: 1, Range: quorate.TimeRange{Start: 10, End: 20}, HashVersion: 1, Placement: nodesOf("n2 n1")},
		})
		model.apply(rt, leader, covered(policy("p1", nil).Retention.Milliseconds(), 4, 8))
		for range rapid.IntRange(60, 200).Draw(rt, "entries") {
			leader.term += uint64(rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(rt, "new_term"))
			gen := genLife(machine.snapshot(), leader.term)
			model.apply(rt, leader, rapid.SliceOfN(gen, 1, 3).Draw(rt, "commands"))
			noError(rt, machine.snapshot().check())
			if rapid.Bool().Draw(rt, "follow") {
				follow(t, rt, watch, mirror)
			}
			if rapid.Bool().Draw(rt, "follow_remote") {
				followRemote(t, rt, remoteAt, remote)
			}
		}
		follow(t, rt, watch, mirror)
		followRemote(t, rt, remoteAt, remote)
		sameFollower(rt, remote.snapshot(), machine.snapshot())
		if got, want := mirror.build().tables, mapOf(machine.snapshot()).tables; !reflect.DeepEqual(got, want) {
			rt.Fatalf("the watched map has %+v, the state's %+v", got, want)
		}
		whole := NewStateMachine(StateMachineConfig{})
		noError(rt, whole.Open(t.Context(), nil, 1))
		_, err := whole.ApplyBatch(leader.entries)
		noError(rt, err)
		sameState(rt, "replayed", persist(t, whole), persist(t, machine))
		for what := range model.reached {
			reached[what] = true
		}
	})
	for _, what := range []string{
		"sealed", "disputed", "replaced", "folded", "dropped", "disputed and sealed", "bucket gone", "forgotten with its set",
		"joined", "joined by its file", "left", "given up", "dropped as it moved", "cut", "followed its base",
	} {
		if !reached[what] {
			t.Errorf("no random life came to be: %s", what)
		}
	}
}

func follow(t *testing.T, rt *rapid.T, watch *Watch, mirror *mirror) {
	t.Helper()
	if watch.machine.AppliedIndex() > watch.at {
		batch, err := watch.Next(t.Context())
		noError(rt, err)
		mirror.apply(batch)
	}
}

// followRemote has a state machine on another node follow, over the wire.
func followRemote(t *testing.T, rt *rapid.T, watch *Watch, into *StateMachine) {
	t.Helper()
	if watch.machine.AppliedIndex() <= watch.at {
		return
	}
	batch, err := watch.Next(t.Context())
	noError(rt, err)
	decoded, err := DecodeBatch(AppendBatch(nil, batch))
	noError(rt, err)
	noError(rt, into.Follow(decoded))
	noError(rt, into.snapshot().check())
}

// sameFollower checks that a follower has the records of the state, as a map and
// one by one.
func sameFollower(t *rapid.T, got, want *state) {
	t.Helper()
	if got.index != want.index || !reflect.DeepEqual(mapOf(got).tables, mapOf(want).tables) ||
		!reflect.DeepEqual(got.tenantByName, want.tenantByName) || !reflect.DeepEqual(got.bucketsOf, want.bucketsOf) {
		t.Fatalf("a follower has another state")
	}
}

// nodesOf makes a placement of shards, "n1 n2".
func nodesOf(shards ...string) (placement [][]quorate.NodeID) {
	for _, shard := range shards {
		var nodes []quorate.NodeID
		for i := 0; i < len(shard); i += 3 {
			nodes = append(nodes, testNode(shard[i:i+2], 1))
		}
		placement = append(placement, nodes)
	}
	return placement
}

// genLife draws a command that fits the state often enough to lead somewhere.
func genLife(s *state, term uint64) *rapid.Generator[Command] {
	return rapid.Custom(func(t *rapid.T) Command {
		set := &ReplicaSet{ID: 99}
		if ids := byKey(s.sets); len(ids) > 0 && rapid.IntRange(0, 20).Draw(t, "known") > 0 {
			set = rapid.SampledFrom(ids).Draw(t, "set")
		}
		replica := quorate.ReplicaID(99)
		if len(set.Members) > 0 {
			replica = rapid.SampledFrom(set.Members).Draw(t, "member").Replica
		}
		old := uint64(rapid.SampledFrom([]int{0, 0, 0, 0, 1}).Draw(t, "old_term"))
		rare := rapid.IntRange(0, 9).Draw(t, "rare") == 0
		begin := rapid.IntRange(0, 14).Draw(t, "begin") == 0
		if c := genMembers(t, s, set, replica, begin, term, term-old); c != nil {
			return c
		}
		switch set.State {
		case ReplicaSetForming:
			if rare {
				return EffectSet{set.ID, set.Announced + uint64(rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(t, "elsewhere"))}
			}
			return ReportFormed{set.ID, replica}
		case ReplicaSetDropping:
			return ReportDropped{set.ID, replica}
		case ReplicaSetOpen, ReplicaSetDisputed:
			if rare {
				return rapid.SampledFrom([]Command{
					RequestSeal{Sets: []quorate.ReplicaSetID{set.ID}}, BeginDrop{set.Bucket, term - old, dropClock(t, s, set)}, EffectDrop{set.Bucket},
					CancelIntent{set.ID, 1}, ReportDropped{set.ID, replica}, PlanOverlay{set.ID, 2},
				}).Draw(t, "odd")
			}
			return genSeal(t, s, set, replica, term, term-old)
		case ReplicaSetSealed:
		}
		switch rapid.IntRange(0, 9).Draw(t, "sealed") {
		case 0, 1, 2:
			return PlanOverlay{Base: set.ID, Budget: rapid.IntRange(0, 3).Draw(t, "budget")}
		case 3, 4:
			sets := []quorate.ReplicaSetID{set.ID}
			if other := quorate.ReplicaSetID(rapid.IntRange(1, 5).Draw(t, "other")); other > set.ID && rare {
				sets = append(sets, other)
			}
			d := testDeletion(1, rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "metric"), quorate.TimeRange{Start: 0, End: 5})
			return CreateDelete{Body: d.Append(nil), Sets: sets}
		case 5, 6:
			return EffectDelete{rapid.Uint64Range(1, max(s.last.deletion, 1)).Draw(t, "deletion")}
		case 7:
			return EffectSet{set.ID, set.Announced + uint64(rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(t, "elsewhere"))}
		case 8:
			if rare {
				return BeginDrop{set.Bucket, term - old, dropClock(t, s, set)}
			}
			return EffectDrop{set.Bucket}
		default:
			return ReportSeal{set.ID, SealReport{Replica: replica, Intent: 1, Index: 5}}
		}
	})
}

// genMembers draws the next step of a change of members or bounds, or begins one
// now and then; nil is none.
func genMembers(t *rapid.T, s *state, set *ReplicaSet, replica quorate.ReplicaID, begin bool, term, maybe uint64) Command {
	node := func() quorate.NodeID {
		return testNode(rapid.SampledFrom([]string{"n1", "n2", "n3", "n4"}).Draw(t, "node"), 1)
	}
	if len(set.Left) > 0 && rapid.Bool().Draw(t, "left") {
		return ReportLeft{set.ID, rapid.SampledFrom(set.Left).Draw(t, "leaves").Replica}
	}
	change, moving := set.Changing()
	_, cut := set.Intent.Bounds()
	base := s.sets[set.Base]
	switch {
	case moving && begin:
		return rapid.SampledFrom([]Command{CancelIntent{set.ID, set.Intent.ID}, BeginDrop{set.Bucket, term, dropClock(t, s, set)}}).Draw(t, "ends")
	case moving && set.State == ReplicaSetSealed && rapid.Bool().Draw(t, "joins"):
		return ReportJoined{set.ID, change.Add.Replica}
	case (moving || cut) && rapid.Bool().Draw(t, "confirm"):
		return ConfirmIntent{Set: set.ID, Intent: set.Intent.ID, LogIndex: 9, Newest: set.Bounds.Range.End - rapid.Int64Range(0, hour).Draw(t, "newest")}
	case moving || cut:
		return nil
	case set.State == ReplicaSetOpen && set.Intent == nil && outOfBounds(set, s.buckets[set.Bucket]):
		return BeginBounds{set.ID, maybe}
	case base != nil && set.State == ReplicaSetOpen && set.Intent == nil && base.Intent == nil && !togetherStill(base, set):
		m := newMoves(ControllerConfig{MaxMoves: 9, MaxMovesPerNode: 9}, view{state: s, self: testNode("n1", 1), term: term})
		if a, ok := m.follow(base, set); ok {
			return a.Command
		}
		return nil
	case !begin || set.State == ReplicaSetForming && replica%2 == 0:
		return nil
	}
	switch rapid.IntRange(0, 5).Draw(t, "cluster") {
	case 0:
		return CutBucket{Policy: 1, Now: policy("p1", nil).Retention.Milliseconds() + rapid.Int64Range(0, hour).Draw(t, "now"), Term: maybe}
	case 1:
		return rapid.SampledFrom([]Command{DrainNode{node()}, UndrainNode{node()}, UndrainNode{node()}}).Draw(t, "state")
	default:
		c := BeginMembers{Set: set.ID, Term: maybe, Well: everyReplica}
		if rapid.Bool().Draw(t, "ill") {
			c.Well = without(c.Well, replica)
		}
		if rapid.IntRange(0, 3).Draw(t, "adds") > 0 {
			c.Add = node()
		}
		if rapid.IntRange(0, 3).Draw(t, "removes") > 0 {
			c.Remove = replica
		}
		return c
	}
}

// dropClock is a clock at which the set's bucket is just past retention, or not.
func dropClock(t *rapid.T, s *state, set *ReplicaSet) int64 {
	b := s.buckets[set.Bucket]
	if b == nil {
		return 0
	}
	return b.Range.End + s.policies[b.Policy].Retention.Milliseconds() - int64(rapid.IntRange(0, 1).Draw(t, "early"))
}

// genSeal draws the next step of an open set's seal.
func genSeal(t *rapid.T, s *state, set *ReplicaSet, replica quorate.ReplicaID, term, maybe uint64) Command {
	if set.Pending {
		return EffectSet{set.ID, set.Announced + uint64(rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(t, "elsewhere"))}
	}
	intent := set.Sealing()
	if intent == nil {
		payload := wire.Seal{}
		for _, d := range s.deletionsOf(set.Base) {
			if rapid.IntRange(0, 9).Draw(t, "forget") > 0 {
				payload.Deletions = append(payload.Deletions, d.decode())
			}
		}
		return BeginIntent{Set: set.ID, Kind: IntentSeal, Term: maybe, Payload: payload.Append(nil)}
	}
	if rapid.Bool().Draw(t, "judge") {
		var live []quorate.ReplicaID
		for _, m := range set.Members {
			if rapid.Bool().Draw(t, "live") {
				live = append(live, m.Replica)
			}
		}
		slices.Sort(live)
		return JudgeSeal{Set: set.ID, Intent: intent.ID, Term: maybe, Live: live}
	}
	r := SealReport{Replica: replica, Intent: uint64(intent.ID), Index: 5, Checksum: [32]byte{uint8(rapid.IntRange(0, 2).Draw(t, "sum")) / 2}}
	if rapid.Bool().Draw(t, "file") {
		r.File = &wire.SealedFile{Hash: [32]byte{uint8(replica)}, MinTime: 1}
	}
	return ReportSeal{set.ID, r}
}

// lifeModel is what the protocol promises, without any of the state machine's
// ways.
type lifeModel struct {
	// reports are the last report of each replica before the verdict.
	reports map[quorate.ReplicaSetID]map[quorate.ReplicaID]SealReport
	// folds are the deletions that the seal under way of a set folds in.
	folds map[quorate.ReplicaSetID][]uint64
	// owed are the deletions that a set's readers must apply.
	owed map[quorate.ReplicaSetID]map[uint64]bool
	// sealed is what each set was sealed as, for ever.
	sealed map[quorate.ReplicaSetID]SealRecord
	// allowed are the sets whose files may go.
	allowed map[quorate.ReplicaSetID]bool
	// dropped are the replicas whose files are gone.
	dropped map[quorate.ReplicaID]bool
	// joining are the replicas that a change under way adds, or added.
	joining map[quorate.ReplicaSetID]quorate.ReplicaID
	// end is where each bucket ends at most, since cuts only shorten it.
	end     map[quorate.BucketID]int64
	horizon int64
	last    *state
	reached map[string]bool
}

func newLifeModel() *lifeModel {
	return &lifeModel{
		reports: make(map[quorate.ReplicaSetID]map[quorate.ReplicaID]SealReport),
		folds:   make(map[quorate.ReplicaSetID][]uint64),
		owed:    make(map[quorate.ReplicaSetID]map[uint64]bool),
		sealed:  make(map[quorate.ReplicaSetID]SealRecord),
		allowed: make(map[quorate.ReplicaSetID]bool),
		dropped: make(map[quorate.ReplicaID]bool),
		joining: make(map[quorate.ReplicaSetID]quorate.ReplicaID),
		end:     make(map[quorate.BucketID]int64),
		reached: make(map[string]bool),
		last:    newState(),
	}
}

// apply applies each command in an entry of its own, so that the model sees
// every state between.
func (m *lifeModel) apply(t *rapid.T, leader *fakeLeader, commands []Command) {
	for _, c := range commands {
		results, err := leader.applyLocked(EncodeCommand(c))
		noError(t, err)
		_, refused := results[0].(*Refusal)
		s := leader.machine.snapshot()
		if !refused {
			m.accepted(t, c, s, results[0])
		}
		m.check(t, s)
		m.last = s
	}
}

func (m *lifeModel) accepted(t *rapid.T, c Command, s *state, result any) {
	switch c := c.(type) {
	case BeginMembers, ReportJoined, ReportLeft, ConfirmIntent, CancelIntent, ReportFormed, CutBucket:
		m.moved(t, c, s)
	case BeginIntent:
		if base := s.sets[s.sets[c.Set].Base]; base != nil && s.sets[c.Set].Moved {
			m.reached["followed its base"] = true
		}
		folded, _ := readSealPayload(c.Payload)
		m.folds[c.Set] = foldedIDs(folded)
	case ReportSeal:
		if set := m.last.sets[c.Set]; set.State == ReplicaSetOpen || set.State == ReplicaSetDisputed {
			if m.reports[c.Set] == nil {
				m.reports[c.Set] = make(map[quorate.ReplicaID]SealReport)
			}
			was, again := m.reports[c.Set][c.Report.Replica]
			if again && c.Report.File == nil && was.Checksum == c.Report.Checksum && was.Index == c.Report.Index {
				c.Report.File = was.File
			}
			m.reports[c.Set][c.Report.Replica] = c.Report
		}
	case JudgeSeal:
		m.judged(t, c, s, result.(JudgeSealResult))
	case CreateDelete:
		for _, set := range c.Sets {
			if m.owed[set] == nil {
				m.owed[set] = make(map[uint64]bool)
			}
			m.owed[set][result.(DeleteResult).Deletion] = true
		}
	case EffectSet:
		if set := m.last.sets[c.Set]; set.State == ReplicaSetSealed && set.Pending {
			m.allowed[c.Set] = true
			m.reached["replaced"] = true
		}
	case BeginDrop:
		m.horizon = max(m.horizon, m.last.buckets[c.Bucket].Range.End)
	case EffectDrop:
		for _, set := range m.last.setsOf(c.Bucket) {
			m.allowed[set.ID] = true
			m.reached["dropped"] = true
			if len(m.owed[set.ID]) > 0 {
				m.reached["forgotten with its set"] = true
			}
			delete(m.owed, set.ID)
		}
	case ReportDropped:
		m.dropped[c.Replica] = true
	}
}

// moved takes in a change of members or bounds.
func (m *lifeModel) moved(t *rapid.T, c Command, s *state) {
	switch c := c.(type) {
	case BeginMembers:
		if change, moving := s.sets[c.Set].Changing(); moving {
			m.joining[c.Set] = change.Add.Replica
		}
	case ReportJoined:
		if !m.last.sets[c.Set].HasMember(c.Replica) {
			m.reached["joined by its file"] = true
			if m.joining[c.Set] != c.Replica {
				t.Fatalf("replica %d joined set %d, and %d was to", c.Replica, c.Set, m.joining[c.Set])
			}
		}
	case ConfirmIntent:
		if change, moving := m.last.sets[c.Set].Changing(); moving && change.Add.Replica != 0 {
			m.reached["joined"] = true
			if !s.sets[c.Set].HasMember(change.Add.Replica) {
				t.Fatalf("replica %d joined set %d and is no member", change.Add.Replica, c.Set)
			}
		}
	case CancelIntent:
		m.reached["given up"] = true
	case ReportFormed: // PROTOCOL 2
		if was := m.last.sets[c.Set]; was.Moved && !slices.Contains(was.Formed, c.Replica) {
			t.Fatalf("replica %d formed from the genesis of set %d after its members had changed", c.Replica, c.Set)
		}
	case ReportLeft:
		m.dropped[c.Replica] = true
		m.reached["left"] = true
	case CutBucket:
		m.reached["cut"] = true
	}
}

// judged holds a verdict against the reports (PROTOCOL 14 d).
func (m *lifeModel) judged(t *rapid.T, c JudgeSeal, s *state, result JudgeSealResult) {
	was := m.last.sets[c.Set]
	if was.State == ReplicaSetSealed {
		return
	}
	reports := m.reports[c.Set]
	votes := make(map[string]int)
	built := make(map[string]bool)
	for _, r := range reports {
		what := fmt.Sprint(r.Index, r.Checksum)
		votes[what]++
		built[what] = built[what] || r.File != nil
	}
	want := was.State
	agreed := false
	for what, n := range votes {
		if 2*n > len(was.Members) {
			agreed = true
			if built[what] && !slices.ContainsFunc(c.Live, func(id quorate.ReplicaID) bool { _, ok := reports[id]; return !ok }) {
				want = ReplicaSetSealed
			}
		}
	}
	if !agreed && len(reports) == len(was.Members) {
		want = ReplicaSetDisputed
	}
	if result.State != want || s.sets[c.Set].State != want {
		t.Fatalf("set %d with reports %+v, live %v, was judged %s, want %s", c.Set, reports, c.Live, result.State, want)
	}
	m.reached[want.String()] = true
	if want != ReplicaSetSealed {
		return
	}
	if was.State == ReplicaSetDisputed {
		m.reached["disputed and sealed"] = true
	}
	m.sealed[c.Set] = *s.sets[c.Set].Sealed
	if was.Base != 0 {
		// The base's deletions are owed by nobody now: the file has them in.
		for _, id := range m.folds[c.Set] {
			delete(m.owed[was.Base], id)
			m.reached["folded"] = true
		}
		if len(m.owed[was.Base]) > 0 {
			t.Fatalf("set %d replaced set %d, whose deletions %v it did not fold in", c.Set, was.Base, m.owed[was.Base])
		}
	}
}

// check checks what is to hold after every command.
func (m *lifeModel) check(t *rapid.T, s *state) {
	for id, record := range m.sealed {
		if set := s.sets[id]; set != nil && (set.Sealed == nil || *set.Sealed != record) {
			t.Fatalf("set %d was sealed as %+v and is %+v", id, record, set.Sealed)
		}
	}
	served := mapOf(s)
	for id, deletions := range m.owed {
		for d := range deletions {
			if !slices.ContainsFunc(served.DeletionsOf(id), func(n wire.NumberedDeletion) bool { return n.ID == d }) {
				t.Fatalf("readers of set %d do not apply deletion %d", id, d)
			}
		}
	}
	for id, was := range m.last.sets {
		set := s.sets[id]
		if set == nil || set.State == ReplicaSetDropping {
			if !m.allowed[id] { // PROTOCOL 16
				t.Fatalf("set %d, which was %s, is dropped without a reason", id, was.State)
			}
		}
		if set == nil {
			if slices.ContainsFunc(slices.Concat(was.Members, was.Left), func(member Member) bool { return !m.dropped[member.Replica] }) {
				t.Fatalf("the record of set %d went before all its replicas had dropped it", id)
			}
			continue
		}
		m.checkMoves(t, s, was, set)
	}
	for id, b := range s.buckets {
		if end, known := m.end[id]; known && b.Range.End > end {
			t.Fatalf("bucket %d ended at %d and ends at %d", id, end, b.Range.End)
		}
		m.end[id] = b.Range.End
	}
	for id, was := range m.last.buckets {
		if s.buckets[id] == nil {
			m.reached["bucket gone"] = true
			if was.Range.End > m.horizon {
				t.Fatalf("bucket %v is gone, and the horizon is %d", was.Range, m.horizon)
			}
		}
	}
	for _, b := range served.Buckets(1) {
		for shard := range b.SetIDs {
			// PROTOCOL 15: a sealed shard is read by its file and its overlay.
			base, overlay := b.Readable(shard)
			if base == nil || base.State == ReplicaSetDropping || overlay != nil && (overlay.Base != base.ID || base.State != ReplicaSetSealed) {
				t.Fatalf("shard %d of bucket %d is read from %+v under %+v", shard, b.ID, base, overlay)
			}
			if w := b.Writable(shard); w != nil && (w.State != ReplicaSetOpen || w.Pending || w != base && w != overlay) { // PROTOCOL 8
				t.Fatalf("shard %d of bucket %d is written to %+v", shard, b.ID, w)
			}
		}
	}
}

// checkMoves checks that no replica of a set is lost sight of (PROTOCOL 16): who
// was a member or was to become one is that still, or has to move its files away.
func (m *lifeModel) checkMoves(t *rapid.T, s *state, was, set *ReplicaSet) {
	known := func(replica quorate.ReplicaID) bool {
		add, remove, _ := set.memberChange()
		return set.HasMember(replica) || add.Replica == replica || remove.Replica == replica || m.dropped[replica] ||
			slices.ContainsFunc(set.Left, func(left Member) bool { return left.Replica == replica })
	}
	add, remove, moving := was.memberChange()
	for _, member := range slices.Concat(was.Members, was.Left, []Member{add, remove}) {
		if member.Replica != 0 && !known(member.Replica) {
			t.Fatalf("replica %d of set %d is forgotten with its files", member.Replica, set.ID)
		}
	}
	if b := s.buckets[set.Bucket]; moving && b.State == BucketDropping {
		m.reached["dropped as it moved"] = true
	}
	// Of an open set at most one member comes or goes at once.
	joined := 0
	for _, member := range set.Members {
		if !was.HasMember(member.Replica) {
			joined++
		}
	}
	if left := len(was.Members) + joined - len(set.Members); joined > 1 || left > 1 {
		t.Fatalf("%d members joined set %d at once, and %d left", joined, set.ID, left)
	}
}
