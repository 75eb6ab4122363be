package router

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
)

// manySeries are series of both shards, with a sample each.
func manySeries(n int, ts int64) (all []metric) {
	for i := range n {
		all = append(all, metric{labels.FromStrings("__name__", "m", "i", fmt.Sprintf("%04d", i)), []float{{ts, float64(i)}}})
	}
	return all
}

func TestAWriteToOtherNodesIsAnsweredAsOneHere(t *testing.T) {
	here, away := newRig(t), newRigOf(t, 2)
	for round, request := range [][]metric{
		manySeries(20, at(-10)),
		manySeries(20, at(-5)),
		append(manySeries(20, at(-5)), metric{labels.FromStrings("__name__", "x"), []float{{at(-1), 1}, {at(-1), 2}}}), // duplicates, and a conflict
		{{labels.FromStrings("__name__", "x"), []float{{at(-1), 3}, {at(0), 1}}}},
	} {
		want, wantSent, wantErr := here.write(t, request...)
		got, gotSent, gotErr := away.write(t, request...)
		if got != want || fmt.Sprint(gotErr) != fmt.Sprint(wantErr) || quorate.KindOf(gotErr) != quorate.KindOf(wantErr) {
			t.Errorf("round %d got %+v, %v; want %+v, %v", round, got, gotErr, want, wantErr)
		}
		if gotSent.parsed != wantSent.parsed {
			t.Errorf("round %d: labels were parsed %d times, want %d: refs that other nodes give are used", round, gotSent.parsed, wantSent.parsed)
		}
	}
	expect(t, away.read(t, named("m")), here.read(t, named("m"))...)
	if away.network.called(methodWrite) == 0 || away.network.called(methodPin) == 0 {
		t.Error("nothing went to other nodes")
	}
}

// A node that is away for a while is latency.
func TestAWriteWaitsForANodeThatIsAway(t *testing.T) {
	r := newRigOf(t, 2)
	r.mustWrite(t, manySeries(20, at(-10))...)
	for _, node := range r.nodes {
		r.network.setDown(node, true)
	}
	done := make(chan error, 1)
	go func() {
		_, err := r.Append(t.Context(), r.tenant, (&sent{metrics: manySeries(20, at(-5))}).request())
		done <- err
	}()
	testwait.For(t, "a few tries", func() bool { return testutil.ToFloat64(r.metrics.retries) > 3 })
	r.network.setDown(r.nodes[0], false)
	r.network.setDown(r.nodes[1], false)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := len(r.read(t, named("m"))); n != 20 {
		t.Errorf("%d series are read, want 20", n)
	}
	r.writeTimeout = 100 * time.Millisecond
	r.network.setDown(r.nodes[0], true)
	result, _, err := r.write(t, manySeries(20, at(-1))...)
	if quorate.KindOf(err) != quorate.Unavailable || result.Floats == 0 || result.Floats == 20 {
		t.Errorf("with one node away got %+v, %v; want the other's rows stored, and Unavailable", result, err)
	}
}

// An answer that is lost leaves the outcome unknown; the retry finds it done.
func TestAWriteWhoseAnswerIsLostIsSentAgain(t *testing.T) {
	r := newRigOf(t, 2)
	var mu sync.Mutex
	lost := map[quorate.NodeID]bool{}
	r.network.setHarm(func(_ context.Context, to quorate.NodeID, method string, n int) error {
		mu.Lock()
		defer mu.Unlock()
		if method != methodWrite || n == 0 || lost[to] {
			return nil
		}
		lost[to] = true
		return errCut
	})
	result, _, err := r.write(t, manySeries(20, at(-10))...)
	if err != nil || result.Floats != 20 || result.Duplicates != 20 {
		t.Errorf("got %+v, %v; want all 20 rows stored, as duplicates of the first try", result, err)
	}
	if len(lost) != 2 {
		t.Errorf("answers of %d nodes were lost, want 2", len(lost))
	}
}

// A node that takes a request and says nothing must not use up the deadline.
func TestAWriteGivesUpOnANodeThatHangs(t *testing.T) {
	r := newRigOf(t, 2)
	var once sync.Once
	hung := make(chan struct{})
	r.network.setHarm(func(ctx context.Context, _ quorate.NodeID, method string, n int) error {
		hangs := false
		if method == methodWrite && n == 0 {
			once.Do(func() { hangs = true })
		}
		if !hangs {
			return nil
		}
		close(hung)
		<-ctx.Done()
		return quorate.Errorf(quorate.Unavailable, "%w", ctx.Err())
	})
	start := time.Now()
	result, _, err := r.write(t, manySeries(20, at(-10))...)
	if err != nil || result.Floats != 20 {
		t.Errorf("got %+v, %v; want all stored", result, err)
	}
	<-hung
	if took := time.Since(start); took < forwardTimeout/2 || took > 3*forwardTimeout {
		t.Errorf("it took %v; a node is waited for %v", took, forwardTimeout)
	}
}

func TestWarmUpReachesOtherNodes(t *testing.T) {
	r := newRigOf(t, 2)
	late := now.Truncate(time.Hour).Add(59 * time.Minute)
	r.Router.now = func() time.Time { return late }
	ts := late.UnixMilli()
	testwait.For(t, "the series to be known to the next bucket", func() bool {
		ts++
		r.mustWrite(t, manySeries(5, ts)...)
		return testutil.ToFloat64(r.metrics.warmed) >= 5
	})
	s := r.mustWrite(t, manySeries(5, at(1801))...)
	if s.parsed != 0 {
		t.Errorf("labels were parsed %d times at the beginning of the next bucket", s.parsed)
	}
}
