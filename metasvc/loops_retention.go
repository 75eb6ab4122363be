package metasvc

import (
	"fmt"
	"time"
)

// planRetention wants those buckets dropped that are past their policy's
// retention, oldest first, by a clock that can be believed. That buckets wait
// because the clock may have jumped is an error, so that somebody sees it.
func planRetention(v view) (actions []Action, err error) {
	if !v.steady {
		return nil, nil
	}
	now := v.now.UnixMilli()
	var failed error
	for _, p := range byKey(v.state.policies) {
		for _, b := range v.state.bucketsOf[p.ID] {
			if b.State == BucketDropping || !p.expired(v.state.readEnd(b), now) {
				continue
			}
			if r := v.state.checkClock(p, now); r != nil {
				failed = r
				break
			}
			actions = append(actions, action(LoopRetention, fmt.Sprintf("drop bucket %d %v of policy %q", b.ID, b.Range, p.Name),
				BeginDrop{Bucket: b.ID, Term: v.term, Now: now}))
		}
	}
	if len(actions) > 0 {
		return actions, nil // what failed fails again when these are done
	}
	return nil, failed
}

// steadyClock notes since when the wall clock runs evenly: since then it has
// advanced as the monotonic clock has. It belongs to Controller.Run.
type steadyClock struct {
	since time.Time
	wall  time.Time // since without its monotonic reading
}

// observe takes in a reading with both clocks. A wall clock that was set, or a
// machine that slept, begins anew.
func (c *steadyClock) observe(now time.Time) {
	wall, monotonic := now.Round(0).Sub(c.wall), now.Sub(c.since)
	if c.since.IsZero() || (wall-monotonic).Abs() > clockTolerance {
		c.since, c.wall = now, now.Round(0)
	}
}

// runs tells whether the clock has run evenly for d.
func (c *steadyClock) runs(now time.Time, d time.Duration) bool { return now.Sub(c.since) >= d }
