package raftset

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestWhatIsDueLeavesAtTheNextBeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		b := newBeat(time.Second)
		left := make(chan time.Duration, 4)
		for _, due := range []time.Duration{10, 24, 26, 230} { // milliseconds
			time.AfterFunc(due*time.Millisecond, func() {
				b.join(func() { left <- time.Since(begin) })
			})
		}
		for _, want := range []time.Duration{25, 25, 50, 250} {
			if got := <-left; got != want*time.Millisecond {
				t.Errorf("a heartbeat left after %v, want %v", got, want*time.Millisecond)
			}
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.due) != 0 {
			t.Errorf("%d heartbeats are still due", len(b.due))
		}
	})
}
