package metasvc

import (
	"fmt"
	"testing"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// BenchmarkPaperCluster lives a month of a large cluster on paper: 1,000 nodes in
// ten zones, 10,000 tenants, daily buckets of 64 shards of three replicas, planned
// ahead, formed, and sealed when a day is past. It tells what planning takes, what
// the metadata weighs, what a node hears of it in a day, and how even the load is.
func BenchmarkPaperCluster(b *testing.B) {
	for b.Loop() {
		paperMonth(b)
	}
}

func paperMonth(b *testing.B) {
	const nodes, zones, tenants, days = 1000, 10, 10_000, 30
	leader := newFakeLeader(openMachine(b))
	leader.must(b, Bootstrap{Cluster: testCluster, Node: testNodeSpec("node-1", "zone-0"), MetaReplica: 1},
		CreatePolicy{policy(DefaultPolicyName, func(p *PolicySpec) { p.Shards, p.Replicas = 64, 3 })})
	for i := 2; i <= nodes; i++ {
		leader.must(b, AdmitNode{testNodeSpec(fmt.Sprint("node-", i), fmt.Sprint("zone-", i%zones))})
	}
	for i := range tenants {
		leader.must(b, CreateTenant{Name: fmt.Sprint("tenant-", i), Policy: 1})
	}
	start := time.UnixMilli(1000 * 24 * hour)
	beats := paperBeats(leader, start)
	watch := leader.machine.Watch(leader.machine.AppliedIndex())
	watched := func() (n int) { // what a node is sent that hears of each entry
		for leader.machine.AppliedIndex() > watch.at {
			batch, err := watch.Next(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			n += len(AppendBatch(nil, batch))
		}
		return n
	}
	traffic, planned := 0, 0
	var planning, pass time.Duration
	for d := range days {
		now := start.AddDate(0, 0, d)
		for {
			var actions []Action
			leader.machine.read(func(s *state) {
				began := time.Now()
				v := view{state: s, now: now, self: testNode("node-1", 1), leadingSince: now.Add(-time.Hour), beats: beats}.index()
				var err error
				if actions, err = planBuckets(v); err != nil {
					b.Fatal(err)
				}
				if pass = time.Since(began); len(actions) > 0 {
					planning += pass
				}
			})
			if len(actions) == 0 {
				break
			}
			for _, a := range actions {
				made := leader.must(b, a.Command).(PlanBucketResult)
				traffic += watched()
				traffic += paperForm(b, leader, made, watched)
				planned++
			}
		}
		traffic += paperSeal(b, leader, now, watched)
	}
	reportPaper(b, leader)
	b.ReportMetric(float64(planning.Microseconds())/1000/float64(planned), "ms/plan")
	b.ReportMetric(float64(pass.Microseconds()), "µs/idle-plan")
	b.ReportMetric(float64(traffic)/1000/days, "kB-watched/day")
}

// paperBeats are heartbeats of all nodes that never grow old.
func paperBeats(leader *fakeLeader, start time.Time) (beats []Heartbeat) {
	leader.machine.read(func(s *state) {
		for _, n := range s.nodesByNumber() {
			beats = append(beats, Heartbeat{Node: n.ID, Received: start.AddDate(1, 0, 0), Clock: start, Free: 1 << 40})
		}
	})
	return beats
}

func paperForm(b *testing.B, leader *fakeLeader, made PlanBucketResult, watched func() int) (traffic int) {
	for _, id := range made.Sets {
		var set *ReplicaSet
		leader.machine.read(func(s *state) { set = s.sets[id] })
		for _, m := range set.Members {
			leader.must(b, ReportFormed{id, m.Replica})
			traffic += watched()
		}
	}
	leader.must(b, EffectBucket{made.Bucket})
	return traffic + watched()
}

// paperSeal seals the sets whose bucket ended before now.
func paperSeal(b *testing.B, leader *fakeLeader, now time.Time, watched func() int) (traffic int) {
	var due []*ReplicaSet
	leader.machine.read(func(s *state) {
		for _, set := range byKey(s.sets) {
			if set.State == ReplicaSetOpen && set.Bounds.Range.End < now.UnixMilli() {
				due = append(due, set)
			}
		}
	})
	for _, set := range due {
		do := func(c Command) any {
			result := leader.must(b, c)
			traffic += watched()
			return result
		}
		intent := do(BeginIntent{set.ID, IntentSeal, 1, sealPayload()}).(IntentResult).Intent
		for i, m := range set.Members {
			report := SealReport{Replica: m.Replica, Intent: uint64(intent), Index: 1 << 20}
			if i == 0 {
				report.File = &wire.SealedFile{Bytes: 1 << 30, Series: 1 << 20, Samples: 1 << 30, MinTime: now.UnixMilli(), MaxTime: now.UnixMilli()}
			}
			do(ReportSeal{set.ID, report})
		}
		do(JudgeSeal{set.ID, intent, 1, nil})
	}
	return traffic
}

// reportPaper tells the size of the metadata and the balance of the load.
func reportPaper(b *testing.B, leader *fakeLeader) {
	s := leader.machine.snapshot()
	if err := s.check(); err != nil {
		b.Fatal(err)
	}
	mirror := newMirror()
	mirror.apply(Batch{To: s.index, Changes: s.changesSince(0), Whole: true})
	began := time.Now()
	mirror.build()
	b.ReportMetric(float64(time.Since(began).Microseconds())/1000, "ms/map")
	b.ReportMetric(float64(len(appendState(nil, s)))/1e6, "MB-state")
	replicas, leaders := s.load()
	unevenness := func(load map[quorate.NodeID]int) float64 {
		most, sum := 0, 0
		for _, n := range load {
			most, sum = max(most, n), sum+n
		}
		return float64(most) * float64(len(s.nodes)) / float64(sum)
	}
	b.ReportMetric(float64(len(s.sets)), "sets")
	b.ReportMetric(unevenness(replicas), "replicas-max/mean")
	b.ReportMetric(unevenness(leaders), "leaders-max/mean")
	most := 0
	for _, n := range leaders {
		most = max(most, n)
	}
	b.ReportMetric(float64(most), "leaders-max")
}
