package node

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate"
)

const (
	// confirmTimeout bounds one confirmation of the map.
	confirmTimeout = 2 * time.Second
	// confirmPause is the least time between two.
	confirmPause = 20 * time.Millisecond
)

// confirmations confirm this node's map to whoever waits for it, one at a time
// and no more than one each confirmPause, however many wait: all that began to
// wait before one was asked for share it. So whoever asks for tenants that do
// not exist costs the metadata leader little.
type confirmations struct {
	ask func(context.Context) error
	// turn is held by whoever asks, or looks at what the last one to ask heard.
	turn chan struct{}
	// asked counts the confirmations that were begun.
	asked atomic.Uint64

	// Belong to whoever has the turn: what the newest confirmation came to, and
	// when that was; heard is its number, 0 when it tells others nothing.
	heard uint64
	err   error
	ended time.Time
}

func newConfirmations(ask func(context.Context) error) *confirmations {
	return &confirmations{ask: ask, turn: make(chan struct{}, 1)}
}

// confirm returns nil once the map has everything that was committed before the
// call. The error is of kind Unavailable.
func (c *confirmations) confirm(ctx context.Context) error {
	before := c.asked.Load()
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return quorate.Errorf(quorate.Unavailable, "wait for a confirmation of the map: %w", context.Cause(ctx))
	}
	defer func() { <-c.turn }()
	if c.heard > before {
		return c.err // it was begun after this call
	}
	if err := c.pause(ctx); err != nil {
		return quorate.Errorf(quorate.Unavailable, "wait for a confirmation of the map: %w", err)
	}
	number := c.asked.Add(1)
	asking, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	err := c.ask(asking)
	c.heard, c.err, c.ended = number, err, time.Now()
	if ctx.Err() != nil {
		c.heard = 0 // one's patience is not that of the others
	}
	return err
}

// pause waits until the next confirmation may be asked for.
func (c *confirmations) pause(ctx context.Context) error {
	timer := time.NewTimer(confirmPause - time.Since(c.ended))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
