package peer

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/quorate/quorate"
)

var (
	// ErrClosed is wrapped when the Port is closed. Kind Unavailable.
	ErrClosed = quorate.Errorf(quorate.Unavailable, "the port between nodes is closed")
	// ErrTimeout is wrapped when a message was not answered in its time. Kind
	// Unavailable.
	ErrTimeout = quorate.Errorf(quorate.Unavailable, "no answer in time")
	// ErrQueueFull is wrapped when more bytes wait for a node than may. Kind
	// Unavailable.
	ErrQueueFull = quorate.Errorf(quorate.Unavailable, "too many bytes wait to be sent")
	// ErrUnreachable is wrapped when there is no connection to the node, or it
	// broke before the answer. Kind Unavailable.
	ErrUnreachable = quorate.Errorf(quorate.Unavailable, "the node cannot be reached")
	// ErrRefused is wrapped when the other node is not the one addressed, is of
	// another cluster, or speaks another protocol. Kind Unavailable.
	ErrRefused = quorate.Errorf(quorate.Unavailable, "the node refuses to talk")
	// ErrStarting is wrapped when nothing handles the method yet. Kind
	// Unavailable.
	ErrStarting = quorate.Errorf(quorate.Unavailable, "the node is starting")
)

// notDone marks an error of a request that certainly had no effect.
type notDone struct{ error }

// Unwrap returns the marked error.
func (e notDone) Unwrap() error { return e.error }

// NotDone tells that the other node did nothing of what was asked: the request
// never left, or was refused before anybody looked at it. It may be sent to
// another node without being done twice.
func (e notDone) NotDone() bool { return true }

// transportError turns gRPC's error into one of ours. Everything is of kind
// Unavailable: the outcome is not known, unless notDone marks it.
func transportError(ctx context.Context, err error) error {
	s, _ := status.FromError(err)
	switch code := s.Code(); {
	case code == codes.FailedPrecondition:
		return notDone{fmt.Errorf("%w: %s", ErrRefused, s.Message())}
	case code == codes.Aborted:
		return notDone{fmt.Errorf("%w: %s", ErrStarting, s.Message())}
	case ctx.Err() != nil:
		return quorate.Errorf(quorate.Unavailable, "%w", context.Cause(ctx))
	case code == codes.DeadlineExceeded:
		// The other side's clock, or gRPC's own timer, was a moment earlier.
		return quorate.Errorf(quorate.Unavailable, "%w", context.DeadlineExceeded)
	default:
		return fmt.Errorf("%w: %s: %s", ErrUnreachable, code, s.Message())
	}
}

// withKind gives a handler's error a kind: running out of time is a
// passing condition.
func withKind(err error) error {
	var kinded *quorate.Error
	if errors.As(err, &kinded) {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return quorate.Errorf(quorate.Unavailable, "%w", err)
	}
	return err
}
