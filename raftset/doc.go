// Package raftset hosts many Raft groups in one process: one Group for each
// replica of a ReplicaSet that lives on this node.
//
// It declares the StateMachine it replicates and knows nothing of what the
// commands mean. Inside, it is hashicorp/raft over raft-wal with everything
// wrapped that the two leave open (DESIGN.md has the reasons).
//
// # Invariants
//
//  1. An acknowledged command is fsynced on a quorum: Propose returns a result
//     only from the state machine's own apply of the committed entry.
//  2. A replica is its directory: manifest, vote, low-water mark and log, each
//     checksummed. A directory that lost or changed any of them never starts
//     under its ReplicaID again; it is renamed aside (PROTOCOL 2, 16).
//  3. The manifest is the only snapshot. Closing the snapshot's sink is its
//     only publication, by compare-and-swap on the manifest the snapshot
//     started from, and its index never falls (PROTOCOL 21). When the state
//     machine opens, it is exactly at the manifest's index.
//  4. Term and vote are one record in one file outside the log, so that they
//     survive the log's deletion and no crash can pair a new term with an old
//     candidate.
//  5. Every log entry is stored with a checksum over its set, index, term, type
//     and data. No entry that fails it reaches Raft, a peer or the state
//     machine.
//  6. The first failure of a replica's log, vote, manifest or state machine
//     stops that replica and no other. Nothing is acknowledged on a file after
//     its first failed write. Where the library would panic or would take a
//     return for a success, its goroutine is held until Raft has been shut down
//     and then ended. When the replica opens again, nothing that such a write,
//     or one cut short by a crash, left in the page cache is replayed before it
//     has been written to a new file and fsynced.
//  7. A disk that hangs is not an error that can be returned: HostConfig.Fatal
//     is told, and the process should end so that others can lead.
//  8. A read confirmed by ConfirmRead sees every write acknowledged before it:
//     a majority of the voters has said after the call began that the leader's
//     term goes on. No clock takes part, unless HostConfig.ReadLease is set:
//     then a majority may have promised before that it elects nobody else at
//     that moment. A replica keeps what it has promised, also when it starts
//     anew.
//  9. Nothing of a replica is deleted here but the log up to a published
//     manifest: Remove renames.
//  10. A replica hears only messages that name it, from the node on which their
//     sender lives, and nothing leaves one that has failed.
//  11. Members change one at a time, by compare-and-swap on the configuration
//     that the change was decided on. A new member starts from a seed under a
//     ReplicaID that was never used, and counts for nothing until it has caught
//     up.
//  12. A manifest is installed on a member only when the files that it names are
//     there.
//
// # A replica's directory
//
//	<set>-<replica>/
//	  manifest   the snapshot record (docs/format/raftset.md)
//	  vote       current term and last vote
//	  lowwater   an index that the log must still reach
//	  log/       raft-wal's segments, and the list of them
//
// A directory <set>-<replica>.joining is one that Join has not finished. One
// renamed to <set>-<replica>.quarantined is one that invariant 2 took out of
// service; the file "reason" in it says why.
package raftset
