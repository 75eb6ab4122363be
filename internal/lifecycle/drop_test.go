package lifecycle

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/metasvc"
)

// retire has the bucket dropped, as the metadata's controller does when it is
// past retention: then time has gone on to a bucket that was planned ahead,
// here on another node.
func (r *rig) retire(t *testing.T) {
	t.Helper()
	bucket := r.bucket()
	past := r.now.at.Add(metasvc.DefaultPolicy().Retention + time.Hour).UnixMilli()
	other := quorate.NodeID{Name: "n2", Incarnation: quorate.NewIncarnation()}
	r.do(t, metasvc.AdmitNode{Node: metasvc.NodeSpec{ID: other, Roles: metasvc.AllRoles}})
	planned := r.do(t, metasvc.PlanBucket{
		Policy: bucket.Policy, Range: quorate.TimeRange{Start: past, End: past + time.Hour.Milliseconds()},
		HashVersion: wire.ShardHashVersion, Placement: [][]quorate.NodeID{{other}},
	}).(metasvc.PlanBucketResult)
	r.do(t, metasvc.ReportFormed{Set: planned.Sets[0], Replica: r.client.Map().Set(planned.Sets[0]).Members[0].Replica})
	r.do(t, metasvc.BeginDrop{Bucket: bucket.ID, Term: term, Now: past})
	r.do(t, metasvc.EffectDrop{Bucket: bucket.ID})
}

// wantDropped checks that nothing of the replicas is left but in the trash.
func (r *rig) wantDropped(t *testing.T) {
	t.Helper()
	if got := append(r.files(t, SetsDir), r.files(t, "raft")...); len(got) != 0 {
		t.Errorf("%v are still there", got)
	}
	if got := r.files(t, TrashDir); len(got) == 0 {
		t.Error("the trash is empty")
	}
	if got := r.open.All(); len(got) != 0 {
		t.Errorf("the router still has %d replicas", len(got))
	}
}

func TestProtocol23ADropLeavesQueriesUnderWayAlone(t *testing.T) {
	for name, sealed := range map[string]bool{"open": false, "sealed": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			set := r.set()
			r.write(t, early)
			if sealed {
				r.seal(t, set)
				r.awaitSettled(t, set.ID)
			} else if _, err := r.manager.FlushAll(t.Context()); err != nil {
				t.Fatal(err)
			}
			held := r.querier(t)
			r.retire(t)
			r.await(t, "the record to be gone", func() bool { return r.client.Map().Set(set.ID) == nil })
			if got := readAll(t, held); got != wroteEarly {
				t.Errorf("a query from before the drop reads\n%s", got)
			}
			if err := held.Close(); err != nil {
				t.Error(err)
			}
			if got := r.read(t); got != "" {
				t.Errorf("a query after the drop reads\n%s", got)
			}
			r.wantDropped(t)
		})
	}
}

func TestADropThatIsCutShortAnywhereIsFinishedAfterARestart(t *testing.T) {
	for _, at := range []moment{momentHidden, momentMoved} {
		t.Run(strings.ReplaceAll(string(at), " ", "-"), func(t *testing.T) {
			r := newRig(t)
			set := r.set()
			r.write(t, early)
			r.close(t)
			c := crashAt(at)
			r.start(t, c.reach)
			r.retire(t)
			r.await(t, "the crash", c.isHit)
			r.close(t)
			r.start(t, nil)
			r.await(t, "the record to be gone", func() bool { return r.client.Map().Set(set.ID) == nil })
			r.wantDropped(t)
			r.await(t, "the replica to be forgotten", func() bool { return len(r.manager.Sets()) == 0 })
		})
	}
}

func TestABaseIsKeptUntilWhatReplacedItIsOpen(t *testing.T) {
	m := bareManager()
	base := &metasvc.ReplicaSet{ID: 1, State: metasvc.ReplicaSetDropping}
	r, first, _ := sealedRig(t)
	r.write(t, later)
	overlay := r.bucket().Overlays[0]
	m.cfg.Node = r.node
	base.ID = first.ID
	if needed, _ := m.neededLocked(r.client.Map(), base); !needed {
		t.Error("the base of an open overlay is not needed")
	}
	r.seal(t, overlay)
	r.awaitSettled(t, overlay.ID)
	if needed, _ := m.neededLocked(r.client.Map(), base); !needed {
		t.Error("the base is not needed although nothing is open")
	}
	if needed, _ := r.manager.neededLocked(r.client.Map(), base); needed {
		t.Error("the base is needed although its overlay is served from a file")
	}
}

func TestProtocol16DirectoriesThatNoRecordNamesAreLeftAlone(t *testing.T) {
	r := newRig(t)
	r.write(t, early)
	r.close(t)
	stranger := setDir(r.dir, 4711, 1)
	mkdir(t, stranger)
	r.start(t, nil)
	r.awaitOpen(t)
	if !slices.Contains(r.files(t, SetsDir), "4711-1") {
		t.Error("a directory without a record was removed")
	}
}
