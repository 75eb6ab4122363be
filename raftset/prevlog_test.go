package raftset

import (
	"testing"
	"testing/synctest"
)

// An entry that was never committed lies right behind the manifest, and what comes
// before it is in the manifest alone.
func TestALogThatDiffersBehindItsManifestIsMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, leader := aloneInSet(t, MemoryLogs())
		m := n.group.manifests.current()
		term := n.group.raft.CurrentTerm() + 10
		if r := n.append(t, leader, term, m.index, m.term, 2); !r.Success {
			t.Fatalf("the first entries are refused: %+v", r)
		}
		if r := n.append(t, leader, term+1, m.index, m.term+1, 1); r.Success {
			t.Error("entries behind another entry than the manifest's are taken")
		}
		if r := n.append(t, leader, term+1, m.index, m.term, 1); !r.Success {
			t.Errorf("another leader's entry in their place is answered %+v", r)
		}
		if last := n.group.raft.LastIndex(); last != m.index+1 {
			t.Errorf("the log ends at %d, want %d", last, m.index+1)
		}
	})
}
