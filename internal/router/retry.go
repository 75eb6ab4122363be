package router

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/quorate/quorate"
)

// The backoff between attempts: from first doubling to most, each drawn from
// its upper half so that requests which failed together do not retry together.
const (
	firstBackoff = 5 * time.Millisecond
	mostBackoff  = 250 * time.Millisecond
)

// retriableError marks an error that another attempt may mend within the
// request's deadline: no leader yet, a replica that is being opened, a route
// that turned stale, an unknown outcome.
type retriableError struct{ err error }

func (e *retriableError) Error() string { return e.err.Error() }
func (e *retriableError) Unwrap() error { return e.err }

func retriable(err error) error { return &retriableError{err: err} }

// Passing marks an error as one that another attempt may mend within the
// request's deadline, for those who refuse by Replica.AdmitBy.
func Passing(err error) error { return retriable(err) }

func isRetriable(err error) bool {
	var r *retriableError
	return errors.As(err, &r)
}

// retry calls attempt until it succeeds, fails for good, or the context ends.
// What it returns then is the last attempt's error, of kind Unavailable: a
// failover inside the deadline is latency to the client, not an error. It is
// the only retry loop of the write and query paths.
func retry(ctx context.Context, attempt func(ctx context.Context) error) error {
	wait := firstBackoff
	for {
		err := attempt(ctx)
		if err == nil || !isRetriable(err) {
			return err
		}
		timer := time.NewTimer(wait/2 + rand.N(wait/2))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return quorate.Errorf(quorate.Unavailable, "gave up: %w: %w", context.Cause(ctx), err)
		}
		wait = min(2*wait, mostBackoff)
	}
}
