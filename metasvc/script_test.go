package metasvc

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// TestScripts plays the golden scripts in testdata. Each directive "entry" is
// one log entry, each of its lines one command:
//
//	entry [term=<n>]
//	bootstrap cluster=1 node=n1/1
//	create-policy name=default shards=2
//	----
//
// "state" prints all records, "changes from=<index>" what a watch that stands
// there gets, and "restart" goes on with a state machine opened from a snapshot.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		machine := openMachine(t)
		leader := newFakeLeader(machine)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			t.Helper()
			switch d.Cmd {
			case "entry":
				if d.HasArg("term") {
					var term int
					d.ScanArgs(t, "term", &term)
					leader.term = uint64(term)
				}
				return playEntry(t, d, leader)
			case "state":
				return dump(leader.machine)
			case "changes":
				var from int
				d.ScanArgs(t, "from", &from)
				batch, err := leader.machine.Watch(uint64(from)).Next(t.Context())
				if err != nil {
					d.Fatalf(t, "%v", err)
				}
				return printBatch(batch)
			case "restart":
				payload := persist(t, leader.machine)
				reopened := openMachine(t)
				if err := reopened.Open(t.Context(), payload, leader.index); err != nil {
					d.Fatalf(t, "%v", err)
				}
				if !bytes.Equal(persist(t, reopened), payload) {
					d.Fatalf(t, "the reopened state is another")
				}
				leader.machine = reopened
				return "ok\n"
			}
			d.Fatalf(t, "unknown directive %q", d.Cmd)
			return ""
		})
	})
}

func playEntry(t *testing.T, d *datadriven.TestData, leader *fakeLeader) string {
	t.Helper()
	var lines []string
	var commands [][]byte
	for line := range strings.Lines(d.Input) {
		line = strings.TrimSpace(line)
		command, err := parseCommand(line)
		if err != nil {
			d.Fatalf(t, "%s: %v", line, err)
		}
		lines = append(lines, line)
		commands = append(commands, EncodeCommand(command))
	}
	before := dump(leader.machine)
	results, err := leader.applyLocked(commands...)
	if err != nil {
		return fmt.Sprintf("stopped: %v\n", err)
	}
	var out strings.Builder
	refusals := 0
	for _, r := range results {
		out.WriteString(printResult(r) + "\n")
		if _, ok := r.(*Refusal); ok {
			refusals++
		}
	}
	if refusals == len(results) && dump(leader.machine) != before {
		d.Fatalf(t, "refused commands changed the state: %s", strings.Join(lines, "; "))
	}
	if err := leader.machine.snapshot().check(); err != nil {
		d.Fatalf(t, "%v", err)
	}
	return out.String()
}

// persist returns the payload that a snapshot of the machine has.
func persist(t testing.TB, m *StateMachine) []byte {
	t.Helper()
	frozen, err := m.Freeze()
	if err != nil {
		t.Fatal(err)
	}
	payload, err := frozen.Persist(t.Context(), m.AppliedIndex())
	if err != nil {
		t.Fatal(err)
	}
	frozen.Published()
	return payload
}

// args are the key=value words of a script line. The first bad one sticks.
type args struct {
	values map[string]string
	err    error
}

func (a *args) str(key, unset string) string {
	if v, ok := a.values[key]; ok {
		delete(a.values, key)
		return v
	}
	return unset
}

func (a *args) num(key string, unset uint64) uint64 {
	v := a.str(key, "")
	if v == "" {
		return unset
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		a.err = err
	}
	return n
}

func (a *args) dur(key string, unset time.Duration) time.Duration {
	v := a.str(key, "")
	if v == "" {
		return unset
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		a.err = err
	}
	return d
}

// span reads a range of whole hours, as "24-48".
func (a *args) hours(key string) quorate.TimeRange {
	var from, to int64
	if _, err := fmt.Sscanf(a.str(key, ""), "%d:%d", &from, &to); err != nil {
		a.err = err
	}
	return hours(from, to)
}

// node reads "name/incarnation"; the incarnation is one small number.
func (a *args) node(key string) quorate.NodeID { return a.parseNode(a.str(key, "")) }

func (a *args) parseNode(v string) quorate.NodeID {
	name, inc, _ := strings.Cut(v, "/")
	n, err := strconv.ParseUint(inc, 10, 8)
	if err != nil {
		a.err = err
	}
	return testNode(name, byte(n))
}

func (a *args) policy() PolicySpec {
	d := DefaultPolicy()
	p := PolicySpec{
		Name:        a.str("name", d.Name),
		Span:        a.dur("span", d.Span),
		Shards:      int(a.num("shards", 1)),
		Replicas:    int(a.num("replicas", 1)),
		LateWindow:  a.dur("late", d.LateWindow),
		Retention:   a.dur("retention", d.Retention),
		FutureBound: a.dur("future", d.FutureBound),
	}
	if zones := a.str("zones", ""); zones != "" {
		p.Zones = strings.Split(zones, ",")
	}
	return p
}

func (a *args) nodeSpec() NodeSpec {
	return NodeSpec{
		ID:      a.node("node"),
		Roles:   Roles(a.num("roles", uint64(AllRoles))),
		Zone:    a.str("zone", ""),
		Address: a.str("address", ""),
	}
}

// placement reads the shards, "n1/1,n2/1;n2/1,n3/1".
func (a *args) placement() (shards [][]quorate.NodeID) {
	v := a.str("on", "")
	if v == "" {
		return nil
	}
	for shard := range strings.SplitSeq(v, ";") {
		var nodes []quorate.NodeID
		for n := range strings.SplitSeq(shard, ",") {
			nodes = append(nodes, a.parseNode(n))
		}
		shards = append(shards, nodes)
	}
	return shards
}

func parseCommand(line string) (Command, error) {
	words := strings.Fields(line)
	a := &args{values: make(map[string]string)}
	for _, w := range words[1:] {
		k, v, _ := strings.Cut(w, "=")
		a.values[k] = v
	}
	c, err := buildCommand(words[0], a)
	if err == nil {
		err = a.err
	}
	if err == nil && len(a.values) > 0 {
		err = fmt.Errorf("unknown arguments %v", a.values)
	}
	return c, err
}

func buildCommand(name string, a *args) (Command, error) {
	set := func() quorate.ReplicaSetID { return quorate.ReplicaSetID(a.num("set", 0)) }
	switch name {
	case "bootstrap":
		return Bootstrap{Cluster: quorate.ClusterID{byte(a.num("cluster", 0))}, Node: a.nodeSpec(), MetaReplica: quorate.ReplicaID(a.num("replica", 1))}, nil
	case "admit-node":
		return AdmitNode{Node: a.nodeSpec()}, nil
	case "create-policy":
		return CreatePolicy{Policy: a.policy()}, nil
	case "alter-policy":
		return AlterPolicy{ID: quorate.PolicyID(a.num("policy", 0)), Policy: a.policy(), Term: a.num("term", 1), Now: a.dur("now", 0).Milliseconds()}, nil
	case "create-tenant":
		return CreateTenant{Name: a.str("name", ""), Policy: quorate.PolicyID(a.num("policy", 1))}, nil
	case "move-tenant":
		return MoveTenant{Tenant: quorate.TenantID(a.num("tenant", 0)), Policy: quorate.PolicyID(a.num("policy", 0)), From: int64(a.num("from", 0)) * hour}, nil
	case "delete-tenant":
		return DeleteTenant{Tenant: quorate.TenantID(a.num("tenant", 0))}, nil
	case "plan-bucket":
		c := PlanBucket{Policy: quorate.PolicyID(a.num("policy", 1)), Range: a.hours("hours"), HashVersion: uint8(a.num("hash", 1)), Placement: a.placement()}
		c.Now = int64(a.num("now", 0)) * hour
		c.OnDemand = a.str("on-demand", "no") == ""
		c.Pending = a.str("pending", "no") == ""
		return c, nil
	case "report-formed":
		return ReportFormed{Set: set(), Replica: quorate.ReplicaID(a.num("replica", 0))}, nil
	case "effect-bucket":
		return EffectBucket{Bucket: quorate.BucketID(a.num("bucket", 0))}, nil
	case "begin-intent":
		return BeginIntent{Set: set(), Kind: IntentKind(a.num("kind", 0)), Term: a.num("term", 1), Payload: []byte(a.str("payload", ""))}, nil
	case "confirm-intent":
		return ConfirmIntent{Set: set(), Intent: IntentID(a.num("intent", 0)), LogIndex: a.num("at", 0), Newest: a.dur("newest", 0).Milliseconds()}, nil
	case "cancel-intent":
		return CancelIntent{Set: set(), Intent: IntentID(a.num("intent", 0))}, nil
	}
	return buildLifeCommand(name, a)
}

func buildLifeCommand(name string, a *args) (Command, error) {
	set := func() quorate.ReplicaSetID { return quorate.ReplicaSetID(a.num("set", 0)) }
	bucket := func() quorate.BucketID { return quorate.BucketID(a.num("bucket", 0)) }
	switch name {
	case "request-seal":
		return RequestSeal{Sets: list[quorate.ReplicaSetID](a, "sets")}, nil
	case "begin-seal":
		seal := wire.Seal{Deletions: a.folds("fold")}
		for _, tenant := range list[quorate.TenantID](a, "horizons") {
			seal.Horizons = append(seal.Horizons, wire.Horizon{Tenant: tenant, Oldest: hour})
		}
		return BeginIntent{Set: set(), Kind: IntentSeal, Term: a.num("term", 1), Payload: seal.Append(nil)}, nil
	case "report-seal":
		r := SealReport{Replica: quorate.ReplicaID(a.num("replica", 0)), Intent: a.num("intent", 0), Index: a.num("at", 0), Checksum: [32]byte{byte(a.num("sum", 0))}}
		if file := a.num("file", 0); file != 0 {
			r.File = &wire.SealedFile{Hash: [32]byte{byte(file)}, Bytes: file}
		}
		return ReportSeal{Set: set(), Report: r}, nil
	case "judge-seal":
		return JudgeSeal{Set: set(), Intent: IntentID(a.num("intent", 0)), Term: a.num("term", 1), Live: list[quorate.ReplicaID](a, "live")}, nil
	case "plan-overlay":
		return PlanOverlay{Base: quorate.ReplicaSetID(a.num("base", 0)), Budget: int(a.num("budget", 8))}, nil
	case "effect-set":
		return EffectSet{Set: set(), Announced: a.num("announced", 0)}, nil
	case "create-delete":
		d := testDeletion(quorate.TenantID(a.num("tenant", 1)), a.str("metric", "up"), a.hours("hours"))
		return CreateDelete{Body: d.Append(nil), Sets: list[quorate.ReplicaSetID](a, "sets")}, nil
	case "effect-delete":
		return EffectDelete{Deletion: a.num("deletion", 0)}, nil
	case "begin-drop":
		return BeginDrop{Bucket: bucket(), Term: a.num("term", 1), Now: int64(a.num("hour", 0)) * hour}, nil
	case "effect-drop":
		return EffectDrop{Bucket: bucket()}, nil
	case "report-dropped":
		return ReportDropped{Set: set(), Replica: quorate.ReplicaID(a.num("replica", 0))}, nil
	case "begin-members":
		c := BeginMembers{Set: set(), Term: a.num("term", 1), Remove: quorate.ReplicaID(a.num("remove", 0)), Well: everyReplica}
		if well := a.str("well", ""); well != "" {
			c.Well = list[quorate.ReplicaID](a, "well")
		}
		if add := a.str("add", ""); add != "" {
			c.Add = a.parseNode(add)
		}
		return c, nil
	case "report-joined":
		return ReportJoined{Set: set(), Replica: quorate.ReplicaID(a.num("replica", 0))}, nil
	case "report-left":
		return ReportLeft{Set: set(), Replica: quorate.ReplicaID(a.num("replica", 0))}, nil
	case "cut-bucket":
		return CutBucket{Policy: quorate.PolicyID(a.num("policy", 1)), Now: a.dur("now", 0).Milliseconds(), Term: a.num("term", 1)}, nil
	case "begin-bounds":
		return BeginBounds{Set: set(), Term: a.num("term", 1)}, nil
	case "drain-node":
		return DrainNode{Node: a.node("node")}, nil
	case "undrain-node":
		return UndrainNode{Node: a.node("node")}, nil
	case "remove-node":
		return RemoveNode{Node: a.node("node")}, nil
	case "join-meta":
		return JoinMeta{Node: a.node("node"), Term: a.num("term", 1)}, nil
	case "record-meta":
		return RecordMeta{Voters: a.members("voters"), Term: a.num("term", 1)}, nil
	case "replan-set":
		c := ReplanSet{Set: set(), Term: a.num("term", 1)}
		for _, nodes := range a.placement() {
			c.Nodes = nodes
		}
		return c, nil
	case "give-up-meta":
		return GiveUpMeta{Replica: quorate.ReplicaID(a.num("replica", 0)), Term: a.num("term", 1)}, nil
	case "set-retention":
		return SetTenantRetention{Tenant: quorate.TenantID(a.num("tenant", 1)), Retention: a.dur("retention", 0)}, nil
	}
	return nil, fmt.Errorf("unknown command %q", name)
}

// folds reads deletions, "1,2:down": number and metric, "up" unless told.
func (a *args) folds(key string) (folds []wire.NumberedDeletion) {
	v := a.str(key, "")
	if v == "" {
		return nil
	}
	for word := range strings.SplitSeq(v, ",") {
		number, metric, named := strings.Cut(word, ":")
		if !named {
			metric = "up"
		}
		id, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			a.err = err
		}
		folds = append(folds, wire.NumberedDeletion{ID: id, Deletion: testDeletion(1, metric, hours(0, 24))})
	}
	return folds
}

// members reads replicas, "n1/1:1,n2/1:5".
func (a *args) members(key string) (members []Member) {
	v := a.str(key, "")
	if v == "" {
		return nil
	}
	for word := range strings.SplitSeq(v, ",") {
		node, replica, _ := strings.Cut(word, ":")
		id, err := strconv.ParseUint(replica, 10, 64)
		if err != nil {
			a.err = err
		}
		members = append(members, Member{Node: a.parseNode(node), Replica: quorate.ReplicaID(id)})
	}
	return members
}

// list reads numbers, "1,2".
func list[ID ~uint64](a *args, key string) (ids []ID) {
	v := a.str(key, "")
	if v == "" {
		return nil
	}
	for word := range strings.SplitSeq(v, ",") {
		n, err := strconv.ParseUint(word, 10, 64)
		if err != nil {
			a.err = err
		}
		ids = append(ids, ID(n))
	}
	return ids
}

// testDeletion deletes one metric of a tenant.
func testDeletion(tenant quorate.TenantID, metric string, r quorate.TimeRange) wire.Deletion {
	return wire.Deletion{
		Tenant: tenant, MinTime: r.Start, MaxTime: r.End - 1,
		Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, metric)},
	}
}
