package raftset

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/quorate/quorate"
)

// seeds returns two seeds of one set, an early and a late one.
func seeds(t *testing.T) (early, late []byte) {
	t.Helper()
	_, g, _ := start(t, HostConfig{Dir: t.TempDir()})
	early = g.Seed()
	propose(t, g, "x")
	if err := g.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	return early, g.Seed()
}

func TestProtocol2ANewcomerStandsWhereItsSeedStands(t *testing.T) {
	early, late := seeds(t)
	dir := t.TempDir()
	h := newHost(t, HostConfig{Dir: dir, Node: member(9).Node})
	join := func(seed []byte) {
		t.Helper()
		if err := h.Join(t.Context(), testSet, 9, seed); err != nil {
			t.Fatal(err)
		}
	}
	// What a crash left of an earlier attempt does not matter.
	if err := os.MkdirAll(filepath.Join(replicaDir(dir, testSet, 9)+joiningSuffix, "rest"), 0o700); err != nil {
		t.Fatal(err)
	}
	join(early)
	join(early)
	join(late)
	join(early) // the newer stays
	info, err := ParseSeed(late)
	if err != nil {
		t.Fatal(err)
	}
	l := &ledger{}
	g, err := h.Open(t.Context(), testSet, 9, l)
	if err != nil {
		t.Fatal(err)
	}
	wantLines(t, l, "x")
	if s := g.Status(); s.ManifestIndex != info.Index || s.AppliedIndex != info.Index || s.Term != info.Term || s.State != StateFollower {
		t.Errorf("status is %+v, the seed %+v", s, info)
	}
	if got := g.Configuration(); len(got.Voters) != 1 || got.Voters[0] != member(testReplica) {
		t.Errorf("the members are %+v", got)
	}
	join(late) // it is open
	closeGroup(t, g)
	join(late) // it has started
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the host's directory holds %v, %v", entries, err)
	}
	if _, err := newHost(t, HostConfig{Dir: dir}).Open(t.Context(), testSet, 9, &ledger{}); err == nil {
		t.Error("a host that does not know its node opened a replica that no configuration names")
	}
}

func TestWhatIsNoSeedIsRefused(t *testing.T) {
	early, late := seeds(t)
	flipped := bytes.Clone(late)
	flipped[len(flipped)/2] ^= 1
	h := newHost(t, HostConfig{Dir: t.TempDir(), Node: member(9).Node})
	for name, tc := range map[string]struct {
		set     quorate.ReplicaSetID
		replica quorate.ReplicaID
		seed    []byte
		want    error
	}{
		"nothing":       {testSet, 9, nil, ErrDamaged},
		"a flipped bit": {testSet, 9, flipped, ErrDamaged},
		"another set's": {otherSet, 9, early, ErrDamaged},
		"its own":       {testSet, testReplica, early, errSeedOfMember},
	} {
		if err := h.Join(t.Context(), tc.set, tc.replica, tc.seed); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
	// A replica that was formed here is none that joins.
	gen := genesis(testSet)
	gen.Replica, gen.Voters[0] = 9, member(9)
	if err := h.Form(t.Context(), gen); err != nil {
		t.Fatal(err)
	}
	if err := h.Join(t.Context(), testSet, 9, early); !errors.Is(err, ErrFormedOtherwise) {
		t.Errorf("a replica of another genesis joined: %v", err)
	}
}

// FuzzSeed: a seed comes from another node.
func FuzzSeed(f *testing.F) {
	m := genesisManifest()
	g := &Group{manifests: &manifestStore{now: m}}
	seed := g.Seed()
	f.Add(seed[:len(seed)-recordCRCLen])
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := decodeSeed(sealRecord(bytes.Clone(body)))
		if err != nil {
			return
		}
		again := (&Group{manifests: &manifestStore{now: m}}).Seed()
		if _, err := decodeSeed(again); err != nil {
			t.Errorf("what was read does not read again: %v", err)
		}
	})
}

func genesisManifest() *manifest {
	gen := genesis(testSet)
	return gen.manifest()
}
