package router

import (
	"math/rand/v2"
	"testing"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

func keysFrom(n int, seed uint64) []wire.RequestSeries {
	rng := rand.New(rand.NewPCG(seed, 0))
	series := make([]wire.RequestSeries, n)
	for i := range series {
		series[i].Key = wire.SeriesKey{Hi: rng.Uint64(), Lo: rng.Uint64()}
	}
	return series
}

func learnAll(c *routeCache, set quorate.ReplicaSetID, series []wire.RequestSeries) {
	keys := make([]wire.SeriesKey, len(series))
	for i := range series {
		keys[i] = series[i].Key
	}
	c.update(keys, func(i int, r *cachedRoute) {
		r.hash = keys[i].Hi
		r.learn(set, wire.SeriesRef(i))
	})
}

func TestRouteCacheFindsWhatItLearned(t *testing.T) {
	series := keysFrom(5000, 1)
	series[7].Key = wire.SeriesKey{} // the key that marks a free slot
	c := newRouteCache(1 << 20)
	routes := make([]cachedRoute, len(series))
	if missing := c.lookup(series, routes, nil); len(missing) != len(series) {
		t.Fatalf("an empty cache misses %d of %d series", len(missing), len(series))
	}
	learnAll(c, 3, series)
	if missing := c.lookup(series, routes, nil); len(missing) != 0 {
		t.Fatalf("%d series are missing after they were learned", len(missing))
	}
	for i := range routes {
		ref, ok := routes[i].refIn(3)
		if !ok || ref != wire.SeriesRef(i) || routes[i].hash != series[i].Key.Hi {
			t.Fatalf("series %d: ref %d, %v, hash %d", i, ref, ok, routes[i].hash)
		}
		if _, ok := routes[i].refIn(4); ok {
			t.Fatalf("series %d has a ref in a set it was never written to", i)
		}
	}
}

func TestRouteCacheKeepsTheTwoSetsWrittenLast(t *testing.T) {
	var r cachedRoute
	for _, set := range []quorate.ReplicaSetID{1, 2, 1, 3} {
		r.learn(set, wire.SeriesRef(10*set))
	}
	for set, want := range map[quorate.ReplicaSetID]bool{1: true, 2: false, 3: true} {
		if ref, ok := r.refIn(set); ok != want || ok && ref != wire.SeriesRef(10*set) {
			t.Errorf("set %d: ref %d, %v; want it known: %v", set, ref, ok, want)
		}
	}
	r.forget(3)
	if _, ok := r.refIn(3); ok {
		t.Error("a forgotten ref is still known")
	}
	r.learn(1<<32+1, 5)
	if ref, ok := r.refIn(1); !ok || ref != 10 {
		t.Errorf("a set number too large to cache changed the ref in set 1 to %d, %v", ref, ok)
	}
}

func TestRouteCacheBoundsItsMemory(t *testing.T) {
	c := newRouteCache(1000)
	hot := keysFrom(10, 99)
	for seed := range uint64(20) {
		learnAll(c, 1, keysFrom(500, seed))
		learnAll(c, 1, hot)
		if c.size() > 2*1000+510 {
			t.Fatalf("%d slots in use, over twice the limit of 1000", c.size())
		}
	}
	routes := make([]cachedRoute, len(hot))
	if missing := c.lookup(hot, routes, nil); len(missing) != 0 {
		t.Fatalf("%d of the series in constant use were dropped", len(missing))
	}
}

// 2,000 lookups among 100,000 series: 20 ns each on a shared 2-core machine.
func BenchmarkRouteCacheLookup(b *testing.B) {
	const total, perRequest = 100_000, 2000
	series := keysFrom(total, 1)
	c := newRouteCache(1 << 20)
	learnAll(c, 1, series)
	routes := make([]cachedRoute, perRequest)
	var missing []int32
	at := 0
	for b.Loop() {
		missing = c.lookup(series[at:at+perRequest], routes, missing[:0])
		at = (at + perRequest) % total
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/perRequest, "ns/series")
}
