package router

import (
	"context"
	"time"

	"github.com/quorate/quorate"
)

// confirmTimeout bounds how long a replica here takes to confirm a read for
// another node. A leader that has lost its quorum finds that out within its
// lease; the asking node has other members to ask.
const confirmTimeout = 2 * time.Second

// handlePin answers for each set of a request with a view, or why there is none,
// and keeps the views until the stream ends.
func (r *Router) handlePin(ctx context.Context, from quorate.NodeID, b []byte, send func([]byte) error) error {
	req, err := decodePinRequest(b)
	if err != nil {
		return err
	}
	answers := make(chan pinAnswer, len(req.Sets))
	for i, s := range req.Sets {
		go func() { answers <- r.pinFor(ctx, from, i, s) }() // each ends within confirmTimeout; all are awaited below
	}
	failed := error(nil)
	for range req.Sets {
		a := <-answers
		if a.Refusal == nil {
			defer r.served.end(a.View)
		}
		if failed == nil {
			failed = send(a.encode())
		}
	}
	if failed != nil {
		return failed
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-r.served.stopped:
		return errClosing
	}
}

// pinFor takes one view for another node.
func (r *Router) pinFor(ctx context.Context, from quorate.NodeID, position int, s pinOf) pinAnswer {
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	a := pinAnswer{Position: position}
	replica, err := r.replicas.Get(s.Set)
	var view View
	if err == nil {
		view, a.Lag, err = replica.pin(ctx, s.Mode, s.Deletions)
	}
	if err == nil {
		a.View, err = r.served.add(view, from)
	}
	if err != nil {
		a.Refusal = r.refusalOf(err)
	}
	return a
}
