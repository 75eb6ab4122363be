// Package benchmarks generates remote-write load over HTTP and measures the
// server under it.
//
// A [Workload] is a set of series shaped like scraped targets, and their samples
// round by round; it is a pure function of its seed, so that every system
// measured with it gets the same bytes. [Run] sends it in two phases, "new" (the
// first round, in which every series is created) and "steady" (all later
// rounds), and returns a [Report]: throughput, latency, and the CPU time and
// memory of the server's processes as /proc tells them.
//
// Invariants:
//   - Only the public HTTP API is used, and only on loopback.
//   - A series' samples leave in order on one connection, as from a shard of
//     Prometheus' queue; nothing is sent twice.
//   - Bodies are encoded before the clock starts, unless asked otherwise; the
//     generator's own CPU time stands in the report either way.
package benchmarks
