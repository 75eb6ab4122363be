// Package testwait is the one place in which tests wait for something that
// happens in the background: by polling a condition until it holds or a
// deadline passes. Tests whose time is virtual use testing/synctest instead.
package testwait

import (
	"context"
	"testing"
	"time"
)

// Deadline is how long For and Until wait: far longer than anything they wait
// for takes, even under the race detector on a busy machine.
const Deadline = 60 * time.Second

const pollEvery = 2 * time.Millisecond

// For polls until condition holds and fails the test, naming what was waited
// for, when it does not within the Deadline.
func For(t testing.TB, what string, condition func() bool) {
	t.Helper()
	Until(t, what, func() error {
		if condition() {
			return nil
		}
		return errNotYet
	})
}

// Until polls until attempt returns nil and fails the test with its last error
// when it does not within the Deadline.
func Until(t testing.TB, what string, attempt func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Deadline)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := attempt()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("gave up waiting for %s after %v: %v", what, Deadline, err)
		case <-tick.C:
		}
	}
}

type notYet struct{}

func (notYet) Error() string { return "the condition does not hold" }

var errNotYet = notYet{}
