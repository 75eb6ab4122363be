package metasvc

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate"
)

func ago(d time.Duration) int64 { return time.Now().Add(-d).UnixMilli() }

func TestOldSamplesGetABucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pass(100 * day)
		p := startPaperCluster(t, nil)
		defer p.close(t)
		pass(time.Second)
		ts := ago(10 * day)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				b, err := p.client.EnsureBucket(t.Context(), 1, ts)
				if err != nil || !b.Range.Contains(ts) || b.State != BucketOpen || !b.OnDemand || b.Range.Start%(24*hour) != 0 {
					t.Errorf("the bucket ten days ago is %+v, %v", b, err)
				}
			})
		}
		wg.Wait()
		planned := 0
		for _, c := range p.leader.commands() {
			if c, ok := c.(PlanBucket); ok && c.Range.Contains(ts) {
				planned++
				if !c.Pending {
					t.Error("a bucket in visible time was planned without waiting for the nodes (PROTOCOL 8)")
				}
			}
		}
		if planned != 1 {
			t.Errorf("ten requests planned the bucket %d times", planned)
		}
		// Found at once from now on.
		if b, err := p.client.EnsureBucket(t.Context(), 1, ts+1); err != nil || !b.Range.Contains(ts) {
			t.Errorf("the bucket is not found again: %v", err)
		}
	})
}

func TestTimesThatGetNoBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pass(100 * day)
		p := startPaperCluster(t, nil)
		defer p.close(t)
		pass(time.Second)
		for name, c := range map[string]struct {
			ts   int64
			rule string
		}{
			"past the retention":    {ago(30*day + time.Millisecond), "retention of 720h0m0s"},
			"at the epoch":          {0, "retention of 720h0m0s"},
			"before all time":       {-1 << 63, "retention of 720h0m0s"},
			"past the future bound": {ago(-4 * day), "future bound of 10m0s"},
			"after all time":        {1<<63 - 1, "future bound of 10m0s"},
		} {
			_, err := p.client.EnsureBucket(t.Context(), 1, c.ts)
			if quorate.KindOf(err) != quorate.Invalid || !strings.Contains(err.Error(), c.rule) || !strings.Contains(err.Error(), quorate.FormatTime(c.ts)) {
				t.Errorf("a sample %s was answered %v, want Invalid that names %s and the %s", name, err, quorate.FormatTime(c.ts), c.rule)
			}
		}
		if _, err := p.client.EnsureBucket(t.Context(), 1, ago(30*day)); err != nil {
			t.Errorf("the oldest sample that retention allows was answered %v", err)
		}
		if _, err := p.client.EnsureBucket(t.Context(), 9, ago(0)); quorate.KindOf(err) != quorate.NotFound {
			t.Errorf("a policy that is none was answered %v", err)
		}
	})
}

func TestOldBucketsAreBudgeted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pass(100 * day)
		p := startPaperCluster(t, nil) // five, of which the first start took one
		defer p.close(t)
		pass(time.Second)
		for i := range 4 {
			if _, err := p.client.EnsureBucket(t.Context(), 1, ago(time.Duration(5+i)*day)); err != nil {
				t.Fatal(err)
			}
		}
		_, err := p.client.EnsureBucket(t.Context(), 1, ago(20*day))
		if quorate.KindOf(err) != quorate.Unavailable || !strings.Contains(err.Error(), "5 buckets") {
			t.Errorf("over the budget the answer is %v", err)
		}
	})
}

func TestEnsureBucketGivesUpInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pass(100 * day)
		leader := newFakeLeader(openMachine(t)) // no node forms anything
		leader.must(t, bootstrap(), CreatePolicy{Policy: DefaultPolicy()})
		c := openClient(t, leader, nil)
		synctest.Wait()
		start := time.Now()
		_, err := c.EnsureBucket(t.Context(), 1, ago(0))
		if took := time.Since(start); quorate.KindOf(err) != quorate.Unavailable || took != 5*time.Second {
			t.Errorf("a bucket that does not form was answered after %v: %v", took, err)
		}
		leader.set(func(l *fakeLeader) { l.leading = false })
		if _, err := c.EnsureBucket(t.Context(), 1, ago(5*day)); quorate.KindOf(err) != quorate.Unavailable {
			t.Errorf("without a leader the answer is %v", err)
		}
	})
}

// TestProtocol8PendingBucketsWaitForTheNodes is PROTOCOL 8 on three nodes: no bucket in
// visible time opens before each node knows of it or has lost its lease.
func TestProtocol8PendingBucketsWaitForTheNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pass(100 * day)
		p := startPaperCluster(t, nil)
		defer p.close(t)
		pass(time.Second)
		p.leader.must(t, AdmitNode{testNodeSpec("n2", "b")}, AdmitNode{testNodeSpec("n3", "c")})
		pass(time.Minute) // nobody has heard of n2 and n3 for longer than a lease
		if _, err := p.client.EnsureBucket(t.Context(), 1, ago(5*day)); err != nil {
			t.Fatalf("silent nodes kept a bucket from opening: %v", err)
		}
		beat := func(n2, n3 uint64) {
			p.beats.Store(&[]Heartbeat{
				{Node: testNode("n2", 1), Received: time.Now(), Clock: time.Now(), MapVersion: n2},
				{Node: testNode("n3", 1), Received: time.Now(), Clock: time.Now(), MapVersion: n3},
			})
		}
		old := p.leader.machine.AppliedIndex()
		beat(old, old)
		ts := ago(6 * day)
		if _, err := p.client.EnsureBucket(t.Context(), 1, ts); quorate.KindOf(err) != quorate.Unavailable {
			t.Fatalf("a bucket opened that two nodes with leases do not know of: %v", err)
		}
		b := p.client.Map().Bucket(1, ts)
		if b == nil || !b.Pending || b.Sets[0].State != ReplicaSetOpen {
			t.Fatalf("the bucket is %+v, want it formed and pending", b)
		}
		beat(b.Announced, old)
		pass(passEvery)
		if b := p.client.Map().Bucket(1, ts); !b.Pending {
			t.Fatal("the bucket opened before node n3 knew of it")
		}
		beat(b.Announced, b.Announced)
		pass(passEvery)
		if b := p.client.Map().Bucket(1, ts); b.State != BucketOpen {
			t.Fatalf("all nodes know of the bucket, and it is %s", b.State)
		}
	})
}

func TestProtocol17AClockOffTheMedianDecidesNothing(t *testing.T) {
	beats := func(offsets ...time.Duration) (list []Heartbeat) {
		now := time.Now()
		for _, off := range offsets {
			list = append(list, Heartbeat{Received: now, Clock: now.Add(off)})
		}
		return list
	}
	for name, c := range map[string]struct {
		beats   []Heartbeat
		trusted bool
	}{
		"alone":                    {nil, true},
		"all agree":                {beats(0, time.Second), true},
		"one of two others is off": {beats(0, 24*time.Hour), true},
		"both others are ahead":    {beats(2*time.Minute, 3*time.Minute), false},
		"both others are behind":   {beats(-2*time.Minute, -3*time.Minute), false},
		"just within":              {beats(time.Minute, time.Minute), true},
	} {
		if off, trusted := clockTrusted(testNode("n1", 1), c.beats, time.Now()); trusted != c.trusted {
			t.Errorf("%s: trusted is %t at %v", name, trusted, off)
		}
	}
}
