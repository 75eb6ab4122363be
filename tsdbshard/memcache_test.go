package tsdbshard

import (
	"fmt"
	"math"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/quorate/quorate"
)

// TestTailsGiveBackWhatWasAppended appends floats of all kinds to one series of
// a memcache and reads them from its image, at every moment.
func TestTailsGiveBackWhatWasAppended(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m memcache
		var newest newestSample
		var all []sample
		step := rapid.OneOf(rapid.Just(int64(15_000)), rapid.Int64Range(1, 40_000), rapid.Int64Range(1, 1<<50))
		value := rapid.OneOf(rapid.SampledFrom(testValues()), rapid.Float64(), rapid.Map(rapid.IntRange(0, 300), func(i int) float64 { return float64(i) }))
		start := rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(-1<<62, 1<<62))
		started := rapid.Bool().Draw(t, "with starts")
		at := rapid.SampledFrom([]int64{math.MinInt64, -5, 0, 1_700_000_000_000}).Draw(t, "begin")
		for i := range rapid.IntRange(1, 60).Draw(t, "samples") {
			s := sample{T: at, V: value.Draw(t, "value")}
			if started && i > 5 {
				s.ST = start.Draw(t, "start")
			}
			at += step.Draw(t, "step")
			next := newestSample{time: s.T, bits: math.Float64bits(s.V), start: s.ST, kind: kindFloat}
			m.appendFloat(3, &newest, &next)
			newest = next
			all = append(all, s)

			img, ok := m.imageOf(3)
			require.True(t, ok)
			got, ok := m.newestOf(3)
			require.True(t, ok)
			require.Equal(t, newest, got)
			parts, err := img.appendParts(gatherAll(), nil, m.room.blocks)
			require.NoError(t, err)
			samples, err := gatherAll().merge(nil, parts)
			require.NoError(t, err)
			requireSameBits(t, all, samples)
			var iterated []sample
			for i := range parts {
				require.Equal(t, parts[i].MinTime, all[len(iterated)].T)
				part := readAll(t, parts[i].iterator(nil))
				require.Len(t, part, parts[i].Rows)
				iterated = append(iterated, part...)
				require.Equal(t, parts[i].MaxTime, iterated[len(iterated)-1].T)
			}
			requireSameBits(t, all, iterated)
		}
	})
}

func requireSameBits(t require.TestingT, want, got []sample) {
	require.Len(t, got, len(want))
	for i := range want {
		require.Equal(t, want[i].T, got[i].T)
		require.Equal(t, want[i].ST, got[i].ST)
		require.Equal(t, math.Float64bits(want[i].V), math.Float64bits(got[i].V), "sample %d", i)
	}
}

// TestViewsKeepTheTailThatGrew has a view of every number of samples while the
// tail grows, fills and is sealed.
func TestViewsKeepTheTailThatGrew(t *testing.T) {
	for _, start := range []int64{0, 1} {
		t.Run(fmt.Sprintf("start timestamps of %d", start), func(t *testing.T) {
			r := newRig(t, t.TempDir(), openRange(0, 1000))
			var views []*View
			for at := range int64(3*tailRows + 2) {
				r.write(&batchOf(1, 1).floatWithStart(metricA(), at, start, float64(at)).Batch)
				views = append(views, r.view())
			}
			// From the middle, so that the oldest view is the last to be closed.
			for i := range views {
				n := (i + len(views)/2) % len(views)
				got := querySamples(t, views[n].Tenant(1), math.MinInt64, math.MaxInt64, matchAll())[labelsOf(metricA()).String()]
				require.Len(t, got, n+1)
				for at, s := range got {
					require.Equal(t, sample{T: int64(at), ST: start, V: float64(at)}, s, "view of %d samples", n+1)
				}
				views[n].Close()
				r.write(&batchOf(1, 1).floatWithStart(metricB(), int64(i), start, float64(at(i))).Batch)
			}
		})
	}
}

func at(i int) int { return i * i * 77 }

// TestRoomIsUsedAgain: what tails give up while a view is open is free when the
// view is closed, and not before.
func TestRoomIsUsedAgain(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 1_000_000))
	next := int64(0)
	scrape := func() {
		b := batchOf(1, 1)
		for i := range 2000 {
			b.float(canonical("__name__", "m", "i", fmt.Sprint(i)), next, 1/float64(next+int64(i)+1))
		}
		next++
		r.write(&b.Batch)
	}
	for range 2 * tailRows {
		scrape()
	}
	m := r.shard.st.live
	v := r.view()
	scrape() // seals all tails
	require.Len(t, m.room.retired, 2000)
	want := dumpView(t, v, 1)
	for range tailRows {
		scrape()
	}
	require.Equal(t, want, dumpView(t, v, 1))
	v.Close()
	for range 2 * tailRows {
		scrape()
	}
	require.Len(t, m.room.retired, m.room.drained)
}

func TestRoomGivesOutWhatNoViewCanSee(t *testing.T) {
	var r room
	first, size := r.take(17)
	require.Equal(t, 2*roomUnit, size)
	second, _ := r.take(32)
	r.retire(first, size, 5)
	r.retire(second, size, 7)
	r.reclaim(5)
	third, _ := r.take(20)
	require.NotContains(t, []slabPos{first, second}, third, "a view of epoch 5 may look at it")
	r.reclaim(7)
	fourth, _ := r.take(20)
	require.Equal(t, first, fourth)
	r.reclaim(8)
	record, b := r.takeExactly(27)
	require.Equal(t, second, record)
	require.Len(t, b, 27)
	r.give(third, size)
	small, _ := r.take(16)
	require.NotEqual(t, third, small, "of another size")
	again, _ := r.take(32)
	require.Equal(t, third, again)
}

// TestSeriesOfAScrapeShareTheirTimes counts the bytes of what is stored.
func TestSeriesOfAScrapeShareTheirTimes(t *testing.T) {
	var m memcache
	newest := make([]newestSample, 200)
	// Odd series are of another scrape than even ones.
	for round := range int64(2*tailRows + 1) {
		for ref := range newest {
			s := newestSample{time: round*15_000 + int64(ref%2)*(7000+round*round), bits: math.Float64bits(float64(ref)), kind: kindFloat}
			m.appendFloat(uint32(ref), &newest[ref], &s)
			newest[ref] = s
		}
	}
	times := map[string]int{}
	for ref := range newest {
		img, _ := m.imageOf(uint32(ref))
		parts, err := img.appendParts(gatherAll(), nil, m.room.blocks)
		require.NoError(t, err)
		require.Len(t, parts, 3)
		for _, p := range parts[:2] {
			times[fmt.Sprintf("%p", p.Times)]++
		}
	}
	require.Len(t, times, 4)
}

// TestMemcacheBytesAreTheHeaps compares what a shard counts with what the
// collector finds.
func TestMemcacheBytesAreTheHeaps(t *testing.T) {
	const series, rounds = 20_000, 50
	r := newRig(t, t.TempDir(), openRange(0, math.MaxInt64))
	apply := func() {
		for _, e := range definitionEntries(series) {
			_, err := r.shard.ApplyBatch([]quorate.LogEntry{e})
			require.NoError(t, err)
		}
	}
	apply()
	entries := scrapeEntries(series, rounds, 1000)
	before := heapInUse()
	for i := range entries {
		_, err := r.shard.ApplyBatch(entries[i : i+1])
		require.NoError(t, err)
	}
	used := int64(heapInUse() - before)
	require.InEpsilon(t, used, r.shard.MemcacheBytes(), 0.1)
	runtime.KeepAlive(entries)
}
