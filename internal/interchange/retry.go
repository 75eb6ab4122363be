package interchange

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

const (
	firstPause = 200 * time.Millisecond
	mostPause  = 15 * time.Second
)

// errPermanent is wrapped by errors that another attempt cannot better.
var errPermanent = errors.New("will not get better")

// retrier tries again what failed for a passing reason: the server could not be
// reached, broke off, or answered 429 or 5xx.
type retrier struct {
	// patience is how long one thing is tried before its error is returned.
	patience time.Duration
	// jitter gives a number in [0, 1).
	jitter  func() float64
	logger  *slog.Logger
	retries atomic.Int64
}

// do calls attempt until it succeeds, fails for good, or patience ends. Errors
// that are a StatusError are judged by their code; any other is passing unless
// it wraps errPermanent.
func (r *retrier) do(ctx context.Context, attempt func(context.Context) error) error {
	begin, pause := time.Now(), firstPause
	for {
		err := attempt(ctx)
		if err == nil || ctx.Err() != nil {
			return errors.Join(ctx.Err(), err)
		}
		var status *StatusError
		if errors.Is(err, errPermanent) || errors.As(err, &status) && !status.passing() {
			return err
		}
		// At least half the pause, so that one server's clients spread out
		// and yet each of them gives it time.
		wait := time.Duration((0.5 + r.jitter()/2) * float64(pause))
		if status != nil {
			wait = max(wait, status.RetryAfter)
		}
		if spent := time.Since(begin); spent+wait > r.patience {
			return fmt.Errorf("gave up after %s: %w", spent.Round(time.Second), err)
		}
		r.retries.Add(1)
		r.logger.Warn("the server is asked again", "error", err, "pause", wait.Round(time.Millisecond))
		if err := sleep(ctx, wait); err != nil {
			return err
		}
		pause = min(2*pause, mostPause)
	}
}

// sleep waits for a time or for the end of the context.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
