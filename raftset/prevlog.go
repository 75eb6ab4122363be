package raftset

import "github.com/hashicorp/raft"

// clip has an append of entries begin and end where this replica can follow.
//
// What the manifest has was committed, so the entries up to there are any later
// leader's too. The library compares an append's predecessor with the log, or with
// the manifest if nothing follows it, and refuses one that only the manifest has
// where the log goes on behind it; when it goes on with entries that were never
// committed, they would stay for ever: the leader goes back as far as its own
// manifest, is told that this replica has that already, and begins anew.
//
// And an append says how far is committed of what it brings: behind its last entry
// the log may still be another leader's, and the library would commit that.
func (g *Group) clip(r *raft.AppendEntriesRequest) {
	last := r.PrevLogEntry
	if n := len(r.Entries); n > 0 {
		last = r.Entries[n-1].Index
	}
	r.LeaderCommitIndex = min(r.LeaderCommitIndex, last)
	m := g.manifests.current()
	switch {
	case len(r.Entries) == 0, r.PrevLogEntry == 0, r.PrevLogEntry > m.index, r.PrevLogEntry == g.raft.LastIndex():
		return
	case r.PrevLogEntry == m.index && r.PrevLogTerm != m.term:
		return
	}
	var l raft.Log
	if g.log.GetLog(r.PrevLogEntry, &l) == nil {
		return
	}
	r.PrevLogEntry, r.PrevLogTerm = 0, 0
	for len(r.Entries) > 0 && r.Entries[0].Index <= m.index {
		r.Entries = r.Entries[1:]
	}
	if len(r.Entries) == 0 {
		r.LeaderCommitIndex = 0 // nothing of it is news
	}
}
