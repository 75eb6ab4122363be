package raftset

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/types"

	"github.com/quorate/quorate/internal/testwait"
)

// stuckList is a segment list that takes the first commit, which makes the log,
// and fails all later ones: the state between a segment's sealing and its
// succession, kept for as long as one likes.
type stuckList struct {
	segmentList
	commits, failures int
}

func (s *stuckList) CommitState(state types.PersistentState) error {
	if s.commits++; s.commits > 1 {
		s.failures++
		return errors.New("no space left on device")
	}
	return s.segmentList.CommitState(state)
}

func openTestWAL(t *testing.T, dir string, list types.MetaStore) *wal.WAL {
	t.Helper()
	w, err := wal.Open(dir, wal.WithMetaStore(list), wal.WithSegmentSize(minSegmentBytes), wal.WithLogger(hclog.NewNullLogger()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

// fillSegment appends entries until one seals the segment, and returns its index.
func fillSegment(t *testing.T, w *wal.WAL, dir string) uint64 {
	t.Helper()
	for index := uint64(1); ; index++ {
		if err := w.StoreLog(testEntry(index)); err != nil {
			t.Fatal(err)
		}
		if scan := scanOnlySegment(t, dir); scan.indexStart != 0 {
			return index
		}
	}
}

func testEntry(index uint64) *raft.Log {
	return &raft.Log{Index: index, Term: 2, Data: []byte(strings.Repeat(fmt.Sprint(index%10), 3000))}
}

func onlySegment(t *testing.T, dir string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil || len(names) != 1 {
		t.Fatalf("the log has the segments %v, %v; want one", names, err)
	}
	return names[0]
}

func scanOnlySegment(t *testing.T, dir string) segmentScan {
	t.Helper()
	return scanSegmentFile(t, onlySegment(t, dir))
}

func scanSegmentFile(t *testing.T, path string) segmentScan {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	scan, err := scanSegment(f)
	if err != nil {
		t.Fatal(err)
	}
	return scan
}

// wedgedLog makes a log whose tail is sealed and has no successor.
func wedgedLog(t *testing.T) (dir string, last uint64) {
	t.Helper()
	dir = t.TempDir()
	w := openTestWAL(t, dir, &stuckList{})
	last = fillSegment(t, w, dir)
	testwait.For(t, "the succession to fail", func() bool {
		// The next append waits for it.
		return errors.Is(w.StoreLog(testEntry(last+1)), wal.ErrSealed)
	})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, last
}

func wantLog(t *testing.T, w *wal.WAL, last uint64) {
	t.Helper()
	if got, err := w.LastIndex(); err != nil || got != last {
		t.Fatalf("the log ends at %d, %v; want %d", got, err, last)
	}
	for index := uint64(1); index <= last; index++ {
		var l raft.Log
		if err := w.GetLog(index, &l); err != nil || string(l.Data) != string(testEntry(index).Data) {
			t.Fatalf("entry %d reads %.10q, %v", index, l.Data, err)
		}
	}
}

func TestASealedTailWithoutSuccessorIsMended(t *testing.T) {
	dir, last := wedgedLog(t)

	// This is what raft-wal makes of it.
	w := openTestWAL(t, dir, &segmentList{})
	for range 2 {
		if err := w.StoreLog(testEntry(last + 1)); !errors.Is(err, wal.ErrSealed) {
			t.Fatalf("without the repair an append gives %v; the test shows nothing unless it is ErrSealed", err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}

	for range 2 {
		w = openTestWAL(t, dir, &segmentList{repair: true})
		wantLog(t, w, last)
		last++
		if err := w.StoreLog(testEntry(last)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	wantLog(t, openTestWAL(t, dir, &segmentList{repair: true}), last)
}

func TestATornSealingBatchIsMended(t *testing.T) {
	for name, unclean := range map[string]bool{"after an unclean stop": true, "even after a clean one": false} {
		t.Run(name, func(t *testing.T) {
			dir, last := wedgedLog(t)
			// The commit frame of the sealing batch never reached the disk.
			end := scanOnlySegment(t, dir).end
			f, err := os.OpenFile(onlySegment(t, dir), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt(make([]byte, frameHeaderLen), end-frameHeaderLen); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			last-- // its entry was never acknowledged

			w := openTestWAL(t, dir, &segmentList{})
			if err := w.StoreLog(testEntry(last + 1)); !errors.Is(err, wal.ErrSealed) {
				t.Fatalf("without the repair an append gives %v; the test shows nothing unless it is ErrSealed", err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}

			w = openTestWAL(t, dir, &segmentList{repair: true, unclean: unclean})
			wantLog(t, w, last)
			for range 30 {
				last++
				if err := w.StoreLog(testEntry(last)); err != nil {
					t.Fatal(err)
				}
			}
			wantLog(t, w, last)
		})
	}
}

// The same through a whole replica: a crash at the worst moment costs nothing.
func TestAReplicaSurvivesACrashBetweenSealAndSuccession(t *testing.T) {
	dir := t.TempDir()
	_, g, _ := start(t, HostConfig{Dir: dir})
	var lines []string
	before, err := os.ReadFile(replicaPath(dir, logDir, segmentsFile))
	if err != nil {
		t.Fatal(err)
	}
	// Propose until the segment is sealed. Whatever came of its successor by
	// then is taken away again.
	for {
		line := strings.Repeat("x", 2000) + fmt.Sprint(len(lines))
		propose(t, g, line)
		lines = append(lines, line)
		if scanSegmentFile(t, glob(t, replicaPath(dir, logDir, "*.wal"))[0]).indexStart != 0 {
			break
		}
	}
	at := crash(t, dir)
	closeGroup(t, g)
	if err := os.WriteFile(replicaPath(at, logDir, segmentsFile), before, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, successor := range glob(t, replicaPath(at, logDir, "*.wal"))[1:] {
		if err := os.Remove(successor); err != nil {
			t.Fatal(err)
		}
	}
	h2 := newHost(t, HostConfig{Dir: at})
	g2, l2 := openLeader(t, h2, testSet)
	wantLines(t, l2, lines...)
	propose(t, g2, "more")
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return names
}
