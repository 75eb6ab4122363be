package lifecycle

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/metasvc"
)

const (
	// measureEvery is how often the free space is looked at, measureShortEvery
	// while there is little: what is written in between is not refused.
	measureEvery      = time.Second
	measureShortEvery = 100 * time.Millisecond
	// spaceMargin is the part of a limit that must be free above it before the
	// limit counts as kept again, so that a node does not waver round it.
	spaceMargin = 8
	// refusedRetry is when a write refused for want of space may be worth another
	// try.
	refusedRetry = 10 * time.Second
)

// SpaceLimits are how many bytes the data directory's file system must have free.
// 0 never applies. Each is at most the one before.
type SpaceLimits struct {
	// Low is what a node needs to get replicas, and to lead sets that other
	// members can lead.
	Low int64
	// Full is what it needs to take writes.
	Full int64
	// Reserve is what it needs to store what leaders elsewhere send it.
	Reserve int64
}

// level returns what free bytes mean, for a node that was at a level before.
func (l SpaceLimits) level(free int64, before metasvc.Space) metasvc.Space {
	for _, at := range []struct {
		level metasvc.Space
		limit int64
	}{{metasvc.SpaceExhausted, l.Reserve}, {metasvc.SpaceFull, l.Full}, {metasvc.SpaceLow, l.Low}} {
		limit := at.limit
		if before >= at.level {
			limit += limit / spaceMargin
		}
		if free < limit {
			return at.level
		}
	}
	return metasvc.SpaceAmple
}

// space is how much room the file system of the data directory has. Its reading
// methods may be called by many goroutines.
type space struct {
	dir     string
	limits  SpaceLimits
	measure func(dir string) (int64, error)
	logger  *slog.Logger
	metrics *metrics

	level atomic.Uint32 // metasvc.Space
	free  atomic.Int64
	// failed tells that the last measurement failed. Look's alone.
	failed bool
}

// look measures the free space. While that fails, what was found last holds.
func (s *space) look() {
	free, err := s.measure(s.dir)
	if err != nil {
		if !s.failed {
			s.logger.Error("free space cannot be measured", "dir", s.dir, "err", err)
		}
		s.failed = true
		return
	}
	s.failed = false
	s.free.Store(free)
	before := s.now()
	level := s.limits.level(free, before)
	s.level.Store(uint32(level))
	s.metrics.freeBytes.Set(float64(free))
	s.metrics.spaceLevel.Set(float64(level))
	if level != before {
		tell := s.logger.Warn
		if level < before {
			tell = s.logger.Info
		}
		tell("free space has another level", "dir", s.dir, "level", level, "before", before, "free_bytes", free)
	}
}

func (s *space) now() metasvc.Space { return metasvc.Space(s.level.Load()) }

// exhausted tells whether nothing may be stored any more.
func (s *space) exhausted() bool { return s.now() >= metasvc.SpaceExhausted }

// admits returns an error unless there is room for so many bytes more above the
// reserve.
func (s *space) admits(bytes int64) error {
	free := s.free.Load()
	if s.limits.Reserve == 0 || !s.exhausted() && free-bytes >= s.limits.Reserve {
		return nil
	}
	return quorate.Errorf(quorate.Unavailable, "%d bytes more do not fit: the file system of %s has %d bytes free, and %d are held back (storage.reserve_space_bytes)",
		bytes, s.dir, free, s.limits.Reserve)
}

// refusal is why this node takes no writes.
func (s *space) refusal() error {
	return &quorate.Error{
		Kind: quorate.Unavailable, RetryAfter: refusedRetry,
		Err: fmt.Errorf("the disk is full: the file system of %s has %d bytes free, and writes need %d (storage.full_space_bytes)",
			s.dir, s.free.Load(), s.limits.Full),
	}
}

// Space returns how many bytes the file system of the data directory had free
// when it was last looked at, and what that means to this node.
func (m *Manager) Space() (free int64, level metasvc.Space) {
	return m.space.free.Load(), m.space.now()
}

// Exhausted tells whether this node may store nothing more. It is
// raftset.HostConfig.Exhausted.
func (m *Manager) Exhausted() bool { return m.space.exhausted() }
