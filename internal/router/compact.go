package router

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/raftset"
)

// compactSet has an open set write its samples anew without those that were
// deleted, on every node that has a replica. To publish what it has written
// without anything new in its log, a replica needs an entry, which the leader
// alone can commit: it is done when it answers. A follower refuses, but has noted
// the wish, and carries it out with the next flush, for which that entry is
// reason enough. So one success is what is waited for.
func (r *Router) compactSet(ctx context.Context, set *metasvc.ReplicaSet) error {
	if r.peers == nil {
		return r.compact(ctx, set.ID)
	}
	return retry(ctx, func(ctx context.Context) error {
		errs := make([]error, len(set.Members))
		var all sync.WaitGroup
		for i, m := range set.Members {
			all.Go(func() { errs[i] = r.compactAt(ctx, m.Node, set.ID) })
		}
		all.Wait()
		for _, err := range errs {
			if err == nil {
				return nil
			}
		}
		return fmt.Errorf("compact set %v: %w", set.ID, strongest(errs))
	})
}

// compactAt has the replica on one node written anew.
func (r *Router) compactAt(ctx context.Context, node quorate.NodeID, set quorate.ReplicaSetID) error {
	if node != r.self {
		_, err := r.askPatiently(ctx, node, methodCompact, setRequest{Set: set}.encode())
		return err
	}
	replica, err := r.replicas.Get(set)
	if err != nil {
		return err
	}
	return r.compactHere(ctx, replica)
}

// compactHere has a replica of this node written anew.
func (r *Router) compactHere(ctx context.Context, replica *Replica) error {
	err := r.compact(ctx, replica.Set())
	var notLeader *raftset.NotLeaderError
	if errors.As(err, &notLeader) || errors.Is(err, raftset.ErrStopped) {
		return retriable(err)
	}
	return err
}
