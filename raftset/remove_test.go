package raftset

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func trashIn(t *testing.T) string {
	t.Helper()
	return t.TempDir()
}

func TestProtocol3ARemovedReplicaIsGoneWithAllItsFilesAndNeverStartsAgain(t *testing.T) {
	dir, trash := t.TempDir(), trashIn(t)
	h, g, _ := start(t, HostConfig{Dir: dir})
	proposeAll(t, g, "x", 3)
	if err := h.Remove(testSet, testReplica, trash); !errors.Is(err, errOpen) {
		t.Fatalf("removing an open replica got %v, want it refused", err)
	}
	closeGroup(t, g)
	if there, err := h.Exists(testSet, testReplica); err != nil || !there {
		t.Fatalf("before the removal Exists says %v, %v", there, err)
	}
	for range 2 { // the second time there is nothing to do
		if err := h.Remove(testSet, testReplica, trash); err != nil {
			t.Fatal(err)
		}
	}
	if there, err := h.Exists(testSet, testReplica); err != nil || there {
		t.Errorf("after the removal Exists says %v, %v", there, err)
	}
	for _, name := range []string{manifestFile, voteFile, lowWaterFile, logDir} {
		if _, err := os.Stat(filepath.Join(trash, removedName, name)); err != nil {
			t.Errorf("what was removed is not whole: %v", err)
		}
	}
	if _, err := h.Open(t.Context(), testSet, testReplica, &ledger{}); !errors.Is(err, ErrNotFormed) {
		t.Errorf("opening a removed replica got %v, want ErrNotFormed", err)
	}
}

func TestAQuarantinedReplicaIsRemovedToo(t *testing.T) {
	dir, trash := t.TempDir(), trashIn(t)
	h, g, _ := start(t, HostConfig{Dir: dir})
	closeGroup(t, g)
	flipBit(t, replicaPath(dir, voteFile), -1)
	if _, err := h.Open(t.Context(), testSet, testReplica, &ledger{}); !errors.Is(err, ErrQuarantined) {
		t.Fatalf("opening a damaged replica got %v", err)
	}
	if there, err := h.Exists(testSet, testReplica); err != nil || !there {
		t.Fatalf("a quarantined replica: Exists says %v, %v", there, err)
	}
	if err := h.Remove(testSet, testReplica, trash); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(trash, removedAsideDir, reasonFile)); err != nil {
		t.Errorf("the reason is not with what was removed: %v", err)
	}
}

func TestARemovalThatFailsSaysSoAndLeavesTheReplica(t *testing.T) {
	h, g, _ := start(t, HostConfig{Dir: t.TempDir()})
	closeGroup(t, g)
	full := trashIn(t)
	if err := os.MkdirAll(filepath.Join(full, removedName, "occupied"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := h.Remove(testSet, testReplica, full); err == nil {
		t.Error("a replica was removed onto another's files")
	}
	_, l := openLeader(t, h, testSet)
	wantLines(t, l)
}
