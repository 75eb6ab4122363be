package tsdbshard

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestASeriesThatCameForAFewSamplesIsCheap(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 1000))
	r.write(&batchOf(1, 1).float(metricA(), 1, 1).Batch)
	before := r.shard.MemcacheBytes()
	for at := int64(1); at <= firstTailRows; at++ {
		r.write(&batchOf(1, 1).float(metricB(), at, 1).Batch)
	}
	require.EqualValues(t, firstTailRows*floatBytes, r.shard.MemcacheBytes()-before)
	for at := int64(firstTailRows + 1); at <= tailRows; at++ {
		r.write(&batchOf(1, 1).float(metricB(), at, 1).Batch)
	}
	require.EqualValues(t, tailRows*floatBytes, r.shard.MemcacheBytes()-before)
}

// TestViewsKeepTheTailThatGrew has a view of every number of samples while the
// tail grows, fills and is sealed, and the memory counted in the end not depend
// on the views.
func TestViewsKeepTheTailThatGrew(t *testing.T) {
	for _, start := range []int64{0, 1} {
		t.Run(fmt.Sprintf("start timestamps of %d", start), func(t *testing.T) {
			pinned, free := newRig(t, t.TempDir(), openRange(0, 1000)), newRig(t, t.TempDir(), openRange(0, 1000))
			var views []*View
			for at := range int64(3*tailRows + 2) {
				b := batchOf(1, 1).floatWithStart(metricA(), at, start, float64(at))
				pinned.write(&b.Batch)
				free.write(&b.Batch)
				views = append(views, pinned.view())
			}
			for n, v := range views {
				got := querySamples(t, v.Tenant(1), math.MinInt64, math.MaxInt64, matchAll())[labelsOf(metricA()).String()]
				require.Len(t, got, n+1)
				for at, s := range got {
					require.Equal(t, sample{T: int64(at), ST: start, V: float64(at)}, s, "view of %d samples", n+1)
				}
				v.Close()
			}
			require.Equal(t, free.shard.MemcacheBytes(), pinned.shard.MemcacheBytes())
		})
	}
}
