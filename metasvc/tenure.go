package metasvc

import (
	"maps"
	"time"

	"github.com/quorate/quorate"
)

// tenure is what a leader of the metadata group remembers of the term it leads in.
// It is in memory only, and begins anew with each term (PROTOCOL 17).
type tenure struct {
	// term is 0 while this node does not lead.
	term  uint64
	since time.Time
	// seen is when each node was first seen among the cluster's, and begun when
	// each change of members was.
	seen  map[quorate.NodeID]time.Time
	begun map[IntentID]time.Time
	clock steadyClock
}

// observe notes what is new in the state.
func (t *tenure) observe(s *state, now time.Time) {
	t.clock.observe(now)
	for id := range s.nodes {
		if _, seen := t.seen[id]; !seen {
			t.seen[id] = now
		}
	}
	begun := make(map[IntentID]time.Time)
	for _, set := range s.sets {
		if set.Intent == nil || set.Intent.Kind != IntentMembers {
			continue
		}
		begun[set.Intent.ID] = now
		if before, known := t.begun[set.Intent.ID]; known {
			begun[set.Intent.ID] = before
		}
	}
	t.begun = begun
}

// copied is for whoever looks while the controller goes on.
func (t *tenure) copied() tenure {
	c := *t
	c.seen, c.begun = maps.Clone(t.seen), maps.Clone(t.begun)
	return c
}
