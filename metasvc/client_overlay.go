package metasvc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate"
)

// retrySeal is when a request refused because a set is being sealed may be
// worth sending again.
const retrySeal = 5 * time.Second

// EnsureOverlay returns the overlay that takes the late samples of a sealed set,
// once every node knows of it; where there is none it is planned now. It waits
// for the overlay at most FormTimeout. The error is of kind Unavailable: the
// set is being sealed or in dispute, was replaced or dropped, which shows in a
// newer map, or there are as many overlays as there may be.
func (c *Client) EnsureOverlay(ctx context.Context, set quorate.ReplicaSetID) (*ReplicaSet, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.FormTimeout)
	defer cancel()
	m := c.Map()
	overlay, err := m.overlayOf(set)
	if err == nil && overlay == nil {
		// Each set has a flight of its own: the budget is counted by Apply.
		err = c.flights.do(ctx, fmt.Sprintf("overlay/%d", set), func() error { return c.planOverlay(ctx, set) })
		c.metrics.overlays.WithLabelValues(resultOf(err)).Inc()
		m = c.Map()
	}
	for err == nil {
		if overlay, err = m.overlayOf(set); err != nil || overlay != nil && overlay.Writable() {
			break
		}
		m, err = c.AwaitMap(ctx, m)
	}
	if err != nil {
		return nil, unavailable(err, "overlay over set %d", set)
	}
	return overlay, nil
}

// overlayOf returns the overlay over a sealed set, nil when there is none yet.
func (m *Map) overlayOf(id quorate.ReplicaSetID) (*ReplicaSet, error) {
	set := m.Set(id)
	if set == nil {
		return nil, quorate.Errorf(quorate.Unavailable, "set %d is not in the map of version %d", id, m.Version)
	}
	bucket := m.bucketOf(set)
	if bucket == nil || bucket.SetIDs[set.Shard] != id {
		return nil, quorate.Errorf(quorate.Unavailable, "set %d was replaced or is dropped", id)
	}
	overlay := bucket.Overlays[set.Shard]
	if set.State != ReplicaSetSealed || overlay != nil && overlay.Sealing() != nil {
		return nil, &quorate.Error{
			Kind:       quorate.Unavailable,
			Err:        fmt.Errorf("set %d is %s, its overlay %s", id, set.sealProgress(), overlay.sealProgress()),
			RetryAfter: retrySeal,
		}
	}
	return overlay, nil
}

// sealProgress says in a word how far a set is on its way to be sealed.
func (s *ReplicaSet) sealProgress() string {
	switch {
	case s == nil:
		return "missing"
	case s.State == ReplicaSetOpen && s.Sealing() != nil:
		return "being sealed"
	}
	return s.State.String()
}

// planOverlay has the overlay over a set planned, unless it is there.
func (c *Client) planOverlay(ctx context.Context, set quorate.ReplicaSetID) error {
	if overlay, err := c.Map().overlayOf(set); err != nil || overlay != nil {
		return err
	}
	planned, err := propose[PlanOverlayResult](ctx, c.cfg.Leader, PlanOverlay{Base: set, Budget: c.cfg.MaxOverlays})
	var refused *Refusal
	if errors.As(err, &refused) && refused.Reason == ReasonBudget {
		return &quorate.Error{Kind: quorate.Unavailable, Err: err, RetryAfter: retryBudget}
	}
	if err != nil {
		return err
	}
	if planned.Created {
		c.logger.Info("overlay planned", "base_id", set, "set_id", planned.Overlay)
	}
	_, err = c.awaitVersion(ctx, planned.Index)
	return err
}
