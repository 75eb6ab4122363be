package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/raftset"
	"github.com/quorate/quorate/tsdbshard"
)

// messenger carries Raft's messages of one node over the network of routers.
type messenger struct {
	port  *port
	hosts *sync.Map // of *raftset.Host by node

	mu    sync.Mutex
	lanes map[string]chan func()
}

// Send implements raftset.Messenger.
func (m *messenger) Send(to quorate.NodeID, lane uint8, message []byte, timeout time.Duration, done func([]byte, error)) {
	var once sync.Once
	finish := func(answer []byte, err error) { once.Do(func() { done(answer, err) }) }
	timer := time.AfterFunc(timeout, func() { finish(nil, errDown) })
	deliver := func() {
		host, ok := m.hosts.Load(to)
		if !ok || m.cut(to) {
			timer.Stop()
			finish(nil, errDown)
			return
		}
		host.(*raftset.Host).Deliver(m.port.node, message, func(answer []byte) {
			if !m.cut(to) {
				timer.Stop()
				finish(bytes.Clone(answer), nil)
			}
		})
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lanes == nil {
		return // lost, like all that is sent on after close
	}
	key := fmt.Sprint(to, lane)
	queue := m.lanes[key]
	if queue == nil {
		queue = make(chan func(), 10_000)
		m.lanes[key] = queue
		m.port.network.wait.Go(func() {
			for f := range queue {
				f()
			}
		})
	}
	select {
	case queue <- deliver:
	default: // lost
	}
}

func (m *messenger) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.lanes {
		close(l)
	}
	m.lanes = nil
}

// cut tells whether nothing passes between this node and another.
func (m *messenger) cut(to quorate.NodeID) bool {
	n := m.port.network
	n.mu.Lock()
	defer n.mu.Unlock()
	return m.port.down || n.ports[to] == nil || n.ports[to].down
}

// replicatedRig is a rig with a bucket of the hour before its others, whose two
// sets have a replica on each of three nodes.
type replicatedRig struct {
	*rig
	t      testing.TB
	groups map[quorate.NodeID]map[quorate.ReplicaSetID]*raftset.Group
	sets   []quorate.ReplicaSetID
	start  int64 // of the bucket, ms
}

func newReplicatedRig(t testing.TB) *replicatedRig {
	t.Helper()
	r := &replicatedRig{rig: newRigOf(t, 3), t: t, groups: map[quorate.NodeID]map[quorate.ReplicaSetID]*raftset.Group{}}
	r.start = now.Truncate(time.Hour).UnixMilli() - 3*hour
	planned := r.leader.do(t, metasvc.PlanBucket{
		Policy: 1, Range: quorate.TimeRange{Start: r.start, End: r.start + hour}, HashVersion: wire.ShardHashVersion,
		Placement: [][]quorate.NodeID{r.nodes, r.nodes},
	}).(metasvc.PlanBucketResult)
	r.sets = planned.Sets
	testwait.For(t, "the sets in the map", func() bool { return r.client.Map().Set(r.sets[1]) != nil })
	hosts := new(sync.Map)
	for _, node := range r.nodes {
		m := &messenger{port: r.network.ports[node], hosts: hosts, lanes: map[string]chan func(){}}
		dir := filepath.Join(r.dir, node.Name)
		host, err := raftset.NewHost(raftset.HostConfig{
			Dir: filepath.Join(dir, "raft"), Node: node, Messenger: m, LogStore: raftset.MemoryLogs(),
			Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			m.close()
			if err := host.Close(); err != nil {
				t.Error(err)
			}
		})
		hosts.Store(node, host)
		r.groups[node] = map[quorate.ReplicaSetID]*raftset.Group{}
		for _, id := range r.sets {
			r.openMember(host, dir, r.client.Map().Set(id), node)
		}
	}
	testwait.For(t, "the bucket to be open", func() bool {
		b := r.client.Map().Bucket(1, r.start)
		return b != nil && b.State == metasvc.BucketOpen
	})
	return r
}

func (r *replicatedRig) openMember(host *raftset.Host, dir string, set *metasvc.ReplicaSet, node quorate.NodeID) {
	r.t.Helper()
	ctx := r.t.Context()
	member, _ := set.MemberOn(node)
	genesis := raftset.Genesis{Set: set.ID, Replica: member.Replica, Payload: tsdbshard.GenesisPayload(set.Bounds)}
	for _, m := range set.Members {
		genesis.Voters = append(genesis.Voters, raftset.Member{Node: m.Node, Replica: m.Replica})
	}
	if err := host.Form(ctx, genesis); err != nil {
		r.t.Fatal(err)
	}
	shard, err := tsdbshard.New(tsdbshard.Config{Dir: filepath.Join(dir, fmt.Sprint(set.ID)), Set: set.ID})
	if err != nil {
		r.t.Fatal(err)
	}
	group, err := host.Open(ctx, set.ID, member.Replica, shard)
	if err != nil {
		r.t.Fatal(err)
	}
	r.groups[node][set.ID] = group
	r.homes[node].replicas.Add(NewReplica(set.ID, group, shard, ClientMeta{r.client}))
	if err := r.client.ReportFormed(ctx, set.ID, member.Replica); err != nil {
		r.t.Fatal(err)
	}
}

// leaderOf waits for a set's leader among the nodes that are up.
func (r *replicatedRig) leaderOf(set quorate.ReplicaSetID) (leader quorate.NodeID) {
	r.t.Helper()
	testwait.For(r.t, "a leader", func() bool {
		for _, node := range r.nodes {
			if _, leads := r.groups[node][set].Leadership(); leads && !r.isDown(node) {
				leader = node
				return true
			}
		}
		return false
	})
	return leader
}

func (r *replicatedRig) isDown(node quorate.NodeID) bool {
	r.network.mu.Lock()
	defer r.network.mu.Unlock()
	return r.network.ports[node].down
}

// writeBy appends by the router of a node.
func (r *replicatedRig) writeBy(by *Router, all ...metric) error {
	result, err := by.Append(r.t.Context(), r.tenant, (&sent{metrics: all}).request())
	if err == nil && result.Floats != len(all) {
		err = fmt.Errorf("stored %+v of %d", result, len(all))
	}
	return err
}

func (r *replicatedRig) countBy(by *Router, c quorate.Consistency) (n int, warnings string, err error) {
	q, err := by.Reads(c).Querier(r.t.Context(), r.tenant, r.start, r.start+hour-1)
	if err != nil {
		return 0, "", err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	set := q.Select(r.t.Context(), true, nil, named("m"))
	for set.Next() {
		it := set.At().Iterator(nil)
		for it.Next() != 0 {
			n++
		}
		if it.Err() != nil {
			return n, "", it.Err()
		}
	}
	return n, fmt.Sprint(set.Warnings().AsErrors()), set.Err()
}

func TestEveryNodeWritesAndReadsAtTheLeaders(t *testing.T) {
	r := newReplicatedRig(t)
	routers := []*Router{r.Router}
	for _, node := range r.nodes {
		routers = append(routers, r.homes[node])
	}
	total := 0
	for i, by := range routers {
		if err := r.writeBy(by, manySeries(20, r.start+int64(i))...); err != nil {
			t.Fatal(err)
		}
		total += 20
		for k, reader := range routers {
			n, warnings, err := r.countBy(reader, quorate.ConsistencyDefault)
			if err != nil || n != total {
				t.Errorf("node %d reads %d samples after node %d wrote, %v; want %d", k, n, i, err, total)
			}
			if strings.Contains(warnings, "stale") {
				t.Errorf("a default read warns: %s", warnings)
			}
		}
	}
	// A forward finds its leader at once when it was found before.
	before := r.network.called(methodWrite)
	if err := r.writeBy(r.Router, manySeries(20, r.start+9)...); err != nil {
		t.Fatal(err)
	}
	if asked := r.network.called(methodWrite) - before; asked != 2 {
		t.Errorf("%d forwards for two sets whose leaders are known, want 2", asked)
	}
}

func TestWritesFollowALeaderThatMoves(t *testing.T) {
	r := newReplicatedRig(t)
	l := labels.FromStrings("__name__", "m")
	ctx, stop := context.WithCancel(t.Context())
	var workers sync.WaitGroup
	counts := make([]int, 3)
	for w, by := range []*Router{r.Router, r.homes[r.nodes[0]], r.homes[r.nodes[1]]} {
		workers.Go(func() {
			series := labels.NewBuilder(l).Set("w", fmt.Sprint(w)).Labels()
			for ctx.Err() == nil {
				if err := r.writeBy(by, metric{series, []float{{r.start + int64(counts[w]), float64(counts[w])}}}); err != nil {
					t.Errorf("writer %d, sample %d: %v", w, counts[w], err)
					return
				}
				counts[w]++
			}
		})
	}
	for range 6 {
		for _, set := range r.sets {
			leader := r.leaderOf(set)
			to := r.nodes[0]
			if to == leader {
				to = r.nodes[2]
			}
			member, _ := r.client.Map().Set(set).MemberOn(to)
			_ = r.groups[leader][set].TransferLeadership(t.Context(), member.Replica) // it may have moved already
		}
	}
	stop()
	workers.Wait()
	want := counts[0] + counts[1] + counts[2]
	if n, _, err := r.countBy(r.Router, quorate.ConsistencyStrong); n != want || err != nil {
		t.Errorf("%d samples are read, %v; want the %d acknowledged", n, err, want)
	}
}

func TestANodeThatDiesCostsAnElection(t *testing.T) {
	r := newReplicatedRig(t)
	if err := r.writeBy(r.Router, manySeries(20, r.start)...); err != nil {
		t.Fatal(err)
	}
	dead := r.leaderOf(r.sets[0])
	r.network.setDown(dead, true)
	if err := r.writeBy(r.Router, manySeries(20, r.start+1)...); err != nil {
		t.Fatal(err)
	}
	for _, node := range r.nodes {
		if node == dead {
			continue
		}
		if n, _, err := r.countBy(r.homes[node], quorate.ConsistencyDefault); n != 40 || err != nil {
			t.Errorf("node %s reads %d samples, %v; want 40", node.Name, n, err)
		}
	}
	// The one that is cut off cannot confirm what it has, but shows it.
	own := r.homes[dead]
	own.queryTimeout = 100 * time.Millisecond
	if n, _, err := r.countBy(own, quorate.ConsistencyDefault); quorate.KindOf(err) != quorate.Unavailable {
		t.Errorf("a node that is cut off reads %d samples, %v; want Unavailable", n, err)
	}
	n, warnings, err := r.countBy(own, quorate.ConsistencyStale)
	if n == 0 || n > 20 || err != nil || !strings.Contains(warnings, "stale_read: 2 of 2 sets") {
		t.Errorf("a stale read of a node that is cut off gives %d samples, warnings %s, %v; want some of those from before", n, warnings, err)
	}
	testwait.For(t, "the lag to be unknown", func() bool {
		_, warnings, err := r.countBy(own, quorate.ConsistencyStale)
		return err == nil && strings.Contains(warnings, "2 of them know no leader")
	})
	r.network.setDown(dead, false)
	own.queryTimeout = testwait.Deadline
	if n, _, err := r.countBy(own, quorate.ConsistencyDefault); n != 40 || err != nil {
		t.Errorf("the node that is back reads %d samples, %v; want 40", n, err)
	}
	if err := r.writeBy(own, manySeries(20, r.start+2)...); err != nil {
		t.Errorf("the node that is back cannot write: %v", err)
	}
}

// A deletion goes to the leader too, whoever is asked.
func TestADeletionIsCommittedAtTheLeader(t *testing.T) {
	r := newReplicatedRig(t)
	if err := r.writeBy(r.Router, manySeries(20, r.start)...); err != nil {
		t.Fatal(err)
	}
	for i, node := range r.nodes {
		m := labels.MustNewMatcher(labels.MatchEqual, "i", fmt.Sprintf("%04d", i))
		if err := r.homes[node].DeleteSeries(t.Context(), r.tenant, r.start, r.start+hour, m); err != nil {
			t.Fatal(err)
		}
		if n, _, err := r.countBy(r.Router, quorate.ConsistencyDefault); n != 19-i || err != nil {
			t.Errorf("after %d deletions %d samples are read, %v", i+1, n, err)
		}
	}
}

// The file of a sealed set is read wherever it is: a member that is away, or has
// none yet, is passed over.
func TestASealedSetIsReadFromAnyMember(t *testing.T) {
	r := newRigOf(t, 2)
	r.keep(t)
	r.mustWrite(t, manySeries(20, at(-3600))...)
	r.seal(t, at(-3600))
	m := r.client.Map()
	for _, set := range m.Bucket(1, at(-3600)).Sets {
		there := set.Members[0]
		other := metasvc.Member{Node: r.nodes[0], Replica: there.Replica + 1000}
		if other.Node == there.Node {
			other.Node = r.nodes[1]
		}
		both := *set
		both.Members = []metasvc.Member{other, there}
		for _, down := range []bool{false, true} {
			r.network.setDown(other.Node, down)
			p, err := r.view(t.Context(), m, &both, r.tenant)
			if err != nil {
				t.Fatalf("with the first member down %t: %v", down, err)
			}
			q, err := p.shards[0].querier(r.tenant, at(-7200), at(0))
			if err != nil {
				t.Fatal(err)
			}
			if n := len(linesOf(t, q.Select(t.Context(), true, nil, named("m")))); n == 0 || n == 20 {
				t.Errorf("%d series of one shard are read, want some of 20", n)
			}
			if err := q.Close(); err != nil {
				t.Fatal(err)
			}
			p.release()
		}
		r.network.setDown(other.Node, false)
		both.Members = both.Members[:1]
		if _, err := r.view(t.Context(), m, &both, r.tenant); !isRetriable(err) || !strings.Contains(err.Error(), "no open replica") {
			t.Errorf("without the member that has it: %v, want a retriable error", err)
		}
	}
}
