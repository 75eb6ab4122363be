package router

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate"
)

func TestRetryBacksOffUntilItSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		start := time.Now()
		err := retry(t.Context(), func(context.Context) error {
			at = append(at, time.Since(start))
			if len(at) < 12 {
				return retriable(errors.New("not yet"))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for i := 1; i < len(at); i++ {
			most := min(firstBackoff<<(i-1), mostBackoff)
			if wait := at[i] - at[i-1]; wait < most/2 || wait > most {
				t.Errorf("wait %d is %v, want between %v and %v", i, wait, most/2, most)
			}
		}
	})
}

func TestRetryGivesUpAtTheDeadlineWithTheLastError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		cause := errors.New("no leader")
		start := time.Now()
		err := retry(ctx, func(context.Context) error { return retriable(cause) })
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("gave up after %v, want the deadline of 3s", took)
		}
		if !errors.Is(err, cause) || !errors.Is(err, context.DeadlineExceeded) || quorate.KindOf(err) != quorate.Unavailable {
			t.Errorf("got %v of kind %v, want Unavailable with the cause and the deadline", err, quorate.KindOf(err))
		}
	})
}

func TestRetryReturnsOtherErrorsAtOnce(t *testing.T) {
	calls := 0
	cause := quorate.Errorf(quorate.Invalid, "bad")
	err := retry(t.Context(), func(context.Context) error { calls++; return cause })
	if !errors.Is(err, cause) || calls != 1 {
		t.Errorf("got %v after %d attempts", err, calls)
	}
}
