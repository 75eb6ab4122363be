// Package lifecycle makes this node's replicas what the cluster map says they
// are: it opens and forms them, flushes them, seals them, swaps sealed ones to
// their canonical files, and drops them when they are dropped.
//
// One loop compares the map with what is here, whenever the map changes, a
// piece of work ends, or a second has passed. What is due runs in two lanes of
// bounded width, so that a seal of minutes never delays the opening of the next
// bucket: openers open, form, close and drop; workers read every sample
// (checksums, canonical files, their verification). A replica has at most one
// piece of work under way. A sealed set costs neither goroutine nor timer.
//
// # Invariants
//
//  1. Every piece of work may be cut short anywhere and done again: what is due
//     follows from the map's record and the files alone. What a step has done
//     is durable before the next begins.
//  2. Seal and drop are executed when the map says so, never by the clock here
//     (PROTOCOL 17). The intent to seal is executed by the set's leader, and
//     not when a newer one was seen (PROTOCOL 4).
//  3. A replica gives its log and its own blocks up only when the map has the
//     set as sealed and the canonical file is here, built by this process or
//     verified by its hash (PROTOCOL 14). Of a set in dispute nothing is given
//     up; it goes on being served from its log.
//  4. Nothing is deleted but what is in the trash, and into the trash goes only
//     what the map records as sealed (all but the canonical file) or dropped
//     (PROTOCOL 16). Unknown names are left alone, there as well.
//  5. A base goes only when what has taken its place is open here.
//  6. Readers never find half a replica: a sealed one takes the open one's place
//     in router.Replicas by one swap, and one to be closed is hidden first.
//
// # Files below the data directory
//
//	sets/<set>-<replica>/                    the shard's, see tsdbshard
//	raft/<set>-<replica>/                    the group's, see raftset
//	trash/<unix ms>-set-<set>-<replica>/     what was given up then:
//	    sets/  raft/                         parts of these directories, or all
package lifecycle
