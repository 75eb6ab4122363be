package raftset

import (
	"errors"
	"testing"

	"github.com/quorate/quorate/internal/durable"
)

// A crash after an installed snapshot's manifest was published, and before the
// old log was deleted, leaves a log that is not the manifest's. PROTOCOL 21: it
// is deleted whole before Raft starts.
func TestProtocol21ALogThatIsNotTheManifestsIsDeleted(t *testing.T) {
	for name, install := range map[string]func(m *manifest, last uint64){
		"it ends before the manifest":               func(m *manifest, last uint64) { m.index = last + 100 },
		"it has another term at the manifest":       func(m *manifest, last uint64) { m.index = last - 2 },
		"it has another term at the manifest, last": func(m *manifest, last uint64) { m.index = last },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			h, g, _ := start(t, HostConfig{Dir: dir})
			proposeAll(t, g, "x", 5)
			last := g.Status().LastIndex
			closeGroup(t, g)

			store, err := openManifestStore(replicaPath(dir, manifestFile), nil)
			if err != nil {
				t.Fatal(err)
			}
			m := *store.current()
			m.term, m.payload = 9, []byte("installed")
			install(&m, last)
			vote := ballot{term: 9}
			if err := errors.Join(
				durable.WriteFile(replicaPath(dir, manifestFile), m.encode()),
				durable.WriteFile(replicaPath(dir, voteFile), vote.encode(testSet, testReplica)),
			); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				g, l := openLeader(t, h, testSet)
				if got := l.all(); got[0] != "installed" {
					t.Errorf("the state machine opened with %q", got)
				}
				if s := g.Status(); s.FirstIndex != m.index+1 || s.ManifestIndex != m.index || s.Term <= m.term {
					t.Errorf("the manifest is at %d; status is %+v", m.index, s)
				}
				propose(t, g, "y")
				closeGroup(t, g)
			}
		})
	}
}

func TestALogThatTheManifestLiesInsideIsKept(t *testing.T) {
	dir := t.TempDir()
	h, g, _ := start(t, HostConfig{Dir: dir})
	proposeAll(t, g, "x", 5)
	first := g.Status().FirstIndex
	// As after a crash between a flush's publication and the log's deletion.
	var configuration = toConfiguration(g.manifests.current().servers)
	k, err := g.manifests.Create(1, first+3, 2, configuration, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Write([]byte("x-0\nx-1")); err != nil {
		t.Fatal(err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	closeGroup(t, g)
	g, l := openLeader(t, h, testSet)
	// The entries at first and first + 1 are the noop and the fence of the term.
	if got := l.all(); len(got) != 5 || got[4] != "x-4" {
		t.Errorf("the state is %q", got)
	}
	if s := g.Status(); s.FirstIndex != first {
		t.Errorf("the log starts at %d, want %d", s.FirstIndex, first)
	}
}

func TestStatusCountsWhatARestartWouldReplay(t *testing.T) {
	h, g, _ := start(t, HostConfig{Dir: t.TempDir()})
	propose(t, g, "x")
	if err := g.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := g.Status().LogBytes; n != 0 {
		t.Errorf("%d bytes after a flush", n)
	}
	proposeAll(t, g, "y", 4)
	want := g.Status().LogBytes
	if want == 0 {
		t.Error("no bytes after four commands")
	}
	closeGroup(t, g)
	g, _ = openLeader(t, h, testSet)
	// One fence more, of the new term.
	if got := g.Status().LogBytes; got != want+int64(len(fence)) {
		t.Errorf("%d bytes after a restart, want %d", got, want+int64(len(fence)))
	}
}
