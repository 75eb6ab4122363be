// Package router sends rows to the ReplicaSets they belong to and collects
// series from the ReplicaSets that hold them: series → set → leader, split,
// retry, merge. DESIGN.md says why it does so as it does.
//
// Invariants:
//   - Routing is a pure function of the tenant's placement history, the
//     sample's timestamp and the series' shard hash (PROTOCOL 11). The router
//     keeps only caches; every batch carries the bounds version under which it
//     was routed, and the set's own log judges it (PROTOCOL 5).
//   - A request succeeds only when every one of its batches was applied. An
//     outcome that is not known is never a success and never the client's
//     fault: it is Unavailable, and a retry is safe because Apply is
//     idempotent.
//   - A ref is used only after the entry that defines it was applied
//     (PROTOCOL 20); a refused ref makes the router send the labels again.
//   - There is one retry loop, in retry.go.
//   - A set is written at its leader: here, or by one forward. Who is asked by
//     another node leads, or refuses and says who does; nothing is forwarded
//     twice.
//   - A query pins one view of each set it needs, confirmed at its leader
//     within the query unless the query asks for stale ones, and reads nothing
//     else. A set that the map has as sealed is read from its file, without a
//     leader, wherever that is, under the deletions of that map.
//   - An answer is whole or an error, also when a node goes away in the middle
//     of it. Where a sample lies changes nothing about it, down to the bits.
//   - A view that another node has pinned here ends with the stream it came by.
//   - Of a sealed shard's base and the overlay over it, the base's sample counts
//     where both have one (PROTOCOL 15). What retention hides is in no answer.
//   - A deletion is answered when every set that may have the samples has it,
//     in its log or in the metadata (PROTOCOL 19).
//   - Making series known to the next bucket never makes a request wait.
package router
