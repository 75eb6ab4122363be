// Package lifecycle makes this node's replicas what the cluster map says they
// are: it opens and forms them or has them join, flushes them, seals them, swaps
// sealed ones to their canonical files, and moves them to the trash when they
// are dropped or removed. Where a replica leads its set, it carries out what the
// map intends for the set: changes of members and of bounds, the seal.
//
// Files of replicas go from node to node as they are, by names that have their
// hash in them (docs/format/rpc.md). A file is received beside whatever is open,
// checked whole, and counts for nothing before.
//
// One loop compares the map with what is here, whenever the map changes, a
// piece of work ends, or a second has passed. What is due runs in lanes of
// bounded width, so that a seal of minutes never delays the opening of the next
// bucket: openers open, form, close and drop, and change configurations; workers
// read every sample (checksums, canonical files, their verification); fetchers
// wait for files of other nodes. A replica has at most one
// piece of work under way. A sealed set costs neither goroutine nor timer.
//
// # Invariants
//
//  1. Every piece of work may be cut short anywhere and done again: what is due
//     follows from the map's record and the files alone. What a step has done
//     is durable before the next begins.
//  2. Seal and drop are executed when the map says so, never by the clock here
//     (PROTOCOL 17). An intent is executed by the set's leader, and not when a
//     newer one was seen (PROTOCOL 4). What is left of it to do follows from
//     the set's own log, so that the next leader goes on.
//  3. A replica gives its log and its own blocks up only when the map has the
//     set as sealed and the canonical file is here, built by this process or
//     verified by its hash, wherever it came from (PROTOCOL 14). Of a set in dispute nothing is given
//     up; it goes on being served from its log.
//  4. Nothing is deleted but what is in the trash, and into the trash goes only
//     what the map records as sealed (all but the canonical file), dropped or
//     removed (PROTOCOL 16). Unknown names are left alone, there as well.
//  5. A base goes only when what has taken its place is open here.
//  6. Readers never find half a replica: a sealed one takes the open one's place
//     in router.Replicas by one swap, and one to be closed is hidden first. One
//     that joins is served when all its files are here.
//  7. A newcomer becomes a voter only when it runs and has caught up, and the
//     member whose place it takes goes only after that.
//
// # Files below the data directory
//
//	sets/<set>-<replica>/                    the shard's, see tsdbshard
//	    incoming/                            files of other nodes, not adopted yet
//	raft/<set>-<replica>/                    the group's, see raftset
//	trash/<unix ms>-set-<set>-<replica>/     what was given up then:
//	    sets/  raft/                         parts of these directories, or all
package lifecycle
