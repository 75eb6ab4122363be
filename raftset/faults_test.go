package raftset

import (
	"path/filepath"
	"strings"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/internal/durable"
)

// faults make the log and the files of testSet fail, and those of no other set.
type faults struct {
	inner LogStoreFactory

	mu        sync.Mutex
	storeErr  error
	getErr    error
	goodGets  int // reads that succeed before getErr
	deleteErr error
	stall     chan struct{} // appends wait until it is closed
	// publishErr has what the publication of a file of the replica returns, by name.
	publishErr map[string]error
}

func newFaults(inner LogStoreFactory) *faults {
	return &faults{inner: inner, publishErr: make(map[string]error)}
}

func (f *faults) publish(path string, data []byte) error {
	f.mu.Lock()
	err := f.publishErr[filepath.Base(path)]
	f.mu.Unlock()
	if err != nil && strings.Contains(path, "/7-3/") {
		return err
	}
	return durable.WriteFile(path, data)
}

func (f *faults) with(change func(*faults)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *faults) open(o LogOptions) (LogStore, error) {
	s, err := f.inner(o)
	if err != nil || !strings.Contains(o.Dir, "/7-3/") {
		return s, err
	}
	return &faultyLog{LogStore: s, faults: f}, nil
}

type faultyLog struct {
	LogStore
	faults *faults
}

func (s *faultyLog) IsMonotonic() bool { return s.LogStore.(raft.MonotonicLogStore).IsMonotonic() }

func (f *faults) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.goodGets > 0 {
		f.goodGets--
		return nil
	}
	return f.getErr
}

func (s *faultyLog) now() (stall chan struct{}, storeErr, deleteErr error) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	return s.faults.stall, s.faults.storeErr, s.faults.deleteErr
}

func (s *faultyLog) GetLog(index uint64, l *raft.Log) error {
	if err := s.faults.get(); err != nil {
		return err
	}
	return s.LogStore.GetLog(index, l)
}

func (s *faultyLog) StoreLogs(logs []*raft.Log) error {
	stall, err, _ := s.now()
	if stall != nil {
		<-stall
	}
	if err != nil {
		return err
	}
	return s.LogStore.StoreLogs(logs)
}

func (s *faultyLog) DeleteRange(from, to uint64) error {
	if _, _, err := s.now(); err != nil {
		return err
	}
	return s.LogStore.DeleteRange(from, to)
}
