package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"go.uber.org/goleak"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/router"
	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/raftset"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is where the harness' clock stands: an hour past the end of its bucket.
var clock = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// bucketStart is when the harness' bucket of an hour starts (ms).
var bucketStart = clock.Add(-2 * time.Hour).UnixMilli()

const term = 1 // of the metadata group

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
	results, err := l.machine.ApplyBatch([]quorate.LogEntry{{Index: l.index, Term: term, Data: l.encoder.Append(nil, wire.KindMeta, command)}})
	if err != nil {
		return nil, err
	}
	return results[0][0], nil
}

func (l *directLeader) ConfirmRead(context.Context) error { return nil }

// rig is a node's replicas over the real rooms, and metadata that survive its
// restarts and do only what a test has them do.
type rig struct {
	dir    string
	node   quorate.NodeID
	leader *directLeader
	client *metasvc.Client
	tenant quorate.TenantID
	now    *clockAt
	// port is the way to other nodes, nil of a lone node; live tells whose
	// reports the judge of seals waits for.
	port *port
	// limits and free are the space's, free nil for the system's.
	limits SpaceLimits
	free   func(string) (int64, error)
	scrub  ScrubLimits
	live   func(*metasvc.ReplicaSet) []quorate.ReplicaID

	// Of one life of the node.
	metrics  *prometheus.Registry
	host     *raftset.Host
	open     *router.Replicas
	router   *router.Router
	manager  *Manager
	stop     context.CancelFunc
	finished chan struct{}
}

// newRig makes the metadata of one node with an open bucket of one shard, and
// starts the node.
func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{
		dir: t.TempDir(), node: quorate.NodeID{Name: "n1", Incarnation: quorate.NewIncarnation()},
		now:  &clockAt{clock},
		live: func(set *metasvc.ReplicaSet) []quorate.ReplicaID { return []quorate.ReplicaID{set.Members[0].Replica} },
	}
	r.client, r.leader = newMetadata(t, r.now.now)
	policy := metasvc.DefaultPolicy()
	policy.Span = time.Hour
	policy.LateWindow = time.Minute
	r.do(t, metasvc.Bootstrap{Cluster: quorate.NewClusterID(), Node: metasvc.NodeSpec{ID: r.node, Roles: metasvc.AllRoles}, MetaReplica: 1})
	r.do(t, metasvc.CreatePolicy{Policy: policy})
	r.tenant = r.do(t, metasvc.CreateTenant{Name: "team", Policy: 1}).(metasvc.TenantResult).Tenant
	r.do(t, metasvc.PlanBucket{
		Policy: 1, Range: quorate.TimeRange{Start: bucketStart, End: bucketStart + time.Hour.Milliseconds()},
		HashVersion: wire.ShardHashVersion, Placement: [][]quorate.NodeID{{r.node}},
	})
	r.start(t, nil)
	t.Cleanup(func() { r.close(t) })
	r.await(t, "the bucket to be open", func() bool {
		b := r.bucket()
		return b != nil && b.State == metasvc.BucketOpen
	})
	return r
}

// newMetadata makes a metadata service without a Raft group.
func newMetadata(t *testing.T, now func() time.Time) (*metasvc.Client, *directLeader) {
	t.Helper()
	machine := metasvc.NewStateMachine(metasvc.StateMachineConfig{})
	if err := machine.Open(t.Context(), nil, 1); err != nil {
		t.Fatal(err)
	}
	leader := &directLeader{index: 1, machine: machine}
	t.Cleanup(func() {
		if err := machine.Close(); err != nil {
			t.Error(err)
		}
	})
	return clientOf(t, leader, now), leader
}

// clientOf makes another node's client.
func clientOf(t *testing.T, leader *directLeader, now func() time.Time) *metasvc.Client {
	t.Helper()
	client, err := metasvc.OpenClient(t.Context(), metasvc.ClientConfig{StateMachine: leader.machine, Leader: leader, Now: now, FormTimeout: testwait.Deadline})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return client
}

func emptyMap(t *testing.T) *metasvc.Map {
	t.Helper()
	client, _ := newMetadata(t, time.Now)
	return client.Map()
}

// bareManager is a manager for what needs no rooms.
func bareManager() *Manager {
	return &Manager{space: &space{}, metrics: newMetrics(), logger: slog.New(slog.DiscardHandler), replicas: make(map[setID]*replica)}
}

func failWith(err error) func(context.Context, *metasvc.ReplicaSet, *replica) error {
	return func(context.Context, *metasvc.ReplicaSet, *replica) error { return err }
}

// start begins a life of the node. A moment that is not nil may end it.
func (r *rig) start(t *testing.T, at func(moment) error) {
	t.Helper()
	logger := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	var err error
	host := raftset.HostConfig{Dir: filepath.Join(r.dir, "raft"), Logger: logger, SegmentBytes: 64 << 10, TrailingBytes: 1}
	if r.port != nil {
		host.Node, host.Messenger, host.HeartbeatTimeout = r.node, r.port, 400*time.Millisecond
		host.Exhausted = func() bool { return r.manager != nil && r.manager.Exhausted() }
		host.Fetch = func(ctx context.Context, set quorate.ReplicaSetID, replica quorate.ReplicaID, from quorate.NodeID, payload []byte) error {
			return r.manager.FetchManifest(ctx, set, replica, from, payload)
		}
	}
	r.host, err = raftset.NewHost(host)
	if err != nil {
		t.Fatal(err)
	}
	r.open, r.metrics = new(router.Replicas), prometheus.NewRegistry()
	var peers router.Peers
	if r.port != nil {
		peers = r.port
	}
	r.manager, err = New(Config{
		Peers: peers, DataDir: r.dir, Node: r.node, Host: r.host, Client: r.client, Replicas: r.open,
		Trash: TrashLimits{Keep: time.Hour}, Space: r.limits, Free: r.free, Scrub: r.scrub, Now: r.now.now, Logger: logger, Registerer: r.metrics, moment: at,
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.port != nil {
		r.port.attach(r.host)
		r.manager.Register(r.port)
	}
	r.router = router.New(router.Config{
		Meta: router.ClientMeta{Client: r.client}, Replicas: r.open, Now: r.now.now, Logger: logger, Compact: r.manager.Compact,
		WriteTimeout: testwait.Deadline, QueryTimeout: testwait.Deadline,
	})
	ctx, stop := context.WithCancel(t.Context())
	r.stop, r.finished = stop, make(chan struct{})
	go func() {
		defer close(r.finished)
		r.manager.Run(ctx)
	}()
}

// close ends a life of the node. It may be called again.
func (r *rig) close(t *testing.T) {
	t.Helper()
	if r.host == nil {
		return
	}
	if r.port != nil {
		r.port.attach(nil)
	}
	r.stop()
	<-r.finished
	if err := errors.Join(r.router.Close(), r.manager.Close(context.WithoutCancel(t.Context())), r.host.Close()); err != nil {
		t.Errorf("close: %v", err)
	}
	r.host = nil
}

// do applies a metadata command and waits until the node's map shows it.
func (r *rig) do(t *testing.T, c metasvc.Command) any {
	t.Helper()
	answer, err := r.leader.Propose(t.Context(), metasvc.EncodeCommand(c))
	if err != nil {
		t.Fatal(err)
	}
	if refused, ok := answer.(*metasvc.Refusal); ok {
		t.Fatalf("%T refused: %v", c, refused)
	}
	if err := r.client.ConfirmMap(t.Context()); err != nil {
		t.Fatal(err)
	}
	return answer
}

// await waits for a condition while it does what the metadata's controller
// would: judging seals and making changes effective.
func (r *rig) await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	testwait.For(t, what, func() bool {
		r.control(t)
		return condition()
	})
}

// control is one pass of the metadata's controller.
func (r *rig) control(t *testing.T) {
	t.Helper()
	for _, b := range r.client.Map().Buckets(1) {
		if b.State == metasvc.BucketPlanned && b.Pending {
			r.do(t, metasvc.EffectBucket{Bucket: b.ID})
		}
	}
	for _, set := range r.client.Map().Sets() {
		switch {
		case set.Sealing() != nil && slices.ContainsFunc(set.Reports, func(p metasvc.SealReport) bool { return p.File != nil }):
			r.do(t, metasvc.JudgeSeal{Set: set.ID, Intent: set.Intent.ID, Term: term, Live: r.live(set)})
		case set.Pending && set.State != metasvc.ReplicaSetForming:
			r.do(t, metasvc.EffectSet{Set: set.ID})
		}
	}
}

func (r *rig) bucket() *metasvc.Bucket { return r.client.Map().Bucket(1, bucketStart) }

// set returns the record of the set that has the bucket's one shard.
func (r *rig) set() *metasvc.ReplicaSet { return r.bucket().Sets[0] }

// seal begins the seal of a set, with the deletions that are on its base.
func (r *rig) seal(t *testing.T, set *metasvc.ReplicaSet) {
	t.Helper()
	payload := wire.Seal{Deletions: r.client.Map().DeletionsOf(set.Base)}
	r.do(t, metasvc.BeginIntent{Set: set.ID, Kind: metasvc.IntentSeal, Term: term, Payload: payload.Append(nil)})
}

func (r *rig) awaitSettled(t *testing.T, set setID) {
	t.Helper()
	r.await(t, fmt.Sprintf("set %v to be served from its file", set), func() bool { return r.manager.Settled(set) })
}

// floats is a request of one series.
type floats struct {
	name   string
	values map[int64]float64 // by seconds after the bucket's start
}

var seed = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

// CanonicalLabels returns the labels of the one series.
func (f floats) CanonicalLabels(dst []byte, _ int) ([]byte, error) {
	return wire.AppendLabel(dst, "__name__", f.name), nil
}

func (r *rig) write(t *testing.T, f floats) {
	t.Helper()
	in := &wire.WriteRequest{Labels: f}
	for _, second := range sortedKeys(f.values) {
		in.Timestamps = append(in.Timestamps, bucketStart+second*1000)
		in.Values = append(in.Values, f.values[second])
	}
	in.Series = []wire.RequestSeries{{
		Key:      wire.SeriesKey{Hi: maphash.String(seed[0], f.name), Lo: maphash.String(seed[1], f.name)},
		FloatEnd: uint32(len(in.Values)),
	}}
	// Overlays are made effective by the metadata's controller.
	done := make(chan error, 1)
	go func() {
		_, err := r.router.Append(t.Context(), r.tenant, in)
		done <- err
	}()
	r.await(t, "the write", func() bool {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			return true
		default:
			return false
		}
	})
}

func sortedKeys(m map[int64]float64) (keys []int64) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (r *rig) querier(t *testing.T) storage.Querier {
	t.Helper()
	q, err := r.router.Querier(t.Context(), r.tenant, math.MinInt64, r.now.at.Add(24*time.Hour).UnixMilli())
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// read returns all samples as lines "name second=value …".
func (r *rig) read(t *testing.T) string {
	t.Helper()
	q := r.querier(t)
	defer q.Close()
	return readAll(t, q)
}

func readAll(t *testing.T, q storage.Querier) string {
	t.Helper()
	var b strings.Builder
	set := q.Select(t.Context(), true, nil, labels.MustNewMatcher(labels.MatchNotEqual, "__name__", ""))
	for set.Next() {
		fmt.Fprint(&b, set.At().Labels().Get("__name__"))
		it := set.At().Iterator(nil)
		for it.Next() == chunkenc.ValFloat {
			at, v := it.At()
			fmt.Fprintf(&b, " %d=%v", (at-bucketStart)/1000, v)
		}
		if it.Err() != nil {
			t.Fatal(it.Err())
		}
		b.WriteByte('\n')
	}
	if set.Err() != nil {
		t.Fatal(set.Err())
	}
	return b.String()
}

// files lists what lies in a directory below the data directory, nothing where
// there is none.
func (r *rig) files(t *testing.T, path ...string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(append([]string{r.dir}, path...)...))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// crash is a moment at which the node stops working, for good.
type crash struct {
	at  moment
	hit chan struct{}

	mu   sync.Mutex
	over bool
}

var errCrash = errors.New("the node has crashed")

func crashAt(at moment) *crash { return &crash{at: at, hit: make(chan struct{})} }

func (c *crash) reach(m moment) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m == c.at && !c.over {
		c.over = true
		close(c.hit)
	}
	if c.over {
		return errCrash
	}
	return nil
}

func (c *crash) isHit() bool {
	select {
	case <-c.hit:
		return true
	default:
		return false
	}
}

func (r *rig) awaitOpen(t *testing.T) {
	t.Helper()
	r.await(t, "the set to take writes", func() bool { return r.manager.Ready(bucketStart) == nil })
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

func emptyClient(t *testing.T) *metasvc.Client {
	t.Helper()
	client, _ := newMetadata(t, time.Now)
	return client
}

func noReplicas() *router.Replicas { return new(router.Replicas) }
