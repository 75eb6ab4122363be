package metasvc

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// ward is a cluster on paper whose loops are run one by one, over heartbeats and
// a clock of the test's.
type ward struct {
	*fakeLeader
	t   *testing.T
	cfg ControllerConfig
	now time.Time
	// silent are nodes that have said nothing since the leader leads, sick what
	// nodes say of their replicas, free what space they say they have.
	silent map[string]bool
	sick   map[string][]SetBeat
	free   map[string]uint64
	space  map[string]Space
}

// newWard returns a cluster of nodes n1, n2, … in the given zones, with the
// default policy, of three replicas.
func newWard(t *testing.T, zones ...string) *ward {
	t.Helper()
	w := &ward{
		fakeLeader: newFakeLeader(openMachine(t)), t: t, now: time.UnixMilli(100 * 24 * hour),
		silent: make(map[string]bool), sick: make(map[string][]SetBeat), free: make(map[string]uint64), space: make(map[string]Space),
	}
	w.must(t, Bootstrap{Cluster: testCluster, Node: testNodeSpec("n1", zones[0]), MetaReplica: 1})
	for i, zone := range zones[1:] {
		w.must(t, AdmitNode{testNodeSpec(fmt.Sprint("n", i+2), zone)})
	}
	w.must(t, CreatePolicy{policy(DefaultPolicyName, func(p *PolicySpec) { p.Replicas = 3 })})
	cfg, err := ControllerConfig{StateMachine: w.machine, Leader: w, Leadership: w.Leadership, Cluster: testCluster, Node: testNodeSpec("n1", zones[0])}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	w.cfg = cfg
	return w
}

func (w *ward) state() *state { return w.machine.snapshot() }

func (w *ward) view() view {
	v := view{state: w.state(), now: w.now, self: w.cfg.Node.ID, term: 1, leadingSince: w.now.Add(-time.Hour)}
	for _, n := range v.state.nodesByNumber() {
		if name := n.ID.Name; !w.silent[name] {
			v.beats = append(v.beats, Heartbeat{Node: n.ID, Received: w.now.Add(-time.Second), Clock: w.now, Free: w.free[name], Space: w.space[name], Sets: w.sick[name]})
		}
	}
	return v.index()
}

// run runs a loop once and commits what it wants.
func (w *ward) run(plan func(ControllerConfig, view) ([]Action, error)) (actions []Action, err error) {
	w.t.Helper()
	actions, err = plan(w.cfg, w.view())
	for _, a := range actions {
		if a.do == nil {
			w.must(w.t, a.Command)
		} else if err := a.do(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
		if err := w.state().check(); err != nil {
			w.t.Fatalf("%s: %v", a.Why, err)
		}
	}
	return actions, err
}

// carryOut is what the nodes do that are not silent: form, change members and
// bounds, move files away.
func (w *ward) carryOut() {
	w.t.Helper()
	for w.carryOutOnce() {
	}
}

func (w *ward) carryOutOnce() bool {
	w.t.Helper()
	before := w.machine.lastChange()
	for _, set := range byKey(w.state().sets) {
		for _, m := range set.Members {
			if set.MayForm(m.Replica) && !w.silent[m.Node.Name] {
				w.must(w.t, ReportFormed{set.ID, m.Replica})
			}
		}
		for _, m := range set.Left {
			if !w.silent[m.Node.Name] {
				w.must(w.t, ReportLeft{set.ID, m.Replica})
			}
		}
		change, moving := set.Changing()
		switch {
		case moving && change.Add.Replica != 0 && w.silent[change.Add.Node.Name]: // hangs
		case moving && set.State == ReplicaSetSealed:
			w.must(w.t, ReportJoined{set.ID, change.Add.Replica})
		case moving, set.Intent != nil && set.Intent.Kind == IntentBounds:
			w.must(w.t, ConfirmIntent{Set: set.ID, Intent: set.Intent.ID, LogIndex: 9})
		}
	}
	return w.machine.lastChange() != before
}

// settle runs loops and nodes until the loops want nothing more.
func (w *ward) settle(plans ...func(ControllerConfig, view) ([]Action, error)) {
	w.t.Helper()
	for range 100 {
		before := w.machine.lastChange()
		wanted := 0
		for _, plan := range plans {
			actions, err := w.run(plan)
			if err != nil {
				w.t.Fatal(err)
			}
			wanted += len(actions)
		}
		w.carryOut()
		if wanted == 0 && w.machine.lastChange() == before {
			return
		}
	}
	w.t.Fatal("the loops do not settle")
}

// bucket plans and forms a bucket of one shard on each list of nodes.
func (w *ward) bucket(r quorate.TimeRange, shards ...string) []quorate.ReplicaSetID {
	w.t.Helper()
	planned := w.must(w.t, PlanBucket{Policy: 1, Range: r, HashVersion: 1, Placement: nodesOf(shards...)}).(PlanBucketResult)
	w.carryOut()
	return planned.Sets
}

func (w *ward) seal(id quorate.ReplicaSetID) {
	w.t.Helper()
	set := w.state().sets[id]
	intent := w.must(w.t, BeginIntent{id, IntentSeal, 1, sealPayload()}).(IntentResult).Intent
	for _, m := range set.Members {
		w.must(w.t, ReportSeal{id, SealReport{Replica: m.Replica, Intent: uint64(intent), Index: 5, File: new(wire.SealedFile)}})
	}
	w.must(w.t, JudgeSeal{id, intent, 1, nil})
}

func (w *ward) overlay(base quorate.ReplicaSetID) quorate.ReplicaSetID {
	w.t.Helper()
	overlay := w.must(w.t, PlanOverlay{base, 9}).(PlanOverlayResult).Overlay
	w.carryOut()
	w.must(w.t, EffectSet{Set: overlay})
	return overlay
}

// on names the nodes of a set, sorted.
func (w *ward) on(id quorate.ReplicaSetID) string {
	var names []string
	for _, m := range w.state().sets[id].Members {
		names = append(names, m.Node.Name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func TestReplicasOfASilentNodeAreReplaced(t *testing.T) {
	w := newWard(t, "a", "b", "c", "c", "b")
	open := w.bucket(hours(0, 24), "n1 n2 n3", "n3 n1 n2")
	sealed := w.bucket(hours(24, 48), "n2 n3 n1")[0]
	w.seal(sealed)
	if actions, err := w.run(planRepair); len(actions) != 0 || err != nil {
		t.Fatalf("nothing is lost, and %v is wanted, %v", actions, err)
	}
	w.silent["n3"] = true
	w.settle(planRepair)
	for _, id := range append(open, sealed) {
		if got := w.on(id); got != "n1 n2 n4" { // n4 is the other one in zone c
			t.Errorf("set %d lies on %s", id, got)
		}
	}
	if leader := w.state().sets[open[1]].Members[0].Node.Name; leader != "n4" {
		t.Errorf("the preferred leader is on %s, want n4, which took its place", leader)
	}
}

func TestProtocol17ANewLeaderWaitsBeforeItReplaces(t *testing.T) {
	w := newWard(t, "a", "b", "c", "c")
	w.bucket(hours(0, 24), "n1 n2 n3")
	w.silent["n3"] = true
	v := w.view()
	v.leadingSince = w.now.Add(-w.cfg.ReplaceAfter)
	if actions, err := planRepair(w.cfg, v); len(actions) != 0 || err != nil { // PROTOCOL 17
		t.Errorf("at once %v is wanted, %v", actions, err)
	}
	v.leadingSince = v.leadingSince.Add(-time.Millisecond)
	if actions, err := planRepair(w.cfg, v); len(actions) != 1 || err != nil {
		t.Errorf("after the time %v is wanted, %v", actions, err)
	}
}

func TestABrokenReplicaIsReplaced(t *testing.T) {
	w := newWard(t, "a", "b", "c", "d")
	id := w.bucket(hours(0, 24), "n1 n2 n3")[0]
	broken := w.state().sets[id].Members[1].Replica
	w.sick["n2"] = []SetBeat{{Set: id, Replica: broken, Broken: true, Why: "disk on fire"}}
	actions, err := w.run(planRepair)
	if err != nil || len(actions) != 1 || !strings.Contains(actions[0].Why, "disk on fire") {
		t.Fatalf("%v is wanted, %v", actions, err)
	}
	w.settle(planRepair)
	if got := w.on(id); got != "n1 n3 n4" {
		t.Errorf("the set lies on %s", got)
	}
}

func TestWhoMissedToFormIsReplaced(t *testing.T) {
	w := newWard(t, "a", "b", "c", "d", "e")
	w.silent["n3"] = true
	id := w.bucket(hours(0, 24), "n1 n2 n3")[0]
	w.silent["n3"] = false
	late := w.state().sets[id].Members[2].Replica
	if !w.state().sets[id].MayForm(late) {
		t.Fatal("a member that was away may not form")
	}
	w.must(t, BeginMembers{Set: id, Add: testNode("n4", 1), Remove: w.state().sets[id].Members[1].Replica})
	if w.state().sets[id].MayForm(late) { // PROTOCOL 2
		t.Fatal("a member may form from a genesis whose members have changed")
	}
	w.settle(planRepair)
	if set := w.state().sets[id]; w.on(id) != "n1 n2 n4" && w.on(id) != "n1 n4 n5" || len(set.Formed) != 3 {
		t.Errorf("the set lies on %s, formed %v", w.on(id), set.Formed)
	}
}

func TestMovesAreBounded(t *testing.T) {
	w := newWard(t, "a", "b", "c", "c", "c", "c")
	w.bucket(hours(0, 24), "n1 n2 n3", "n1 n2 n3", "n1 n2 n3", "n1 n2 n3", "n1 n2 n3", "n1 n2 n3", "n1 n2 n3")
	w.silent["n3"] = true
	joining := func() (all int, most int) {
		per := make(map[quorate.NodeID]int)
		for _, set := range w.state().sets {
			if change, moving := set.Changing(); moving {
				all++
				per[change.Add.Node]++
				most = max(most, per[change.Add.Node])
			}
		}
		return all, most
	}
	for range 3 {
		if _, err := w.run(planRepair); err != nil {
			t.Fatal(err)
		}
	}
	if all, most := joining(); all != 4 || most > 2 {
		t.Errorf("%d sets move at once, %d of them to one node", all, most)
	}
	w.cfg.MaxMoves, w.cfg.MaxMovesPerNode = 100, 1
	w.settle(planRepair)
	for id := range w.state().sets {
		if strings.Contains(w.on(id), "n3") {
			t.Errorf("set %d lies on %s", id, w.on(id))
		}
	}
}

func TestSetsPastHelpHoldNobodyUp(t *testing.T) {
	w := newWard(t, "a", "b", "c", "d", "e", "f")
	lost := w.bucket(hours(0, 24), "n1 n5 n6", "n1 n5 n6", "n1 n5 n6", "n1 n5 n6", "n1 n5 n6")
	sealed := w.bucket(hours(24, 48), "n1 n5 n6")[0]
	w.seal(sealed)
	saved := w.bucket(hours(48, 72), "n1 n2 n6")[0]
	// These began while a majority was there, and hang now.
	for _, id := range lost {
		w.must(t, BeginMembers{Set: id, Add: testNode("n3", 1), Remove: w.state().sets[id].Members[2].Replica})
	}
	w.silent["n5"], w.silent["n6"] = true, true
	for range 5 {
		if _, err := w.run(planRepair); err != nil && !strings.Contains(err.Error(), "too many replicas") {
			t.Fatal(err)
		}
		for _, id := range []quorate.ReplicaSetID{sealed, saved} {
			change, moving := w.state().sets[id].Changing()
			switch {
			case moving && id == sealed:
				w.must(t, ReportJoined{id, change.Add.Replica})
			case moving:
				w.must(t, ConfirmIntent{Set: id, Intent: w.state().sets[id].Intent.ID, LogIndex: 9})
			}
		}
	}
	for _, id := range []quorate.ReplicaSetID{sealed, saved} {
		if got := w.on(id); strings.Contains(got, "n5") || strings.Contains(got, "n6") {
			t.Errorf("set %d lies on %s", id, got)
		}
	}
}

func TestALostMajorityIsToldOnce(t *testing.T) {
	w := newWard(t, "a", "b", "c", "d")
	w.bucket(hours(0, 24), "n1 n2 n3")
	w.silent["n2"], w.silent["n3"] = true, true
	actions, first := w.run(planRepair)
	w.now = w.now.Add(time.Minute)
	_, again := w.run(planRepair)
	if len(actions) != 0 || first == nil || again == nil || first.Error() != again.Error() {
		t.Errorf("%v is wanted, and %v and then %v told", actions, first, again)
	}
}

func TestWithoutANodeReplicasWait(t *testing.T) {
	w := newWard(t, "a", "b", "c")
	id := w.bucket(hours(0, 24), "n1 n2 n3")[0]
	w.silent["n3"] = true
	if actions, err := w.run(planRepair); len(actions) != 0 || err == nil || !strings.Contains(err.Error(), "wait for a node") {
		t.Fatalf("%v is wanted, %v", actions, err)
	}
	w.must(t, AdmitNode{testNodeSpec("n4", "a")})
	w.settle(planRepair)
	if got := w.on(id); got != "n1 n2 n4" {
		t.Errorf("the set lies on %s", got)
	}
}

func TestRepairAvoidsNodesThatAreShortOfSpace(t *testing.T) {
	w := newWard(t, "a", "b", "c", "c", "c")
	id := w.bucket(hours(0, 24), "n1 n2 n3")[0]
	w.silent["n3"] = true
	w.space["n4"], w.space["n5"] = SpaceLow, SpaceFull
	if actions, err := w.run(planRepair); len(actions) != 0 || err == nil || !strings.Contains(err.Error(), "wait for a node") {
		t.Fatalf("%v is wanted, %v", actions, err)
	}
	w.space["n5"] = SpaceAmple
	w.settle(planRepair)
	if got := w.on(id); got != "n1 n2 n5" {
		t.Errorf("the set lies on %s", got)
	}
}

func TestAChangeToALostNodeIsGivenUp(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		t.Run(fmt.Sprintf("sealed %t", sealed), func(t *testing.T) {
			w := newWard(t, "a", "b", "c", "c", "c")
			id := w.bucket(hours(0, 24), "n1 n2 n3")[0]
			if sealed {
				w.seal(id)
			}
			w.silent["n3"] = true
			if _, err := w.run(planRepair); err != nil {
				t.Fatal(err)
			}
			change, _ := w.state().sets[id].Changing()
			w.silent[change.Add.Node.Name] = true
			w.settle(planRepair)
			other := map[string]string{"n4": "n5", "n5": "n4"}[change.Add.Node.Name]
			if got := w.on(id); got != "n1 n2 "+other {
				t.Errorf("the set lies on %s, and %s was lost", got, change.Add.Node.Name)
			}
			// When it comes back it is told to move its files away.
			m := mapOf(w.state())
			var told []quorate.ReplicaID
			for set, replica := range m.LeftOn(change.Add.Node) {
				if set.ID == id {
					told = append(told, replica)
				}
			}
			if !slices.Equal(told, []quorate.ReplicaID{change.Add.Replica}) {
				t.Errorf("node %s is told to move away %v, want %d", change.Add.Node.Name, told, change.Add.Replica)
			}
		})
	}
}

func TestAnOverlayFollowsItsBase(t *testing.T) {
	w := newWard(t, "a", "b", "c", "c", "d")
	base := w.bucket(hours(0, 24), "n1 n2 n3")[0]
	w.seal(base)
	overlay := w.overlay(base)
	w.silent["n3"] = true
	w.settle(planRepair)
	if w.on(base) != "n1 n2 n4" || w.on(overlay) != "n1 n2 n4" {
		t.Fatalf("the base lies on %s and its overlay on %s", w.on(base), w.on(overlay))
	}
	// A replica of the overlay that is broken moves with the base's on its node.
	member, _ := w.state().sets[overlay].MemberOn(testNode("n2", 1))
	w.sick["n2"] = []SetBeat{{Set: overlay, Replica: member.Replica, Broken: true}}
	w.settle(planRepair)
	if w.on(base) != "n1 n4 n5" || w.on(overlay) != "n1 n4 n5" {
		t.Errorf("the base lies on %s and its overlay on %s", w.on(base), w.on(overlay))
	}
	w.seal(overlay)
}

func TestNoOverlayIsSealedAwayFromItsBase(t *testing.T) {
	w := newWard(t, "a", "b", "c", "c")
	base := w.bucket(hours(0, 24), "n1 n2 n3")[0]
	w.seal(base)
	overlay := w.overlay(base)
	w.must(t, RequestSeal{[]quorate.ReplicaSetID{overlay}})
	sealing := func() int {
		actions, err := planSeal(w.view())
		if err != nil {
			t.Fatal(err)
		}
		return len(actions)
	}
	if sealing() != 1 {
		t.Fatal("the overlay is not to be sealed")
	}
	w.must(t, BeginMembers{Set: base, Add: testNode("n4", 1), Remove: w.state().sets[base].Members[2].Replica})
	if sealing() != 0 {
		t.Error("the overlay is to be sealed while its base moves")
	}
	w.carryOut()
	if sealing() != 0 {
		t.Error("the overlay is to be sealed on other nodes than its base's")
	}
	w.settle(planRepair)
	if sealing() != 1 {
		t.Error("the overlay has followed and is not to be sealed")
	}
}

func TestADrainedNodeCanBeRemoved(t *testing.T) {
	w := newWard(t, "a", "b", "c", "c", "d")
	open := w.bucket(hours(0, 24), "n1 n2 n3", "n2 n3 n1")
	base := w.bucket(hours(24, 48), "n1 n2 n3")[0]
	w.seal(base)
	overlay := w.overlay(base)
	w.must(t, DrainNode{testNode("n3", 1)})
	// The drain loop moves sets and bases; overlays follow by repair.
	w.settle(planRepair, planDrain)
	for _, id := range append(open, base, overlay) {
		if got := w.on(id); got != "n1 n2 n4" && got != "n1 n2 n5" {
			t.Errorf("set %d lies on %s", id, got)
		}
	}
	if w.on(base) != w.on(overlay) {
		t.Errorf("the base lies on %s and its overlay on %s", w.on(base), w.on(overlay))
	}
	w.must(t, RemoveNode{testNode("n3", 1)})
	if m := mapOf(w.state()); m.Node(testNode("n3", 1)).State != NodeRemoved {
		t.Error("the node is there still")
	}
}

func TestNewReplicasAvoidNodesThatLeave(t *testing.T) {
	w := newWard(t, "a", "b", "c", "c", "d")
	w.must(t, DrainNode{testNode("n2", 1)})
	w.silent["n3"] = true
	v := w.view()
	placement, err := v.state.place(v.state.policies[1], v.fitness())
	if err != nil {
		t.Fatal(err)
	}
	for _, nodes := range placement {
		for _, n := range nodes {
			if n.Name == "n2" || n.Name == "n3" {
				t.Errorf("a shard is placed on %v", nodes)
			}
		}
	}
	w.silent["n4"] = true
	_, err = planBuckets(w.view())
	w.now = w.now.Add(time.Minute)
	_, again := planBuckets(w.view())
	if quorate.KindOf(err) != quorate.Unavailable || again == nil || err.Error() != again.Error() {
		t.Errorf("two nodes for three replicas are told as %v, and then %v", err, again)
	}
}

func TestLeadersAreSpread(t *testing.T) {
	w := newWard(t, "a", "b", "c")
	leads := make(map[string]int)
	p := *w.state().policies[1]
	p.Shards = 7
	for i := range 5 {
		v := w.view()
		placement, err := v.state.place(&p, v.fitness())
		if err != nil {
			t.Fatal(err)
		}
		w.must(t, PlanBucket{Policy: 1, Range: hours(int64(i), int64(i)+1), HashVersion: 1, Placement: placement})
		for _, nodes := range placement {
			leads[nodes[0].Name]++
		}
	}
	for n, leaders := range leads {
		if leaders < 11 || leaders > 12 {
			t.Errorf("node %s is to lead %d of 35 sets on three nodes", n, leaders)
		}
	}
}

func TestEmptierNodesTakeMore(t *testing.T) {
	w := newWard(t, "a", "a", "a", "a")
	p := *w.state().policies[1]
	p.Shards, p.Replicas = 40, 1
	count := func() map[string]int {
		v := w.view()
		placement, err := v.state.place(&p, v.fitness())
		if err != nil {
			t.Fatal(err)
		}
		load := make(map[string]int)
		for _, nodes := range placement {
			load[nodes[0].Name]++
		}
		return load
	}
	w.free = map[string]uint64{"n1": 1000, "n2": 980, "n3": 960, "n4": 990}
	for n, got := range count() {
		if got != 10 {
			t.Errorf("node %s gets %d of 40 replicas, and all are as empty", n, got)
		}
	}
	w.free = map[string]uint64{"n1": 250, "n2": 1000, "n3": 500, "n4": 250}
	if got := count(); got["n2"] < 18 || got["n3"] < 8 || got["n1"] > 7 || got["n4"] > 7 {
		t.Errorf("by space of 250, 1000, 500 and 250 the nodes get %v", got)
	}
}

func TestASetThatNeverFormsIsPlannedAnew(t *testing.T) {
	w := newWard(t, "a", "b", "c", "d", "e")
	w.silent["n2"], w.silent["n3"] = true, true
	first := w.bucket(hours(0, 24), "n1 n2 n3", "n1 n2 n4")
	if w.state().sets[first[1]].State != ReplicaSetOpen {
		t.Fatal("the set on one lost node has not formed")
	}
	w.settle(planRepair)
	bucket := w.state().buckets[1]
	if got := w.on(bucket.SetIDs[0]); bucket.State != BucketOpen || got != "n1 n4 n5" {
		t.Errorf("the bucket is %s, and its first set lies on %s", bucket.State, got)
	}
	if old := w.state().sets[first[0]]; old.State != ReplicaSetDropping {
		t.Errorf("the set that never formed is %s", old.State)
	}
	// An overlay goes, to be planned where its base is by then.
	w.silent["n2"], w.silent["n3"] = false, false
	base := w.bucket(hours(24, 48), "n1 n2 n3")[0]
	w.seal(base)
	w.silent["n2"], w.silent["n3"] = true, true
	overlay := w.must(t, PlanOverlay{base, 9}).(PlanOverlayResult).Overlay
	w.settle(planRepair)
	if s := w.state(); s.buckets[2].OverlayIDs[0] != 0 || s.sets[overlay].State != ReplicaSetDropping {
		t.Errorf("the overlay that never formed is %s", s.sets[overlay].State)
	}
	if got := w.on(w.overlay(base)); got != w.on(base) || strings.Contains(got, "n2") || strings.Contains(got, "n3") {
		t.Errorf("the base lies on %s and its new overlay on %s", w.on(base), got)
	}
}

// TestProtocol16TheLastKnownCopyStays: PROTOCOL 16.
func TestProtocol16TheLastKnownCopyStays(t *testing.T) {
	w := newWard(t, "a", "b", "c", "d")
	id := w.bucket(hours(0, 24), "n1 n2 n3")[0]
	members := w.state().sets[id].Members
	intent := w.must(t, BeginIntent{id, IntentSeal, 1, sealPayload()}).(IntentResult).Intent
	for i, m := range members { // the third differs
		w.must(t, ReportSeal{id, SealReport{Replica: m.Replica, Intent: uint64(intent), Index: 5, Checksum: [32]byte{byte(i / 2)}, File: new(wire.SealedFile)}})
	}
	w.must(t, JudgeSeal{id, intent, 1, nil}, BeginMembers{Set: id, Remove: members[0].Replica})
	leave := BeginMembers{Set: id, Remove: members[1].Replica}
	_, err := propose[IntentResult](t.Context(), w, leave)
	var refused *Refusal
	if !errors.As(err, &refused) || refused.Reason != ReasonBusy {
		t.Errorf("the last replica with what the set was sealed as left: %v", err)
	}
	// With one that has taken the file it may.
	w.must(t, BeginMembers{Set: id, Add: testNode("n4", 1)})
	w.carryOut()
	w.must(t, leave)
}
