package metasvc

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate"
)

// TestProtocol16RetentionDropsWholeBuckets runs for twelve days.
func TestProtocol16RetentionDropsWholeBuckets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pass(100*day + 30*time.Minute)
		p := startPaperCluster(t, func(cfg *ControllerConfig) {
			cfg.DefaultPolicy = policy(DefaultPolicyName, func(p *PolicySpec) { p.Retention = 3 * day })
		})
		defer p.close(t)
		pass(time.Second)
		gone := ago(0)
		for range 12 * 4 {
			pass(6 * time.Hour)
			p.checkAhead(t)
			oldest := ago(3 * day)
			for _, b := range p.client.Map().Buckets(1) {
				if b.Range.End <= oldest-int64(passEvery/time.Millisecond) {
					t.Fatalf("at %v the bucket %v is there", time.Now(), b.Range)
				}
			}
			if b := p.client.Map().Bucket(1, oldest+1); b == nil && oldest > gone {
				t.Fatalf("at %v the time within retention has no bucket", time.Now())
			}
			for _, set := range p.client.Map().Sets() {
				if set.Bounds.Range.End <= oldest-int64(passEvery/time.Millisecond) {
					t.Fatalf("at %v set %d of %v is there, %s", time.Now(), set.ID, set.Bounds.Range, set.State)
				}
			}
		}
		s := p.leader.machine.snapshot()
		if err := s.check(); err != nil {
			t.Fatal(err)
		}
		if len(s.buckets) > 7 || len(s.sets) != 2*len(s.buckets) || len(s.tombstones) == 0 {
			t.Errorf("after twelve days there are %d buckets, %d sets and %d tombstones", len(s.buckets), len(s.sets), len(s.tombstones))
		}

		// PROTOCOL 15: what was dropped does not come back with a longer
		// retention, neither for a sample nor for a bucket that reaches there.
		longer := DefaultPolicy()
		p.close(t)
		p.done <- struct{}{}
		p.done <- struct{}{}
		p.leader.must(t, AlterPolicy{ID: 1, Policy: longer})
		c := openClient(t, p.leader, nil)
		synctest.Wait()
		m := c.Map()
		horizon := m.Policy(1).Horizon
		if oldest := m.Buckets(1)[0].Range.Start; horizon != oldest {
			t.Fatalf("the horizon is %s and the oldest bucket starts at %s", quorate.FormatTime(horizon), quorate.FormatTime(oldest))
		}
		for _, ts := range []int64{gone, horizon - 1} {
			if _, err := c.EnsureBucket(t.Context(), 1, ts); quorate.KindOf(err) != quorate.Invalid || !strings.Contains(err.Error(), "has dropped everything") {
				t.Errorf("a sample at %s, before the horizon, was answered %v", quorate.FormatTime(ts), err)
			}
		}
		if err := m.Policy(1).CheckTime(horizon, time.Now()); err != nil {
			t.Errorf("a sample at the horizon was answered %v", err)
		}
		s = p.leader.machine.snapshot()
		weekly := policy(DefaultPolicyName, func(p *PolicySpec) { p.Span = 1000 * time.Hour })
		if r := s.bucketRange(&Policy{PolicySpec: weekly, ID: 1, Horizon: horizon}, horizon-1+24*hour); r.Start < horizon {
			t.Errorf("a bucket of a longer span reaches before the horizon: %v", r)
		}
	})
}

// TestADroppedBucketIsReadByNobody: from BeginDrop on, the map has it no more.
func TestADroppedBucketIsReadByNobody(t *testing.T) {
	leader := newCluster(t)
	leader.must(t, planOn(hours(0, 24), "n1"), ReportFormed{1, 2}, planOn(hours(24, 48), "n1"), ReportFormed{2, 3})
	now := 24*hour + DefaultPolicy().Retention.Milliseconds()
	leader.must(t, covered(now, 3, 4)...)
	c := openClient(t, leader, nil)
	confirmed(t, c)
	leader.must(t, BeginDrop{Bucket: 1, Term: 1, Now: now})
	m := confirmed(t, c)
	if m.Bucket(1, hour) != nil || len(m.Buckets(1)) != 2 || len(m.BucketsOverlapping(1, 0, 30*hour)) != 1 {
		t.Errorf("the map has buckets %v", m.Buckets(1))
	}
	if set := m.Set(1); set == nil || set.State != ReplicaSetOpen {
		t.Errorf("before every node knows, set 1 is %+v", set)
	}
	leader.must(t, EffectDrop{Bucket: 1})
	on := 0
	for set := range confirmed(t, c).SetsOn(testNode("n1", 1)) {
		if set.ID == 1 && set.State == ReplicaSetDropping {
			on++
		}
	}
	if on != 1 {
		t.Error("the node does not see that its set is dropped")
	}
	for range 2 {
		if err := c.ReportDropped(t.Context(), 1, 2); err != nil {
			t.Fatal(err)
		}
	}
	if m := c.Map(); m.Set(1) != nil || len(m.Sets()) != 2 {
		t.Errorf("when all have dropped it, the map has sets %v", m.Sets())
	}
	if err := c.ReportDropped(t.Context(), 2, 3); quorate.KindOf(err) != quorate.Invalid {
		t.Errorf("a replica that dropped an open set was answered %v", err)
	}
}

// TestSealedBucketsOfOldTimeAreNotBudgeted: the budget is of buckets that hold
// memory and a log.
func TestSealedBucketsOfOldTimeAreNotBudgeted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pass(100 * day)
		p := startPaperCluster(t, nil) // has a budget of 5
		defer p.close(t)
		pass(time.Second)
		var ids []quorate.ReplicaSetID
		for i := range 4 { // and the first start's one
			b, err := p.client.EnsureBucket(t.Context(), 1, ago(time.Duration(5+i)*day))
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, b.SetIDs...)
		}
		if _, err := p.client.EnsureBucket(t.Context(), 1, ago(20*day)); quorate.KindOf(err) != quorate.Unavailable {
			t.Fatalf("a bucket over the budget was answered %v", err)
		}
		if err := p.client.RequestSeal(t.Context(), ids[:3]); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		if _, err := p.client.EnsureBucket(t.Context(), 1, ago(20*day)); err != nil {
			t.Errorf("with one bucket sealed the answer is %v", err)
		}
		if _, err := p.client.EnsureBucket(t.Context(), 1, ago(21*day)); quorate.KindOf(err) != quorate.Unavailable {
			t.Errorf("a bucket half sealed gave its budget back: %v", err)
		}
	})
}
