// Package block writes and reads the immutable files in which a shard keeps
// samples. There are two kinds: delta blocks, which the flushes of an open set
// write, with rows by ref; and canonical blocks, of which a sealed set has one,
// with series by tenant and labels, and an index that Prometheus' queriers read.
// docs/format/block.md has the bytes, DESIGN.md choices and figures.
//
// Invariants:
//
//   - A writer makes one pass; the same calls give the same bytes.
//   - Opening reads footer and directory and nothing else. What an open block
//     holds is its directory; pages are kept in a Cache that is passed in.
//   - A page's checksum is looked at whenever it is read from the file, and
//     must be the one in the directory. Bytes that are not what was written are
//     an error that wraps ErrDamaged and names page and offset, never an answer.
//   - A decoder checks every length before it allocates; no bytes make it
//     panic.
//   - Bytes that readers return are never changed.
package block
