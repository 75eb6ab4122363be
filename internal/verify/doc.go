// Package verify checks a data directory while no server is using it: it reads
// every byte that the directory answers for and says what is wrong where, and
// what to do about it.
//
// It opens nothing for writing and repairs nothing: what can be repaired, the
// server repairs when it starts. It takes a shared lock on the directory, so
// that no server starts in the middle.
//
// The metadata group comes first. Its log is applied to a state machine in
// memory, so that the directories found can be compared with the replicas that
// are recorded for this node: a replica whose directory is gone has no file that
// could be damaged.
//
// # Invariants
//
//  1. Nothing below the directory is written to.
//  2. What cannot be read is a problem of the file, and the rest is still
//     checked. Only the end of the context ends the check.
//  3. A note is about what the next start settles by itself, a problem about
//     what it will not.
package verify
