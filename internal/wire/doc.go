// Package wire holds the bytes that travel between the rooms: the log entry
// with its commands, the write batch inside it, and the write request in
// columns that the edges hand to the router. docs/format/entry.md has the
// layouts.
//
// Every decoder here checks what it reads against what is there before it
// allocates, never panics, and returns an error that wraps ErrCorrupt (or
// ErrUnknownVersion, ErrUnknownKind) for bytes that no encoder of this package
// wrote.
package wire
