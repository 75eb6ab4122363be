package lifecycle

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/tsdbshard"
)

var (
	early = floats{"m", map[int64]float64{1: 1, 2: 2, 3: 3}}
	later = floats{"n", map[int64]float64{10: 7}}
)

const (
	wroteEarly = "m 1=1 2=2 3=3\n"
	wroteAll   = wroteEarly + "n 10=7\n"
)

// wantSealed checks that a set is served from its file, which is all there is.
func (r *rig) wantSealed(t *testing.T, set *metasvc.ReplicaSet, want string) {
	t.Helper()
	r.wantSealedAs(t, set, set.Members[0].Replica, want)
}

func (r *rig) wantSealedAs(t *testing.T, set *metasvc.ReplicaSet, replica quorate.ReplicaID, want string) {
	t.Helper()
	if got := r.read(t); got != want {
		t.Errorf("reading the sealed set gives\n%swant\n%s", got, want)
	}
	dir := filepath.Base(setDir(r.dir, set.ID, replica))
	file := tsdbshard.SealedFileName(r.client.Map().Set(set.ID).Sealed.File)
	if got := r.files(t, SetsDir, dir); len(got) != 1 || got[0] != file {
		t.Errorf("the set's directory holds %v, want %s alone", got, file)
	}
	if there, err := r.host.Exists(set.ID, replica); err != nil || there {
		t.Errorf("the set's log is there: %v, %v", there, err)
	}
	if _, ok := r.host.Group(set.ID); ok {
		t.Error("the set's group runs")
	}
}

func TestProtocol3ASealedSetIsServedFromItsFileAlsoAfterARestart(t *testing.T) {
	r := newRig(t)
	set := r.set()
	r.write(t, early)
	if _, err := r.manager.FlushAll(t.Context()); err != nil { // part of it lies in a block
		t.Fatal(err)
	}
	r.write(t, later)
	held := r.querier(t) // on the open shard, across the seal
	r.seal(t, set)
	r.awaitSettled(t, set.ID)
	r.wantSealed(t, set, wroteAll)
	if got := readAll(t, held); got != wroteAll {
		t.Errorf("a query from before the seal reads\n%s", got)
	}
	if err := held.Close(); err != nil {
		t.Error(err)
	}
	if got := r.files(t, TrashDir); len(got) != 1 {
		t.Errorf("the trash holds %v, want what the set was before", got)
	}
	sealed := r.client.Map().Set(set.ID).Sealed
	if sealed.File.Samples != 4 || sealed.File.Series != 2 {
		t.Errorf("the record says %+v", sealed.File)
	}

	r.close(t)
	r.start(t, nil)
	r.awaitSettled(t, set.ID)
	r.wantSealed(t, set, wroteAll)
}

func TestASealThatIsCutShortAnywhereIsFinishedAfterARestart(t *testing.T) {
	for _, at := range []moment{
		momentSealed, momentChecksummed, momentBuilt, momentReported,
		momentVerified, momentServed, momentStopped, momentLogGone, momentCleared,
	} {
		t.Run(strings.ReplaceAll(string(at), " ", "-"), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			set := r.set()
			r.write(t, early)
			r.close(t)
			c := crashAt(at)
			r.start(t, c.reach)
			r.write(t, later)
			r.seal(t, set)
			r.await(t, "the crash", c.isHit)
			r.close(t)

			r.start(t, nil)
			r.awaitSettled(t, set.ID)
			r.wantSealed(t, set, wroteAll)
		})
	}
}

// sealedRig returns a rig whose set is sealed, and the path of its file.
func sealedRig(t *testing.T) (*rig, *metasvc.ReplicaSet, string) {
	t.Helper()
	r := newRig(t)
	set := r.set()
	r.write(t, early)
	r.seal(t, set)
	r.awaitSettled(t, set.ID)
	file := tsdbshard.SealedFileName(r.client.Map().Set(set.ID).Sealed.File)
	return r, set, filepath.Join(setDir(r.dir, set.ID, set.Members[0].Replica), file)
}

func TestProtocol15LateSamplesGoToAnOverlayThatTakesItsBasesPlace(t *testing.T) {
	r, base, _ := sealedRig(t)
	r.write(t, floats{"m", map[int64]float64{2: 99, 4: 4}}) // the base has a sample at 2
	r.write(t, later)
	const want = "m 1=1 2=2 3=3 4=4\nn 10=7\n"
	if got := r.read(t); got != want {
		t.Fatalf("base and overlay read as\n%swant\n%s", got, want)
	}
	overlay := r.bucket().Overlays[0]
	if overlay == nil || overlay.Base != base.ID {
		t.Fatalf("the overlay is %+v", overlay)
	}
	r.seal(t, overlay)
	r.awaitSettled(t, overlay.ID)
	r.await(t, "the base to be dropped", func() bool { return r.client.Map().Set(base.ID) == nil })
	if now := r.set(); now.ID != overlay.ID || r.bucket().Overlays[0] != nil {
		t.Errorf("the bucket's set is %v, want the overlay %v", now.ID, overlay.ID)
	}
	r.wantSealed(t, overlay, want)
	if got := r.files(t, SetsDir); len(got) != 1 {
		t.Errorf("the sets' directory holds %v, want the overlay's alone", got)
	}
	r.close(t)
	r.start(t, nil)
	r.awaitSettled(t, overlay.ID)
	r.wantSealed(t, overlay, want)
}

func TestTheSealOfAnOverlayThatIsCutShortAnywhereIsFinishedAfterARestart(t *testing.T) {
	for _, at := range []moment{momentSealed, momentBuilt, momentReported, momentServed, momentStopped, momentCleared, momentHidden, momentMoved} {
		t.Run(strings.ReplaceAll(string(at), " ", "-"), func(t *testing.T) {
			t.Parallel()
			r, base, _ := sealedRig(t)
			r.write(t, later)
			overlay := r.bucket().Overlays[0]
			r.close(t)
			c := crashAt(at)
			r.start(t, c.reach)
			r.seal(t, overlay)
			r.await(t, "the crash", c.isHit)
			r.close(t)

			r.start(t, nil)
			r.awaitSettled(t, overlay.ID)
			r.await(t, "the base to be dropped", func() bool { return r.client.Map().Set(base.ID) == nil })
			r.wantSealed(t, overlay, wroteAll)
		})
	}
}

func TestALostCanonicalFileIsBuiltAnewFromTheLog(t *testing.T) {
	for name, harm := range map[string]func(path string) error{
		"missing": os.Remove,
		"damaged": func(path string) error {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			data[len(data)/2] ^= 1
			return os.WriteFile(path, data, 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			set := r.set()
			r.write(t, early)
			r.close(t)
			c := crashAt(momentReported) // the file is there, the log not given up
			r.start(t, c.reach)
			r.seal(t, set)
			r.await(t, "the crash", c.isHit)
			r.await(t, "the verdict", func() bool { return r.client.Map().Set(set.ID).State == metasvc.ReplicaSetSealed })
			r.close(t)
			path := filepath.Join(setDir(r.dir, set.ID, set.Members[0].Replica), tsdbshard.SealedFileName(r.client.Map().Set(set.ID).Sealed.File))
			if err := harm(path); err != nil {
				t.Fatal(err)
			}
			r.start(t, nil)
			r.awaitSettled(t, set.ID)
			r.wantSealed(t, set, wroteEarly)
		})
	}
}

func TestASealedSetWithoutFileAndLogServesNothingAndSaysSo(t *testing.T) {
	r, set, path := sealedRig(t)
	r.close(t)
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	r.start(t, nil)
	testwait.For(t, "the replica to be broken", func() bool { return testutil.ToFloat64(r.manager.metrics.failures) > 0 })
	_, err := r.open.Get(set.ID)
	if err == nil || !strings.Contains(err.Error(), errNoFile.Error()) {
		t.Errorf("the router says %v", err)
	}
	if got := r.files(t, SetsDir, filepath.Base(filepath.Dir(path))); len(got) != 1 {
		t.Errorf("the set's directory holds %v, want what was there", got)
	}
	// An operator puts the file back.
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	r.awaitSettled(t, set.ID)
	r.wantSealed(t, set, wroteEarly)
}

func TestAReplicaThatDiffersFromWhatWasSealedServesNothing(t *testing.T) {
	r := newRig(t)
	set := r.set()
	r.write(t, early)
	r.close(t)
	c := crashAt(momentReported)
	r.start(t, c.reach)
	r.seal(t, set)
	testwait.For(t, "the report", c.isHit)
	r.close(t)
	// The others, here the test, have sealed something else.
	record := r.client.Map().Set(set.ID)
	report := record.Reports[0]
	own := report.Checksum
	report.Checksum[0] ^= 1
	report.File = &wire.SealedFile{Hash: [32]byte{1}, Bytes: 1}
	if err := r.client.ReportSeal(t.Context(), set.ID, report.Replica, report); err != nil {
		t.Fatal(err)
	}
	r.control(t)
	if sealed := r.client.Map().Set(set.ID); sealed.State != metasvc.ReplicaSetSealed || sealed.Sealed.Checksum == own {
		t.Fatalf("the set is %v as %x", sealed.State, sealed.Sealed.Checksum)
	}
	r.start(t, nil)
	testwait.For(t, "the replica to be counted", func() bool { return testutil.ToFloat64(r.manager.metrics.failures) > 0 })
	if _, err := r.open.Get(set.ID); err == nil || !strings.Contains(err.Error(), errNoFile.Error()) {
		t.Errorf("the router says %v", err)
	}
	if there, err := r.host.Exists(set.ID, set.Members[0].Replica); err != nil || !there {
		t.Errorf("the log of the replica that differs is there: %v, %v", there, err)
	}
	if got := r.files(t, TrashDir); len(got) != 0 {
		t.Errorf("the trash holds %v", got)
	}
}

// The map has an overlay in its base's place as soon as it is sealed; until it
// is swapped here, its log alone would be half an answer.
func TestQueriesBetweenTheVerdictAndTheSwapSeeBaseAndOverlay(t *testing.T) {
	r, _, _ := sealedRig(t)
	r.write(t, later)
	overlay := r.bucket().Overlays[0]
	r.close(t)
	reached, goOn := make(chan struct{}), make(chan struct{})
	r.start(t, func(at moment) error {
		if at == momentVerified {
			close(reached)
			<-goOn
		}
		return nil
	})
	r.seal(t, overlay)
	r.await(t, "the swap", func() bool {
		select {
		case <-reached:
			return true
		default:
			return false
		}
	})
	impatient, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	q, err := r.router.Querier(impatient, r.tenant, math.MinInt64, math.MaxInt64)
	switch {
	case err == nil:
		if got := readAll(t, q); got != wroteAll {
			t.Errorf("the query reads\n%swant\n%s", got, wroteAll)
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	case quorate.KindOf(err) != quorate.Unavailable:
		t.Errorf("the query is refused with %v", err)
	}
	close(goOn)
	r.awaitSettled(t, overlay.ID)
	r.wantSealed(t, overlay, wroteAll)
}
