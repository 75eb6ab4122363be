package lifecycle

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/raftset"
	"github.com/quorate/quorate/tsdbshard"
)

// What is due follows from the record and from what is open: a table of both.
func TestWhatIsDueForAReplica(t *testing.T) {
	record := func(state metasvc.ReplicaSetState, change ...func(*metasvc.ReplicaSet)) *metasvc.ReplicaSet {
		set := &metasvc.ReplicaSet{ID: 5, State: state, Members: []metasvc.Member{{Replica: 3}}}
		if state == metasvc.ReplicaSetSealed {
			set.Sealed = &metasvc.SealRecord{Index: 9}
		}
		for _, c := range change {
			c(set)
		}
		return set
	}
	sealing := func(s *metasvc.ReplicaSet) { s.Intent = &metasvc.Intent{ID: 4, Kind: metasvc.IntentSeal} }
	reported := func(s *metasvc.ReplicaSet) {
		s.Reports = []metasvc.SealReport{{Replica: 3, Intent: 4, File: new(wire.SealedFile)}}
	}
	reportedByOther := func(s *metasvc.ReplicaSet) { s.Reports = []metasvc.SealReport{{Replica: 8, Intent: 4}} }
	pending := func(s *metasvc.ReplicaSet) { s.Pending = true }

	running := func(r *replica) { r.group = new(raftset.Group) }
	fromFile := func(r *replica) { r.sealed = new(tsdbshard.Sealed) }
	withLeftover := func(r *replica) { fromFile(r); r.leftover = true }
	givenUp := func(r *replica) { r.broken, r.forGood = errDisk, true }
	newerSeen := func(r *replica) { running(r); r.seal.intent = 5 }
	inUse := func(r *replica) { fromFile(r); r.users = 1 }
	dropped := func(r *replica) { r.dropped = true }
	nothing := func(*replica) {}

	for name, tc := range map[string]struct {
		set  *metasvc.ReplicaSet
		r    func(*replica)
		want work
	}{
		"a new set is formed and opened":                        {record(metasvc.ReplicaSetForming), nothing, "open"},
		"an open set is opened":                                 {record(metasvc.ReplicaSetOpen), nothing, "open"},
		"an open replica of an open set is left alone":          {record(metasvc.ReplicaSetOpen), running, ""},
		"a replica broken for good is left alone":               {record(metasvc.ReplicaSetOpen), givenUp, ""},
		"an intent to seal is executed":                         {record(metasvc.ReplicaSetOpen, sealing), running, "seal"},
		"one older than another that was seen is not":           {record(metasvc.ReplicaSetOpen, sealing), newerSeen, ""},
		"a report that the map has is not made again":           {record(metasvc.ReplicaSetOpen, sealing, reported), running, ""},
		"another's report is not this one's":                    {record(metasvc.ReplicaSetOpen, sealing, reportedByOther), running, "seal"},
		"before it can be sealed a set is opened":               {record(metasvc.ReplicaSetOpen, sealing), nothing, "open"},
		"a sealed set that runs on its log is swapped":          {record(metasvc.ReplicaSetSealed), running, "swap"},
		"a sealed set that is not open is opened from its file": {record(metasvc.ReplicaSetSealed), nothing, "open sealed"},
		"a sealed set's missing file is looked for again":       {record(metasvc.ReplicaSetSealed), givenUp, "open sealed"},
		"a sealed set served from its file is left alone":       {record(metasvc.ReplicaSetSealed), fromFile, ""},
		"what a swap has left is cleared":                       {record(metasvc.ReplicaSetSealed), withLeftover, "clear"},
		"a replaced base is kept until every node knows":        {record(metasvc.ReplicaSetSealed, pending), fromFile, ""},
		"a disputed set goes on as it is":                       {record(metasvc.ReplicaSetDisputed, sealing), running, ""},
		"a disputed set is opened on its log":                   {record(metasvc.ReplicaSetDisputed, sealing), nothing, "open"},
		"a dropped set is dropped":                              {record(metasvc.ReplicaSetDropping), running, "drop"},
		"a sealed one too":                                      {record(metasvc.ReplicaSetDropping), fromFile, "drop"},
		"a broken one too":                                      {record(metasvc.ReplicaSetDropping), givenUp, "drop"},
		"one that was never opened too":                         {record(metasvc.ReplicaSetDropping), nothing, "drop"},
		"a base that an overlay reads is dropped later":         {record(metasvc.ReplicaSetDropping), inUse, ""},
		"a drop that was reported is over":                      {record(metasvc.ReplicaSetDropping), dropped, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := &replica{set: 5, id: 3}
			tc.r(r)
			m := &Manager{space: &space{}, openers: newLane(1), workers: newLane(1)}
			task, due := m.nextLocked(emptyMap(t), tc.set, r)
			if due != (tc.want != "") || due && task.what != tc.want {
				t.Errorf("due is %q (%v), want %q", task.what, due, tc.want)
			}
		})
	}
}

func TestByACopyOfTheMapNothingIsBornSealedOrGivenUp(t *testing.T) {
	members := []metasvc.Member{{Replica: 3}}
	forming := &metasvc.ReplicaSet{State: metasvc.ReplicaSetForming, Members: members}
	formed := &metasvc.ReplicaSet{State: metasvc.ReplicaSetOpen, Members: members, Formed: []quorate.ReplicaID{3}}
	for name, tc := range map[string]struct {
		task     task
		harmless bool
	}{
		"opening a set":                       {task{what: workOpen, set: formed}, true},
		"opening one again":                   {task{what: workReopen, set: formed}, true},
		"opening a sealed one":                {task{what: workOpenSealed, set: formed}, true},
		"forming a set":                       {task{what: workOpen, set: forming}, false},
		"sealing":                             {task{what: workSeal, set: formed}, false},
		"giving a log up for a file":          {task{what: workSwap, set: formed}, false},
		"clearing what a swap has left":       {task{what: workClear, set: formed}, false},
		"dropping":                            {task{what: workDrop, set: formed}, false},
		"joining":                             {task{what: workJoin, set: formed}, false},
		"moving away what was removed":        {task{what: workLeave, set: formed}, false},
		"changing members":                    {task{what: workMembers, set: formed}, false},
		"a kind of work that nobody has seen": {task{what: "invent", set: formed}, false},
	} {
		tc.task.r = newReplica(5, 3)
		if got := tc.task.harmless(); got != tc.harmless {
			t.Errorf("%s: harmless is %v", name, got)
		}
	}
}

func TestALaneHasRoomForSoManyAndMakesItAgain(t *testing.T) {
	l := newLane(2)
	release, ended := make(chan struct{}), make(chan struct{}, 3)
	work := func() { <-release }
	end := func() { ended <- struct{}{} }
	for range 2 {
		if !l.try(work, end) {
			t.Fatal("an empty lane has no room for two")
		}
	}
	if l.try(work, end) {
		t.Fatal("a full lane has room")
	}
	close(release)
	<-ended
	if !l.try(work, end) {
		t.Error("the lane has no room after work has ended")
	}
	l.wait.Wait()
}

func TestErrorsThatAnotherAttemptCannotMend(t *testing.T) {
	for err, want := range map[error]bool{
		raftset.ErrQuarantined: true, raftset.ErrNotFormed: true, tsdbshard.ErrDamaged: true,
		errDisk: false, quorate.Errorf(quorate.Unavailable, "no leader"): false,
	} {
		if got := isPermanent(errors.Join(errors.New("open"), err)); got != want {
			t.Errorf("%v: permanent is %v", err, got)
		}
	}
}

func TestWhatAGroupCannotDoNowIsNoFailure(t *testing.T) {
	lacks := quorate.Errorf(quorate.Unavailable, "set 3: replica 4 lacks 0 entries, last heard 1.2s ago")
	for err, want := range map[error]bool{
		lacks: true, fmt.Errorf("transfer leadership: %w", lacks): true, raftset.ErrBroken: false, errDisk: false, nil: false,
		&raftset.NotLeaderError{}: true,
	} {
		if got := errors.Is(elsewhere(err), errNotYet); got != want {
			t.Errorf("%v: it is not yet time: %v", err, got)
		}
	}
	if err := elsewhere(lacks); !errors.Is(err, lacks) {
		t.Errorf("%v does not tell why", err)
	}
}

func TestFailedWorkIsTriedAgainWithGrowingPauses(t *testing.T) {
	m := bareManager()
	r := &replica{}
	fail := task{what: "test", set: &metasvc.ReplicaSet{}, r: r, run: failWith(errDisk)}
	var last time.Duration
	for range 10 {
		m.do(t.Context(), fail)
		if r.pause <= last && r.pause != mostPause {
			t.Fatalf("after a pause of %v comes one of %v", last, r.pause)
		}
		last = r.pause
	}
	if last != mostPause {
		t.Errorf("the pauses end at %v, want %v", last, mostPause)
	}
	m.do(t.Context(), task{what: "test", set: &metasvc.ReplicaSet{}, r: r, run: failWith(errNotYet)})
	if wait := time.Until(r.again); r.pause != last || wait > reconcileEvery {
		t.Errorf("work that has to wait is tried again in %v, want within %v", wait, reconcileEvery)
	}
	m.do(t.Context(), task{what: "test", set: &metasvc.ReplicaSet{}, r: r, run: failWith(nil)})
	if r.pause != 0 || !r.again.IsZero() {
		t.Errorf("after success the pause is %v", r.pause)
	}
}
