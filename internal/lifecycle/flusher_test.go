package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/raftset"
)

const mib = 1 << 20

// fakeGroup is a replica whose flush takes a while and writes out everything,
// or fails.
type fakeGroup struct {
	set   setID
	takes time.Duration
	fails error

	mu       sync.Mutex
	memcache int64
	logBytes int64
	index    uint64
	manifest uint64
	flushes  int
}

func (g *fakeGroup) Status() raftset.Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	return raftset.Status{Set: g.set, LogBytes: g.logBytes, AppliedIndex: g.index, ManifestIndex: g.manifest}
}

func (g *fakeGroup) Flush(ctx context.Context) error {
	if g.takes > 0 {
		done := time.NewTimer(g.takes)
		defer done.Stop()
		select {
		case <-done.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.flushes++
	if g.fails != nil {
		return g.fails
	}
	g.memcache, g.logBytes, g.manifest = 0, 0, g.index
	return nil
}

func (g *fakeGroup) bytes() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.memcache
}

// holding is a replica with unflushed samples of so much memory and log.
func holding(memcache, log int64) *fakeGroup {
	return &fakeGroup{memcache: memcache, logBytes: log, index: 10, manifest: 1}
}

var errDisk = errors.New("input/output error")

func (g *fakeGroup) failing() *fakeGroup { g.fails = errDisk; return g }

func (g *fakeGroup) slow(takes time.Duration) *fakeGroup { g.takes = takes; return g }

func flusherOf(limits FlushLimits, groups ...*fakeGroup) *flusher {
	limits = limits.withDefaults()
	for i, g := range groups {
		g.set = setID(i + 1)
	}
	return newFlusher(limits, func() (targets []flushTarget) {
		for _, g := range groups {
			targets = append(targets, flushTarget{g, g.bytes, limits.LogBytes})
		}
		return targets
	}, slog.New(slog.DiscardHandler))
}

// flushedOf lists the numbers, from 0, of the groups that were flushed.
func flushedOf(groups []*fakeGroup) (flushed []int) {
	for i, g := range groups {
		if g.flushes > 0 {
			flushed = append(flushed, i)
		}
	}
	return flushed
}

func TestWhatIsFlushed(t *testing.T) {
	limits := FlushLimits{MemcacheBytes: 64 * mib, TotalMemcacheBytes: 100 * mib, LogBytes: 200 * mib, Age: time.Hour}
	for name, tc := range map[string]struct {
		groups []*fakeGroup
		after  time.Duration // since the flusher saw the groups first
		want   []int
	}{
		"nothing while nothing is due":          {groups: []*fakeGroup{holding(20*mib, mib), holding(20*mib, mib)}},
		"a memcache over its bound":             {groups: []*fakeGroup{holding(mib, mib), holding(64*mib, mib)}, want: []int{1}},
		"a log over its bound":                  {groups: []*fakeGroup{holding(mib, 200*mib), holding(mib, mib)}, want: []int{0}},
		"the largest while all take too much":   {groups: []*fakeGroup{holding(30*mib, 1), holding(40*mib, 1), holding(35*mib, 1)}, want: []int{1}},
		"several of them until it is enough":    {groups: []*fakeGroup{holding(60*mib, 1), holding(60*mib, 1), holding(50*mib, 1)}, want: []int{0, 1}},
		"the next where the largest fails":      {groups: []*fakeGroup{holding(60*mib, 1).failing(), holding(45*mib, 1)}, want: []int{0, 1}},
		"no entry before half of its age":       {groups: []*fakeGroup{holding(1, 1)}, after: 29 * time.Minute},
		"every entry by its age":                {groups: []*fakeGroup{holding(1, 1), holding(1, 1)}, after: time.Hour + time.Second, want: []int{0, 1}},
		"not what has nothing new, however old": {groups: []*fakeGroup{{index: 5, manifest: 5}}, after: 3 * time.Hour},
		"a log of duplicates, of no memory":     {groups: []*fakeGroup{holding(0, 200*mib)}, want: []int{0}},
	} {
		t.Run(name, func(t *testing.T) {
			f := flusherOf(limits, tc.groups...)
			start := time.Now()
			f.pass(t.Context(), start)
			if tc.after > 0 {
				f.pass(t.Context(), start.Add(tc.after))
			}
			if got := flushedOf(tc.groups); !slices.Equal(got, tc.want) {
				t.Errorf("flushed %v, want %v", got, tc.want)
			}
		})
	}
}

func TestAReplicaWhoseFlushFailedIsLeftAloneForAWhile(t *testing.T) {
	g := holding(65*mib, 1).failing()
	f := flusherOf(FlushLimits{MemcacheBytes: 64 * mib, TotalMemcacheBytes: 64 * mib, LogBytes: mib}, g)
	now := time.Now()
	for range 5 {
		f.pass(t.Context(), now)
	}
	if g.flushes != 1 {
		t.Errorf("it was tried %d times at once", g.flushes)
	}
	f.pass(t.Context(), now.Add(flushAgain))
	if g.flushes != 2 {
		t.Errorf("after the pause it was tried %d times in all, want 2", g.flushes)
	}
}

func TestTheTimesOfReplicasThatAreGoneAreForgotten(t *testing.T) {
	groups := make([]*fakeGroup, 100)
	for i := range groups {
		groups[i] = holding(1, 1)
	}
	f := flusherOf(FlushLimits{}, groups...)
	f.pass(t.Context(), time.Now())
	left := groups[:1]
	f.targets = func() []flushTarget { return []flushTarget{{left[0], left[0].bytes, mib}} }
	f.pass(t.Context(), time.Now())
	if len(f.due) != 1 {
		t.Errorf("the flusher remembers %d replicas, want 1", len(f.due))
	}
}

func TestAShutdownFlushesOnlyWhatAStartWouldReplayLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		groups := []*fakeGroup{holding(mib, 100), holding(mib, 8*mib).slow(time.Second), holding(mib, 9*mib).slow(time.Hour)}
		f := flusherOf(FlushLimits{ShutdownTimeout: 5 * time.Second}, groups...)
		start := time.Now()
		f.flushForShutdown(t.Context())
		if got := flushedOf(groups); !slices.Equal(got, []int{1}) {
			t.Errorf("flushed %v, want the one that is worth it and done in time", got)
		}
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("the shutdown took %v, want the timeout of 5s", took)
		}
	})
}

func TestWithoutATimeoutAShutdownFlushesNothing(t *testing.T) {
	groups := []*fakeGroup{holding(mib, 100*mib)}
	flusherOf(FlushLimits{}, groups...).flushForShutdown(t.Context())
	if got := flushedOf(groups); got != nil {
		t.Errorf("flushed %v", got)
	}
}

func TestFlushAllSaysWhatItDid(t *testing.T) {
	groups := []*fakeGroup{holding(3*mib, 1), holding(2*mib, 1), {index: 4, manifest: 4}, holding(mib, 1).failing()}
	report, err := flusherOf(FlushLimits{}, groups...).flushAll(t.Context(), 0)
	if !errors.Is(err, errDisk) {
		t.Errorf("got %v, want the failure of one", err)
	}
	if got := fmt.Sprint(report.Sets, report.Bytes); got != fmt.Sprint(2, 5*mib) {
		t.Errorf("reported sets and bytes %s, want 2 and 5 MiB", got)
	}
}
