package lifecycle

import (
	"context"
	"fmt"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/tsdbshard"
)

// changeBounds puts the bounds that the map intends into the set's log, as its
// leader (PROTOCOL 4, 13). A command that is repeated says the same again.
func (m *Manager) changeBounds(ctx context.Context, set *metasvc.ReplicaSet, r *replica) error {
	bounds, ok := set.Intent.Bounds()
	if !ok {
		return fmt.Errorf("set %v: the payload of intent %d is no bounds command", r.set, set.Intent.ID)
	}
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	answer, err := r.group.Propose(ctx, wire.KindBounds, tsdbshard.AppendBoundsCommand(nil, bounds))
	if err != nil {
		return elsewhere(fmt.Errorf("bounds of set %v: %w", r.set, err))
	}
	result, ok := answer.(*tsdbshard.BoundsResult)
	if !ok {
		return fmt.Errorf("set %v answered a bounds command with a %T", r.set, answer)
	}
	if !result.Applied {
		return quorate.Errorf(quorate.Unavailable, "set %v: intent %d wants bounds %+v, and the set has %+v", r.set, set.Intent.ID, bounds, result.Bounds)
	}
	if err := m.cfg.Client.ConfirmBoundsIntent(ctx, r.set, set.Intent.ID, result.Index, result.Newest); err != nil {
		return fmt.Errorf("confirm the bounds of set %v: %w", r.set, err)
	}
	m.logger.Info("bounds of a set changed", "set", r.set, "range", bounds.Range, "version", bounds.Version, "index", result.Index)
	return nil
}
