package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/quorate/quorate/raftset"
)

// handoversAtOnce is how many leads are handed over at the same time by a node
// that gives all of them up: each takes a few round trips.
const handoversAtOnce = 16

// Relinquish hands over the lead of every set that a replica here leads, to a
// member that has caught up, so that a node which stops leaves nobody waiting for
// an election. The replicas go on as followers; it does not keep them from being
// elected again. Sets without such a member keep their leader, which is no error.
//
// Errors are those of hand-overs that failed, all of them; the context bounds the
// whole.
func (m *Manager) Relinquish(ctx context.Context) error {
	var (
		wait sync.WaitGroup
		mu   sync.Mutex
		errs []error
	)
	turns := make(chan struct{}, handoversAtOnce)
	for _, g := range m.led() {
		if ctx.Err() != nil {
			break
		}
		turns <- struct{}{}
		wait.Go(func() {
			defer func() { <-turns }()
			if err := RelinquishLead(ctx, g); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, fmt.Errorf("hand set %v over: %w", g.Set(), err))
			}
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// RelinquishLead hands the lead of a group over, if the replica leads and there
// is a member that has caught up.
func RelinquishLead(ctx context.Context, g *raftset.Group) error {
	if _, leads := g.Leadership(); !leads {
		return nil
	}
	to, ok := successor(g, g.Configuration(), g.Replica())
	if !ok {
		return nil
	}
	if err := transfer(ctx, g, to); !errors.Is(err, errNotYet) {
		return err
	}
	return nil // another leads already
}
