package benchmarks

import (
	"math"
	"slices"
	"time"
)

// Latency summarises how long requests took.
type Latency struct {
	P50, P90, P99, Max time.Duration
}

// summarise sorts the durations in place; with none of them all is zero. A
// percentile is the smallest duration that at least that share does not exceed.
func summarise(durations []time.Duration) Latency {
	if len(durations) == 0 {
		return Latency{}
	}
	slices.Sort(durations)
	rank := func(share float64) time.Duration {
		return durations[int(math.Ceil(share*float64(len(durations))))-1]
	}
	return Latency{P50: rank(0.50), P90: rank(0.90), P99: rank(0.99), Max: durations[len(durations)-1]}
}
