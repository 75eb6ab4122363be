package raftset

import (
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/raft"
)

// MemoryLogs makes logs that live in this process's memory, for tests and
// benchmarks. A replica that is opened again with the same factory finds its
// log as it was; with another one it finds an empty log and starts from its
// manifest.
func MemoryLogs() LogStoreFactory {
	var mu sync.Mutex
	logs := make(map[string]*memoryLog)
	return func(o LogOptions) (LogStore, error) {
		mu.Lock()
		defer mu.Unlock()
		if logs[o.Dir] == nil {
			logs[o.Dir] = &memoryLog{}
		}
		return logs[o.Dir], nil
	}
}

// memoryLog is a LogStore that forgets nothing until its process ends.
type memoryLog struct {
	mu    sync.RWMutex
	first uint64 // index of logs[0]
	logs  []raft.Log
}

// FirstIndex implements raft.LogStore.
func (s *memoryLog) FirstIndex() (uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.logs) == 0 {
		return 0, nil
	}
	return s.first, nil
}

// LastIndex implements raft.LogStore.
func (s *memoryLog) LastIndex() (uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.lastLocked(), nil
}

func (s *memoryLog) lastLocked() uint64 {
	if len(s.logs) == 0 {
		return 0
	}
	return s.first + uint64(len(s.logs)) - 1
}

// GetLog implements raft.LogStore.
func (s *memoryLog) GetLog(index uint64, l *raft.Log) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if index < s.first || index > s.lastLocked() {
		return raft.ErrLogNotFound
	}
	*l = s.logs[index-s.first]
	return nil
}

// StoreLog implements raft.LogStore.
func (s *memoryLog) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore. Like raft-wal it takes only the next index.
func (s *memoryLog) StoreLogs(logs []*raft.Log) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range logs {
		if last := s.lastLocked(); last != 0 && l.Index != last+1 {
			return fmt.Errorf("append entry %d to a log that ends at %d", l.Index, last)
		}
		if len(s.logs) == 0 {
			s.first = l.Index
		}
		c := *l
		c.Data, c.Extensions = slices.Clone(l.Data), slices.Clone(l.Extensions)
		s.logs = append(s.logs, c)
	}
	return nil
}

// DeleteRange implements raft.LogStore.
func (s *memoryLog) DeleteRange(from, to uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.lastLocked()
	switch {
	case last == 0 || to < s.first || from > last:
	case from <= s.first && to >= last:
		s.logs = nil
	case from <= s.first:
		s.logs = slices.Clone(s.logs[to+1-s.first:])
		s.first = to + 1
	case to >= last:
		s.logs = s.logs[:from-s.first]
	default:
		return fmt.Errorf("delete entries %d to %d from the middle of a log [%d, %d]", from, to, s.first, last)
	}
	return nil
}

// IsMonotonic tells that the log takes no gaps.
func (s *memoryLog) IsMonotonic() bool { return true }

// Volatile tells that the log ends with the process.
func (s *memoryLog) Volatile() bool { return true }

// Close implements LogStore; the log stays for the next who opens it.
func (s *memoryLog) Close() error { return nil }
