package metasvc

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// paperCluster is a cluster whose nodes exist on paper only: its controller
// runs, and its nodes form their replicas after a delay, or never.
type paperCluster struct {
	leader     *fakeLeader
	controller *Controller
	client     *Client
	beats      atomic.Pointer[[]Heartbeat]
	// progress is how far the sets have come, nil for none reported.
	progress atomic.Pointer[map[quorate.ReplicaSetID]uint64]
	// sealers are the nodes that report seals, nil for all.
	sealers atomic.Pointer[[]string]
	stop    context.CancelFunc
	done    chan struct{}
}

// startPaperCluster starts a controller and nodes in a synctest bubble.
func startPaperCluster(t *testing.T, change func(*ControllerConfig)) *paperCluster {
	t.Helper()
	p := &paperCluster{leader: newFakeLeader(openMachine(t)), done: make(chan struct{}, 2)}
	p.beats.Store(new([]Heartbeat))
	cfg := ControllerConfig{
		StateMachine: p.leader.machine,
		Leader:       p.leader,
		Leadership:   p.leader.Leadership,
		Cluster:      testCluster,
		Node:         testNodeSpec("n1", "a"),
		Heartbeats:   func() []Heartbeat { return *p.beats.Load() },
		Progress: func() map[quorate.ReplicaSetID]uint64 {
			if list := p.progress.Load(); list != nil {
				return *list
			}
			return nil
		},
	}
	cfg.MapVersion = func() uint64 { return p.client.Map().Version }
	if change != nil {
		change(&cfg)
	}
	var err error
	if p.controller, err = NewController(cfg); err != nil {
		t.Fatal(err)
	}
	p.client = openClient(t, p.leader, func(c *ClientConfig) { c.MaxOnDemandBuckets = 5 })
	ctx, stop := context.WithCancel(t.Context())
	p.stop = stop
	go func() {
		if err := p.controller.Run(ctx); err != nil {
			t.Error(err)
		}
		p.done <- struct{}{}
	}()
	go func() {
		p.doAsRecorded(ctx)
		p.done <- struct{}{}
	}()
	return p
}

// doAsRecorded is what all nodes do: form, seal and drop what the map says.
// The reports fail only when the test takes the leader away.
func (p *paperCluster) doAsRecorded(ctx context.Context) {
	var m *Map
	for {
		var err error
		if m, err = p.client.AwaitMap(ctx, m); err != nil {
			return
		}
		for _, set := range m.Sets() {
			for _, member := range set.Members {
				switch {
				case set.State == ReplicaSetForming:
					_ = p.client.ReportFormed(ctx, set.ID, member.Replica)
				case set.State == ReplicaSetOpen && set.Sealing() != nil && !set.reported(member.Replica):
					if only := p.sealers.Load(); only == nil || slices.Contains(*only, member.Node.Name) {
						_ = p.client.ReportSeal(ctx, set.ID, member.Replica, paperReport(set, member.Node.Name == "n1"))
					}
				case set.State == ReplicaSetDropping && !slices.Contains(set.Dropped, member.Replica):
					_ = p.client.ReportDropped(ctx, set.ID, member.Replica)
				}
			}
		}
	}
}

// paperReport is the seal of a set without samples.
func paperReport(set *ReplicaSet, file bool) SealReport {
	r := SealReport{Intent: uint64(set.Sealing().ID), Index: 9, Checksum: [32]byte{byte(set.ID)}}
	if file {
		r.File = &wire.SealedFile{Hash: [32]byte{byte(set.ID)}, Bytes: 100, MinTime: 1}
	}
	return r
}

func (p *paperCluster) close(t *testing.T) {
	t.Helper()
	p.stop()
	<-p.done
	<-p.done
	if err := p.client.Close(); err != nil {
		t.Error(err)
	}
}

// buckets lists the buckets of the default policy as hours from now's day.
func (p *paperCluster) buckets() (list []quorate.TimeRange) {
	for _, b := range p.client.Map().Buckets(1) {
		list = append(list, b.Range)
	}
	return list
}

const day = 24 * time.Hour

func today() time.Time { return time.Now().UTC().Truncate(day) }

// checkAhead checks PROTOCOL 10 at this moment.
func (p *paperCluster) checkAhead(t *testing.T) {
	t.Helper()
	now := time.Now().UnixMilli()
	ahead := 0
	for _, b := range p.client.Map().Buckets(1) {
		if b.Range.Start <= now+hour && b.Range.End > now-hour && b.State != BucketOpen {
			t.Fatalf("at %s the bucket %v is %s", quorate.FormatTime(now), b.Range, b.State)
		}
		if b.Range.Start > now {
			ahead++
		}
	}
	if b := p.client.Map().Bucket(1, now); b == nil || ahead < bucketsAhead {
		t.Fatalf("at %s the current bucket is %v and %d are ahead", quorate.FormatTime(now), b, ahead)
	}
}

func TestFirstStartMakesWhatIsNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pass(7 * time.Hour)
		p := startPaperCluster(t, nil)
		defer p.close(t)
		pass(time.Second)
		start := today().Add(-day).UnixMilli()
		var want []quorate.TimeRange
		for i := range int64(4) { // yesterday's, today's and two ahead
			want = append(want, quorate.TimeRange{Start: start + i*24*hour, End: start + (i+1)*24*hour})
		}
		got := p.buckets()
		if len(got) != len(want) {
			t.Fatalf("the first start makes buckets %v, want %v", got, want)
		}
		for i, b := range p.client.Map().Buckets(1) {
			if b.Range != want[i] || b.State != BucketOpen || len(b.Sets) != 2 || b.OnDemand != (i == 0) {
				t.Errorf("bucket %d is %v, %s, of %d shards, on demand %t", i, b.Range, b.State, len(b.Sets), b.OnDemand)
			}
		}
		m := p.client.Map()
		if m.Cluster.ID != testCluster || len(m.Nodes()) != 1 || !m.PolicyNamed(DefaultPolicyName).equal(DefaultPolicy()) {
			t.Errorf("cluster, node and default policy are %v, %v, %v", m.Cluster, m.Nodes(), m.Policies())
		}
		if _, err := p.client.EnsureTenant(t.Context(), quorate.AnonymousTenant); err != nil {
			t.Error(err)
		}
		before := len(p.leader.commands())
		pass(time.Hour)
		if after := len(p.leader.commands()); after != before {
			t.Errorf("an idle hour costs %d commands: %v", after-before, p.leader.commands()[before:])
		}
		for _, st := range p.controller.Status() {
			if st.Err != nil || st.LastRun.IsZero() {
				t.Errorf("loop %s: last run %v, %v", st.Name, st.LastRun, st.Err)
			}
		}
	})
}

func TestProtocol10BucketsExistAheadOverDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPaperCluster(t, nil)
		defer p.close(t)
		pass(time.Minute)
		for range 8 * 24 * 2 {
			p.checkAhead(t)
			pass(30 * time.Minute)
		}
		if err := p.leader.machine.snapshot().check(); err != nil {
			t.Fatal(err)
		}
		// 8 days, the one before, the current and two ahead.
		if n := len(p.buckets()); n != 12 {
			t.Errorf("8 days made %d buckets, want 12", n)
		}
	})
}

func TestProtocol10ShortBucketsAreAheadByAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPaperCluster(t, func(cfg *ControllerConfig) {
			cfg.DefaultPolicy = policy(DefaultPolicyName, func(p *PolicySpec) { p.Span = 10 * time.Minute })
		})
		defer p.close(t)
		pass(time.Minute)
		for range 100 {
			p.checkAhead(t)
			now := time.Now().UnixMilli()
			if b := p.client.Map().Bucket(1, now+hour); b == nil || b.State != BucketOpen {
				t.Fatal("the bucket that starts within the hour is not open")
			}
			pass(7 * time.Minute)
		}
	})
}

func TestProtocol11ANewSpanStartsWhereThePlannedBucketsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		weekly := policy(DefaultPolicyName, func(p *PolicySpec) { p.Span = 7 * day })
		p := startPaperCluster(t, nil)
		pass(time.Minute)
		planned := p.buckets()
		p.close(t)
		again, err := NewController(ControllerConfig{
			StateMachine: p.leader.machine, Leader: p.leader, Leadership: p.leader.Leadership,
			Cluster: testCluster, Node: testNodeSpec("n1", "a"), DefaultPolicy: weekly,
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 8*day)
		defer cancel()
		if err := again.Run(ctx); err != nil {
			t.Fatal(err)
		}
		list := p.leader.machine.snapshot().bucketsOf[1]
		for i, b := range list {
			switch {
			case i < len(planned):
				if b.Range != planned[i] {
					t.Errorf("planned bucket %v became %v", planned[i], b.Range)
				}
			case b.Range.Start != list[i-1].Range.End || b.Range.End%(7*24*hour) != 0:
				t.Errorf("bucket %v does not follow %v up to a multiple of a week", b.Range, list[i-1].Range)
			}
		}
		if len(list) <= len(planned)+1 {
			t.Errorf("8 days of weekly buckets are %v", list)
		}
	})
}

func TestControllerWorksOnlyWhileItLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPaperCluster(t, nil)
		defer p.close(t)
		pass(time.Second)
		p.leader.set(func(l *fakeLeader) { l.elsewhere = true })
		before := len(p.leader.commands())
		pass(26 * time.Hour)
		if n := len(p.leader.commands()); n != before {
			t.Fatalf("a follower's controller proposed %v", p.leader.commands()[before:])
		}
		p.leader.set(func(l *fakeLeader) { l.elsewhere, l.term = false, 2 })
		pass(2 * time.Second)
		p.checkAhead(t)
	})
}

func TestControllerRetriesWithoutFlooding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		p := startPaperCluster(t, nil)
		defer p.close(t)
		pass(time.Second)
		p.leader.set(func(l *fakeLeader) { l.err = errDisk })
		p.leader.set(func(l *fakeLeader) { l.onConfirm = func() { asked.Add(1) } })
		pass(time.Hour)
		// The client renews its lease each 250 ms while that fails.
		if perSecond := float64(asked.Load()) / 3600; perSecond > 4.5 {
			t.Errorf("a failing leader was asked %.1f times a second", perSecond)
		}
		for _, st := range p.controller.Status() {
			if !errors.Is(st.Err, errDisk) {
				t.Errorf("loop %s shows %v, want the leader's error", st.Name, st.Err)
			}
		}
		p.leader.set(func(l *fakeLeader) { l.err, l.onConfirm = nil, nil })
		pass(2 * retryMost)
		for _, st := range p.controller.Status() {
			if st.Err != nil {
				t.Errorf("loop %s still shows %v", st.Name, st.Err)
			}
		}
		p.checkAhead(t)
	})
}

func TestAPolicyThatCannotBePlacedStopsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPaperCluster(t, nil)
		defer p.close(t)
		pass(time.Second)
		p.leader.must(t, CreatePolicy{Policy: policy("three", func(p *PolicySpec) { p.Replicas = 3 })})
		pass(2 * day)
		p.checkAhead(t)
		found := false
		for _, st := range p.controller.Status() {
			if st.Name == LoopBuckets {
				found = st.Err != nil && strings.Contains(st.Err.Error(), `"three"`)
			}
		}
		if !found {
			t.Errorf("no loop says that policy three cannot be placed: %+v", p.controller.Status())
		}
		// Refused plans are not proposed at all, so nothing fills the log.
		if n := len(p.leader.commands()); n > 60 {
			t.Errorf("two days made %d commands", n)
		}
	})
}

func TestPauseAndDryRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPaperCluster(t, nil)
		defer p.close(t)
		if err := p.controller.Pause("nothing"); quorate.KindOf(err) != quorate.NotFound {
			t.Errorf("a loop that is none was paused: %v", err)
		}
		pass(time.Second)
		if actions, err := p.controller.DryRun(); err != nil || len(actions) != 0 {
			t.Errorf("with all done a dry run wants %v, %v", actions, err)
		}
		if err := p.controller.Pause(LoopBuckets); err != nil {
			t.Fatal(err)
		}
		planned := len(p.buckets())
		pass(2 * day)
		if after := len(p.buckets()); after != planned {
			t.Fatalf("a paused loop planned %d buckets", after-planned)
		}
		before := p.leader.machine.AppliedIndex()
		actions, err := p.controller.DryRun()
		if err != nil || len(actions) != 2 || actions[0].Loop != LoopBuckets {
			t.Fatalf("after two days without buckets a dry run wants %v, %v", actions, err)
		}
		if after := p.leader.machine.AppliedIndex(); after != before {
			t.Fatal("a dry run was no dry run")
		}
		if err := p.controller.Resume(LoopBuckets); err != nil {
			t.Fatal(err)
		}
		pass(2 * passEvery)
		p.checkAhead(t)
	})
}

func TestDryRunOfAFirstStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // at midnight, when no warm-up is near
		leader := newFakeLeader(openMachine(t))
		c, err := NewController(ControllerConfig{
			StateMachine: leader.machine, Leader: leader, Leadership: leader.Leadership, Cluster: testCluster, Node: testNodeSpec("n1", "a"),
		})
		if err != nil {
			t.Fatal(err)
		}
		actions, err := c.DryRun()
		if err != nil {
			t.Fatal(err)
		}
		var types []string
		for _, a := range actions {
			types = append(types, a.Command.Type().String())
		}
		want := "bootstrap create_policy plan_bucket plan_bucket plan_bucket plan_bucket effect_bucket effect_bucket"
		if got := strings.Join(types, " "); got != want {
			t.Errorf("a first start wants %q, want %q", got, want)
		}
		if leader.machine.AppliedIndex() != 1 {
			t.Error("the dry run changed the state")
		}
	})
}

func TestControllerRefusesToActForAnotherCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPaperCluster(t, func(cfg *ControllerConfig) { cfg.Cluster = quorate.ClusterID{9} })
		defer p.close(t)
		pass(time.Second)
		p.close(t)
		p.done <- struct{}{}
		p.done <- struct{}{}
		c, err := NewController(ControllerConfig{
			StateMachine: p.leader.machine, Leader: p.leader, Leadership: p.leader.Leadership, Cluster: testCluster, Node: testNodeSpec("n2", "a"),
		})
		if err != nil {
			t.Fatal(err)
		}
		before := p.leader.machine.AppliedIndex()
		ctx, cancel := context.WithTimeout(t.Context(), 3*day)
		defer cancel()
		if err := c.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if p.leader.machine.AppliedIndex() != before || c.Status()[0].Err == nil {
			t.Error("a controller of another cluster acted")
		}
	})
}

func TestANodeIsRecordedAsItIsConfigured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPaperCluster(t, nil)
		pass(time.Second)
		p.close(t)
		moved := testNodeSpec("n1", "b")
		c, err := NewController(ControllerConfig{
			StateMachine: p.leader.machine, Leader: p.leader, Leadership: p.leader.Leadership, Cluster: testCluster, Node: moved,
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := c.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if n := p.leader.machine.snapshot().nodes[moved.ID]; n.NodeSpec != moved || n.Number != 1 {
			t.Errorf("the node is recorded as %+v", n)
		}
	})
}
