package metasvc

import (
	"fmt"
	"testing"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// yearOfSets is a year of sealed buckets of eight shards, as a node with much
// history has.
func yearOfSets(b *testing.B) *fakeLeader {
	leader := newCluster(b)
	leader.must(b, CreateTenant{Name: "acme", Policy: 1})
	set, replica, intent := quorate.ReplicaSetID(0), quorate.ReplicaID(1), IntentID(0)
	seal := new(wire.Seal).Append(nil)
	shards := make([]string, 8)
	for i := range shards {
		shards[i] = "n1"
	}
	for day := range int64(365) {
		commands := []Command{PlanBucket{Policy: 1, Range: hours(24*day, 24*day+24), HashVersion: 1, Placement: nodesOf(shards...)}}
		for i := range shards {
			commands = append(commands, ReportFormed{set + quorate.ReplicaSetID(i) + 1, replica + quorate.ReplicaID(i) + 1})
		}
		for range shards {
			set, replica, intent = set+1, replica+1, intent+1
			commands = append(commands, BeginIntent{set, IntentSeal, 1, seal},
				ReportSeal{set, SealReport{Replica: replica, Intent: uint64(intent), Index: 9, File: new(wire.SealedFile)}}, JudgeSeal{set, intent, 1, nil})
		}
		leader.must(b, commands...)
	}
	return leader
}

// BenchmarkIdlePass is what each change of the metadata costs the leader while
// nothing is due.
func BenchmarkIdlePass(b *testing.B) {
	leader := yearOfSets(b)
	end := time.UnixMilli(365 * 24 * hour).Add(-12 * time.Hour)
	cfg := ControllerConfig{
		StateMachine: leader.machine, Leader: leader, Leadership: leader.Leadership, Cluster: testCluster,
		Node: testNodeSpec("n1", "a"), Now: func() time.Time { return end },
		DefaultPolicy: policy(DefaultPolicyName, func(p *PolicySpec) { p.Retention = 400 * 24 * time.Hour }),
	}
	c, err := NewController(cfg)
	if err != nil {
		b.Fatal(err)
	}
	if err := c.pass(b.Context()); err != nil { // plans what is ahead
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := c.pass(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMapOfAYear is what each change of a set costs every node: 2,920
// sets. The 1,000 deletions, each of one, are not made anew.
func BenchmarkMapOfAYear(b *testing.B) {
	leader := yearOfSets(b)
	for i := range 1000 {
		d := testDeletion(1, fmt.Sprintf("metric_%d", i), hours(0, 24))
		leader.must(b, CreateDelete{Body: d.Append(nil), Sets: []quorate.ReplicaSetID{quorate.ReplicaSetID(i%500 + 1)}})
	}
	mirror := newMirror()
	s := leader.machine.snapshot()
	mirror.apply(Batch{To: s.index, Changes: s.changesSince(0)})
	b.Run("build", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			mirror.tables = nil
			mirror.build()
		}
	})
	m := mirror.build()
	b.Run("deletions of a set", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if len(m.DeletionsOf(400)) != 2 {
				b.Fatal("no deletions")
			}
		}
	})
}
