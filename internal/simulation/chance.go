package simulation

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// chance is a stream of chance of a run's seed. It is safe for concurrent use.
type chance struct {
	mu sync.Mutex
	r  *rand.Rand
}

// newChance returns one of a seed's streams. Each actor has its own, so that
// what one does more or less often changes nothing for the others.
func newChance(seed, stream uint64) *chance { return &chance{r: rand.New(rand.NewPCG(seed, stream))} }

// below returns an integer of [0, n); n is positive.
func (c *chance) below(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.r.IntN(n)
}

// happens tells whether something of a probability happens.
func (c *chance) happens(p float64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.r.Float64() < p
}

// between returns a duration of [from, to).
func (c *chance) between(from, to time.Duration) time.Duration {
	if to <= from {
		return from
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return from + time.Duration(c.r.Int64N(int64(to-from)))
}

// pause lets virtual time pass and tells whether ctx lasted as long.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// sleep lets virtual time pass, whatever happens meanwhile.
func sleep(d time.Duration) { <-time.NewTimer(d).C }
