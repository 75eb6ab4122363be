package metalink

import (
	"context"
	"sync"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/metasvc"
)

// A metadata group that was restored (metasvc.Dump.Restore) is of a later epoch
// than the one that was lost. Should that run still, nobody who has seen the later
// one takes its word, and its replicas stop when they hear of it.

// FindEarlierLeader asks whoever may have a replica of the metadata group whether
// it leads a group of an epoch before the given one, and returns who does. It is
// asked by a node that is about to lead a restored group.
func (l *Link) FindEarlierLeader(ctx context.Context, epoch uint64) (node quorate.NodeID, found bool) {
	nodes := l.candidates()
	if m := l.currentMap(); m != nil {
		for _, n := range m.Nodes() {
			if n.Roles&metasvc.RoleMeta != 0 && n.State != metasvc.NodeRemoved && n.ID != l.cfg.Self {
				nodes = append(nodes, n.ID)
			}
		}
	}
	nodes = append(nodes, l.lookAround(ctx)...)
	var mu sync.Mutex // guards node and found
	var wait sync.WaitGroup
	asked := map[quorate.NodeID]bool{l.cfg.Self: true}
	for _, id := range nodes {
		if asked[id] {
			continue
		}
		asked[id] = true
		wait.Go(func() {
			a, err := l.askOne(ctx, id, methodConfirm, nil, again)
			if err == nil && a.led && metasvc.Epoch(a.index) < epoch {
				mu.Lock()
				defer mu.Unlock()
				node, found = id, true
			}
		})
	}
	wait.Wait()
	return node, found
}

// isOutdated tells whether an answer is of a metadata group that was replaced.
func (l *Link) isOutdated(a answer) bool {
	return metasvc.Epoch(a.index) < metasvc.Epoch(l.cfg.Machine.AppliedIndex())
}

// noteEpoch refuses what comes from a node that has seen a later epoch than the
// local replica's.
func (l *Link) noteEpoch(version uint64) error {
	r, _ := l.local()
	if r == nil || metasvc.Epoch(version) <= metasvc.Epoch(r.group.Status().AppliedIndex) {
		return nil
	}
	l.replaced.Store(true)
	return quorate.Errorf(quorate.Unavailable, "node %s has a replica of a metadata group that was replaced", l.cfg.Self)
}

// Replaced tells that another node has metadata of a later epoch than the local
// replica, which is therefore of no use any more.
func (l *Link) Replaced() bool { return l.replaced.Load() }
