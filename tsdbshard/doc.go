// Package tsdbshard is the state machine of one replica of one ReplicaSet: a
// multi-tenant time-series shard that applies committed log entries, answers
// reads from immutable views, and writes itself to flush files.
//
// Invariants:
//
//   - The logical state (samples, exemplars, metadata, series and their refs,
//     bounds) is a fold over the log (PROTOCOL 18): Apply reads no clock,
//     chance, map order or file, and what it answers depends on nothing but
//     that state, never on when this replica flushed or restarted.
//   - Of the samples that one series was given for one timestamp, the one
//     applied first is the one that is read. Within a memcache that is the
//     in-order sample, then the out-of-order runs by age; between memcaches
//     and files it is the one of the lower log interval (PROTOCOL 19).
//   - Refs are dense, assigned in Apply order, and never change (PROTOCOL 20).
//   - Bytes that a view can see are never written again: slabs, staged rows and
//     lists are append-only, and what must change is copied first while a view
//     is pinned to it.
//   - A frozen memcache and a flush file are immutable. A flush file becomes
//     visible, and the frozen memcaches that it replaces disappear, in one
//     place: Frozen.Published.
//
// One goroutine applies (Open, ApplyBatch, Freeze, Restore, Close are its
// calls); any number of goroutines read views; one goroutine at a time
// persists. DESIGN.md argues the choices and has the measurements,
// docs/format/flushfile.md and docs/format/shard-manifest.md the bytes.
package tsdbshard
