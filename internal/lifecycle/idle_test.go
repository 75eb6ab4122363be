package lifecycle

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/tsdbshard"
)

// value returns a gauge by its name.
func (r *rig) value(t *testing.T, name string) float64 {
	t.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

func TestASealedSetThatNobodyReadsLetsGoOfItsFile(t *testing.T) {
	r, _, _ := sealedRig(t)
	const openFiles = "quorate_shard_sealed_open_files"
	if got := r.read(t); got != wroteEarly {
		t.Errorf("the set reads as\n%s", got)
	}
	r.manager.rest()
	if got := r.value(t, openFiles); got != 1 {
		t.Errorf("%v files are open just after a query, want 1", got)
	}
	r.manager.rest()
	if got := r.value(t, openFiles); got != 0 {
		t.Errorf("%v files are open long after a query, want none", got)
	}
	if got := r.read(t); got != wroteEarly {
		t.Errorf("after its rest the set reads as\n%s", got)
	}
}

// The base of an overlay may be dropped, by the map, before this node has the
// overlay's file: it is then all that the file can be built from.
func TestADroppedBaseIsOpenedForAnOverlayThatLostItsFile(t *testing.T) {
	r, base, _ := sealedRig(t)
	r.write(t, later)
	overlay := r.bucket().Overlays[0]
	r.close(t)
	c := crashAt(momentReported)
	r.start(t, c.reach)
	r.seal(t, overlay)
	r.await(t, "the crash", c.isHit)
	r.await(t, "the base to be dropped", func() bool { return r.client.Map().Set(base.ID).State == metasvc.ReplicaSetDropping })
	r.close(t)
	file := tsdbshard.SealedFileName(r.client.Map().Set(overlay.ID).Sealed.File)
	if err := os.Remove(filepath.Join(setDir(r.dir, overlay.ID, overlay.Members[0].Replica), file)); err != nil {
		t.Fatal(err)
	}
	r.start(t, nil)
	r.awaitSettled(t, overlay.ID)
	r.await(t, "the base's record to be gone", func() bool { return r.client.Map().Set(base.ID) == nil })
	r.wantSealed(t, overlay, wroteAll)
}

// Once the log is given up, a file that is damaged later is still served as far
// as it can be read, and the blocks beside it are kept.
func TestADamagedFileIsServedWhenTheLogIsGoneAndTheBlocksAreNot(t *testing.T) {
	r := newRig(t)
	set := r.set()
	r.write(t, early)
	if _, err := r.manager.FlushAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.close(t)
	c := crashAt(momentLogGone)
	r.start(t, c.reach)
	r.seal(t, set)
	r.await(t, "the crash", c.isHit)
	r.close(t)
	dir := setDir(r.dir, set.ID, set.Members[0].Replica)
	path := filepath.Join(dir, tsdbshard.SealedFileName(r.client.Map().Set(set.ID).Sealed.File))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/4] ^= 1 // among the pages
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	before := r.files(t, SetsDir, filepath.Base(dir))
	if len(before) < 2 {
		t.Fatalf("the set's directory holds %v, want its blocks as well", before)
	}
	r.start(t, nil)
	r.awaitSettled(t, set.ID)
	if replica, err := r.open.Get(set.ID); err != nil || replica.Sealed() == nil {
		t.Errorf("the router has %v, %v", replica, err)
	}
	if after := r.files(t, SetsDir, filepath.Base(dir)); !slices.Equal(after, before) {
		t.Errorf("the set's directory holds %v, want %v", after, before)
	}
}

// shardModel is a shard and its group, of which a flush may be under way.
type shardModel struct {
	requested, compacted int
	underWay             []int // the requests that the flush under way froze
	fresh                bool  // something is to be flushed
	err                  error
}

func (s *shardModel) RequestCompaction() { s.requested++ }

func (s *shardModel) Flush(context.Context) error {
	for _, frozen := range s.underWay {
		s.compacted, s.fresh = frozen, false
	}
	s.underWay = nil
	if s.fresh && s.err == nil {
		s.compacted, s.fresh = s.requested, false
	}
	return s.err
}

// Rewrite looks before it waits, as the group does.
func (s *shardModel) Rewrite(ctx context.Context) error {
	s.fresh = true // what was there, or an entry that it commits
	return s.Flush(ctx)
}

func TestACompactionIsDoneWhenCompactReturns(t *testing.T) {
	for name, s := range map[string]*shardModel{
		"with nothing to flush":                    {},
		"with something to flush":                  {fresh: true},
		"with a flush under way that froze before": {fresh: true, underWay: []int{0}},
		"with a disk that fails":                   {fresh: true, err: errDisk},
	} {
		t.Run(name, func(t *testing.T) {
			err := compact(t.Context(), s, s)
			if !errors.Is(err, s.err) {
				t.Errorf("compact says %v, want %v", err, s.err)
			}
			if err == nil && s.compacted != s.requested {
				t.Errorf("request %d is not carried out", s.requested)
			}
		})
	}
}
