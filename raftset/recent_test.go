package raftset

import (
	"bytes"
	"testing"

	"github.com/hashicorp/raft"
)

func entryOf(index uint64, size int) *raft.Log {
	return &raft.Log{Index: index, Term: 1, Data: bytes.Repeat([]byte{byte(index)}, size)}
}

func TestTheLogsEndIsKeptInMemory(t *testing.T) {
	var r recent
	kept := func(first, last uint64) {
		t.Helper()
		for index := first - 1; index <= last+1; index++ {
			var l raft.Log
			got := r.get(index, &l)
			if want := first <= index && index <= last; got != want || got && (l.Index != index || l.Data[0] != byte(index)) {
				t.Errorf("entry %d: kept is %v, want %v; it is entry %d", index, got, want, l.Index)
			}
		}
	}
	const third = recentBytes / 3
	r.stored([]*raft.Log{entryOf(5, third), entryOf(6, third)})
	kept(5, 6)
	r.stored([]*raft.Log{entryOf(7, third), entryOf(8, third)}) // room for three
	kept(6, 8)
	r.stored([]*raft.Log{entryOf(9, 1)})
	kept(6, 9)
	// A log that goes on elsewhere, after its end was cut or a manifest installed.
	r.stored([]*raft.Log{entryOf(8, 10)})
	kept(8, 8)
	r.forget()
	kept(8, 7)
	// A batch of more than is kept leaves nothing, and what follows is kept again.
	r.stored([]*raft.Log{entryOf(9, third)})
	r.stored([]*raft.Log{entryOf(10, recentBytes), entryOf(11, 1)})
	kept(10, 9)
	r.stored([]*raft.Log{entryOf(12, recentBytes)})
	kept(12, 12)
	r.forget()
	if r.bytes != 0 {
		t.Errorf("%d bytes are kept of nothing", r.bytes)
	}
}

// What is stored in an entry's place is what is read from then on.
func TestAnEntryThatTookAnothersPlaceIsRead(t *testing.T) {
	_, g, _ := start(t, HostConfig{Dir: t.TempDir(), LogStore: MemoryLogs()})
	proposeAll(t, g, "x", 3)
	last := g.Status().LastIndex
	if err := g.log.DeleteRange(last, last); err != nil {
		t.Fatal(err)
	}
	var l raft.Log
	if g.log.recent.get(last, &l) {
		t.Errorf("deleted entry %d is still kept", last)
	}
	if err := g.log.StoreLogs([]*raft.Log{{Index: last, Term: 99, Type: raft.LogNoop}}); err != nil {
		t.Fatal(err)
	}
	if err := g.log.GetLog(last, &l); err != nil || l.Term != 99 {
		t.Errorf("entry %d has term %d, %v; want the one stored last, of term 99", last, l.Term, err)
	}
}
