package raftset

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate"
)

const otherSet quorate.ReplicaSetID = 8

var errDisk = &fsError{}

// fsError is what a failing disk looks like.
type fsError struct{}

func (*fsError) Error() string { return "input/output error" }
func (*fsError) Unwrap() error { return syscall.EIO }

// Every failure stops its replica alone, tells why, answers everybody, and
// leaves a directory from which the replica starts again.
func TestAFailureStopsItsReplicaAlone(t *testing.T) {
	for name, c := range map[string]struct {
		// breaks makes the replica fail and returns the error of the call that met it.
		breaks func(t *testing.T, g *Group, l *ledger, f *faults) error
		// cause is found in Status().Broken.
		cause error
		text  string
		// lost is set where the call that met the failure cannot know its outcome.
		lost bool
	}{
		"an append fails": {
			breaks: func(t *testing.T, g *Group, _ *ledger, f *faults) error {
				f.with(func(f *faults) { f.storeErr = errDisk })
				_, err := g.Propose(t.Context(), testKind, []byte("y"))
				return err
			},
			cause: errDisk, lost: true,
		},
		"the state machine returns an error": {
			breaks: func(t *testing.T, g *Group, l *ledger, _ *faults) error {
				l.with(func(l *ledger) { l.applyErr = errDisk })
				_, err := g.Propose(t.Context(), testKind, []byte("y"))
				return err
			},
			cause: errDisk, lost: true,
		},
		"the state machine panics": {
			breaks: func(t *testing.T, g *Group, l *ledger, _ *faults) error {
				l.with(func(l *ledger) { l.applyPanic = "index out of range" })
				_, err := g.Propose(t.Context(), testKind, []byte("y"))
				return err
			},
			text: "index out of range", lost: true,
		},
		"freezing fails": {
			breaks: func(t *testing.T, g *Group, l *ledger, _ *faults) error {
				l.with(func(l *ledger) { l.freezeErr = errDisk })
				return g.Flush(t.Context())
			},
			cause: errDisk,
		},
		"the manifest is not published": {
			breaks: func(t *testing.T, g *Group, _ *ledger, f *faults) error {
				f.with(func(f *faults) { f.publishErr[manifestFile] = errDisk })
				return g.Flush(t.Context())
			},
			cause: errDisk,
		},
		"the log is not deleted": {
			breaks: func(t *testing.T, g *Group, _ *ledger, f *faults) error {
				f.with(func(f *faults) { f.deleteErr = errDisk })
				return g.Flush(t.Context())
			},
			cause: errDisk,
		},
		"the low-water mark is not saved": {
			breaks: func(t *testing.T, g *Group, _ *ledger, f *faults) error {
				f.with(func(f *faults) { f.publishErr[lowWaterFile] = errDisk })
				_, err := g.Propose(t.Context(), testKind, []byte("y"))
				return err
			},
			cause: errDisk,
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			f := newFaults(WAL())
			h, g, l := start(t, HostConfig{Dir: dir, LogStore: f.open, publish: f.publish})
			form(t, h, otherSet)
			other, _ := openLeader(t, h, otherSet)
			propose(t, g, "x")

			err := c.breaks(t, g, l, f)
			if c.lost && !errors.Is(err, ErrOutcomeUnknown) {
				t.Errorf("the call that met the failure got %v, want ErrOutcomeUnknown", err)
			}
			if err != nil && quorate.KindOf(err) != quorate.Unavailable && c.lost {
				t.Errorf("its kind is %v", quorate.KindOf(err))
			}
			<-g.Failed()
			broken := g.Status().Broken
			if broken == nil || c.cause != nil && !errors.Is(broken, c.cause) || !strings.Contains(broken.Error(), c.text) {
				t.Errorf("Broken is %v", broken)
			}
			if s := g.Status(); s.State != StateStopped {
				t.Errorf("the state is %s", s.State)
			}
			for call, err := range map[string]error{
				"propose": second(g.Propose(t.Context(), testKind, []byte("z"))),
				"read":    second(g.ConfirmRead(t.Context())),
				"flush":   g.Flush(t.Context()),
			} {
				if !errors.Is(err, ErrBroken) {
					t.Errorf("%s gives %v, want ErrBroken", call, err)
				}
			}
			if again, ok := h.Group(testSet); !ok || again != g {
				t.Error("the broken group is not to be found until it is closed")
			}
			propose(t, other, "still going")

			closeGroup(t, g)
			if !l.closed {
				t.Error("the state machine was not closed")
			}
			f.with(func(f *faults) { f.storeErr, f.deleteErr = nil, nil; clear(f.publishErr) })
			g, l = openLeader(t, h, testSet)
			if lines := l.all(); len(lines) < 2 || lines[1] != "x" {
				t.Errorf("after the restart the state is %.100q", lines)
			}
			propose(t, g, "again")
		})
	}
}

func second[T any](_ T, err error) error { return err }

func TestAFailingVoteStopsItsReplicaAlone(t *testing.T) {
	f := newFaults(WAL())
	h := newHost(t, HostConfig{Dir: t.TempDir(), publish: f.publish})
	form(t, h, testSet)
	form(t, h, otherSet)
	other, _ := openLeader(t, h, otherSet)
	f.with(func(f *faults) { f.publishErr[voteFile] = errDisk })
	g, _ := open(t, h, testSet)
	<-g.Failed()
	if broken := g.Status().Broken; !errors.Is(broken, errDisk) {
		t.Errorf("Broken is %v", broken)
	}
	if term, leader := g.Leadership(); leader || term != genesisTerm {
		t.Errorf("it leads (%t) in term %d without having saved its vote", leader, term)
	}
	closeGroup(t, g)
	propose(t, other, "still going")
}

// A committed entry that cannot be read makes the library panic. Here the disk
// fails after the start has read everything: once to inspect the log, once to
// find its configurations.
func TestAnUnreadableCommittedEntryStopsItsReplicaAlone(t *testing.T) {
	f := newFaults(WAL())
	h, g, _ := start(t, HostConfig{Dir: t.TempDir(), LogStore: f.open})
	proposeAll(t, g, "x", 5)
	last := g.Status().LastIndex
	closeGroup(t, g)
	form(t, h, otherSet)
	other, _ := openLeader(t, h, otherSet)

	inspected := int(last - genesisIndex)
	scanned := 1 + inspected // the last entry is read twice
	f.with(func(f *faults) { f.getErr, f.goodGets = errDisk, inspected+scanned+2 })
	g, l := open(t, h, testSet)
	<-g.Failed()
	if broken := g.Status().Broken; !errors.Is(broken, errDisk) {
		t.Errorf("Broken is %v", broken)
	}
	wantLines(t, l) // a batch that cannot be read whole is not applied in part
	closeGroup(t, g)
	propose(t, other, "still going")

	f.with(func(f *faults) { f.getErr = nil })
	_, l = openLeader(t, h, testSet)
	wantLines(t, l, "x-0", "x-1", "x-2", "x-3", "x-4")
}

func TestAHungDiskIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan error, 10)
		f := newFaults(MemoryLogs())
		_, g, _ := start(t, HostConfig{Dir: t.TempDir(), LogStore: f.open, Fatal: func(err error) { stuck <- err }})
		propose(t, g, "x")
		release := make(chan struct{})
		f.with(func(f *faults) { f.stall = release })
		answer := make(chan error, 1)
		begin := time.Now()
		go func() {
			_, err := g.Propose(t.Context(), testKind, []byte("y"))
			answer <- err
		}()
		err := <-stuck
		if took := time.Since(begin); took != defaultStallAfter {
			t.Errorf("the stall was reported after %v, want %v", took, defaultStallAfter)
		}
		if !strings.Contains(err.Error(), "set 7, replica 3") {
			t.Errorf("the reason %q does not name the replica", err)
		}
		f.with(func(f *faults) { f.stall = nil })
		close(release)
		if err := <-answer; err != nil {
			t.Errorf("the write landed after all, but its caller got %v", err)
		}
		if len(stuck) != 0 {
			t.Errorf("it was reported again: %v", <-stuck)
		}
	})
}
