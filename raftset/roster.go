package raftset

import (
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/raft"
)

// Configuration says who the members of a set are, as one replica knows it.
type Configuration struct {
	// Index is the log index of the entry that made it. It may not be
	// committed yet.
	Index uint64
	// Voters elect leaders and acknowledge entries.
	Voters []Member
	// Learners are sent the log and do not count.
	Learners []Member
}

// roster follows the configuration entries of a replica's log. The library has
// them too, but tells nobody at which index they stand, without which there is
// no compare-and-swap of members (its GetConfiguration always says index 0).
type roster struct {
	news *notice // told of every change

	mu sync.Mutex
	// known are the last configuration that was applied, and those that stand
	// in the log past it; by index, never empty.
	known []generation
}

// generation is one configuration of a set. It is not changed in place.
type generation struct {
	index   uint64
	servers []server
}

// newRoster starts at a manifest's configuration; past are those in the log
// behind it.
func newRoster(m *manifest, past []generation, news *notice) *roster {
	return &roster{news: news, known: append([]generation{{index: m.configurationIndex, servers: m.servers}}, past...)}
}

// latest is the configuration that counts for elections and commitment: the
// last in the log, whether committed or not.
func (r *roster) latest() generation {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known[len(r.known)-1]
}

// both returns the latest configuration and whether it is committed, as far as
// this replica has applied the log.
func (r *roster) both() (latest generation, committed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known[len(r.known)-1], len(r.known) == 1
}

// isAlone tells whether a member is the only voter.
func (r *roster) isAlone(m Member) bool {
	servers := r.latest().servers
	self, ok := find(servers, m.Replica)
	return ok && self.suffrage == raft.Voter && voters(servers) == 1
}

// stored notes configurations among entries that were appended to the log.
func (r *roster) stored(logs []*raft.Log) error {
	for _, l := range logs {
		if l.Type != raft.LogConfiguration {
			continue
		}
		servers, err := decodeConfiguration(l.Data)
		if err != nil {
			return fmt.Errorf("log entry %d: %w", l.Index, err)
		}
		r.mu.Lock()
		r.known = append(slices.Clip(r.known), generation{index: l.Index, servers: servers})
		r.mu.Unlock()
		r.news.tell()
	}
	return nil
}

// truncated forgets what stood at from or later: the log's end was overwritten.
func (r *roster) truncated(from uint64) {
	r.mu.Lock()
	n := len(r.known)
	for n > 1 && r.known[n-1].index >= from {
		n--
	}
	r.known = r.known[:n:n]
	r.mu.Unlock()
	r.news.tell()
}

// applied notes that the configuration at an index is committed.
func (r *roster) applied(index uint64) {
	r.mu.Lock()
	n := 0
	for n+1 < len(r.known) && r.known[n+1].index <= index {
		n++
	}
	r.known = slices.Clone(r.known[n:])
	r.mu.Unlock()
	r.news.tell()
}

// restored starts anew at an installed manifest.
func (r *roster) restored(m *manifest) {
	r.mu.Lock()
	r.known = []generation{{index: m.configurationIndex, servers: m.servers}}
	r.mu.Unlock()
	r.news.tell()
}

// decodeConfiguration decodes the data of a configuration entry. The library's
// decoder panics, and would in its main loop.
func decodeConfiguration(data []byte) (servers []server, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = damaged("%w", panicError("the decoder of configurations", r))
		}
	}()
	servers, err = fromConfiguration(raft.DecodeConfiguration(data))
	if err != nil {
		return nil, damaged("%w", err)
	}
	return servers, nil
}

// Configuration returns the latest configuration that stands in the replica's
// log or manifest.
func (g *Group) Configuration() Configuration {
	latest := g.roster.latest()
	c := Configuration{Index: latest.index}
	for _, s := range latest.servers {
		if s.suffrage == raft.Voter {
			c.Voters = append(c.Voters, s.Member)
		} else {
			c.Learners = append(c.Learners, s.Member)
		}
	}
	return c
}
