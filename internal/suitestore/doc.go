// Package suitestore runs Prometheus' own PromQL acceptance suite against
// Quorate's storage: it dresses a writer of wire.WriteRequest and a
// promql.Queryable as the storage.Storage that the suite loads and queries.
//
// The suite opens a fresh storage for every part of every file, several hundred
// in all. Here a fresh storage is a fresh tenant of one storage, so that all of
// them can share one ReplicaSet without bounds.
//
// It is a test helper and is imported by tests alone.
package suitestore
