// Package promql is the query edge: it serves Prometheus' HTTP API, remote read
// included, over the small Queryable interface that it declares.
//
// The engine, the parser and nearly all handlers are Prometheus' own, so that
// answers are its answers. What upstream cannot do per tenant (metadata,
// status/tsdb, deleting) or says of itself (build information) is answered here.
//
// Invariants:
//
//   - Every request speaks for one tenant, read and validated before any
//     handler runs. The tenant is an argument everywhere but inside this
//     package, where upstream's handlers leave only the context to carry it.
//   - A request reads at the consistency that the header X-Quorate-Consistency
//     or the parameter consistency names: default, strong or stale. Like the
//     tenant, it is an argument everywhere but inside this package.
//   - A tenant that does not exist owns nothing: its answers are empty, never
//     an error, and asking creates nothing.
//   - One querier of upstream is one Querier of Queryable, opened at its first
//     use and shared by all its selects: a query sees one state of each
//     ReplicaSet however many selectors it has.
//   - What an answer holds (views, a turn) is held for no longer than its client
//     goes on reading: see Config.WriteStall.
//   - Which status code a storage error becomes is decided by its
//     quorate.ErrorKind, in errors.go, and nowhere else.
package promql
