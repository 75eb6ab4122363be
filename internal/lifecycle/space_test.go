package lifecycle

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/metasvc"
)

// disk is the free space of a node as a test has it.
type disk struct{ bytes atomic.Int64 }

func (d *disk) free(string) (int64, error) { return d.bytes.Load(), nil }

var testLimits = SpaceLimits{Low: 1000, Full: 500, Reserve: 100}

// newCrampedCluster starts a cluster of three whose disks the test fills.
func newCrampedCluster(t *testing.T) (*cluster, map[*rig]*disk) {
	t.Helper()
	c := newCluster(t, 3)
	disks := make(map[*rig]*disk)
	for _, r := range c.nodes {
		d := &disk{}
		d.bytes.Store(1 << 40)
		disks[r], r.limits, r.free = d, testLimits, d.free
	}
	c.start(t)
	c.awaitOpen(t)
	return c, disks
}

func (r *rig) awaitSpace(t *testing.T, want metasvc.Space) {
	t.Helper()
	testwait.For(t, r.node.Name+" to find its space "+want.String(), func() bool { _, s := r.manager.Space(); return s == want })
}

// refused returns the error of a write that is proposed at a node.
func (r *rig) refused(t *testing.T, set setID) error {
	t.Helper()
	replica, err := r.open.Get(set)
	if err != nil {
		t.Fatal(err)
	}
	batch := wire.Batch{}
	batch.Reset(r.tenant, 1)
	_, err = replica.Write(t.Context(), batch.Append(nil))
	return err
}

func TestLevelsOfSpaceHaveAMargin(t *testing.T) {
	for _, c := range []struct {
		free         int64
		before, want metasvc.Space
	}{
		{1000, metasvc.SpaceAmple, metasvc.SpaceAmple},
		{999, metasvc.SpaceAmple, metasvc.SpaceLow},
		{1124, metasvc.SpaceLow, metasvc.SpaceLow},
		{1125, metasvc.SpaceLow, metasvc.SpaceAmple},
		{499, metasvc.SpaceAmple, metasvc.SpaceFull},
		{561, metasvc.SpaceFull, metasvc.SpaceFull},
		{562, metasvc.SpaceFull, metasvc.SpaceLow},
		{99, metasvc.SpaceAmple, metasvc.SpaceExhausted},
		{111, metasvc.SpaceExhausted, metasvc.SpaceExhausted},
		{112, metasvc.SpaceExhausted, metasvc.SpaceFull},
		{0, metasvc.SpaceLow, metasvc.SpaceExhausted},
	} {
		if got := testLimits.level(c.free, c.before); got != c.want {
			t.Errorf("%d bytes after %v are %v, want %v", c.free, c.before, got, c.want)
		}
	}
	if got := (SpaceLimits{}).level(0, metasvc.SpaceAmple); got != metasvc.SpaceAmple {
		t.Errorf("without limits an empty disk is %v", got)
	}
}

// A leader that gets short of space hands its set on before it is full, nobody
// prefers it meanwhile, and writes go on.
func TestANodeThatIsShortOfSpaceHandsItsLeadsOn(t *testing.T) {
	t.Parallel()
	c, disks := newCrampedCluster(t)
	set := c.set()
	c.write(t, early)
	short := c.leading(t, set.ID)
	c.awaitApplied(t, set.ID, c.nodes...)
	disks[short].bytes.Store(999)
	short.awaitSpace(t, metasvc.SpaceLow)
	c.await(t, "another to lead", func() bool { return c.leading(t, set.ID) != short })
	c.write(t, later)
	testwait.For(t, "the lead to be counted as handed on", func() bool { return testutil.ToFloat64(short.manager.metrics.reliefs) == 1 })
	c.awaitApplied(t, set.ID, c.nodes...) // it follows still
	disks[short].bytes.Store(499)
	short.awaitSpace(t, metasvc.SpaceFull)
	c.write(t, floats{"x", map[int64]float64{200: 1}})
	c.awaitApplied(t, set.ID, c.nodes...)

	// Below the reserve it stores nothing more, and stays a member.
	disks[short].bytes.Store(99)
	short.awaitSpace(t, metasvc.SpaceExhausted)
	g, _ := short.host.Group(set.ID)
	before := g.Status().LastIndex
	c.write(t, floats{"x", map[int64]float64{210: 1}})
	if s := g.Status(); s.LastIndex != before || s.Broken != nil {
		t.Errorf("it was given entries after %d: %+v", before, s)
	}
	disks[short].bytes.Store(1 << 40)
	c.awaitApplied(t, set.ID, c.nodes...)
}

// When all disks are full, writes are refused before they are proposed, with the
// reason; reads go on, and writes when there is space again.
func TestWhereAllDisksAreFullWritesAreRefusedAndReadsGoOn(t *testing.T) {
	t.Parallel()
	c, disks := newCrampedCluster(t)
	set := c.set()
	c.write(t, early)
	for r, d := range disks {
		d.bytes.Store(499)
		r.awaitSpace(t, metasvc.SpaceFull)
	}
	leader := c.leading(t, set.ID)
	g, _ := leader.host.Group(set.ID)
	before := g.Status().LastIndex
	err := leader.refused(t, set.ID)
	var kinded *quorate.Error
	if !errors.As(err, &kinded) || kinded.Kind != quorate.Unavailable || kinded.RetryAfter <= 0 {
		t.Fatalf("a write to a full disk got %v", err)
	}
	for _, want := range []string{leader.dir, "499 bytes free", "500", "storage.full_space_bytes"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error %q does not say %q", err, want)
		}
	}
	if got := g.Status().LastIndex; got != before {
		t.Errorf("entry %d was proposed all the same", got)
	}
	if got := leader.read(t); got != wroteEarly {
		t.Errorf("read\n%s", got)
	}
	for r, d := range disks {
		d.bytes.Store(1 << 40)
		r.awaitSpace(t, metasvc.SpaceAmple)
	}
	testwait.For(t, "writes to be taken again", func() bool { return c.leading(t, set.ID).refused(t, set.ID) == nil })
	c.write(t, later)
	if got := c.leading(t, set.ID).read(t); got != wroteAll {
		t.Errorf("read\n%s", got)
	}
}

// A leader whose own disk has space refuses what no majority could store.
func TestALeaderRefusesWhatItsFollowersHaveNoSpaceFor(t *testing.T) {
	t.Parallel()
	c, disks := newCrampedCluster(t)
	set := c.set()
	leader := c.leading(t, set.ID)
	for r, d := range disks {
		if r != leader {
			d.bytes.Store(499)
			r.awaitSpace(t, metasvc.SpaceFull)
		}
	}
	testwait.For(t, "the leader to hear of it", func() bool {
		err := leader.refused(t, set.ID)
		return err != nil && strings.Contains(err.Error(), "2 of the 3 nodes")
	})
	for _, d := range disks {
		d.bytes.Store(1 << 40)
	}
	testwait.For(t, "writes to be taken again", func() bool { return leader.refused(t, set.ID) == nil })
}

// The real thing: a file system of 32 MiB that something else fills.
func TestARealFileSystemThatFillsUp(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	cramped := c.nodes[1]
	free := mountSmall(t, cramped)
	for _, r := range c.nodes {
		r.limits = SpaceLimits{Low: 16 << 20, Full: 8 << 20, Reserve: 4 << 20}
	}
	cramped.free = free.measure
	c.start(t)
	c.awaitOpen(t)
	set := c.set()
	c.write(t, early)
	c.awaitApplied(t, set.ID, c.nodes...)
	free.fillTo(t, 12<<20)
	cramped.awaitSpace(t, metasvc.SpaceLow)
	c.await(t, "another to lead", func() bool { return c.leading(t, set.ID) != cramped })
	free.fillTo(t, 2<<20)
	cramped.awaitSpace(t, metasvc.SpaceExhausted)
	c.write(t, later)
	if got := c.leading(t, set.ID).read(t); got != wroteAll {
		t.Errorf("read\n%s", got)
	}
	if g, _ := cramped.host.Group(set.ID); g.Status().Broken != nil {
		t.Errorf("the replica broke: %v", g.Status().Broken)
	}
	free.clear(t)
	cramped.awaitSpace(t, metasvc.SpaceAmple)
	c.awaitApplied(t, set.ID, c.nodes...)
}

// ballast fills a file system: a real one, or where none can be mounted one on
// paper.
type ballast struct {
	path    string // of the file that fills it
	bytes   int64
	onPaper bool
	left    atomic.Int64
}

// mountSmall mounts a file system of 32 MiB in the place of a node's empty
// directory, until the node is closed.
func mountSmall(t *testing.T, r *rig) *ballast {
	t.Helper()
	b := &ballast{path: filepath.Join(r.dir, "ballast"), bytes: 32 << 20}
	b.left.Store(b.bytes)
	if err := syscall.Mount("tmpfs", r.dir, "tmpfs", 0, "size=32m"); err != nil {
		t.Logf("no file system can be mounted (%v): its free space is made up", err)
		b.onPaper = true
		return b
	}
	t.Cleanup(func() {
		r.close(t)
		if err := syscall.Unmount(r.dir, 0); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *ballast) measure(dir string) (int64, error) {
	if b.onPaper {
		return b.left.Load(), nil
	}
	return freeBytes(dir)
}

// fillTo leaves so many bytes free.
func (b *ballast) fillTo(t *testing.T, free int64) {
	t.Helper()
	if b.onPaper {
		b.left.Store(free)
		return
	}
	now, err := freeBytes(filepath.Dir(b.path))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(b.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(make([]byte, now-free))
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func (b *ballast) clear(t *testing.T) {
	t.Helper()
	b.left.Store(b.bytes)
	if b.onPaper {
		return
	}
	if err := os.Remove(b.path); err != nil {
		t.Fatal(err)
	}
}
