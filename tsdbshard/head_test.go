package tsdbshard

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"
)

// headRig writes the same samples into a shard and into Prometheus' own head.
type headRig struct {
	*rig
	head *tsdb.Head
}

func newHeadRig(t *testing.T) *headRig {
	t.Helper()
	opts := tsdb.DefaultHeadOptions()
	opts.ChunkDirRoot = t.TempDir()
	opts.ChunkRange = 24 * time.Hour.Milliseconds()
	opts.EnableSTStorage.Store(true)
	opts.FloatChunkEncoding.Store(uint32(chunkenc.EncXOR2))
	opts.EnableHistogramSTEncoding.Store(true)
	head, err := tsdb.NewHead(nil, nil, nil, nil, opts, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, head.Close()) })
	require.NoError(t, head.Init(math.MinInt64))
	return &headRig{rig: newRig(t, t.TempDir(), openRange(0, math.MaxInt64)), head: head}
}

// append appends one sample for each series to both.
func (r *headRig) append(ts int64, samples map[string]sample) {
	app := r.head.AppenderV2(context.Background())
	b := batchOf(1, 1)
	for name, s := range samples {
		lset := canonical("__name__", name, "job", "test", "kind", name)
		if s.H != nil || s.FH != nil {
			b.histogram(lset, ts, s.ST, s.H, s.FH)
		} else {
			b.floatWithStart(lset, ts, s.ST, s.V)
		}
		var h *histogram.Histogram
		var fh *histogram.FloatHistogram
		if s.H != nil {
			h = s.H.Copy() // the head may change it
		}
		if s.FH != nil {
			fh = s.FH.Copy()
		}
		_, err := app.Append(0, labelsOf(lset), s.ST, ts, s.V, h, fh, storage.AOptions{})
		require.NoError(r.t, err)
	}
	require.NoError(r.t, app.Commit())
	res := r.write(&b.Batch)[0]
	require.Zero(r.t, res.Refused)
}

// histories are series of every kind over 300 scrapes: growing and resetting
// histograms with changing buckets, gauges, custom buckets, stale markers,
// floats that turn into histograms and back.
func histories(rounds int) []map[string]sample {
	rng := rand.New(rand.NewPCG(5, 6))
	all := make([]map[string]sample, rounds)
	counter := 0.0
	grow := 0
	stale := math.Float64frombits(value.StaleNaN)
	for i := range all {
		counter += float64(rng.IntN(100))
		if i%37 == 36 {
			counter, grow = 1, 0
		}
		grow++
		h := tsdbutil.GenerateTestHistogram(int64(grow))
		if grow > 20 { // new buckets
			h.PositiveSpans = append(h.PositiveSpans, histogram.Span{Offset: 2, Length: 1})
			h.PositiveBuckets = append(h.PositiveBuckets, int64(grow))
			last := int64(0)
			h.Count = h.ZeroCount
			for _, side := range [][]int64{h.PositiveBuckets, h.NegativeBuckets} {
				last = 0
				for _, d := range side {
					last += d
					h.Count += uint64(last)
				}
			}
		}
		gauge := tsdbutil.GenerateTestGaugeHistogram(rng.Int64N(50))
		custom := tsdbutil.GenerateTestCustomBucketsHistogram(int64(grow))
		round := map[string]sample{
			"counter":         {V: counter},
			"with_start":      {V: counter, ST: int64(i/40*40) * 1000},
			"gauge":           {V: rng.NormFloat64()},
			"hist":            {H: h},
			"hist_start":      {H: h, ST: int64(i / 37 * 1000)},
			"float_hist":      {FH: h.ToFloat(nil)},
			"gauge_hist":      {H: gauge},
			"gauge_float":     {FH: gauge.ToFloat(nil)},
			"custom":          {H: custom},
			"custom_float":    {FH: custom.ToFloat(nil)},
			"flapping":        {V: 1},
			"stale_hist":      {H: h},
			"sometimes_reset": {H: h},
		}
		if i%5 >= 3 {
			round["flapping"] = sample{H: h}
		}
		if i%11 == 10 {
			round["gauge"] = sample{V: stale}
			round["stale_hist"] = sample{H: &histogram.Histogram{Sum: stale}}
		}
		if i%50 == 25 {
			reset := h.Copy()
			reset.CounterResetHint = histogram.CounterReset
			round["sometimes_reset"] = sample{H: reset}
		}
		if i%13 == 12 {
			delete(round, "counter")
		}
		all[i] = round
	}
	return all
}

// TestSamplesEqualPrometheusHead reads everything from both, to the bit.
func TestSamplesEqualPrometheusHead(t *testing.T) {
	for says, flushEvery := range map[string]int{"from memory": 1 << 30, "with flushes": 70} {
		t.Run(says, func(t *testing.T) {
			r := newHeadRig(t)
			for i, round := range histories(300) {
				r.append(int64(i)*15_000, round)
				if i%flushEvery == flushEvery-1 {
					r.flush()
				}
			}
			headQuerier, err := tsdb.NewBlockQuerier(r.head, math.MinInt64, math.MaxInt64)
			require.NoError(t, err)
			defer headQuerier.Close()
			want := collect(t, headQuerier.Select(t.Context(), true, nil, matchAll()))
			got := r.query(math.MinInt64, math.MaxInt64)
			require.Len(t, got, len(want))
			for name, samples := range want {
				require.Len(t, got[name], len(samples), name)
				for i := range samples {
					require.Equal(t, samples[i].T, got[name][i].T)
					require.Equal(t, describe(samples[i]), describe(got[name][i]), "%s at %d", name, samples[i].T)
				}
			}
			v := r.view()
			defer v.Close()
			chunkQuerier, err := tsdb.NewBlockChunkQuerier(v.Tenant(1), math.MinInt64, math.MaxInt64)
			require.NoError(t, err)
			defer chunkQuerier.Close()
			checkChunks(t, chunkQuerier.Select(t.Context(), true, nil, matchAll()), want)
		})
	}
}

// checkChunks checks that chunks hold the samples and are of the encodings
// that every Prometheus knows, unless start timestamps are to be kept.
func checkChunks(t *testing.T, set storage.ChunkSeriesSet, want map[string][]sample) {
	t.Helper()
	for set.Next() {
		name := set.At().Labels().String()
		var got []sample
		var it chunks.Iterator
		for it = set.At().Iterator(it); it.Next(); {
			meta := it.At()
			samples := readAll(t, meta.Chunk.Iterator(nil))
			require.Equal(t, meta.MinTime, samples[0].T)
			require.Equal(t, meta.MaxTime, samples[len(samples)-1].T)
			switch meta.Chunk.Encoding() {
			case chunkenc.EncXOR, chunkenc.EncHistogram, chunkenc.EncFloatHistogram:
			default:
				require.Contains(t, name, "start", "encoding %v", meta.Chunk.Encoding())
			}
			got = append(got, samples...)
		}
		require.NoError(t, it.Err())
		require.Len(t, got, len(want[name]))
		for i := range got {
			require.Equal(t, describe(want[name][i]), describe(got[i]), "%s at %d", name, got[i].T)
		}
	}
	require.NoError(t, set.Err())
}

// TestQueriesEqualPrometheusHead compares answers of the PromQL engine, which
// see counter resets and their hints.
func TestQueriesEqualPrometheusHead(t *testing.T) {
	r := newHeadRig(t)
	rounds := histories(300)
	for i, round := range rounds {
		r.append(int64(i)*15_000, round)
		if i == 140 {
			r.flush()
		}
	}
	v := r.view()
	defer v.Close()
	engine := promqltest.NewTestEngine(t, false, 0, 5_000_000)
	run := func(t *testing.T, b tsdb.BlockReader, query string) string {
		t.Helper()
		queryable := storage.QueryableFunc(func(mint, maxt int64) (storage.Querier, error) {
			return tsdb.NewBlockQuerier(b, mint, maxt)
		})
		end := time.UnixMilli(int64(len(rounds)) * 15_000)
		q, err := engine.NewRangeQuery(t.Context(), queryable, promql.NewPrometheusQueryOpts(false, 0), query, time.UnixMilli(0), end, 47*time.Second)
		require.NoError(t, err)
		defer q.Close()
		res := q.Exec(t.Context())
		require.NoError(t, res.Err)
		return fmt.Sprintf("%v\n%v", res.Value, res.Warnings)
	}
	for _, query := range []string{
		`{job="test"}`, `rate({__name__=~"counter|with_start"}[1m])`, `increase({__name__=~".*hist.*|custom.*"}[2m])`,
		`rate({__name__=~"hist|float_hist|custom|sometimes_reset"}[90s])`, `histogram_quantile(0.9, {__name__=~".*hist|custom"})`,
		`sum(rate({__name__=~"hist|hist_start"}[2m]))`, `delta(gauge_hist[2m])`, `avg_over_time({__name__=~"gauge.*"}[1m])`,
		`resets({job="test"}[5m])`, `changes({job="test"}[5m])`, `histogram_count({job="test"})`, `histogram_sum(stale_hist)`,
		`count_over_time({job="test"}[3m])`, `flapping`, `sum({__name__=~"custom.*"})`, `last_over_time({job="test"}[1m])`,
	} {
		t.Run(query, func(t *testing.T) {
			want := run(t, r.head, query)
			require.Equal(t, want, run(t, v.Tenant(1), query))
			require.NotEqual(t, "\n", want, "the query must have an answer to compare")
		})
	}
}

// TestExportMakesATSDBBlock writes a tenant as a block and reads it with tsdb.
func TestExportMakesATSDBBlock(t *testing.T) {
	r := newHeadRig(t)
	for i, round := range histories(100) {
		r.append(int64(i)*15_000, round)
		if i == 50 {
			r.flush()
		}
	}
	v := r.view()
	defer v.Close()
	tv := v.Tenant(1)
	compactor, err := tsdb.NewLeveledCompactor(t.Context(), nil, nil, []int64{24 * time.Hour.Milliseconds()}, nil, nil)
	require.NoError(t, err)
	dir := t.TempDir()
	ids, err := compactor.Write(dir, tv, tv.Meta().MinTime, tv.Meta().MaxTime, nil)
	require.NoError(t, err)
	require.Len(t, ids, 1)
	block, err := tsdb.OpenBlock(nil, dir+"/"+ids[0].String(), nil, nil)
	require.NoError(t, err)
	defer block.Close()
	q, err := tsdb.NewBlockQuerier(block, math.MinInt64, math.MaxInt64)
	require.NoError(t, err)
	defer q.Close()
	got := collect(t, q.Select(t.Context(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+")))
	want := r.query(math.MinInt64, math.MaxInt64)
	require.Len(t, got, len(want))
	for name := range want {
		require.Len(t, got[name], len(want[name]))
		for i := range got[name] {
			require.Equal(t, describe(want[name][i]), describe(got[name][i]))
		}
	}
}
