package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/quorate/quorate"
)

// pinTimeout bounds how long one node is waited for that was asked for views. It
// is longer than that node takes to refuse (confirmTimeout).
const pinTimeout = 3 * time.Second

// errNoAnswerInTime is why a node is not waited for any longer.
var errNoAnswerInTime = quorate.Errorf(quorate.Unavailable, "no answer within %v", pinTimeout)

// pinAt takes views of several sets on another node. They live as long as the
// stream that brings them, which ends with life or when the query lets its views
// go. What became of each want is noted in it; a stream that fails takes the
// views along that it has brought.
func (p *pinning) pinAt(ctx context.Context, node quorate.NodeID, wants []*want) {
	life, cancel := context.WithCancelCause(p.life)
	views, err := p.askForViews(ctx, life, cancel, node, wants)
	if views > 0 && err == nil {
		p.result.addStream(func() { cancel(nil) })
		return
	}
	cancel(nil)
	if err == nil {
		return
	}
	err = p.router.noAnswer(ctx, node, fmt.Errorf("views of node %s: %w", node.Name, err))
	for _, w := range wants {
		if w.layer != nil || !w.answered {
			w.fail(err)
		}
	}
}

// askForViews opens the stream and takes the answers in. It returns how many
// views there are.
func (p *pinning) askForViews(ctx, life context.Context, cancel context.CancelCauseFunc, node quorate.NodeID, wants []*want) (views int, err error) {
	// What ends the opening ends the stream, until all have answered.
	opening := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	defer opening()
	timer := time.AfterFunc(pinTimeout, func() { cancel(errNoAnswerInTime) })
	defer timer.Stop()
	var req pinRequest
	for _, w := range wants {
		req.Sets = append(req.Sets, pinOf{w.set.ID, w.modeAt(node), deletionsFor(w.deletions, p.of.tenant)})
	}
	recv, err := p.router.peers.Stream(life, node, methodPin, req.encode())
	if err != nil {
		return 0, err
	}
	for range wants {
		message, err := recv()
		if err != nil {
			if cause := context.Cause(life); cause != nil {
				err = cause
			}
			return views, unexpected(err)
		}
		a, err := decodePinAnswer(message)
		if err != nil {
			return views, err
		}
		if a.Position >= len(wants) || wants[a.Position].answered {
			return views, fmt.Errorf("%w: an answer for set %d of %d", errMessage, a.Position, len(wants))
		}
		w := wants[a.Position]
		if a.Refusal != nil {
			a.Refusal.Node = node
			w.fail(a.Refusal.asError())
			continue
		}
		views++
		w.take(&remoteLayer{router: p.router, node: node, set: w.set.ID, view: a.View, left: &p.result.remoteBytes}, a.Lag)
	}
	p.router.peerNotes.answered(node, true)
	if !timer.Stop() || !opening() {
		return views, context.Cause(life)
	}
	return views, nil
}

// unexpected makes the end of a stream that comes too early an error.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return quorate.Errorf(quorate.Unavailable, "%w", io.ErrUnexpectedEOF)
	}
	return err
}
