package raftset

import (
	"context"

	"github.com/quorate/quorate"
)

// StateMachine is what a group replicates. Open comes first. ApplyBatch, Freeze
// and Restore are called by one goroutine, one at a time, never together with
// Open or Close; only the Frozen that Freeze returns lives beside later calls.
type StateMachine interface {
	// Open loads the state that the manifest's payload describes; the state
	// machine is then exactly at index. An Open that fails cleans up after
	// itself: Close does not follow.
	Open(ctx context.Context, payload []byte, index uint64) error
	// ApplyBatch applies committed entries in order; results[i][k] answers
	// command k of entries[i]. An error (unknown kind, corrupt entry, storage)
	// stops the replica, and nothing after it is applied. It must be
	// deterministic: no clock, chance, map order, I/O or goroutine. Entries at
	// or below the manifest's index are ignored, with empty results. The
	// entries are valid during the call only; the results are taken over.
	ApplyBatch(entries []quorate.LogEntry) (results [][]any, err error)
	// Freeze captures the state at exactly the last applied entry, by swapping
	// pointers: nothing is applied while it runs. An error stops the replica.
	Freeze() (quorate.Frozen, error)
	// Restore replaces all state by what payload describes, an installed
	// snapshot at index, and voids running Persists. An error stops the replica.
	Restore(ctx context.Context, payload []byte, index uint64) error
	// Close releases memory and files. It is called once, after a successful
	// Open, and no call follows it.
	Close() error
}
