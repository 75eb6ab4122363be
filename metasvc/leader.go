package metasvc

import (
	"context"
	"errors"
	"fmt"

	"github.com/quorate/quorate"
)

// Leader is the way to the leader of the metadata group. It is safe for
// concurrent use. Its errors have the kind Unavailable.
type Leader interface {
	// Propose commits an encoded command and returns its result once it was
	// applied by the leader and by this node's state machine. The command is
	// not kept. An error leaves it unknown whether the command will be applied;
	// every command may be proposed again.
	Propose(ctx context.Context, command []byte) (any, error)
	// ConfirmRead returns nil once this node's state machine has applied
	// whatever was committed before the call, confirmed by the leader.
	ConfirmRead(ctx context.Context) error
}

// propose commits a command and returns its result. A refusal is an error
// that wraps the *Refusal and has its kind.
func propose[R any](ctx context.Context, leader Leader, c Command) (R, error) {
	var none R
	encoded := EncodeCommand(c)
	if _, err := DecodeCommand(encoded); err != nil {
		// In the log these bytes would stop every replica.
		return none, quorate.Errorf(quorate.Invalid, "%s command with fields out of range: %w", c.Type(), err)
	}
	answer, err := leader.Propose(ctx, encoded)
	if err != nil {
		return none, unavailable(err, "propose %s", c.Type())
	}
	if refused, ok := answer.(*Refusal); ok {
		return none, &quorate.Error{Kind: refused.Kind(), Err: fmt.Errorf("%s: %w", c.Type(), refused)}
	}
	if a, ok := answer.(R); ok {
		return a, nil
	}
	return none, quorate.Errorf(quorate.Internal, "%s command was answered with a %T", c.Type(), answer)
}

// unavailable says what an error kept from being done. Errors that have a kind
// keep it; others, running out of time among them, get the kind Unavailable.
func unavailable(err error, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	var kinded *quorate.Error
	if errors.As(err, &kinded) {
		return fmt.Errorf("%s: %w", what, err)
	}
	return quorate.Errorf(quorate.Unavailable, "%s: %w", what, err)
}
