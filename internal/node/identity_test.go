package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate"
)

func TestProtocol1IdentityIsMintedOnceAndKept(t *testing.T) {
	dir := t.TempDir()
	first, err := openIdentity(dir, "node-1")
	if err != nil {
		t.Fatal(err)
	}
	if !first.Cluster.IsZero() || first.MetaReplica != 0 || first.Node.Name != "node-1" {
		t.Fatalf("minted %+v", first)
	}
	again, err := openIdentity(dir, "node-1")
	if err != nil || again != first {
		t.Fatalf("second start read %+v, %v; want %+v", again, err, first)
	}
	if err := first.enter(dir, quorate.NewClusterID(), true); err != nil {
		t.Fatal(err)
	}
	again, err = openIdentity(dir, "node-1")
	if err != nil || again != first || again.Cluster.IsZero() || again.MetaReplica != firstMetaReplica {
		t.Fatalf("after it entered a cluster it read %+v, %v; want %+v", again, err, first)
	}
}

func TestIdentityRefusals(t *testing.T) {
	mint := func(t *testing.T, dir string) {
		t.Helper()
		if _, err := openIdentity(dir, "node-1"); err != nil {
			t.Fatal(err)
		}
	}
	overwrite := func(content string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			mint(t, dir)
			if err := os.WriteFile(filepath.Join(dir, identityName), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, tc := range map[string]struct {
		prepare func(*testing.T, string)
		name    string
		rule    string
	}{
		"another node's directory": {mint, "node-2", `belongs to node "node-1"`},
		"files but no identity": {func(t *testing.T, dir string) {
			t.Helper()
			if err := os.Mkdir(filepath.Join(dir, "raft"), 0o700); err != nil {
				t.Fatal(err)
			}
		}, "node-1", `holds "raft"`},
		"not JSON":            {overwrite("garbage"), "node-1", "identity file"},
		"unknown version":     {overwrite(`{"version": 1}`), "node-1", "version 1"},
		"short cluster id":    {overwrite(`{"version": 2, "cluster_id": "abc"}`), "node-1", "cluster id"},
		"metadata of nothing": {overwrite(`{"version": 2, "meta_replica": 1, "name": "node-1"}`), "node-1", "has no id"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			tc.prepare(t, dir)
			if id, err := openIdentity(dir, tc.name); err == nil || !strings.Contains(err.Error(), tc.rule) {
				t.Fatalf("got %+v, %v; want an error about %q", id, err, tc.rule)
			}
		})
	}
}

func TestAnInterruptedMintIsMintedAgain(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, identityName+".tmp"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openIdentity(dir, "node-1"); err != nil {
		t.Fatal(err)
	}
}

func TestTheDataDirectoryHasOneOwner(t *testing.T) {
	dir := t.TempDir()
	lock, _, err := openDir(dir, "node-1")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := openDir(dir, "node-1"); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Fatalf("a second owner got %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	lock, _, err = openDir(dir, "node-1")
	if err != nil {
		t.Fatalf("the lock was not given back: %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
}

func removeAll(t *testing.T, path ...string) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(path...)); err != nil {
		t.Fatal(err)
	}
}
