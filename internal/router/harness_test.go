package router

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/raftset"
	"github.com/quorate/quorate/tsdbshard"
)

const hour = int64(time.Hour / time.Millisecond)

// now is where the harness' clock stands: in the middle of a bucket.
var now = time.Date(2026, 3, 2, 12, 30, 0, 0, time.UTC)

// rig is a router over the real rooms: a metadata state machine without its
// Raft group, and real ReplicaSets on Raft groups with logs in memory.
type rig struct {
	*Router
	host   *raftset.Host
	client *metasvc.Client
	leader *directLeader
	node   quorate.NodeID
	// homes are the routers of the nodes that have the replicas: this one, or
	// others, which it then reaches by a network.
	homes   map[quorate.NodeID]*Router
	nodes   []quorate.NodeID // of homes, in order
	network *network
	dir     string
	tenant  quorate.TenantID
}

// directLeader applies metadata commands without a log.
type directLeader struct {
	mu      sync.Mutex
	index   uint64
	machine *metasvc.StateMachine
	encoder wire.Encoder
}

func (l *directLeader) Propose(_ context.Context, command []byte) (any, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.index++
	results, err := l.machine.ApplyBatch([]quorate.LogEntry{{Index: l.index, Term: 1, Data: l.encoder.Append(nil, wire.KindMeta, command)}})
	if err != nil {
		return nil, err
	}
	return results[0][0], nil
}

func (l *directLeader) ConfirmRead(context.Context) error { return nil }

func (l *directLeader) do(t testing.TB, c metasvc.Command) any {
	t.Helper()
	answer, err := l.Propose(t.Context(), metasvc.EncodeCommand(c))
	if err != nil {
		t.Fatal(err)
	}
	if refused, ok := answer.(*metasvc.Refusal); ok {
		t.Fatalf("%T refused: %v", c, refused)
	}
	return answer
}

// newRig starts a router with open buckets of 1 h and 2 shards from two hours
// before now to an hour after.
func newRig(t testing.TB, change ...func(*metasvc.ClientConfig)) *rig {
	t.Helper()
	return newRigOf(t, 0, change...)
}

// newRigOf is newRig with the replicas on so many other nodes, not on the one of
// the router.
func newRigOf(t testing.TB, others int, change ...func(*metasvc.ClientConfig)) *rig {
	t.Helper()
	logger := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	r := &rig{node: quorate.NodeID{Name: "n1", Incarnation: quorate.NewIncarnation()}, dir: t.TempDir()}
	machine := metasvc.NewStateMachine(metasvc.StateMachineConfig{})
	if err := machine.Open(t.Context(), nil, 1); err != nil {
		t.Fatal(err)
	}
	r.leader = &directLeader{index: 1, machine: machine}
	clock := func() time.Time { return now }
	var err error
	if r.host, err = raftset.NewHost(raftset.HostConfig{Dir: filepath.Join(r.dir, "raft"), Logger: logger, LogStore: raftset.MemoryLogs()}); err != nil {
		t.Fatal(err)
	}
	client := metasvc.ClientConfig{StateMachine: machine, Leader: r.leader, Now: clock}
	for _, c := range change {
		c(&client)
	}
	r.client, err = metasvc.OpenClient(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, err := range []error{r.client.Close(), r.host.Close(), machine.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	policy := metasvc.DefaultPolicy()
	policy.Span = time.Hour
	r.leader.do(t, metasvc.Bootstrap{Cluster: quorate.NewClusterID(), Node: metasvc.NodeSpec{ID: r.node, Roles: metasvc.AllRoles}, MetaReplica: 1})
	r.leader.do(t, metasvc.CreatePolicy{Policy: policy})
	r.tenant = r.leader.do(t, metasvc.CreateTenant{Name: "team", Policy: 1}).(metasvc.TenantResult).Tenant
	r.Router = r.newRouter(t, r.node, others > 0)
	r.homes = map[quorate.NodeID]*Router{r.node: r.Router}
	r.nodes = []quorate.NodeID{r.node}
	if others > 0 {
		r.homes, r.nodes = map[quorate.NodeID]*Router{}, nil
	}
	for i := range others {
		node := quorate.NodeID{Name: fmt.Sprint("n", i+2), Incarnation: quorate.NewIncarnation()}
		r.leader.do(t, metasvc.AdmitNode{Node: metasvc.NodeSpec{ID: node, Roles: metasvc.AllRoles, Address: fmt.Sprint("h:", i+2)}})
		r.homes[node] = r.newRouter(t, node, true)
		r.nodes = append(r.nodes, node)
	}
	start := now.Truncate(time.Hour).UnixMilli()
	for _, from := range []int64{start - 2*hour, start - hour, start, start + hour} {
		r.plan(t, from)
	}
	testwait.For(t, "every set to have a leader", func() bool {
		return !slices.ContainsFunc(r.allReplicas(), func(replica *Replica) bool {
			_, leads := replica.Group().Leadership()
			return !leads
		})
	})
	return r
}

// newRouter makes the router of a node, on the network if there is one.
func (r *rig) newRouter(t testing.TB, node quorate.NodeID, networked bool) *Router {
	t.Helper()
	cfg := Config{
		Meta: ClientMeta{r.client}, Replicas: new(Replicas), Self: node, Now: func() time.Time { return now },
		Logger:       slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		Registerer:   prometheus.NewPedanticRegistry(),
		WriteTimeout: testwait.Deadline, QueryTimeout: testwait.Deadline,
	}
	var p *port
	if networked {
		if r.network == nil {
			r.network = newNetwork(t)
		}
		p = r.network.port(node)
		cfg.Peers = p
	}
	made := New(cfg)
	if p != nil {
		made.Register(p)
	}
	made.warmup.every = time.Millisecond
	t.Cleanup(func() { made.Close() })
	return made
}

// home returns the replicas of the node that a set's first member is on.
func (r *rig) home(set *metasvc.ReplicaSet) *Replicas { return r.homes[set.Members[0].Node].replicas }

// allReplicas returns the replicas of all nodes.
func (r *rig) allReplicas() (all []*Replica) {
	for _, h := range r.homes {
		all = append(all, h.replicas.All()...)
	}
	return all
}

// plan makes an open bucket of an hour and opens its replicas.
func (r *rig) plan(t testing.TB, from int64) {
	t.Helper()
	r.planRange(t, quorate.TimeRange{Start: from, End: from + hour})
}

// planRange is plan of any range.
func (r *rig) planRange(t testing.TB, of quorate.TimeRange) { r.planUnder(t, 1, of) }

// planUnder is planRange of any policy.
func (r *rig) planUnder(t testing.TB, policy quorate.PolicyID, of quorate.TimeRange) {
	t.Helper()
	r.planHashed(t, policy, of, wire.ShardHashVersion)
}

// planHashed is planUnder with any version of the shard hash.
func (r *rig) planHashed(t testing.TB, policy quorate.PolicyID, of quorate.TimeRange, hash uint8) {
	t.Helper()
	planned := r.leader.do(t, metasvc.PlanBucket{
		Policy: policy, Range: of, HashVersion: hash,
		Placement: [][]quorate.NodeID{{r.nodes[0]}, {r.nodes[len(r.nodes)-1]}},
	}).(metasvc.PlanBucketResult)
	for _, set := range planned.Sets {
		testwait.For(t, "the set in the map", func() bool { return r.client.Map().Set(set) != nil })
		r.open(t, r.client.Map().Set(set))
	}
	testwait.For(t, "the bucket to be open in the map", func() bool {
		b := r.client.Map().Bucket(policy, of.Start)
		return b != nil && b.State == metasvc.BucketOpen
	})
}

func (r *rig) open(t testing.TB, set *metasvc.ReplicaSet) {
	t.Helper()
	if err := r.form(t.Context(), set); err != nil {
		t.Fatal(err)
	}
}

// form makes the replica of a new set, opens it and reports it.
func (r *rig) form(ctx context.Context, set *metasvc.ReplicaSet) error {
	member := set.Members[0]
	err := r.host.Form(ctx, raftset.Genesis{
		Set: set.ID, Replica: member.Replica, Voters: []raftset.Member{{Node: member.Node, Replica: member.Replica}},
		Payload: tsdbshard.GenesisPayload(set.Bounds),
	})
	if err != nil {
		return err
	}
	shard, err := tsdbshard.New(r.shardConfig(set.ID))
	if err != nil {
		return err
	}
	group, err := r.host.Open(ctx, set.ID, member.Replica, shard)
	if err != nil {
		return err
	}
	r.home(set).Add(NewReplica(set.ID, group, shard, ClientMeta{r.client}))
	return r.client.ReportFormed(ctx, set.ID, member.Replica)
}

func (r *rig) shardConfig(set quorate.ReplicaSetID) tsdbshard.Config {
	return tsdbshard.Config{Dir: filepath.Join(r.dir, "sets", fmt.Sprint(set)), Set: set}
}

// metric is one series of a request with its rows.
type metric struct {
	labels labels.Labels
	floats []float // in the order in which they are sent
}

type float struct {
	t int64
	v float64
}

// sent is a request and the source of its labels.
type sent struct {
	metrics []metric
	parsed  int // how many label sets the router asked for
	broken  map[int]error
}

var requestSeed = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

func (s *sent) request() *wire.WriteRequest {
	in := &wire.WriteRequest{Labels: s}
	for _, m := range s.metrics {
		for _, f := range m.floats {
			in.Timestamps = append(in.Timestamps, f.t)
			in.Values = append(in.Values, f.v)
		}
		in.Series = append(in.Series, wire.RequestSeries{
			Key:      wire.SeriesKey{Hi: maphash.String(requestSeed[0], m.labels.String()), Lo: maphash.String(requestSeed[1], m.labels.String())},
			FloatEnd: uint32(len(in.Values)),
		})
	}
	return in
}

func (s *sent) CanonicalLabels(dst []byte, i int) ([]byte, error) {
	s.parsed++
	if err := s.broken[i]; err != nil {
		return dst, err
	}
	s.metrics[i].labels.Range(func(l labels.Label) { dst = wire.AppendLabel(dst, l.Name, l.Value) })
	return dst, nil
}

// write appends metrics and returns the result and the source of labels.
func (r *rig) write(t testing.TB, metrics ...metric) (wire.WriteResult, *sent, error) {
	t.Helper()
	s := &sent{metrics: metrics}
	result, err := r.Append(t.Context(), r.tenant, s.request())
	return result, s, err
}

func (r *rig) mustWrite(t testing.TB, metrics ...metric) *sent {
	t.Helper()
	_, s, err := r.write(t, metrics...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// read returns all float samples of the series that match, as "labels: t=v …"
// lines with times relative to now in seconds.
func (r *rig) read(t testing.TB, matchers ...*labels.Matcher) []string {
	t.Helper()
	q, err := r.Querier(t.Context(), r.tenant, math.MinInt64, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	return linesOf(t, q.Select(t.Context(), true, nil, matchers...))
}

// linesOf prints a set of series of floats.
func linesOf(t testing.TB, set storage.SeriesSet) (lines []string) {
	t.Helper()
	for set.Next() {
		if set.At() == nil {
			continue // upstream's series of no chunks
		}
		line := set.At().Labels().String() + ":"
		it := set.At().Iterator(nil)
		for it.Next() == chunkenc.ValFloat {
			at, v := it.At()
			line += fmt.Sprintf(" %d=%v", (at-now.UnixMilli())/1000, v)
		}
		if it.Err() != nil {
			t.Fatal(it.Err())
		}
		lines = append(lines, line)
	}
	if set.Err() != nil {
		t.Fatal(set.Err())
	}
	return lines
}

func named(name string) *labels.Matcher {
	return labels.MustNewMatcher(labels.MatchEqual, "__name__", name)
}

// at returns a timestamp seconds after now.
func at(seconds int64) int64 { return now.UnixMilli() + 1000*seconds }

func expect(t testing.TB, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("read\n%q\nwant\n%q", got, want)
	}
}
