package raftset

import (
	"errors"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/internal/testwait"
)

// After its first failure nothing reads or writes the log any more: a later
// fsync that succeeds proves nothing about what an earlier one lost.
func TestAFailedReplicaTouchesItsLogNoMore(t *testing.T) {
	f := newFaults(MemoryLogs())
	_, g, _ := start(t, HostConfig{Dir: t.TempDir(), LogStore: f.open})
	propose(t, g, "x")
	first, last := g.Status().FirstIndex, g.Status().LastIndex
	inner := g.log.LogStore.(*faultyLog).LogStore
	g.guard.fail(errDisk)
	next := &raft.Log{Index: last + 1, Term: 9}
	for call, err := range map[string]error{
		"an append":  g.log.StoreLogs([]*raft.Log{next}),
		"one more":   g.log.StoreLog(next),
		"a deletion": g.log.DeleteRange(first, last),
	} {
		if !errors.Is(err, errDisk) {
			t.Errorf("%s gives %v, want the failure's cause", call, err)
		}
	}
	if got, err := inner.LastIndex(); err != nil || got != last {
		t.Errorf("the log ends at %d, %v; want %d", got, err, last)
	}
	<-g.Failed()
}

// A follower that gives up entries lowers its mark first: a crash in between
// must not look like damage.
func TestTheMarkFallsBeforeTheLogLosesItsEnd(t *testing.T) {
	for name, suffix := range map[string]func(first, last uint64) (uint64, uint64){
		"an end":    func(_, last uint64) (uint64, uint64) { return last - 1, last },
		"all of it": func(first, last uint64) (uint64, uint64) { return first, last },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			_, g, _ := start(t, HostConfig{Dir: dir})
			proposeAll(t, g, "x", 4)
			first, last := g.Status().FirstIndex, g.Status().LastIndex
			testwait.For(t, "the mark to rise", func() bool {
				level, err := readWaterLevel(g.low.path, testSet, testReplica)
				return err == nil && level.index == last
			})
			if err := g.log.DeleteRange(suffix(first, last)); err != nil {
				t.Fatal(err)
			}
			openLeader(t, newHost(t, HostConfig{Dir: crash(t, dir)}), testSet)
		})
	}
}

func TestAnEntryThatShouldBeThereAndIsNotIsDamage(t *testing.T) {
	f := newFaults(MemoryLogs())
	_, g, _ := start(t, HostConfig{Dir: t.TempDir(), LogStore: f.open})
	propose(t, g, "x")
	last := g.Status().LastIndex
	var l raft.Log
	if err := g.log.GetLog(last+1, &l); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("an entry that is yet to come gives %v", err)
	}
	if g.guard.err() != nil {
		t.Errorf("the replica failed: %v", g.guard.err())
	}
	if err := g.log.absent(last, raft.ErrLogNotFound); !errors.Is(err, ErrDamaged) {
		t.Errorf("an entry inside the log gives %v, want ErrDamaged", err)
	}
}
