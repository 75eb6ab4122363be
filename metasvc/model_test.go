package metasvc

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/quorate/quorate"
)

// TestRandomCommandsKeepTheInvariants applies random commands, many of them
// wrong, and holds the state machine against a dumb model of what PROTOCOL 1,
// 4 and 10 say.
func TestRandomCommandsKeepTheInvariants(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		machine := NewStateMachine(StateMachineConfig{ChangeLog: 8})
		noError(rt, machine.Open(t.Context(), nil, 1))
		leader := newFakeLeader(machine)
		model := newModel()
		follower := newFollower(machine)
		snapshotAt := rapid.IntRange(0, 30).Draw(rt, "snapshot_at")
		var payload []byte
		var snapshotIndex uint64
		for i := range rapid.IntRange(1, 40).Draw(rt, "entries") {
			if i == snapshotAt {
				payload, snapshotIndex = persist(t, machine), machine.AppliedIndex()
			}
			leader.term += uint64(rapid.IntRange(0, 1).Draw(rt, "new_term"))
			var commands []Command
			if i == 0 {
				commands = append(commands, bootstrap(), CreatePolicy{Policy: policy("p1", nil)})
			}
			commands = append(commands, rapid.SliceOfN(genCommand(leader.term), 1, 4).Draw(rt, "commands")...)
			model.apply(rt, leader, commands)
			noError(rt, machine.snapshot().check())
			if rapid.Bool().Draw(rt, "follow") {
				follower.catchUp(rt)
			}
		}
		follower.catchUp(rt)
		model.checkNeverReused(rt)

		// Replayed from the genesis, all in one batch, it is the same state.
		whole := NewStateMachine(StateMachineConfig{})
		noError(rt, whole.Open(t.Context(), nil, 1))
		_, err := whole.ApplyBatch(leader.entries)
		noError(rt, err)
		sameState(rt, "replayed", persist(t, whole), persist(t, machine))

		if payload != nil {
			// Opened from the snapshot, with the whole log, of which it must
			// ignore what the snapshot has (PROTOCOL 21).
			resumed := NewStateMachine(StateMachineConfig{})
			noError(rt, resumed.Open(t.Context(), payload, snapshotIndex))
			results, err := resumed.ApplyBatch(leader.entries)
			noError(rt, err)
			for i, e := range leader.entries {
				if e.Index <= snapshotIndex && len(results[i]) != 0 {
					rt.Fatalf("entry %d at or below the snapshot's index %d was applied", e.Index, snapshotIndex)
				}
			}
			sameState(rt, "snapshot and tail", persist(t, resumed), persist(t, machine))
		}
	})
}

func noError(t *rapid.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func sameState(t *rapid.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Fatalf("the state %s is another", what)
	}
}

// genCommand draws a command over a small world, so that commands meet.
func genCommand(term uint64) *rapid.Generator[Command] {
	small := rapid.Uint64Range(0, 4)
	node := rapid.Custom(func(t *rapid.T) quorate.NodeID {
		return testNode(rapid.SampledFrom([]string{"n1", "n2", "n3"}).Draw(t, "name"), byte(rapid.IntRange(1, 2).Draw(t, "incarnation")))
	})
	set := rapid.Custom(func(t *rapid.T) quorate.ReplicaSetID {
		return quorate.ReplicaSetID(rapid.Uint64Range(0, 8).Draw(t, "set"))
	})
	return rapid.Custom(func(t *rapid.T) Command {
		switch rapid.IntRange(0, 13).Draw(t, "command") {
		case 0:
			return AdmitNode{Node: NodeSpec{ID: node.Draw(t, "node"), Roles: Roles(rapid.IntRange(0, 8).Draw(t, "roles")), Zone: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "zone")}}
		case 1:
			return CreatePolicy{Policy: policy(rapid.SampledFrom([]string{"p1", "p2", ""}).Draw(t, "policy"), nil)}
		case 2:
			return AlterPolicy{ID: quorate.PolicyID(small.Draw(t, "policy")), Policy: policy("p1", func(p *PolicySpec) { p.Shards = rapid.IntRange(0, 3).Draw(t, "shards") }), Term: term, Now: hour}
		case 3:
			return CreateTenant{Name: rapid.SampledFrom([]string{"x", "y", "z", "_"}).Draw(t, "name"), Policy: quorate.PolicyID(small.Draw(t, "policy")), Created: 5}
		case 4:
			return MoveTenant{Tenant: quorate.TenantID(small.Draw(t, "tenant")), Policy: quorate.PolicyID(small.Draw(t, "policy")), From: rapid.Int64Range(0, 200).Draw(t, "from")}
		case 5:
			return DeleteTenant{Tenant: quorate.TenantID(small.Draw(t, "tenant"))}
		case 6, 7:
			start := rapid.Int64Range(-50, 100).Draw(t, "start")
			return PlanBucket{
				Policy:      quorate.PolicyID(rapid.Uint64Range(1, 3).Draw(t, "policy")),
				Range:       quorate.TimeRange{Start: start, End: start + rapid.Int64Range(0, 40).Draw(t, "span")},
				HashVersion: 1,
				OnDemand:    rapid.Bool().Draw(t, "on_demand"),
				Pending:     rapid.Bool().Draw(t, "pending"),
				Placement:   rapid.SliceOfN(rapid.SliceOfN(node, 1, 2), 1, 2).Draw(t, "placement"),
			}
		case 8:
			return ReportFormed{Set: set.Draw(t, "set"), Replica: quorate.ReplicaID(rapid.Uint64Range(0, 12).Draw(t, "replica"))}
		case 9:
			return EffectBucket{Bucket: quorate.BucketID(small.Draw(t, "bucket"))}
		case 10:
			old := term - uint64(rapid.IntRange(0, 1).Draw(t, "old_term"))
			if rapid.IntRange(0, 3).Draw(t, "seal") == 0 {
				payload := rapid.SampledFrom([]string{"", "a", string(sealPayload())}).Draw(t, "payload")
				return BeginIntent{Set: set.Draw(t, "set"), Kind: IntentKind(rapid.IntRange(0, 5).Draw(t, "kind")), Term: old, Payload: []byte(payload)}
			}
			c := BeginMembers{Set: set.Draw(t, "set"), Term: old, Remove: quorate.ReplicaID(rapid.Uint64Range(0, 12).Draw(t, "remove")), Well: everyReplica}
			if rapid.Bool().Draw(t, "adds") {
				c.Add = node.Draw(t, "add")
			}
			return c
		case 11:
			return genNodeCommand(node).Draw(t, "node_command")
		default:
			if rapid.Bool().Draw(t, "confirm") {
				return ConfirmIntent{Set: set.Draw(t, "set"), Intent: IntentID(small.Draw(t, "intent")), LogIndex: small.Draw(t, "at")}
			}
			return CancelIntent{Set: set.Draw(t, "set"), Intent: IntentID(small.Draw(t, "intent"))}
		}
	})
}

func genNodeCommand(node *rapid.Generator[quorate.NodeID]) *rapid.Generator[Command] {
	return rapid.Custom(func(t *rapid.T) Command {
		id := node.Draw(t, "id")
		return rapid.SampledFrom([]Command{
			DrainNode{id}, UndrainNode{id}, RemoveNode{id}, JoinMeta{id, 1}, GiveUpMeta{2, 1}, RecordMeta{[]Member{{id, 1}}, 1},
		}).Draw(t, "what")
	})
}

// model is what the protocol says, without any of the state machine's ways.
type model struct {
	// identity is what each number was first seen to name.
	identity map[string]string
	// ranges are the accepted buckets by policy.
	ranges map[quorate.PolicyID][]quorate.TimeRange
	// intents are the intents under way by set.
	intents map[quorate.ReplicaSetID]IntentID
	// finished are the intents confirmed or cancelled.
	finished map[IntentID]bool
	removed  map[quorate.NodeID]bool
	reused   []string
}

func newModel() *model {
	return &model{
		identity: make(map[string]string),
		ranges:   make(map[quorate.PolicyID][]quorate.TimeRange),
		intents:  make(map[quorate.ReplicaSetID]IntentID),
		finished: make(map[IntentID]bool),
		removed:  make(map[quorate.NodeID]bool),
	}
}

func (m *model) apply(t *rapid.T, leader *fakeLeader, commands []Command) {
	var encoded [][]byte
	for _, c := range commands {
		encoded = append(encoded, EncodeCommand(c))
	}
	results, err := leader.applyLocked(encoded...)
	noError(t, err)
	for i, c := range commands {
		_, refused := results[i].(*Refusal)
		switch c := c.(type) {
		case PlanBucket:
			m.plan(t, c, results[i])
		case BeginIntent:
			m.begin(t, c.Set, results[i])
		case BeginMembers:
			m.begin(t, c.Set, results[i])
		case ConfirmIntent:
			if !refused {
				m.finish(t, c.Set, c.Intent)
			}
		case CancelIntent:
			if !refused { // what was done of it is undone by another
				m.finish(t, c.Set, c.Intent)
				m.begin(t, c.Set, results[i])
			}
		case RemoveNode:
			if !refused {
				m.removed[c.Node] = true
			}
		}
	}
	m.note(leader.machine.snapshot())
}

// plan checks that a bucket is taken exactly when it overlaps none of its policy.
func (m *model) plan(t *rapid.T, c PlanBucket, result any) {
	overlaps := false
	for _, r := range m.ranges[c.Policy] {
		if r.Start == c.Range.Start && c.Range.Start < c.Range.End {
			if planned, ok := result.(PlanBucketResult); !ok || planned.Created {
				t.Fatalf("planning bucket %v of policy %d again was answered %+v", c.Range, c.Policy, result)
			}
			return
		}
		for at := c.Range.Start; at < c.Range.End; at++ {
			overlaps = overlaps || r.Contains(at)
		}
	}
	switch r := result.(type) {
	case PlanBucketResult:
		if overlaps || !r.Created {
			t.Fatalf("bucket %v of policy %d overlaps %v and was answered %+v", c.Range, c.Policy, m.ranges[c.Policy], r)
		}
		m.ranges[c.Policy] = append(m.ranges[c.Policy], c.Range)
	case *Refusal:
		if overlaps != (r.Reason == ReasonOverlap) && c.Range.Start < c.Range.End && r.Reason == ReasonOverlap {
			t.Fatalf("bucket %v of policy %d does not overlap %v and was refused: %v", c.Range, c.Policy, m.ranges[c.Policy], r)
		}
	}
}

func (m *model) begin(t *rapid.T, set quorate.ReplicaSetID, result any) {
	begun, ok := result.(IntentResult)
	if !ok {
		return
	}
	if underWay, busy := m.intents[set]; busy && underWay != begun.Intent {
		t.Fatalf("set %d has intents %d and %d at once", set, underWay, begun.Intent)
	}
	if m.finished[begun.Intent] {
		t.Fatalf("set %d began intent %d, which is finished", set, begun.Intent)
	}
	m.intents[set] = begun.Intent
}

func (m *model) finish(t *rapid.T, set quorate.ReplicaSetID, intent IntentID) {
	if m.finished[intent] {
		return // the confirmation again
	}
	if m.intents[set] != intent {
		t.Fatalf("set %d finished intent %d, but %d is under way", set, intent, m.intents[set])
	}
	delete(m.intents, set)
	m.finished[intent] = true
}

// note notes what each number names.
func (m *model) note(s *state) {
	see := func(number string, names string) {
		if was, seen := m.identity[number]; seen && was != names {
			m.reused = append(m.reused, fmt.Sprintf("%s was %s and is %s", number, was, names))
		}
		m.identity[number] = names
	}
	for _, n := range s.nodes {
		see(fmt.Sprint("node ", n.Number), n.ID.String())
	}
	for _, x := range s.tenants {
		see(fmt.Sprint("tenant ", x.ID), fmt.Sprint(x.Name, x.Placements[0], " born at first sight"))
	}
	for _, p := range s.policies {
		see(fmt.Sprint("policy ", p.ID), p.Name)
	}
	for _, b := range s.buckets {
		see(fmt.Sprint("bucket ", b.ID), fmt.Sprint(b.Policy, b.Range, b.SetIDs))
	}
	for _, set := range s.sets {
		see(fmt.Sprint("set ", set.ID), fmt.Sprint(set.Bucket, set.Shard))
		add, remove, _ := set.memberChange()
		for _, member := range slices.Concat(set.Members, set.Left, []Member{add, remove}) {
			if member.Replica == 0 {
				continue
			}
			see(fmt.Sprint("replica ", member.Replica), fmt.Sprint(set.ID, member.Node))
			if m.removed[member.Node] {
				m.reused = append(m.reused, fmt.Sprintf("node %s was removed and has replica %d of set %d", member.Node, member.Replica, set.ID))
			}
		}
	}
	for _, stone := range s.tombstones {
		see(fmt.Sprint("removed tenant ", stone.ID), stone.Name)
		if t := s.tenants[quorate.TenantID(stone.ID)]; t != nil {
			m.reused = append(m.reused, fmt.Sprintf("tenant %d was removed and is there", stone.ID))
		}
	}
}

func (m *model) checkNeverReused(t *rapid.T) {
	if len(m.reused) > 0 {
		t.Fatalf("numbers were used again: %v", m.reused)
	}
}

// follower rebuilds the records from the change log, as a remote node would,
// with a log so short that it often overflows.
type follower struct {
	machine *StateMachine
	watch   *Watch
	records map[string]Record
}

func newFollower(m *StateMachine) *follower {
	return &follower{machine: m, watch: m.Watch(0), records: make(map[string]Record)}
}

func (f *follower) catchUp(t *rapid.T) {
	if f.machine.AppliedIndex() <= f.watch.at {
		return
	}
	from := f.watch.at
	batch, err := f.watch.Next(t.Context())
	noError(t, err)
	if batch.Whole {
		clear(f.records)
	}
	last := uint64(0)
	for _, c := range batch.Changes {
		if c.Index <= from || c.Index < last || c.Index > batch.To {
			t.Fatalf("a watch at %d got a change at %d after one at %d, in a batch to %d", from, c.Index, last, batch.To)
		}
		last = c.Index
		key := fmt.Sprint(c.Kind, " ", c.ID)
		if c.Removed {
			delete(f.records, key)
		} else {
			f.records[key] = c.Record
		}
	}
	want := make(map[string]Record)
	for _, c := range f.machine.snapshot().changesSince(0) {
		if !c.Removed {
			want[fmt.Sprint(c.Kind, " ", c.ID)] = c.Record
		}
	}
	if !maps.Equal(f.records, want) {
		t.Fatalf("the watch knows %v, the state has %v", slices.Sorted(maps.Keys(f.records)), slices.Sorted(maps.Keys(want)))
	}
}

func TestProtocol11PlacementHistoryOfATenant(t *testing.T) {
	tenant := Tenant{Placements: []Placement{{1, math.MinInt64}, {2, 100}, {1, 200}, {3, 300}}}
	for _, c := range []struct {
		ts   int64
		want quorate.PolicyID
	}{{math.MinInt64, 1}, {99, 1}, {100, 2}, {199, 2}, {200, 1}, {299, 1}, {300, 3}, {math.MaxInt64, 3}} {
		if got := tenant.PolicyAt(c.ts); got != c.want {
			t.Errorf("at %d the policy is %d, want %d", c.ts, got, c.want)
		}
	}
	for _, c := range []struct {
		mint, maxt  int64
		first, last quorate.PolicyID
		n           int
	}{
		{math.MinInt64, math.MaxInt64, 1, 3, 4},
		{0, 99, 1, 1, 1},
		{0, 100, 1, 2, 2},
		{100, 100, 2, 2, 1},
		{150, 250, 2, 1, 2},
		{300, 400, 3, 3, 1},
	} {
		got := tenant.PlacementsOverlapping(c.mint, c.maxt)
		if len(got) != c.n || got[0].Policy != c.first || got[len(got)-1].Policy != c.last {
			t.Errorf("[%d, %d] touches %v, want %d from policy %d to %d", c.mint, c.maxt, got, c.n, c.first, c.last)
		}
	}
}
