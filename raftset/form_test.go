package raftset

import (
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/quorate/quorate"
)

func TestFormIsIdempotentForTheReplicasWholeLife(t *testing.T) {
	h, g, _ := start(t, HostConfig{Dir: t.TempDir()})
	form(t, h, testSet)
	lines := proposeAll(t, g, "x", 3)
	if err := g.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	form(t, h, testSet)
	closeGroup(t, g)
	form(t, h, testSet)
	_, l := openLeader(t, h, testSet)
	wantLines(t, l, lines...)
}

func TestProtocol2FormRefusesAnotherGenesis(t *testing.T) {
	for name, change := range map[string]func(*Genesis){
		"another payload": func(g *Genesis) { g.Payload = []byte("other") },
		"another voter":   func(g *Genesis) { g.Voters = append(g.Voters, member(9)) },
		"another node":    func(g *Genesis) { g.Voters[0].Node.Name = "elsewhere" },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, HostConfig{Dir: t.TempDir()})
			form(t, h, testSet)
			other := genesis(testSet)
			other.Voters = slices.Clone(other.Voters)
			change(&other)
			if err := h.Form(t.Context(), other); !errors.Is(err, ErrFormedOtherwise) {
				t.Errorf("got %v, want ErrFormedOtherwise", err)
			}
		})
	}
}

func TestFormRefusesWhatIsNoGenesis(t *testing.T) {
	h := newHost(t, HostConfig{Dir: t.TempDir()})
	for name, gen := range map[string]Genesis{
		"no voters":             {Set: 1, Replica: 1},
		"not among the voters":  {Set: 1, Replica: 1, Voters: []Member{member(2)}},
		"a voter without an ID": {Set: 1, Replica: 1, Voters: []Member{member(1), {Node: member(2).Node}}},
		"a voter twice":         {Set: 1, Replica: 1, Voters: []Member{member(1), member(1)}},
		"two voters on a node":  {Set: 1, Replica: 1, Voters: []Member{member(1), {Node: member(1).Node, Replica: 2}}},
	} {
		if err := h.Form(t.Context(), gen); err == nil {
			t.Errorf("%s: it was formed", name)
		}
	}
}

// A crash may leave any number of the files that Form publishes, in order.
func TestFormContinuesAfterACrashInForm(t *testing.T) {
	steps := []string{manifestFile, lowWaterFile, voteFile, logDir}
	for n := range steps {
		dir := t.TempDir()
		h := newHost(t, HostConfig{Dir: dir})
		form(t, h, testSet)
		for _, name := range steps[:n+1] {
			if err := os.Remove(replicaPath(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(replicaPath(dir, "vote.tmp"), []byte("torn"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Open(t.Context(), testSet, testReplica, &ledger{}); !errors.Is(err, ErrNotFormed) {
			t.Errorf("without %v: open gives %v, want ErrNotFormed", steps[:n+1], err)
		}
		form(t, h, testSet)
		_, l := openLeader(t, h, testSet)
		wantLines(t, l)
	}
}

func TestAnUnknownReplicaIsNotFormed(t *testing.T) {
	h := newHost(t, HostConfig{Dir: t.TempDir()})
	if _, err := h.Open(t.Context(), testSet, testReplica, &ledger{}); !errors.Is(err, ErrNotFormed) {
		t.Errorf("got %v, want ErrNotFormed", err)
	}
}

// PROTOCOL 2: a directory that lost a file never starts under its old ReplicaID
// and is never formed a second time.
func TestProtocol2ALostFileQuarantinesTheReplicaForEver(t *testing.T) {
	for _, name := range []string{manifestFile, voteFile, lowWaterFile, "log/" + segmentsFile, "log"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			h, g, _ := start(t, HostConfig{Dir: dir})
			proposeAll(t, g, "x", 3)
			closeGroup(t, g)
			if err := os.RemoveAll(replicaPath(dir, name)); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				l := &ledger{}
				_, err := h.Open(t.Context(), testSet, testReplica, l)
				if !errors.Is(err, ErrQuarantined) {
					t.Fatalf("open gives %v, want ErrQuarantined", err)
				}
				if l.opened {
					t.Error("the state machine was opened")
				}
			}
			if err := h.Form(t.Context(), genesis(testSet)); !errors.Is(err, ErrQuarantined) {
				t.Errorf("form gives %v, want ErrQuarantined", err)
			}
		})
	}
}

func TestFilesOfAnotherReplicaAreRefused(t *testing.T) {
	for _, name := range []string{manifestFile, voteFile, lowWaterFile} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			h := newHost(t, HostConfig{Dir: dir})
			const otherSet quorate.ReplicaSetID = 8
			form(t, h, testSet)
			form(t, h, otherSet)
			data, err := os.ReadFile(replicaDir(dir, otherSet, testReplica) + "/" + name)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(replicaPath(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := h.Open(t.Context(), testSet, testReplica, &ledger{}); !errors.Is(err, ErrQuarantined) {
				t.Errorf("got %v, want ErrQuarantined", err)
			}
			openLeader(t, h, otherSet)
		})
	}
}
