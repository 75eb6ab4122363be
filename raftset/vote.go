package raftset

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
)

const (
	voteMagic   = "QRVT"
	voteVersion = 1
)

// The keys under which hashicorp/raft keeps its stable state.
const (
	keyCurrentTerm  = "CurrentTerm"
	keyLastVoteTerm = "LastVoteTerm"
	keyLastVoteCand = "LastVoteCand"
)

// ballot is a replica's term and last vote: the one record that must never be
// older than what the replica has told others.
type ballot struct {
	term uint64
	// votedTerm and candidate are the last vote; candidate is nil before the first.
	votedTerm uint64
	candidate []byte
}

func (b *ballot) encode(set quorate.ReplicaSetID, replica quorate.ReplicaID) []byte {
	r := beginRecord(voteMagic, voteVersion)
	r = binary.AppendUvarint(r, uint64(set))
	r = binary.AppendUvarint(r, uint64(replica))
	r = binary.AppendUvarint(r, b.term)
	r = binary.AppendUvarint(r, b.votedTerm)
	return sealRecord(cursor.AppendBytes(r, b.candidate))
}

// decodeBallot decodes the vote file of one replica. Errors wrap ErrDamaged or
// are about a format version.
func decodeBallot(data []byte, set quorate.ReplicaSetID, replica quorate.ReplicaID) (ballot, error) {
	c, err := openRecord(data, voteMagic, voteVersion)
	if err != nil {
		return ballot{}, err
	}
	if err := checkOwner(c, "vote", set, replica); err != nil {
		return ballot{}, err
	}
	b := ballot{term: c.Uvarint(), votedTerm: c.Uvarint()}
	if v := c.Bytes(); len(v) != 0 {
		b.candidate = slices.Clone(v)
	}
	if err := c.finish("vote"); err != nil {
		return ballot{}, err
	}
	if b.votedTerm > b.term {
		return ballot{}, damaged("vote is of term %d, later than the current term %d", b.votedTerm, b.term)
	}
	return b, nil
}

// checkOwner reads set and replica and compares them with whose file it must
// be, so that a file copied from another replica is not taken for this one's.
func checkOwner(c *recordReader, what string, set quorate.ReplicaSetID, replica quorate.ReplicaID) error {
	s, r := quorate.ReplicaSetID(c.Uvarint()), quorate.ReplicaID(c.Uvarint())
	if !c.Bad && (s != set || r != replica) {
		return damaged("the %s is that of set %d, replica %d", what, s, r)
	}
	return nil
}

// voteStore is the raft.StableStore of one replica. The library writes a vote
// in two steps, LastVoteTerm and LastVoteCand; a crash between them would pair
// the new term with the old candidate (hashicorp/raft#661). Here the first step
// stays in memory and the second writes both.
type voteStore struct {
	path    string
	set     quorate.ReplicaSetID
	replica quorate.ReplicaID
	guard   *guard
	dog     *watchdog
	publish publisher

	mu      sync.Mutex
	saved   ballot
	pending uint64 // a LastVoteTerm whose LastVoteCand is still to come
}

func openVoteStore(path string, set quorate.ReplicaSetID, replica quorate.ReplicaID, publish publisher) (*voteStore, error) {
	data, err := readRecord(path)
	if err != nil {
		return nil, err
	}
	b, err := decodeBallot(data, set, replica)
	if err != nil {
		return nil, fmt.Errorf("file %s: %w", path, err)
	}
	return &voteStore{path: path, set: set, replica: replica, publish: publish, saved: b, pending: b.votedTerm}, nil
}

// term returns the current term as it was last saved.
func (s *voteStore) term() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saved.term
}

// GetUint64 implements raft.StableStore.
func (s *voteStore) GetUint64(key []byte) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch string(key) {
	case keyCurrentTerm:
		return s.saved.term, nil
	case keyLastVoteTerm:
		return s.saved.votedTerm, nil
	}
	return 0, fmt.Errorf("vote file keeps no number %q", key)
}

// Get implements raft.StableStore.
func (s *voteStore) Get(key []byte) ([]byte, error) {
	if string(key) != keyLastVoteCand {
		return nil, fmt.Errorf("vote file keeps no value %q", key)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saved.candidate, nil
}

// SetUint64 implements raft.StableStore.
func (s *voteStore) SetUint64(key []byte, v uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch string(key) {
	case keyCurrentTerm:
		next := s.saved
		next.term = v
		return s.saveLocked(next)
	case keyLastVoteTerm:
		s.pending = v
		return nil
	}
	return fmt.Errorf("vote file keeps no number %q", key)
}

// Set implements raft.StableStore.
func (s *voteStore) Set(key, v []byte) error {
	if string(key) != keyLastVoteCand {
		return fmt.Errorf("vote file keeps no value %q", key)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saveLocked(ballot{term: s.saved.term, votedTerm: s.pending, candidate: slices.Clone(v)})
}

// saveLocked makes a ballot durable. It is I/O under the mutex, since Raft's
// main loop is the one caller and must not go on before the vote is safe. The
// library panics on a failed term, so a failure parks the main loop instead.
func (s *voteStore) saveLocked(b ballot) error {
	if b.term == s.saved.term && b.votedTerm == s.saved.votedTerm && bytes.Equal(b.candidate, s.saved.candidate) {
		return nil
	}
	if err := s.guard.err(); err != nil {
		return s.guard.park(err)
	}
	defer s.dog.watch()()
	if err := s.publish(s.path, b.encode(s.set, s.replica)); err != nil {
		err = fmt.Errorf("save the vote: %w", err)
		s.guard.fail(err)
		return s.guard.park(err)
	}
	s.saved = b
	return nil
}
