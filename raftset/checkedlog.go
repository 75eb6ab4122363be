package raftset

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate"
)

// LogStore is a group's log: raft.LogStore that can be closed. StoreLogs must
// not return before the entries are durable and must not keep what it was given.
// A store that also has IsMonotonic() is asked for it; one that has Volatile()
// and says true promises nothing after the process and gets no low-water mark.
type LogStore interface {
	raft.LogStore
	io.Closer
}

// logCRCLen is what a stored entry's Extensions are longer by.
const logCRCLen = 4

// checkedLog keeps a checksum with every stored entry, at the end of the stored
// copy's Extensions, and checks and removes it on reading. raft-wal checks
// nothing on reading: it returns flipped bits as good data, and panics on some.
type checkedLog struct {
	LogStore
	set quorate.ReplicaSetID

	mu      sync.Mutex // guards the scratch space; Raft stores from one goroutine
	copies  []raft.Log
	stored  []*raft.Log
	scratch []byte
}

func newCheckedLog(inner LogStore, set quorate.ReplicaSetID) *checkedLog {
	return &checkedLog{LogStore: inner, set: set}
}

// checksum covers where the entry stands and what it says. AppendedAt is left
// out: nothing is decided by it.
func (s *checkedLog) checksum(l *raft.Log, extensions []byte) uint32 {
	var head [8 + 8 + 8 + 1 + 8]byte
	binary.LittleEndian.PutUint64(head[0:], uint64(s.set))
	binary.LittleEndian.PutUint64(head[8:], l.Index)
	binary.LittleEndian.PutUint64(head[16:], l.Term)
	head[24] = byte(l.Type)
	binary.LittleEndian.PutUint64(head[25:], uint64(len(l.Data)))
	crc := crc32.Update(0, castagnoli, head[:])
	crc = crc32.Update(crc, castagnoli, l.Data)
	return crc32.Update(crc, castagnoli, extensions)
}

// GetLog implements raft.LogStore. An entry that is not what was stored is an
// error that wraps ErrDamaged.
func (s *checkedLog) GetLog(index uint64, l *raft.Log) error {
	if err := s.read(index, l); err != nil {
		return err
	}
	n := len(l.Extensions) - logCRCLen
	if n < 0 {
		return damaged("log entry %d is stored without a checksum", index)
	}
	want := binary.LittleEndian.Uint32(l.Extensions[n:])
	l.Extensions = l.Extensions[:n:n]
	if n == 0 {
		l.Extensions = nil
	}
	if got := s.checksum(l, l.Extensions); got != want {
		return damaged("log entry %d: checksum is %08x, its bytes give %08x", index, want, got)
	}
	if l.Index != index {
		return damaged("log entry %d is stored in the place of entry %d", l.Index, index)
	}
	return nil
}

// read turns the decoder's panics, and its errors about what it read, into
// ErrDamaged. Errors of the file system stay what they are.
func (s *checkedLog) read(index uint64, l *raft.Log) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = damaged("log entry %d: %w", index, panicError("the decoder", r))
		}
	}()
	err = s.LogStore.GetLog(index, l)
	if err == nil || errors.Is(err, raft.ErrLogNotFound) || isOSError(err) {
		return err
	}
	return damaged("log entry %d: %w", index, err)
}

// StoreLog implements raft.LogStore.
func (s *checkedLog) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (s *checkedLog) StoreLogs(logs []*raft.Log) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.copies, s.stored, s.scratch = s.copies[:0], s.stored[:0], s.scratch[:0]
	for _, l := range logs {
		start := len(s.scratch)
		s.scratch = append(s.scratch, l.Extensions...)
		s.scratch = binary.LittleEndian.AppendUint32(s.scratch, s.checksum(l, l.Extensions))
		c := *l
		// A later append may move the scratch space; this slice keeps its bytes.
		c.Extensions = s.scratch[start:len(s.scratch):len(s.scratch)]
		s.copies = append(s.copies, c)
	}
	for i := range s.copies {
		s.stored = append(s.stored, &s.copies[i])
	}
	err := s.LogStore.StoreLogs(s.stored)
	clear(s.copies) // the entries' data must not live as long as the log
	return err
}

// IsMonotonic forwards what the store says. Were it lost, an installed snapshot
// would leave a gap that raft-wal cannot store (hashicorp/raft#697).
func (s *checkedLog) IsMonotonic() bool {
	m, ok := s.LogStore.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

func (s *checkedLog) volatile() bool {
	v, ok := s.LogStore.(interface{ Volatile() bool })
	return ok && v.Volatile()
}
