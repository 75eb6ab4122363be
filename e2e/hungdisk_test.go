package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/testwait"
)

// volume is a file system in a file. Frozen, it is a disk that hangs: who writes
// waits in the kernel, where not even SIGKILL ends it, and who reads does not. It
// needs root, util-linux and e2fsprogs.
type volume struct {
	dir string // where it is mounted
}

// newVolume makes a volume, which goes when the test ends.
func newVolume(t *testing.T) *volume {
	t.Helper()
	const size = 4 << 30 // of which next to nothing is used; nodes want 1 GiB to be free
	image := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		t.Fatal(err)
	}
	v := &volume{dir: t.TempDir()}
	for _, args := range [][]string{{"mkfs.ext4", "-q", "-F", image}, {"mount", "-o", "loop", image, v.dir}} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s(this test hangs a file system: it needs root, util-linux and e2fsprogs)", args, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", v.dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v\n%s", err, out)
		}
	})
	return v
}

// freeze has the volume hang until thaw is called or the test ends, even if by its
// own end: the child that froze it thaws it when its input is closed.
func (v *volume) freeze(t *testing.T) (thaw func()) {
	t.Helper()
	cmd := exec.Command("sh", "-c", `fsfreeze -f "$1" && echo frozen && cat >/dev/null; fsfreeze -u "$1"`, "sh", v.dir)
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	thaw = sync.OnceFunc(func() {
		if err := errors.Join(input.Close(), cmd.Wait()); err != nil {
			t.Errorf("thaw: %v", err)
		}
	})
	t.Cleanup(thaw)
	if _, err := io.ReadFull(output, make([]byte, len("frozen\n"))); err != nil {
		t.Fatalf("freeze: %v", err)
	}
	return thaw
}

// moveTo has a node that does not run live on another file system from now on.
func (s *server) moveTo(t *testing.T, v *volume) {
	t.Helper()
	if err := os.CopyFS(v.dir, os.DirFS(s.dir)); err != nil {
		t.Fatal(err)
	}
	s.dir = v.dir
}

// The disk of a node of three hangs, and at length that of each in turn, in the
// middle of a write load. The node says so and ends, as far as the kernel lets it: its sockets stay open and
// answer nothing. The two others go on, nothing acknowledged is lost, and when the
// disk is well the node starts anew and all replicas are equal.
func TestAHungDiskEndsItsNodeAndNothingElse(t *testing.T) {
	c := startCluster(t, 3, killSettings)
	volumes := make([]*volume, len(c.nodes))
	for i, s := range c.nodes {
		volumes[i] = newVolume(t)
		if code, _ := s.terminate(t); code != 0 {
			t.Fatalf("exit code %d", code)
		}
		s.moveTo(t, volumes[i])
		s.start(t)
		c.awaitReady(t, s)
	}
	l := clusterLoad(c)
	l.during(t, func() { let(t, time.Second) })
	victims := c.nodes[:1]
	if atLength(t) {
		victims = c.nodes
	}
	var gaps []time.Duration
	for i, s := range victims {
		c.lead(t, s)
		gaps = append(gaps, c.hangDisk(t, i, volumes[i], l)...)
	}
	report(t, c, l, gaps)
}

// name is that of a cluster's node.
func (s *server) name() string { return strings.TrimPrefix(s.args[0], "--node.name=") }

// lead hands the leadership of all open sets to a node.
func (c *cluster) lead(t *testing.T, s *server) {
	t.Helper()
	name := "@" + s.name()
	testwait.Until(t, s.args[0]+" to lead all sets", every(500*time.Millisecond, func() error {
		var errs []error
		for _, set := range s.clusterSets(t) {
			if set.State != "open" || strings.HasSuffix(set.Leader, name) {
				continue
			}
			for _, m := range set.Members {
				if replica, ok := strings.CutSuffix(m, name); ok {
					url := fmt.Sprintf("http://%s/api/v1/admin/sets/transfer?set=%d&replica=%s", s.admin, set.Set, replica)
					status, body := post(t, url)
					errs = append(errs, fmt.Errorf("set %d is led by %s; transfer: %d %s", set.Set, set.Leader, status, body))
				}
			}
		}
		return errors.Join(errs...)
	}))
}

// hangDisk has a node's disk hang under load and returns the longest times that
// the writers which do not write to that node had to wait. One does, and is not
// answered while the disk hangs.
func (c *cluster) hangDisk(t *testing.T, number int, v *volume, l *load) (gaps []time.Duration) {
	t.Helper()
	urls := c.writeURLs()
	victim, well := c.nodes[number], []*server{c.nodes[(number+1)%3], c.nodes[(number+2)%3]}
	for i, w := range l.writers {
		w.urls, w.at = []string{urls[(number+1)%3], urls[(number+2)%3]}, i%2
	}
	l.writers[0].urls, l.writers[0].at = urls, number

	var thaw func()
	l.during(t, func() {
		let(t, 2*time.Second)
		if !slices.ContainsFunc(victim.clusterSets(t), func(set clusterSet) bool { return strings.HasSuffix(set.Leader, "@"+victim.name()) }) {
			t.Errorf("%s leads nothing", victim.name())
		}
		thaw = v.freeze(t)
		frozen := time.Now()
		testwait.For(t, "the node to say that its disk hangs", func() bool { return bytes.Contains(victim.log(t), []byte("the process must end")) })
		t.Logf("%s: its disk hung for %v until it said so", victim.args[0], time.Since(frozen).Round(10*time.Millisecond))
		let(t, 10*time.Second)
	})
	gaps = l.slowest()[1:]
	t.Logf("%s: its process is gone: %t; the others' writers waited for %v", victim.args[0], victim.hasExited(), gaps)
	before, _, _ := l.count()
	l.during(t, func() { let(t, 2*time.Second) })
	if after, _, _ := l.count(); after-before < minRoundSamples {
		t.Errorf("%s: %d samples were acknowledged while its disk hung, want at least %d", victim.args[0], after-before, minRoundSamples)
	}
	for _, s := range well {
		found := l.check(t, s.url(""))
		found.report(t)
	}

	thaw()
	if code := victim.exitCode(t); code != 1 {
		t.Errorf("%s: exit code %d, want 1", victim.args[0], code)
	}
	if log := victim.log(t); !bytes.Contains(log, []byte("a write has been stuck for 5s")) {
		t.Errorf("%s does not say why it ended:\n%s", victim.args[0], victim.logTail(t))
	}
	victim.start(t)
	c.awaitReady(t, victim)
	if sets := c.awaitEqualReplicas(t, 3); sets == 0 {
		t.Fatal("no sets were compared")
	}
	c.check(t, l)
	return gaps
}
