package quorate

import "context"

// LogEntry is one committed entry of a ReplicaSet's log, as a state machine
// sees it. Data is shared with caches and must not be changed or kept.
type LogEntry struct {
	Index, Term uint64
	Data        []byte
}

// Frozen is a state machine's state at one log index, taken by its Freeze and
// ready to be written while later entries are applied. The three methods are
// called by one goroutine in this order: Persist, then exactly one of Published
// and Discard.
type Frozen interface {
	// Persist writes the frozen state to files, fsyncs them, and returns the
	// payload by which the manifest will name them. Index is the log index the
	// manifest will carry; it may lie past the last entry the state machine
	// saw, since barriers advance only Raft's own index. A failed Persist
	// leaves the state in memory, to be written by the next one.
	Persist(ctx context.Context, index uint64) (payload []byte, err error)
	// Published tells that the manifest durably names the payload: readers
	// may be moved to the files, and what they replace may go.
	Published()
	// Discard tells that the manifest was not published.
	Discard()
}
