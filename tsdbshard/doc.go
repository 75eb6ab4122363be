// Package tsdbshard is one replica's samples of one ReplicaSet: while the set
// is open a state machine that applies committed log entries, answers reads
// from immutable views, and writes itself to delta blocks (Shard); once it is
// sealed a canonical block (Sealed). Tenants share both.
//
// Invariants:
//
//   - The logical state (samples, exemplars, metadata, series and their refs,
//     bounds, the seal) is a fold over the log (PROTOCOL 18): Apply reads no
//     clock, chance, map order or file, and what it answers depends on nothing
//     but that state, never on when this replica flushed or restarted.
//   - Of the samples that one series was given for one timestamp, the one
//     applied first is the one that is read. Within a memcache that is the
//     in-order sample, then the out-of-order runs by age; between memcaches
//     and blocks it is the one of the lower log interval, and between a sealed
//     set and the overlay over it that of the sealed set (PROTOCOL 15, 19).
//   - A delete masks the pieces whose interval ends before it, and no other. A
//     piece that was written after it holds nothing of what it deleted.
//   - Refs are dense, assigned in Apply order, and never change (PROTOCOL 20).
//   - Bytes that an open view can see are never written again: slabs, tails and
//     lists are append-only, what must change is copied first while a view is
//     pinned to it, and room that was given up is used again only when no view
//     is open that could see it.
//   - A frozen memcache and a block are immutable. A block becomes visible, and
//     the frozen memcaches and blocks that it replaces disappear, in one place:
//     Frozen.Published. A file goes when the last view of it is closed.
//   - What cannot be read is an error, never left out.
//   - A canonical block gets its name only after it was read back and holds
//     what the shard holds.
//
// One goroutine applies (Open, ApplyBatch, Freeze, Restore, Close are its
// calls); any number of goroutines read views; one goroutine at a time
// persists. DESIGN.md argues the choices and has the measurements,
// docs/format/shard-manifest.md and docs/format/checksum.md the bytes; those of
// blocks and chunks belong to the packages block and chunk.
package tsdbshard
