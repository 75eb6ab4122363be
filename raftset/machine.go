package raftset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate"
)

// machine is the raft.BatchingFSM round a StateMachine. It decodes nothing. The
// library takes any return for success, so that after a failure its methods do
// not return: they park the goroutine.
//
// It is a BatchingFSM because with a plain one the library loses track of
// configuration entries and then refuses snapshots of idle groups.
type machine struct {
	sm        StateMachine
	guard     *guard
	manifests *manifestStore
	replay    *replay
	catchUp   *catchUp
	proposer  *proposer
	metrics   *metrics
	roster    *roster
	news      *notice
	// lifetime ends when the replica stops: Persist and Restore run under it,
	// for want of a caller whose context would do.
	lifetime context.Context

	// index, term and bytes are written by the apply goroutine alone. index and
	// term are those of the last applied command, or the manifest's; bytes
	// counts the commands' data from the start of the log as it was opened.
	index atomic.Uint64
	term  atomic.Uint64
	bytes atomic.Int64
	// stored is how far bytes will be when all that was appended to the log is
	// applied.
	stored *atomic.Int64
	// flushed is what bytes was at the manifest's index.
	flushed atomic.Int64

	entries []quorate.LogEntry
	answers []any
}

// Apply implements raft.FSM; the library calls ApplyBatch.
func (m *machine) Apply(l *raft.Log) any { return m.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch implements raft.BatchingFSM. The futures get no answers; the
// proposals get theirs from here.
func (m *machine) ApplyBatch(logs []*raft.Log) []any {
	if err := m.guard.err(); err != nil {
		_ = m.guard.park(err) // does not return: Raft runs
	}
	if err := m.apply(logs); err != nil {
		m.guard.fail(err)
		_ = m.guard.park(err) // does not return: Raft runs
	}
	if cap(m.answers) < len(logs) {
		m.answers = make([]any, len(logs))
	}
	return m.answers[:len(logs)]
}

func (m *machine) apply(logs []*raft.Log) error {
	m.entries = m.entries[:0]
	for _, l := range logs {
		if l.Type == raft.LogCommand && !isFence(l.Data) {
			m.entries = append(m.entries, quorate.LogEntry{Index: l.Index, Term: l.Term, Data: l.Data})
		}
	}
	results, err := m.applyEntries()
	if err != nil {
		return err
	}
	n := 0
	for _, l := range logs {
		if l.Type == raft.LogConfiguration {
			m.roster.applied(l.Index)
		}
		if l.Type != raft.LogCommand {
			continue
		}
		var answer []any
		if !isFence(l.Data) {
			answer = results[n]
			n++
		}
		// Indexes move before the callers are told: who has an answer must
		// find its term applied.
		m.index.Store(l.Index)
		m.term.Store(l.Term)
		m.bytes.Add(int64(len(l.Data)))
		m.replay.applied(l.Index, len(l.Data))
		m.catchUp.applied(l.Index)
		if err := m.proposer.land(l.Data, answer); err != nil {
			return fmt.Errorf("apply entry %d: %w", l.Index, err)
		}
	}
	clear(m.entries)
	m.news.tell()
	return nil
}

func (m *machine) applyEntries() (results [][]any, err error) {
	if len(m.entries) == 0 {
		return nil, nil
	}
	first, last := m.entries[0].Index, m.entries[len(m.entries)-1].Index
	defer m.guard.recovered(fmt.Sprintf("applying entries %d to %d", first, last), &err)
	if results, err = m.sm.ApplyBatch(m.entries); err != nil {
		return nil, fmt.Errorf("apply entries %d to %d: %w", first, last, err)
	}
	if len(results) != len(m.entries) {
		return nil, fmt.Errorf("the state machine gave %d results to %d entries", len(results), len(m.entries))
	}
	m.metrics.appliedEntries.Add(float64(len(m.entries)))
	return results, nil
}

// Snapshot implements raft.FSM. It may return its error, which only ends the
// flush; nothing is applied after it all the same.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	if err := m.guard.err(); err != nil {
		return nil, err
	}
	if m.index.Load() <= m.manifests.current().index {
		return nil, raft.ErrNothingNewToSnapshot
	}
	frozen, err := m.freeze()
	if err != nil {
		m.guard.fail(err)
		return nil, err
	}
	return &snapshot{machine: m, frozen: frozen, bytes: m.bytes.Load()}, nil
}

func (m *machine) freeze() (frozen quorate.Frozen, err error) {
	defer m.guard.recovered("freezing the state", &err)
	if frozen, err = m.sm.Freeze(); err != nil {
		return nil, fmt.Errorf("freeze the state at entry %d: %w", m.index.Load(), err)
	}
	return frozen, nil
}

// Restore implements raft.FSM: an installed snapshot's manifest is published,
// and the state machine follows it. Failing here leaves the two apart, so that
// the replica stops.
func (m *machine) Restore(r io.ReadCloser) error {
	if err := m.guard.err(); err != nil {
		return m.guard.park(err)
	}
	now := m.manifests.current()
	if err := m.restore(r, now); err != nil {
		m.guard.fail(err)
		return m.guard.park(err)
	}
	m.index.Store(now.index)
	m.term.Store(now.term)
	m.catchUp.applied(now.index)
	// The log that the manifest replaces is gone, with what was not applied of it.
	m.bytes.Store(m.stored.Load())
	m.flushed.Store(m.bytes.Load())
	m.roster.restored(now)
	return nil
}

func (m *machine) restore(r io.Reader, now *manifest) (err error) {
	defer m.guard.recovered("restoring the state", &err)
	payload, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("read the snapshot at index %d: %w", now.index, err)
	}
	if err := m.sm.Restore(m.lifetime, payload, now.index); err != nil {
		return fmt.Errorf("restore the state at index %d: %w", now.index, err)
	}
	return nil
}

// snapshot is the raft.FSMSnapshot round a Frozen. It is used by the library's
// snapshot goroutine alone.
type snapshot struct {
	machine *machine
	frozen  quorate.Frozen
	bytes   int64
	settled bool
}

var errForeignSink = errors.New("the snapshot's sink is none of ours")

// Persist implements raft.FSMSnapshot: write the files, publish the manifest
// that names them, tell the state machine. An error ends the flush and leaves
// the state where it was, in memory.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	k, ok := sink.(*manifestSink)
	if !ok {
		return errForeignSink
	}
	start := time.Now()
	if err := s.persist(k); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	s.machine.metrics.flushSeconds.Observe(time.Since(start).Seconds())
	return nil
}

func (s *snapshot) persist(k *manifestSink) (err error) {
	// A panic half-way may have left anything: the replica stops.
	defer func() {
		if r := recover(); r != nil {
			err = panicError("persisting the state", r)
			s.machine.guard.fail(err)
		}
	}()
	payload, err := s.frozen.Persist(s.machine.lifetime, k.next.index)
	if err != nil {
		return fmt.Errorf("persist the state at index %d: %w", k.next.index, err)
	}
	if _, err := k.Write(payload); err != nil {
		return err
	}
	if err := k.Close(); err != nil {
		return err
	}
	s.machine.flushed.Store(s.bytes)
	s.settled = true
	s.frozen.Published()
	return nil
}

// Release implements raft.FSMSnapshot. The library calls it last, also when it
// never called Persist.
func (s *snapshot) Release() {
	if s.settled {
		return
	}
	s.settled = true
	defer func() {
		if r := recover(); r != nil {
			s.machine.guard.fail(panicError("discarding the frozen state", r))
		}
	}()
	s.frozen.Discard()
}
