package router

import (
	"math/rand/v2"
	"slices"
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
		r.learn(set, wire.SeriesRef(i), keepSets{})
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

func TestRouteCacheKeepsTwoSetsForASeries(t *testing.T) {
	for name, tc := range map[string]struct {
		learn []quorate.ReplicaSetID
		keep  keepSets
		want  []quorate.ReplicaSetID
	}{
		"the two written last, without a current one":         {[]quorate.ReplicaSetID{1, 2, 1, 3}, keepSets{}, []quorate.ReplicaSetID{1, 3}},
		"the current one, however many others are written":    {[]quorate.ReplicaSetID{9, 1, 2, 3}, keepSets{9}, []quorate.ReplicaSetID{9, 3}},
		"the current one, learned after others":               {[]quorate.ReplicaSetID{1, 2, 9, 3}, keepSets{9}, []quorate.ReplicaSetID{9, 3}},
		"the current and the next one, not a late one's":      {[]quorate.ReplicaSetID{9, 10, 1, 2}, keepSets{9, 10}, []quorate.ReplicaSetID{9, 10}},
		"the next one in place of a late one's":               {[]quorate.ReplicaSetID{9, 1, 10}, keepSets{9, 10}, []quorate.ReplicaSetID{9, 10}},
		"the next one in place of a late one's that is newer": {[]quorate.ReplicaSetID{1, 9, 1, 10}, keepSets{9, 10}, []quorate.ReplicaSetID{9, 10}},
		"a late one's while the next is not known":            {[]quorate.ReplicaSetID{9, 1}, keepSets{9, 10}, []quorate.ReplicaSetID{9, 1}},
		"the one before, after the passage to the next":       {[]quorate.ReplicaSetID{10, 9, 9}, keepSets{10}, []quorate.ReplicaSetID{10, 9}},
	} {
		var r cachedRoute
		for _, set := range tc.learn {
			r.learn(set, wire.SeriesRef(10*set), tc.keep)
		}
		for set := range quorate.ReplicaSetID(12) {
			if ref, ok := r.refIn(set); set > 0 && (ok != slices.Contains(tc.want, set) || ok && ref != wire.SeriesRef(10*set)) {
				t.Errorf("%s: ref %d in set %d is known: %v; want those of %v", name, ref, set, ok, tc.want)
			}
		}
	}
}

func TestRouteCacheForgetsAndRelearns(t *testing.T) {
	for _, forgotten := range []quorate.ReplicaSetID{1, 2} {
		var r cachedRoute
		r.learn(1, 10, keepSets{})
		r.learn(2, 20, keepSets{})
		r.forget(forgotten)
		if _, ok := r.refIn(forgotten); ok {
			t.Errorf("the forgotten ref in set %d is still known", forgotten)
		}
		r.learn(forgotten, 30, keepSets{1, 2})
		for set, want := range map[quorate.ReplicaSetID]wire.SeriesRef{forgotten: 30, 3 - forgotten: wire.SeriesRef(10 * (3 - forgotten))} {
			if ref, ok := r.refIn(set); !ok || ref != want {
				t.Errorf("after set %d was relearned, set %d has ref %d, %v; want %d", forgotten, set, ref, ok, want)
			}
		}
		r.learn(1<<32+1, 5, keepSets{})
		if ref, ok := r.refIn(1); !ok || ref == 5 {
			t.Errorf("a set number too large to cache changed the ref in set 1 to %d, %v", ref, ok)
		}
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
