// Package metalink is a node's way to the metadata group, whether it has a
// replica of it or not: it finds the leader, follows the change log, sends
// heartbeats, joins, and decides before all that whether there is a cluster to
// join or one to found.
//
// It speaks through a port between nodes whose few methods it declares.
//
// # Invariants
//
//  1. A proposal is sent to a second node only when the first one certainly did
//     nothing with it. An outcome that is not known is an error of kind
//     Unavailable.
//  2. Propose and ConfirmRead return nil only once this node's state machine
//     has what the leader had applied.
//  3. Only the leader of the moment answers for the group: whoever does not
//     lead says who does, and passes nothing on.
//  4. Of the nodes that start together, one founds the cluster at most: it has
//     the promise of more than half of those that cluster.join names, and a
//     node makes one promise. A node that has state founds nothing
//     (PROTOCOL 16).
//
// The bytes are described in docs/format/rpc.md.
package metalink
