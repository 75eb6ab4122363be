// Package quorate holds the nouns that every room of the project shares: the
// identities of clusters, nodes, tenants, policies, buckets, ReplicaSets and
// replicas, ranges and bounds of sample time, committed log entries, and the
// closed set of error kinds that the edges turn into HTTP status codes.
//
// It imports only the standard library and holds no behaviour beyond
// formatting, parsing and validating these nouns.
//
// Time is milliseconds since the Unix epoch (int64) wherever it is the time of
// a sample, as in Prometheus.
package quorate
