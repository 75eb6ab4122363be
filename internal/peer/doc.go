// Package peer is the one port between the nodes of a cluster: messages of
// Raft, calls and streams, over gRPC with bytes of our own.
//
// It knows nothing of what it carries. Consumers declare the few methods they
// need of a Port and do not import this package.
//
// # Invariants
//
//  1. Nothing is carried to or from a node of another cluster, nor to a node
//     that is not the one addressed: a machine that took over an address does
//     not get what was meant for its predecessor (PROTOCOL 1). A node that
//     has no cluster yet reaches, and is reached by, the methods of
//     HandleStranger alone.
//  2. With TLS, each side has shown a certificate for the name it goes by.
//  3. The messages of one lane to one node are handled in the order of their
//     Send. A message is answered once, by its answer or by an error, also
//     when the connection breaks or the Port closes.
//  4. Control messages, data messages, and everything else have a TCP
//     connection each, so that no amount of data holds up a heartbeat.
//  5. What is held for a node that does not take it is bounded in bytes; more
//     fails at once.
//  6. An error keeps its kind and its RetryAfter across the wire. What keeps
//     an answer from coming is of kind Unavailable, and tells by the method
//     NotDone whether the other node certainly did nothing.
//
// The bytes are described in docs/format/rpc.md.
package peer
