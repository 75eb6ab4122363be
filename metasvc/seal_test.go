package metasvc

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// setsAt returns the sets of the default policy's bucket at a time, by shard.
func (p *paperCluster) setsAt(t *testing.T, ts int64) []*ReplicaSet {
	t.Helper()
	b := p.client.Map().Bucket(1, ts)
	if b == nil {
		t.Fatalf("there is no bucket at %s", quorate.FormatTime(ts))
	}
	return b.Sets
}

// still reports all sets of the map as standing still.
func (p *paperCluster) still() {
	at := make(map[quorate.ReplicaSetID]uint64)
	for _, set := range p.client.Map().Sets() {
		at[set.ID] = 7
	}
	p.progress.Store(&at)
}

// states lists the states of sets, each once.
func states(sets []*ReplicaSet) string {
	var list []string
	for _, s := range sets {
		if name := s.State.String(); len(list) == 0 || list[len(list)-1] != name {
			list = append(list, name)
		}
	}
	return strings.Join(list, ",")
}

// TestProtocol14BucketsAreSealedAfterTheLateWindow has the clock end a bucket.
func TestProtocol14BucketsAreSealedAfterTheLateWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPaperCluster(t, nil)
		defer p.close(t)
		pass(time.Minute)
		first := time.Now().UnixMilli()
		pass(time.Until(today().Add(day + 2*time.Hour - time.Minute)))
		if got := states(p.setsAt(t, first)); got != "open" {
			t.Fatalf("inside the late window the sets are %s", got)
		}
		pass(2 * time.Minute)
		for _, set := range p.setsAt(t, first) {
			if set.State != ReplicaSetSealed || set.Bounds != (quorate.Bounds{Version: 2, Range: set.Bounds.Range, State: quorate.SetSealed}) || set.Sealed.File.Bytes != 100 {
				t.Errorf("after the late window set %d is %s, %+v, %+v", set.ID, set.State, set.Bounds, set.Sealed)
			}
		}
		b := p.client.Map().Bucket(1, first)
		if b.State != BucketOpen {
			t.Errorf("the bucket of sealed sets is %s", b.State)
		}
		if got := states(p.setsAt(t, time.Now().UnixMilli())); got != "open" {
			t.Errorf("the current sets are %s", got)
		}
		if b.Writable(0) != nil {
			t.Error("a sealed shard without an overlay takes writes")
		}
		if base, overlay := b.Readable(0); base != b.Sets[0] || overlay != nil {
			t.Errorf("a sealed shard is read as %v and %v", base, overlay)
		}
	})
}

// TestProtocol17OldBucketsAreSealedWhenQuiet covers what is quiet: standing
// still for the late window, by this leader's clock, since it leads.
func TestProtocol17OldBucketsAreSealedWhenQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pass(100 * day)
		p := startPaperCluster(t, nil)
		defer p.close(t)
		pass(time.Second)
		ts := ago(5 * day)
		if _, err := p.client.EnsureBucket(t.Context(), 1, ts); err != nil {
			t.Fatal(err)
		}
		expect := func(after time.Duration, want string) {
			t.Helper()
			pass(after)
			if got := states(p.setsAt(t, ts)); got != want {
				t.Fatalf("the sets of five days ago are %s, want %s", got, want)
			}
		}
		expect(3*time.Hour, "open") // nobody reports: not known to be quiet
		p.still()
		expect(90*time.Minute, "open")
		moved := map[quorate.ReplicaSetID]uint64{}
		for _, set := range p.setsAt(t, ts) {
			moved[set.ID] = 8
		}
		p.progress.Store(&moved) // a sample came
		expect(119*time.Minute, "open")
		p.leader.set(func(l *fakeLeader) { l.term++ }) // another leader's timers start anew
		expect(119*time.Minute, "open")
		p.progress.Store(new(map[quorate.ReplicaSetID]uint64))
		expect(time.Minute, "open")
		p.progress.Store(&moved) // reported again, it starts anew
		expect(119*time.Minute, "open")
		p.leader.set(func(l *fakeLeader) { l.elsewhere = true })
		expect(time.Minute, "open")
		p.leader.set(func(l *fakeLeader) { l.elsewhere = false }) // and so it does for who leads again
		expect(119*time.Minute, "open")
		expect(2*time.Minute, "sealed")
	})
}

func TestTheQuietWindowDoublesUpToADay(t *testing.T) {
	for _, c := range []struct {
		late       time.Duration
		generation int
		want       time.Duration
	}{
		{2 * time.Hour, 0, 2 * time.Hour},
		{2 * time.Hour, 1, 4 * time.Hour},
		{2 * time.Hour, 3, 16 * time.Hour},
		{2 * time.Hour, 4, day},
		{2 * time.Hour, maxGeneration, day},
		{30 * day, 0, day},
		{0, 0, time.Minute},
		{0, 1, 2 * time.Minute},
		{0, maxGeneration, day},
	} {
		if got := quietWindow(c.late, c.generation); got != c.want {
			t.Errorf("late window %v in generation %d is %v, want %v", c.late, c.generation, got, c.want)
		}
	}
}

// sealedDay returns a cluster whose bucket at ts is sealed.
func sealedDay(t *testing.T, change func(*ControllerConfig)) (p *paperCluster, ts int64) {
	t.Helper()
	pass(100 * day)
	p = startPaperCluster(t, change)
	pass(time.Second)
	ts = time.Now().UnixMilli()
	pass(27 * time.Hour)
	if got := states(p.setsAt(t, ts)); got != "sealed" {
		t.Fatalf("the sets of yesterday are %s", got)
	}
	return p, ts
}

// TestProtocol14TheJudgeWaitsForLiveVoters has two nodes, of which one is slow.
func TestProtocol14TheJudgeWaitsForLiveVoters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPaperCluster(t, func(cfg *ControllerConfig) {
			cfg.DefaultPolicy = policy(DefaultPolicyName, func(p *PolicySpec) { p.Replicas = 3 })
		})
		defer p.close(t)
		pass(time.Second)
		p.leader.must(t, AdmitNode{testNodeSpec("n2", "b")}, AdmitNode{testNodeSpec("n3", "c")})
		p.sealers.Store(&[]string{"n1", "n2"})
		pass(10 * time.Second)
		ts := time.Now().UnixMilli()
		for time.Now().Before(today().Add(2*time.Hour+time.Minute)) || time.Now().UnixMilli() < ts+24*hour {
			p.beats.Store(&[]Heartbeat{{Node: testNode("n3", 1), Received: time.Now(), Clock: time.Now(), MapVersion: 1 << 40}})
			pass(20 * time.Second)
		}
		if got := states(p.setsAt(t, ts)); got != "open" {
			t.Fatalf("a live voter has not reported, and the sets are %s", got)
		}
		if p.setsAt(t, ts)[0].Sealing() == nil || len(p.setsAt(t, ts)[0].Reports) != 2 {
			t.Fatalf("the set is %+v, want two reports of its seal", p.setsAt(t, ts)[0])
		}
		pass(40 * time.Second)
		p.leader.set(func(l *fakeLeader) { l.term++ })
		pass(50 * time.Second) // the new leader has not waited long enough
		if got := states(p.setsAt(t, ts)); got != "open" {
			t.Fatalf("under a new leader the sets are %s", got)
		}
		pass(40 * time.Second)
		if got := states(p.setsAt(t, ts)); got != "sealed" {
			t.Fatalf("with the third voter silent the sets are %s", got)
		}
	})
}

func TestADisputeIsLoggedAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		leader := newCluster(t)
		now := today().UnixMilli() / hour
		leader.must(t, AdmitNode{testNodeSpec("n2", "b")}, planOn(hours(now-24, now), "n1", "n2"), ReportFormed{1, 2}, ReportFormed{1, 3})
		leader.must(t, BeginIntent{Set: 1, Kind: IntentSeal, Term: 1, Payload: new(wire.Seal).Append(nil)})
		for i, replica := range []quorate.ReplicaID{2, 3} {
			leader.must(t, ReportSeal{1, SealReport{Replica: replica, Intent: 1, Index: 5, Checksum: [32]byte{byte(i)}}})
		}
		c, err := NewController(ControllerConfig{
			StateMachine: leader.machine, Leader: leader, Leadership: leader.Leadership, Cluster: testCluster,
			Node: testNodeSpec("n1", "a"), Logger: slog.New(slog.NewTextHandler(&logged, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := c.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(logged.String(), "level=WARN msg=\"replicas differ"); n != 1 || !strings.Contains(logged.String(), "set_id=1") {
			t.Errorf("the dispute was logged %d times: %s", n, logged.String())
		}
		client := openClient(t, leader, nil)
		synctest.Wait()
		if got := gauge(t, client, "quorate_meta_replica_sets", "disputed"); got != 1 {
			t.Errorf("%v sets are counted as disputed", got)
		}
		if got := gauge(t, client, "quorate_meta_sealing_sets", ""); got != 1 {
			t.Errorf("%v sets are counted as being sealed", got)
		}
	})
}

// gauge returns what the client's registry shows.
func gauge(t *testing.T, c *Client, name, state string) float64 {
	t.Helper()
	families, err := c.cfg.Registerer.(*prometheus.Registry).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (state == "" || m.GetLabel()[0].GetValue() == state) {
				return m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("there is no metric %s %s", name, state)
	return 0
}

// TestARequestedSealIsBegunAtOnce covers RequestSeal, which waits for no pass
// of the controller.
func TestARequestedSealIsBegunAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pass(100 * day)
		p := startPaperCluster(t, nil)
		defer p.close(t)
		pass(time.Second)
		ts := ago(5 * day)
		b, err := p.client.EnsureBucket(t.Context(), 1, ts)
		if err != nil {
			t.Fatal(err)
		}
		ids := []quorate.ReplicaSetID{b.SetIDs[1], b.SetIDs[0], b.SetIDs[1]}
		start := time.Now()
		if err := p.client.RequestSeal(t.Context(), ids); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := states(p.setsAt(t, ts)); got != "sealed" || time.Since(start) > 0 {
			t.Errorf("asked for, after %v the sets are %s", time.Since(start), got)
		}
		if err := p.client.RequestSeal(t.Context(), ids); err != nil {
			t.Errorf("sealed sets were refused: %v", err)
		}
		if err := p.client.RequestSeal(t.Context(), nil); err != nil {
			t.Errorf("no sets were refused: %v", err)
		}
		now := p.setsAt(t, time.Now().UnixMilli())[0].ID
		if err := p.client.RequestSeal(t.Context(), []quorate.ReplicaSetID{now}); quorate.KindOf(err) != quorate.Invalid {
			t.Errorf("a set that takes samples still was answered %v", err)
		}
		if err := p.client.RequestSeal(t.Context(), []quorate.ReplicaSetID{999}); quorate.KindOf(err) != quorate.NotFound {
			t.Errorf("a set that is none was answered %v", err)
		}
	})
}

// TestProtocol13HorizonsComeWithTheSeal: whose retention is shorter than the
// policy's, and reaches into the bucket, is decided by the leader's clock once.
func TestProtocol13HorizonsComeWithTheSeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pass(100 * day)
		p := startPaperCluster(t, nil)
		defer p.close(t)
		pass(time.Second)
		p.leader.must(t, CreatePolicy{Policy: policy("other", nil)})
		for name, retention := range map[string]time.Duration{"short": 10 * time.Hour, "reaching": 5*day - time.Hour, "long": 10 * day, "longer": 60 * day, "none": 0} {
			tenant, err := p.client.EnsureTenant(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.client.SetTenantRetention(t.Context(), tenant.ID, retention); err != nil {
				t.Fatal(err)
			}
		}
		p.leader.must(t, CreateTenant{Name: "elsewhere", Policy: 2}, SetTenantRetention{6, time.Hour})
		var ids []quorate.ReplicaSetID
		if b, err := p.client.EnsureBucket(t.Context(), 1, ago(5*day)); err != nil {
			t.Fatal(err)
		} else {
			ids = b.SetIDs
		}
		sent := time.Now().UnixMilli()
		if err := p.client.RequestSeal(t.Context(), ids[:1]); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		want := make(map[quorate.TenantID]int64)
		for name, age := range map[string]time.Duration{"short": 10 * time.Hour, "reaching": 5*day - time.Hour} {
			tenant, _, _ := p.client.Tenant(t.Context(), name)
			want[tenant.ID] = sent - age.Milliseconds()
		}
		for _, c := range p.leader.commands() {
			begin, ok := c.(BeginIntent)
			if !ok || begin.Set != ids[0] {
				continue
			}
			seal, err := wire.DecodeSeal(begin.Payload)
			if err != nil || seal.Intent != 0 || len(seal.Deletions) != 0 || len(seal.Horizons) != len(want) {
				t.Fatalf("the seal says %+v, %v, want horizons %v", seal, err, want)
			}
			for _, h := range seal.Horizons {
				if want[h.Tenant] != h.Oldest {
					t.Errorf("tenant %d is kept from %d on, want %d", h.Tenant, h.Oldest, want[h.Tenant])
				}
			}
			return
		}
		t.Fatal("no seal was begun")
	})
}

func TestRetentionOfATenantIsChecked(t *testing.T) {
	leader := newCluster(t)
	c := openClient(t, leader, nil)
	confirmed(t, c)
	tenant, err := c.EnsureTenant(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	for retention, want := range map[time.Duration]quorate.ErrorKind{
		-time.Second:                    quorate.Invalid,
		time.Microsecond:                quorate.Invalid,
		time.Second + 1:                 quorate.Invalid,
		MaxRetention + time.Millisecond: quorate.Invalid,
	} {
		if err := c.SetTenantRetention(t.Context(), tenant.ID, retention); quorate.KindOf(err) != want || err == nil {
			t.Errorf("a retention of %v was answered %v", retention, err)
		}
	}
	if err := c.SetTenantRetention(t.Context(), 99, time.Hour); quorate.KindOf(err) != quorate.NotFound {
		t.Errorf("a tenant that is none was answered %v", err)
	}
	p := c.Map().Policy(1)
	for own, want := range map[time.Duration]time.Duration{time.Millisecond: time.Millisecond, time.Hour: time.Hour, 365 * day: p.Retention, 0: p.Retention} {
		if err := c.SetTenantRetention(t.Context(), tenant.ID, own); err != nil {
			t.Fatal(err)
		}
		got, _, err := c.Tenant(t.Context(), "acme") // from the cache
		if err != nil || got.Retention != own || p.RetentionOf(&got) != want {
			t.Errorf("with a retention of %v the tenant has %v under its policy, %v", own, p.RetentionOf(&got), err)
		}
	}
}
