package durable

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// syncDirFS is the operating system's file system with another SyncDir.
type syncDirFS struct {
	osFS
	syncDir func(string) error
}

func (f syncDirFS) SyncDir(dir string) error { return f.syncDir(dir) }

func TestWriteFileReplacesTheOldBytesAndLeavesNoTemporary(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, want := range []string{"old", "the newer bytes"} {
		if err := WriteFile(path, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Fatalf("read %q, %v; want %q", got, err, want)
		}
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 1 {
		t.Fatalf("directory holds %v, %v; want the published file alone", names, err)
	}
}

func TestAFailedWriteKeepsTheOldFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := WriteFile(path, []byte("old")); err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	err := Write(path, func(w io.Writer) error {
		if _, err := w.Write([]byte("half")); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatalf("got %v, want %v", err, boom)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "old" {
		t.Fatalf("read %q, %v; want the old bytes", got, err)
	}
}

// Callers tell a failing disk from a file that is not there.
func TestAFailedFsyncOfTheDirectoryIsReportedAsThat(t *testing.T) {
	errDisk := errors.New("input/output error")
	fill := func(io.Writer) error { return nil }
	err := Disk{FS: syncDirFS{syncDir: func(string) error { return errDisk }}}.Write(filepath.Join(t.TempDir(), "f"), fill)
	if !errors.Is(err, errDisk) || errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want %v alone", err, errDisk)
	}
}

func TestMkdirAllMakesParentsAndIsIdempotent(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b", "c")
	for range 2 {
		if err := MkdirAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	if err := WriteFile(filepath.Join(dir, "f"), nil); err != nil {
		t.Fatal(err)
	}
	if err := MkdirAll(filepath.Join(dir, "f")); err == nil {
		t.Fatal("a directory was made where a file stands")
	}
}

// A crash may come before any fsync; the next call makes up for it, although it
// finds the directory made.
func TestMkdirAllMakesNamesDurableThatAnEarlierCallOnlyMade(t *testing.T) {
	errCrash := errors.New("crash")
	for survived := range 4 {
		root := t.TempDir()
		dir := filepath.Join(root, "a", "b", "c")
		synced := make(map[string]bool) // the directories whose names are durable
		left := survived
		syncDir := func(parent string) error {
			if left == 0 {
				return errCrash
			}
			left--
			names, err := os.ReadDir(parent)
			for _, n := range names {
				synced[filepath.Join(parent, n.Name())] = true
			}
			return err
		}
		if err := (Disk{FS: syncDirFS{syncDir: syncDir}}).MkdirAll(dir); !errors.Is(err, errCrash) {
			t.Fatalf("after %d fsyncs: got %v, want a crash", survived, err)
		}
		left = 100
		if err := (Disk{FS: syncDirFS{syncDir: syncDir}}).MkdirAll(dir); err != nil {
			t.Fatal(err)
		}
		for d := dir; d != root; d = filepath.Dir(d) {
			if !synced[d] {
				t.Errorf("a crash after %d fsyncs: the name of %s is not durable", survived, d)
			}
		}
	}
}

func TestMkdirAllDoesNotAskForTheParentOfWhatTheOperatorMade(t *testing.T) {
	err := Disk{FS: syncDirFS{syncDir: func(string) error { return os.ErrPermission }}}.MkdirAll(t.TempDir())
	if err != nil {
		t.Errorf("got %v; the directory is there, and its parent is not ours to read", err)
	}
}

func TestRemoveTemporarySweepsUnfinishedPublications(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"kept", "cut" + tempSuffix} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := RemoveTemporary(dir); err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 1 || names[0].Name() != "kept" {
		t.Fatalf("directory holds %v, %v; want only the published file", names, err)
	}
}
