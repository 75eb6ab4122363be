package tsdbshard

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate/internal/wire"
)

// describeRange reads the samples of a time range as queries do.
func describeRange(t failer, tv TenantReader, mint, maxt int64) map[string][]string {
	t.Helper()
	d := map[string][]string{}
	for lset, samples := range querySamples(t, tv, mint, maxt, matchAll()) {
		for _, s := range samples {
			d[lset] = append(d[lset], fmt.Sprintf("%d %s", s.T, describe(s)))
		}
	}
	return d
}

// spansOf returns the time ranges of all that a reader gives of its series.
func spansOf(t *testing.T, tv TenantReader) (spans [][2]int64) {
	t.Helper()
	r, err := tv.Index()
	require.NoError(t, err)
	name, value := index.AllPostingsKey()
	p, err := r.Postings(t.Context(), name, value)
	require.NoError(t, err)
	var builder labels.ScratchBuilder
	var metas []chunks.Meta
	for p = r.SortedPostings(p); p.Next(); {
		require.NoError(t, r.Series(p.At(), &builder, &metas))
		for _, m := range metas {
			spans = append(spans, [2]int64{m.MinTime, m.MaxTime})
		}
	}
	require.NoError(t, p.Err())
	return spans
}

// TestARangeGivesNoSpansOutsideIt has a series in a block, in a frozen memcache
// and in the live one, there as chunks, as a tail and as late samples.
func TestARangeGivesNoSpansOutsideIt(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 1_000_000))
	from := int64(0)
	write := func(n int64, late ...int64) {
		b := batchOf(1, 1)
		for i := from; i < from+n; i++ {
			b.float(metricA(), 10*i, float64(i))
		}
		from += n
		for _, at := range late {
			b.float(metricA(), at, -1)
		}
		r.write(&b.Batch)
	}
	write(600)
	r.flush()
	write(100)
	r.freeze()
	write(100, 6503, 7507)
	check := func(whole, within func(mint, maxt int64) TenantReader) {
		for _, c := range [][2]int64{{0, 0}, {2000, 2500}, {5990, 6005}, {6500, 6510}, {7500, 7600}, {7990, 9000}, {8001, 9000}, {math.MinInt64, math.MaxInt64}, {math.MinInt64, -1}} {
			mint, maxt := c[0], c[1]
			require.Equal(t, describeRange(t, whole(mint, maxt), mint, maxt), describeRange(t, within(mint, maxt), mint, maxt), "%v", c)
			for _, s := range spansOf(t, within(mint, maxt)) {
				require.True(t, s[0] <= maxt && s[1] >= mint, "span %v of the range %v", s, c)
			}
		}
		require.Greater(t, len(spansOf(t, whole(0, 0))), 2)
		require.Len(t, spansOf(t, within(2000, 2100)), 1)
		require.Empty(t, spansOf(t, within(8001, 9000)))
	}
	v := r.view()
	defer v.Close()
	check(func(int64, int64) TenantReader { return v.Tenant(1) },
		func(mint, maxt int64) TenantReader { return v.TenantIn(1, mint, maxt) })

	r.seal(wire.Seal{Intent: 1})
	sealed := r.canonical(nil)
	gone := wire.NumberedDeletion{ID: 1, Deletion: wire.Deletion{Tenant: 1, MinTime: 2100, MaxTime: 2200, Matchers: []*labels.Matcher{matchAll()}}}
	for _, deletions := range [][]wire.NumberedDeletion{nil, {gone}} {
		sv, err := sealed.View(deletions)
		require.NoError(t, err)
		check(func(int64, int64) TenantReader { return sv.Tenant(1) },
			func(mint, maxt int64) TenantReader { return sv.TenantIn(1, mint, maxt) })
		sv.Close()
	}
	require.NoError(t, sealed.Close())
}

func TestSealGivesTheChecksumOfWhatItWrote(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 100))
	for i := range int64(20) {
		r.write(everything(i))
	}
	info := r.seal(wire.Seal{Intent: 1})
	src := r.sources(nil)
	defer src.View.Close()
	cfg := Config{Dir: r.dir, Disk: r.disk, Set: testSet}
	file, sum, err := Seal(t.Context(), src, cfg, info.Index)
	require.NoError(t, err)
	require.Equal(t, r.checksum(nil), fmt.Sprintf("%x", sum))
	again, err := WriteCanonical(t.Context(), src, cfg, info.Index)
	require.NoError(t, err)
	require.Equal(t, file, again)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, sum, err = Seal(ctx, src, cfg, info.Index)
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, sum)
}

// BenchmarkSelectRange reads the last 96th of the time of 2,000 series
// x 1,440, from a file without a cache and from memory.
func BenchmarkSelectRange(b *testing.B) {
	const series, rounds = 2000, 1440
	defs := definitionEntries(series)
	entries := scrapeEntries(series, rounds, uint64(2+len(defs)))
	s := benchShard(b, b.TempDir())
	applyAll(b, s, defs)
	applyAll(b, s, entries)
	run := func(b *testing.B) {
		v := viewOf(b, s)
		defer v.Close()
		maxt := v.Tenant(1).Meta().MaxTime
		mint := maxt - (maxt-v.Tenant(1).Meta().MinTime)/96
		for _, c := range []struct {
			name string
			tv   func() TenantReader
		}{{"all time", func() TenantReader { return v.Tenant(1) }}, {"the range", func() TenantReader { return v.TenantIn(1, mint, maxt) }}} {
			b.Run(c.name, func(b *testing.B) {
				n := 0
				for b.Loop() {
					q, err := tsdb.NewBlockQuerier(c.tv(), mint, maxt)
					require.NoError(b, err)
					n += iterateAll(b, q.Select(context.Background(), true, nil, matchAll()))
					require.NoError(b, q.Close())
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*series), "ns/series")
				b.ReportMetric(float64(n)/float64(b.N*series), "samples/series")
			})
		}
	}
	b.Run("memcache", run)
	f, err := s.Freeze()
	require.NoError(b, err)
	_, err = f.Persist(context.Background(), entries[len(entries)-1].Index)
	require.NoError(b, err)
	f.Published()
	b.Run("file", run)
}

// iterateAll counts the samples of series.
func iterateAll(b *testing.B, set storage.SeriesSet) (n int) {
	b.Helper()
	var it chunkenc.Iterator
	for set.Next() {
		for it = set.At().Iterator(it); it.Next() != chunkenc.ValNone; {
			n++
		}
	}
	require.NoError(b, set.Err())
	return n
}
