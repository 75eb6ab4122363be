package raftset

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// quietReplay is the size of a log whose replay is not worth telling.
const quietReplay = 1 << 20

// replayPoll is how often a replica that has not caught up is looked at.
const replayPoll = 100 * time.Millisecond

// catchUp follows a replica that starts through the log that it found: until
// the last command there has been applied, its state is older than what it
// acknowledged before it stopped.
type catchUp struct {
	// upTo is the index of the last command found past the manifest, or where
	// the log was cut before it; 0: none.
	upTo    atomic.Uint64
	entries int   // the commands past the manifest
	bytes   int64 // of their data
	started time.Time
	logger  *slog.Logger
	done    chan struct{}
	finish  sync.Once
}

func newCatchUp(t tail, logger *slog.Logger) *catchUp {
	c := &catchUp{entries: t.commands, bytes: t.bytes, started: time.Now(), logger: logger, done: make(chan struct{})}
	c.upTo.Store(t.lastCommand)
	if t.lastCommand == 0 {
		c.finish.Do(func() { close(c.done) })
	}
	return c
}

// applied notes that everything up to an index was applied.
func (c *catchUp) applied(index uint64) {
	if index < c.upTo.Load() {
		return
	}
	c.finish.Do(func() {
		close(c.done)
		took := time.Since(c.started)
		tell := c.logger.Info
		if c.bytes < quietReplay {
			tell = c.logger.Debug
		}
		tell("log replayed", "entries", c.entries, "bytes", c.bytes, "took", took,
			"entries_per_second", int64(float64(c.entries)/took.Seconds()),
			"mib_per_second", int64(float64(c.bytes)/took.Seconds())>>20)
	})
}

// truncated notes that the log lost its end, from an index on: what was never
// committed there will never be applied.
func (c *catchUp) truncated(from uint64) {
	if from <= c.upTo.Load() {
		c.upTo.Store(from - 1)
	}
}

// Replayed is closed once the replica has applied every command that its log
// held when it was opened. From then on its state is at least what it was
// before it stopped; with a leader elsewhere it may still lag.
func (g *Group) Replayed() <-chan struct{} { return g.machine.catchUp.done }
