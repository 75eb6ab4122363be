// Package metasvc keeps the map of the cluster: who its nodes and tenants are
// and which ReplicaSet, on which nodes, has the samples of which time.
//
// Its four parts:
//
//   - StateMachine is the metadata of one replica of the metadata group, a
//     pure function of that group's log (command*.go, apply*.go). Its change
//     log can be watched from any index on; on a node without a replica it
//     follows such a watch instead of the log.
//   - Map is an immutable picture of policies, buckets, sets and nodes at one
//     index of the log: what a request routes by.
//   - Client is a node's way to all of it: reads from memory, kept fresh by a
//     watch; changes through the Leader. It keeps the map lease, and a copy of
//     the metadata in a file that serves a start without a leader.
//   - Controller makes the metadata what it is to be, while this node leads
//     the group: cluster and default policy recorded, buckets planned ahead,
//     sealed when their time is past, dropped when retention is, replicas
//     replaced that are lost, nodes drained, the metadata group grown.
//
// The package knows the group's log only as committed entries and a Leader; it
// does not know Raft.
//
// Invariants:
//
//   - Apply reads no clock, no chance, no map order and no network. The time,
//     and where replicas are placed, are decided by the proposer and carried in
//     the command.
//   - A number is given out by Apply, from a counter of the state, once
//     (PROTOCOL 1).
//   - A command is applied whole or refused without a trace, the same on every
//     replica. Only bytes that are not a command of a known version stop a
//     replica (PROTOCOL 22).
//   - Buckets of one policy never overlap (PROTOCOL 10); a set has at most one
//     intent (PROTOCOL 4).
//   - Records are never changed, only replaced; so whoever holds one may keep
//     it, and a Map never changes under its reader.
//   - A set's members change by one at a time. Who has not formed before the
//     first change never will (PROTOCOL 2); who leaves is in the record until
//     its files are gone (PROTOCOL 16).
//   - A bucket's end only moves to before its time (PROTOCOL 13).
//   - A set is sealed as a majority of its members reported it (PROTOCOL 14),
//     and dropped only with its bucket or when its overlay has taken its place
//     (PROTOCOL 16). What was deleted from it stays deleted (PROTOCOL 19).
//   - What changes in time that queries can see is written to, and answered,
//     only when every node knows of it; it is read by whoever does (PROTOCOL 8).
//   - A tenant's record and the Map it came with are of one version
//     (PROTOCOL 7).
//
// docs/format/metadata.md has the bytes of commands, state, map file, and of what
// travels between nodes.
// DESIGN.md argues the choices and has the measured figures.
package metasvc
