package raftset

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// guardedLog is the raft.LogStore that Raft sees: a checkedLog whose first
// failure stops the replica, whose stuck writes are reported, and whose growth
// raises the low-water mark.
type guardedLog struct {
	*checkedLog
	guard     *guard
	dog       *watchdog
	low       *lowWater
	manifests *manifestStore
	replay    *replay
	metrics   *metrics
	roster    *roster
	trail     *trail
	recent    recent
	// trailing is how many bytes a deletion of the log's start leaves, in sets
	// of more than one member.
	trailing int64

	// bytes counts the data of the commands that were in the log when the
	// replica opened, and of all stored since.
	bytes   atomic.Int64
	catchUp *catchUp
}

// GetLog implements raft.LogStore. An entry that cannot be read stops the
// replica: the library would panic when it is a committed one.
func (s *guardedLog) GetLog(index uint64, l *raft.Log) error {
	if err := s.guard.err(); err != nil {
		return s.guard.park(err)
	}
	running := s.guard.running.Load()
	if running {
		s.replay.wait(index)
	}
	err := error(nil)
	if !s.recent.get(index, l) {
		err = s.checkedLog.GetLog(index, l)
	}
	switch {
	case err == nil:
		// What NewRaft reads, it reads for configurations, not to be applied.
		if running && l.Type == raft.LogCommand {
			s.replay.read(index, len(l.Data))
		}
		return nil
	case errors.Is(err, errLogClosed):
		// The library's metrics goroutine may look in once more after Close.
		return err
	case errors.Is(err, raft.ErrLogNotFound):
		if err = s.absent(index, err); errors.Is(err, raft.ErrLogNotFound) {
			return s.flushed(index, l, err)
		}
	}
	err = fmt.Errorf("read the log: %w", err)
	s.guard.fail(err)
	return s.guard.park(err)
}

// absent tells an entry that was compacted away, or is yet to come, from one
// that should be there.
func (s *guardedLog) absent(index uint64, notFound error) error {
	last, err := s.LastIndex()
	if err != nil {
		return err
	}
	first, err := s.FirstIndex()
	if err != nil {
		return err
	}
	if first <= index && index <= last {
		return damaged("entry %d of the log [%d, %d] is missing", index, first, last)
	}
	return notFound
}

// flushed stands in for the entry at the manifest's index when the log begins
// right behind it. Who follows is asked for its term when the entry that comes
// next is another leader's; the library does not look at its snapshot then and
// refuses, and all that a leader can offer to one who refuses is its own manifest,
// which may be older than this one. Nobody is sent it: a leader sends an entry
// only with the one before, which is not here, and the first of all by manifest.
func (s *guardedLog) flushed(index uint64, l *raft.Log, notFound error) error {
	m := s.manifests.current()
	if index != m.index || index == genesisIndex {
		return notFound
	}
	*l = raft.Log{Index: m.index, Term: m.term, Type: raft.LogNoop}
	return nil
}

// StoreLog implements raft.LogStore.
func (s *guardedLog) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore. It may return its error: the library then
// steps down without acknowledging anything.
func (s *guardedLog) StoreLogs(logs []*raft.Log) error {
	if err := s.guard.err(); err != nil {
		return err
	}
	start := time.Now()
	stop := s.dog.watch()
	err := s.checkedLog.StoreLogs(logs)
	stop()
	if err != nil {
		err = fmt.Errorf("append to the log: %w", err)
		s.guard.fail(err)
		return err
	}
	s.metrics.storeSeconds.Observe(time.Since(start).Seconds())
	if err := s.roster.stored(logs); err != nil {
		s.guard.fail(err)
		return err
	}
	s.recent.stored(logs)
	var bytes int64
	for _, l := range logs {
		bytes += int64(len(l.Data))
		s.trail.stored(l)
	}
	s.bytes.Add(bytes)
	s.low.rise(logs[len(logs)-1].Index, bytes)
	return nil
}

// DeleteRange implements raft.LogStore. Where it takes the log's end away, the
// low-water mark goes down first, or a crash in between would look like damage.
func (s *guardedLog) DeleteRange(from, to uint64) error {
	if err := s.guard.err(); err != nil {
		return err
	}
	if err := s.deleteRange(from, to); err != nil {
		err = fmt.Errorf("delete log entries %d to %d: %w", from, to, err)
		s.guard.fail(err)
		return err
	}
	return nil
}

func (s *guardedLog) deleteRange(from, to uint64) error {
	first, err := s.FirstIndex()
	if err != nil {
		return err
	}
	last, err := s.LastIndex()
	if err != nil {
		return err
	}
	if from <= first {
		if to, err = s.leave(to, last); err != nil || to < from {
			return err
		}
	}
	if to >= last {
		rest := from - 1
		if from <= first {
			// All of it: what is left is the manifest.
			rest = s.manifests.current().index
		}
		if rest < s.low.stored.Load() {
			if err := s.low.save(rest, false); err != nil {
				return err
			}
		}
	}
	s.recent.forget()
	if err := s.checkedLog.DeleteRange(from, to); err != nil {
		return err
	}
	if to >= last {
		s.roster.truncated(from)
		s.catchUp.truncated(from)
		s.trail.truncated(from)
	} else {
		s.trail.deleted(to)
	}
	return nil
}

// leave returns up to where a deletion of the log's start, asked for up to to,
// shall go. Only the flushed start of a log that continues the manifest is
// spared: of one that an installed manifest replaces nothing may stay.
func (s *guardedLog) leave(to, last uint64) (uint64, error) {
	m := s.manifests.current()
	if len(s.roster.latest().servers) < 2 || to > m.index {
		return to, nil
	}
	if to >= last {
		var l raft.Log
		if err := s.checkedLog.GetLog(last, &l); err != nil {
			return 0, err
		}
		if last != m.index || l.Term != m.term {
			return to, nil
		}
	}
	if keep := s.trail.begin(s.trailing); keep <= to {
		return keep - min(keep, 1), nil
	}
	return to, nil
}
