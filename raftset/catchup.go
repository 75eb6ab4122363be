package raftset

import (
	"log/slog"
	"time"
)

// quietReplay is the size of a log whose replay is not worth telling.
const quietReplay = 1 << 20

// catchUp follows a replica that starts through the log that it found: until
// the last command there has been applied, its state is older than what it
// acknowledged before it stopped.
type catchUp struct {
	upTo    uint64 // the index of the last command found past the manifest; 0: none
	entries int    // the commands past the manifest
	bytes   int64  // of their data
	started time.Time
	logger  *slog.Logger
	done    chan struct{}
}

func newCatchUp(t tail, logger *slog.Logger) *catchUp {
	c := &catchUp{upTo: t.lastCommand, entries: t.commands, bytes: t.bytes, started: time.Now(), logger: logger, done: make(chan struct{})}
	if c.upTo == 0 {
		close(c.done)
	}
	return c
}

// applied notes that an entry was applied. Only the apply goroutine calls it.
func (c *catchUp) applied(index uint64) {
	if c.upTo == 0 || index < c.upTo {
		return
	}
	c.upTo = 0
	close(c.done)
	took := time.Since(c.started)
	tell := c.logger.Info
	if c.bytes < quietReplay {
		tell = c.logger.Debug
	}
	tell("log replayed", "entries", c.entries, "bytes", c.bytes, "took", took,
		"entries_per_second", int64(float64(c.entries)/took.Seconds()),
		"mib_per_second", int64(float64(c.bytes)/took.Seconds())>>20)
}

// Replayed is closed once the replica has applied every command that its log
// held when it was opened. From then on its state is at least what it was
// before it stopped; with a leader elsewhere it may still lag.
func (g *Group) Replayed() <-chan struct{} { return g.machine.catchUp.done }
