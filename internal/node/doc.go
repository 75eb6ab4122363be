// Package node puts one process together: it opens the rooms in order, joins
// them through the interfaces they declare, serves HTTP, and closes everything
// in argued order. It is the only place of construction, used by the command
// and by tests alike.
//
// Opened in this order, closed in the reverse (see Node.Close for the
// argument): identity, Raft host, metadata replica, metadata client and
// controller, replicas, router, query and write edges, listeners. Only the
// listeners' addresses are taken first, so that a port in use changes nothing.
package node
