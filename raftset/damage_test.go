package raftset

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/internal/testwait"
)

// Each kind of entry, damaged in the middle of the log where raft-wal never
// looks, is found before Raft starts; nothing of it is applied.
func TestAFlippedBitInAStoredEntryIsFound(t *testing.T) {
	for name, marker := range map[string][]byte{
		"a command":             []byte("did you see that"),
		"a fence":               []byte(fence),
		"the noop of a term":    nil,
		"a configuration entry": []byte("node3"),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			h, g, _ := start(t, HostConfig{Dir: dir})
			configure(t, g)
			propose(t, g, "did you see that")
			proposeAll(t, g, "x", 3)
			closeGroup(t, g)
			form(t, h, otherSet)
			other, _ := openLeader(t, h, otherSet)

			path := glob(t, replicaPath(dir, logDir, "*.wal"))[0]
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			at := segmentHeaderLen + frameHeaderLen + 1 // the term of the first entry, a noop
			if marker != nil {
				if at = strings.Index(string(data), string(marker)); at < 0 {
					t.Fatalf("%q is not in the log", marker)
				}
			}
			flipBit(t, path, int64(at))
			l := &ledger{}
			if _, err := h.Open(t.Context(), testSet, testReplica, l); !errors.Is(err, ErrQuarantined) || !errors.Is(err, ErrDamaged) {
				t.Errorf("open gives %v, want ErrQuarantined and ErrDamaged", err)
			}
			if l.opened {
				t.Error("the state machine was opened")
			}
			propose(t, other, "unharmed")
		})
	}
}

// configure puts a configuration entry into the log, the same one again.
func configure(t *testing.T, g *Group) {
	t.Helper()
	m := member(testReplica)
	if err := g.raft.AddVoter(m.serverID(), m.address(), 0, 0).Error(); err != nil {
		t.Fatal(err)
	}
}

func TestAnEntryDamagedWhileTheReplicaRunsIsNotServed(t *testing.T) {
	dir := t.TempDir()
	_, g, _ := start(t, HostConfig{Dir: dir})
	propose(t, g, "did you see that")
	path := glob(t, replicaPath(dir, logDir, "*.wal"))[0]
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	at := strings.Index(string(data), "did you")
	if _, err := f.WriteAt([]byte{data[at] ^ 1}, int64(at)); err != nil {
		t.Fatal(err)
	}
	found := 0
	for index := g.Status().FirstIndex; index <= g.Status().LastIndex; index++ {
		var l raft.Log
		if err := g.log.checkedLog.GetLog(index, &l); errors.Is(err, ErrDamaged) {
			found++
		} else if err != nil {
			t.Error(err)
		}
	}
	if found != 1 {
		t.Errorf("%d entries were found damaged, want 1", found)
	}
}

// raft-wal drops a damaged end of the log without a word.
func TestALogThatEndsBelowItsLowWaterMarkIsQuarantined(t *testing.T) {
	for name, stop := range map[string]func(t *testing.T, dir string, g *Group) string{
		"after a clean stop": func(t *testing.T, dir string, g *Group) string {
			closeGroup(t, g)
			return dir
		},
		"after a crash, once the mark had time to rise": func(t *testing.T, dir string, g *Group) string {
			last := g.Status().LastIndex
			testwait.Until(t, "the mark to rise", func() error {
				level, err := readWaterLevel(replicaPath(dir, lowWaterFile), testSet, testReplica)
				if err == nil && level.index < last {
					err = fmt.Errorf("it is at %d, the log at %d", level.index, last)
				}
				return err
			})
			return crash(t, dir)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			_, g, _ := start(t, HostConfig{Dir: dir})
			proposeAll(t, g, "x", 5)
			dir = stop(t, dir, g)
			path := glob(t, replicaPath(dir, logDir, "*.wal"))[0]
			flipBit(t, path, scanSegmentFile(t, path).end-frameHeaderLen-8) // in the last batch
			flipped, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			h := newHost(t, HostConfig{Dir: dir})
			_, err = h.Open(t.Context(), testSet, testReplica, &ledger{})
			if !errors.Is(err, ErrQuarantined) || !strings.Contains(err.Error(), "low-water mark") {
				t.Errorf("got %v, want a quarantine that names the low-water mark", err)
			}
			aside := filepath.Join(replicaPath(dir)+quarantineSuffix, logDir, filepath.Base(path))
			if kept, err := os.ReadFile(aside); err != nil || !slices.Equal(kept, flipped) {
				t.Errorf("what is left of the damaged batch was not kept: %v", err)
			}
		})
	}
}

// A write that was torn by a crash was not acknowledged, and is dropped.
func TestATornLastBatchIsNoDamage(t *testing.T) {
	dir := t.TempDir()
	_, g, _ := start(t, HostConfig{Dir: dir})
	lines := proposeAll(t, g, "x", 5)
	at := crash(t, dir)
	path := glob(t, replicaPath(at, logDir, "*.wal"))[0]
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	// An entry frame of 100 bytes of which 20 arrived.
	torn := append([]byte{frameEntry, 0, 0, 0, 100, 0, 0, 0}, "twenty bytes, torn.."...)
	if _, err := f.WriteAt(torn, scanSegmentFile(t, path).end); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	h := newHost(t, HostConfig{Dir: at})
	g, l := openLeader(t, h, testSet)
	wantLines(t, l, lines...)
	propose(t, g, "y")
	closeGroup(t, g)
	_, l = openLeader(t, h, testSet)
	wantLines(t, l, append(lines, "y")...)
}

// Damage newer than the mark looks like a torn write, except that more was
// written behind it.
func TestDamageBeforeLaterBatchesIsNoTornWrite(t *testing.T) {
	dir := t.TempDir()
	_, g, _ := start(t, HostConfig{Dir: dir})
	proposeAll(t, g, "x", 10)
	at := crash(t, dir)
	// The mark of a replica that has just started.
	level := waterLevel{index: genesisIndex}
	if err := os.WriteFile(replicaPath(at, lowWaterFile), level.encode(testSet, testReplica), 0o600); err != nil {
		t.Fatal(err)
	}
	path := glob(t, replicaPath(at, logDir, "*.wal"))[0]
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// The frame header behind the commit of the entry with command x-3. What looks
	// like one may also stand in an entry, which has a time in it.
	frame := segmentHeaderLen
	for command := strings.Index(string(data), "x-3"); frame < command || data[frame] != frameCommit; {
		if data[frame] != frameCommit {
			frame += int(binary.LittleEndian.Uint32(data[frame+4:])+7) &^ 7
		}
		frame += frameHeaderLen
	}
	flipBit(t, path, int64(frame+frameHeaderLen))
	if end := scanSegmentFile(t, path).end; end != int64(frame+frameHeaderLen) {
		t.Fatalf("recovery ends at %d, want %d: the test damages the wrong place", end, frame+frameHeaderLen)
	}
	h := newHost(t, HostConfig{Dir: at})
	_, err = h.Open(t.Context(), testSet, testReplica, &ledger{})
	if !errors.Is(err, ErrQuarantined) || !strings.Contains(err.Error(), "whole batches follow") {
		t.Errorf("got %v, want a quarantine", err)
	}
}

func TestAVoteOlderThanTheLogIsDamage(t *testing.T) {
	dir := t.TempDir()
	h, g, _ := start(t, HostConfig{Dir: dir})
	propose(t, g, "x")
	closeGroup(t, g)
	old := ballot{term: genesisTerm}
	if err := os.WriteFile(replicaPath(dir, voteFile), old.encode(testSet, testReplica), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Open(t.Context(), testSet, testReplica, &ledger{}); !errors.Is(err, ErrQuarantined) {
		t.Errorf("got %v, want ErrQuarantined", err)
	}
}

// A manifest from a backup does not reach the log any more.
func TestAnOlderManifestIsDamage(t *testing.T) {
	dir := t.TempDir()
	h, g, _ := start(t, HostConfig{Dir: dir})
	old, err := os.ReadFile(replicaPath(dir, manifestFile))
	if err != nil {
		t.Fatal(err)
	}
	propose(t, g, "x")
	if err := g.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	propose(t, g, "y")
	closeGroup(t, g)
	if err := os.WriteFile(replicaPath(dir, manifestFile), old, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Open(t.Context(), testSet, testReplica, &ledger{}); !errors.Is(err, ErrQuarantined) {
		t.Errorf("got %v, want ErrQuarantined", err)
	}
}

// Every file of a replica that was closed in order, flipped bit by bit over its
// length: each flip is found, or changes nothing.
func TestNoFlippedBitGoesUnnoticed(t *testing.T) {
	dir := t.TempDir()
	h, g, _ := start(t, HostConfig{Dir: dir})
	lines := proposeAll(t, g, "flushed", 3)
	if err := g.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		line := fmt.Sprint(strings.Repeat("s", 3000), i)
		propose(t, g, line)
		lines = append(lines, line)
	}
	closeGroup(t, g)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	root := replicaPath(dir)
	found, harmless := 0, 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		flips := int64(20)
		for i := range flips {
			offset := i * info.Size() / flips
			if tryFlip(t, dir, name, offset, lines) {
				found++
			} else {
				harmless++
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d flips were found, %d changed nothing", found, harmless)
	if found < 60 {
		t.Error("too few flips hit anything for the test to mean something")
	}
}

// tryFlip opens a copy of a data directory with one bit flipped, and tells
// whether the flip was found. If not, the replica must be as it was.
func tryFlip(t *testing.T, dir, name string, offset int64, lines []string) bool {
	t.Helper()
	at := crash(t, dir)
	flipBit(t, filepath.Join(at, name), offset)
	h, err := NewHost(HostConfig{Dir: at, SegmentBytes: minSegmentBytes})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}()
	l := &ledger{}
	g, err := h.Open(t.Context(), testSet, testReplica, l)
	if err != nil {
		if !errors.Is(err, ErrQuarantined) {
			t.Errorf("%s, offset %d: got %v, want ErrQuarantined", name, offset, err)
		}
		return true
	}
	awaitLeader(t, g)
	if got, want := l.all(), append([]string{"genesis"}, lines...); !slices.Equal(got, want) {
		t.Errorf("%s, offset %d: the flip went unnoticed, and the state has %d lines instead of %d", name, offset, len(got), len(want))
	}
	return false
}
