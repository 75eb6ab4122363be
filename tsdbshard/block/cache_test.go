package block

import (
	"math"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestACacheSparesReadsAndKeepsItsBound(t *testing.T) {
	m := newModel(t, 3, modelConfig{tenants: 3, series: 100, samples: 600, start: testStart})
	data, s := m.delta(t)
	f := fileOf(data)
	cache := NewCache(1 << 20)
	d, err := OpenDelta(f, testDelta, WithCache(cache))
	require.NoError(t, err)
	require.Greater(t, s.Bytes, uint64(80<<10))
	m.checkDelta(t, d)
	before := f.reads.Load()
	for range 10 {
		_, err := d.AppendChunks(nil, testDelta.FirstRef+5, math.MinInt64, math.MaxInt64)
		require.NoError(t, err)
	}
	require.Equal(t, before, f.reads.Load(), "the page is in the cache")
	require.Positive(t, cache.Bytes())

	other, err := OpenDelta(fileOf(data), testDelta, WithCache(cache))
	require.NoError(t, err)
	m.checkDelta(t, other)
	held := cache.Bytes()
	require.NoError(t, d.Release())
	require.Less(t, cache.Bytes(), held, "a closed block leaves the cache")
	require.NoError(t, other.Release())
	require.Zero(t, cache.Bytes())

	small := NewCache(64 << 10)
	d, err = OpenDelta(fileOf(data), testDelta, WithCache(small))
	require.NoError(t, err)
	m.checkDelta(t, d)
	require.LessOrEqual(t, small.Bytes(), int64(64<<10))
	require.NoError(t, d.Release())
}

func TestManyReadersShareABlockAndACache(t *testing.T) {
	m := newModel(t, 8, modelConfig{tenants: 3, series: 60, samples: 300, start: testStart})
	delta, _ := m.delta(t)
	canonical, _ := m.canonical(t)
	cache := NewCache(256 << 10)
	d, err := OpenDelta(fileOf(delta), testDelta, WithCache(cache))
	require.NoError(t, err)
	c, err := OpenCanonical(fileOf(canonical), testCanonical, WithCache(cache))
	require.NoError(t, err)
	shared := c.Tenant(m.tenants()[0])
	_, want := selectAll(t, shared, math.MinInt64, math.MaxInt64, nil, testMatchers(t)["everything"])
	var readers sync.WaitGroup
	for range 4 {
		d.Retain()
		c.Retain()
		readers.Go(func() {
			m.checkDelta(t, d)
			m.checkCanonical(t, c)
			_, got := selectAll(t, shared, math.MinInt64, math.MaxInt64, nil, testMatchers(t)["everything"])
			if len(got) != len(want) {
				t.Errorf("%d series, want %d", len(got), len(want))
			}
			if err := d.Release(); err != nil {
				t.Error(err)
			}
			if err := c.Release(); err != nil {
				t.Error(err)
			}
		})
	}
	readers.Wait()
	require.NoError(t, d.Release())
	require.NoError(t, c.Release())
}
