package raftset

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/durable"
)

func newVoteStore(t *testing.T, b ballot) *voteStore {
	t.Helper()
	path := filepath.Join(t.TempDir(), voteFile)
	if err := durable.WriteFile(path, b.encode(testSet, testReplica)); err != nil {
		t.Fatal(err)
	}
	return reopenVotes(t, path)
}

func reopenVotes(t *testing.T, path string) *voteStore {
	t.Helper()
	s, err := openVoteStore(path, testSet, testReplica, durable.WriteFile)
	if err != nil {
		t.Fatal(err)
	}
	s.guard = newGuard()
	s.dog = newWatchdog("vote", time.Hour, func(error) {})
	return s
}

func wantBallot(t *testing.T, s *voteStore, term, votedTerm uint64, candidate string) {
	t.Helper()
	gotTerm, err1 := s.GetUint64([]byte(keyCurrentTerm))
	gotVoted, err2 := s.GetUint64([]byte(keyLastVoteTerm))
	gotCandidate, err3 := s.Get([]byte(keyLastVoteCand))
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	if gotTerm != term || gotVoted != votedTerm || string(gotCandidate) != candidate {
		t.Errorf("term %d, vote of term %d for %q; want %d, %d, %q", gotTerm, gotVoted, gotCandidate, term, votedTerm, candidate)
	}
}

// hashicorp/raft#661: after a crash between the two steps of a vote, the new
// term must not stand beside the old candidate.
func TestAVoteIsOneRecord(t *testing.T) {
	s := newVoteStore(t, ballot{term: 5, votedTerm: 4, candidate: []byte("old")})
	if err := s.SetUint64([]byte(keyLastVoteTerm), 5); err != nil {
		t.Fatal(err)
	}
	wantBallot(t, s, 5, 4, "old")
	wantBallot(t, reopenVotes(t, s.path), 5, 4, "old")
	if err := s.Set([]byte(keyLastVoteCand), []byte("new")); err != nil {
		t.Fatal(err)
	}
	wantBallot(t, s, 5, 5, "new")
	wantBallot(t, reopenVotes(t, s.path), 5, 5, "new")
	if err := s.SetUint64([]byte(keyCurrentTerm), 6); err != nil {
		t.Fatal(err)
	}
	wantBallot(t, reopenVotes(t, s.path), 6, 5, "new")
}

func TestAnUnchangedTermIsNotWrittenAgain(t *testing.T) {
	s := newVoteStore(t, ballot{term: 5})
	s.publish = func(string, []byte) error { return errDisk }
	if err := s.SetUint64([]byte(keyCurrentTerm), 5); err != nil {
		t.Error(err)
	}
	if err := s.SetUint64([]byte(keyCurrentTerm), 6); !errors.Is(err, errDisk) || !errors.Is(s.guard.err(), errDisk) {
		t.Errorf("got %v, guard %v; want the disk's error in both", err, s.guard.err())
	}
	s.publish = durable.WriteFile
	if err := s.SetUint64([]byte(keyCurrentTerm), 7); !errors.Is(err, errDisk) {
		t.Errorf("a vote file was written after its first failure: %v", err)
	}
	wantBallot(t, reopenVotes(t, s.path), 5, 0, "")
}

func TestUnknownStableKeysAreRefused(t *testing.T) {
	s := newVoteStore(t, ballot{term: 5})
	_, err1 := s.Get([]byte("x"))
	_, err2 := s.GetUint64([]byte("x"))
	for _, err := range []error{err1, err2, s.Set([]byte("x"), nil), s.SetUint64([]byte("x"), 1)} {
		if err == nil {
			t.Error("an unknown key was accepted")
		}
	}
}

// However a vote file is torn or flipped, it is found damaged.
func TestADamagedVoteIsFound(t *testing.T) {
	b := ballot{term: 5, votedTerm: 5, candidate: []byte("3@node3/0")}
	data := b.encode(testSet, testReplica)
	for n := range data {
		if _, err := decodeBallot(data[:n], testSet, testReplica); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
		for bit := range 8 {
			flipped := bytes.Clone(data)
			flipped[n] ^= 1 << bit
			if _, err := decodeBallot(flipped, testSet, testReplica); !errors.Is(err, ErrDamaged) {
				t.Errorf("byte %d, bit %d flipped: %v", n, bit, err)
			}
		}
	}
	dir := t.TempDir()
	h, g, _ := start(t, HostConfig{Dir: dir})
	closeGroup(t, g)
	if err := os.Truncate(replicaPath(dir, voteFile), 10); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Open(t.Context(), testSet, testReplica, &ledger{}); !errors.Is(err, ErrQuarantined) {
		t.Errorf("got %v, want ErrQuarantined", err)
	}
}

// A record of another format version is left alone: a newer binary wrote it.
func TestProtocol22ANewerFormatIsNoDamage(t *testing.T) {
	dir := t.TempDir()
	h, g, _ := start(t, HostConfig{Dir: dir})
	closeGroup(t, g)
	for _, name := range []string{manifestFile, voteFile, lowWaterFile, "log/" + segmentsFile} {
		path := replicaPath(dir, name)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		newer := bytes.Clone(data[:len(data)-recordCRCLen])
		newer[4]++
		if err := os.WriteFile(path, sealRecord(newer), 0o600); err != nil {
			t.Fatal(err)
		}
		var version *versionError
		if _, err := h.Open(t.Context(), testSet, testReplica, &ledger{}); !errors.As(err, &version) || errors.Is(err, ErrQuarantined) {
			t.Errorf("%s: got %v, want an error about the version alone", name, err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	openLeader(t, h, testSet)
}

func FuzzVote(f *testing.F) {
	for _, b := range []ballot{{}, {term: 1}, {term: 9, votedTerm: 8, candidate: []byte("1@n/0")}} {
		f.Add(b.encode(testSet, testReplica))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fixed := fixRecord(data, voteMagic, voteVersion)
		b, err := decodeBallot(fixed, testSet, testReplica)
		if err != nil {
			return
		}
		again, err := decodeBallot(b.encode(testSet, testReplica), testSet, testReplica)
		if err != nil || again.term != b.term || again.votedTerm != b.votedTerm || !bytes.Equal(again.candidate, b.candidate) {
			t.Errorf("%+v decodes to %+v, %v", b, again, err)
		}
	})
}

func FuzzLowWater(f *testing.F) {
	for _, w := range []waterLevel{{}, {index: 1, clean: true}, {index: 1 << 40}} {
		f.Add(w.encode(testSet, testReplica))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fixed := fixRecord(data, lowWaterMagic, lowWaterVersion)
		w, err := decodeWaterLevel(fixed, testSet, testReplica)
		if err != nil {
			return
		}
		if again, err := decodeWaterLevel(w.encode(testSet, testReplica), testSet, testReplica); err != nil || again != w {
			t.Errorf("%+v decodes to %+v, %v", w, again, err)
		}
	})
}

// fixRecord gives fuzzed bytes a frame that is right, so that the fuzzer gets
// past it to what is inside.
func fixRecord(data []byte, magic string, version byte) []byte {
	r := beginRecord(magic, version)
	if len(data) > recordHeaderLen+recordCRCLen {
		r = append(r, data[recordHeaderLen:len(data)-recordCRCLen]...)
	}
	return sealRecord(r)
}
