package e2e

import (
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
)

const (
	// blocksSpan is how much time the generated blocks cover, in steps of a
	// minute, and blocksAge how long ago they end.
	blocksSpan  = 30 * time.Hour
	blocksAge   = 3 * time.Hour
	blocksSteps = int(blocksSpan / time.Minute)
)

// makeBlocks makes TSDB blocks that end some hours ago: by promtool from
// OpenMetrics text, and by Prometheus' own library with what text cannot say.
func makeBlocks(t *testing.T, promtool string) (dir string, w window) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "blocks")
	w.end = time.Now().Add(-blocksAge).Truncate(time.Minute)
	w.start = w.end.Add(-blocksSpan)
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, openMetrics(w.start), 0o600); err != nil {
		t.Fatal(err)
	}
	mustRun(t, filepath.Dir(dir), promtool, "tsdb", "create-blocks-from", "openmetrics", "--quiet", text, dir)
	libraryBlock(t, dir, w.start)
	return dir, w
}

// openMetrics are counters that start anew, gauges and classic histograms.
func openMetrics(start time.Time) []byte {
	random := rand.New(rand.NewPCG(3, 4))
	var b strings.Builder
	each := func(write func(at int64, step int)) {
		for step := range blocksSteps {
			write(start.Add(time.Duration(step)*time.Minute).Unix(), step)
		}
	}
	b.WriteString("# TYPE mill_sacks counter\n# HELP mill_sacks Sacks filled.\n")
	for _, grain := range []string{"rye", "oats", "wheat", "größe"} {
		for _, floor := range []string{"1", "2", "3"} {
			v := 0.0
			each(func(at int64, step int) {
				v += float64(random.IntN(9))
				if step%700 == 699 {
					v = 0
				}
				fmt.Fprintf(&b, "mill_sacks_total{grain=%q,floor=%q} %v %d\n", grain, floor, v, at)
			})
		}
	}
	b.WriteString("# TYPE mill_wind_speed gauge\n")
	for _, mast := range []string{"north", "south"} {
		each(func(at int64, step int) {
			if step%97 < 90 { // gaps longer than the lookback
				fmt.Fprintf(&b, "mill_wind_speed{mast=%q} %v %d\n", mast, 10+8*math.Sin(float64(step)/50)+random.Float64(), at)
			}
		})
	}
	b.WriteString("# TYPE mill_grind_seconds histogram\n")
	for _, grain := range []string{"rye", "oats"} {
		counts, sum := [4]int{}, 0.0
		each(func(at int64, _ int) {
			for range 3 {
				seconds := random.ExpFloat64()
				sum += seconds
				for i, le := range []float64{0.3, 1, 3, math.Inf(1)} {
					if seconds <= le {
						counts[i]++
					}
				}
			}
			for i, le := range []string{"0.3", "1.0", "3.0", "+Inf"} {
				fmt.Fprintf(&b, "mill_grind_seconds_bucket{grain=%q,le=%q} %d %d\n", grain, le, counts[i], at)
			}
			fmt.Fprintf(&b, "mill_grind_seconds_count{grain=%q} %d %d\nmill_grind_seconds_sum{grain=%q} %v %d\n", grain, counts[3], at, grain, sum, at)
		})
	}
	b.WriteString("# EOF\n")
	return []byte(b.String())
}

// libraryBlock writes one block with native histograms of every kind,
// staleness markers, and floats at the end of the scale.
func libraryBlock(t *testing.T, dir string, start time.Time) {
	t.Helper()
	w, err := tsdb.NewBlockWriter(slog.New(slog.DiscardHandler), dir, 2*blocksSpan.Milliseconds())
	if err != nil {
		t.Fatal(err)
	}
	stale := math.Float64frombits(value.StaleNaN)
	extremes := []float64{math.Inf(1), math.Inf(-1), math.NaN(), math.Float64frombits(0x7ff8dead0000beef), math.Copysign(0, -1), math.SmallestNonzeroFloat64, math.MaxFloat64, 1.0 / 3}
	app := w.Appender(t.Context())
	check := func(_ storage.SeriesRef, err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for step := range blocksSteps {
		at := start.Add(time.Duration(step) * time.Minute).UnixMilli()
		count := step % 900 // starts anew
		gone := step%300 == 200
		for _, stone := range []string{"a", "b", "c"} {
			lset := labels.FromStrings(labels.MetricName, "mill_flour_grams", "stone", stone)
			switch {
			case step%300 > 200 && step%300 < 220: // away
			case stone == "a" && gone:
				check(app.AppendHistogram(0, lset, at, &histogram.Histogram{Sum: stale}, nil))
			case stone == "a":
				check(app.AppendHistogram(0, lset, at, exponential(count), nil))
			case stone == "b" && gone:
				check(app.AppendHistogram(0, lset, at, nil, &histogram.FloatHistogram{Sum: stale}))
			case stone == "b":
				check(app.AppendHistogram(0, lset, at, nil, exponential(count).ToFloat(nil)))
			default:
				check(app.AppendHistogram(0, lset, at, custom(count), nil))
			}
		}
		gauge := exponential((step * 7) % 31)
		gauge.CounterResetHint = histogram.GaugeType
		check(app.AppendHistogram(0, labels.FromStrings(labels.MetricName, "mill_queue"), at, gauge, nil))
		v := extremes[step%len(extremes)]
		if gone {
			v = stale
		}
		if step%300 <= 200 || step%300 > 240 {
			check(app.Append(0, labels.FromStrings(labels.MetricName, "mill_extreme", "kind", "odd"), at, v))
		}
		if step%500 == 499 {
			if err := app.Commit(); err != nil {
				t.Fatal(err)
			}
			app = w.Appender(t.Context())
		}
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func exponential(n int) *histogram.Histogram {
	return &histogram.Histogram{
		Schema: 2, ZeroThreshold: 1e-128, ZeroCount: uint64(n), Count: uint64(4*n + 9), Sum: 1.5 * float64(n),
		PositiveSpans: []histogram.Span{{Offset: -1, Length: 2}, {Offset: 3, Length: 1}}, PositiveBuckets: []int64{int64(n + 2), 1, -1},
		NegativeSpans: []histogram.Span{{Offset: 0, Length: 1}}, NegativeBuckets: []int64{2},
	}
}

func custom(n int) *histogram.Histogram {
	return &histogram.Histogram{
		Schema: histogram.CustomBucketsSchema, Count: uint64(3*n + 6), Sum: float64(n), CustomValues: []float64{0.5, 2},
		PositiveSpans: []histogram.Span{{Length: 3}}, PositiveBuckets: []int64{int64(n + 1), 1, 1},
	}
}

// serveBlocks starts a real Prometheus on a copy of blocks, since it may
// compact them.
func serveBlocks(t *testing.T, binary, blocks string) *realPrometheus {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "data"), os.DirFS(blocks)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &realPrometheus{address: freeAddress(t)}
	p.process = startProcess(t, "prometheus", dir, binary,
		"--config.file=prometheus.yml", "--storage.tsdb.path=data", "--storage.tsdb.retention.time=10y", "--web.listen-address="+p.address)
	p.waitReady(t, p.url("/-/ready"))
	return p
}

// fileStates are the names, sizes and times of the files below a directory.
func fileStates(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			all = append(all, fmt.Sprint(path, info.Size(), info.ModTime()))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// blockQuestions are what is asked about the generated blocks.
func blockQuestions(w window) []question {
	var all []question
	for _, promql := range []string{
		`mill_sacks_total`,
		`mill_sacks_total{grain=~"r.*|größe",floor!="2"}`,
		`{__name__=~"mill_.+"}`,
		`rate(mill_sacks_total[5m])`,
		`irate(mill_sacks_total[5m])`,
		`increase(mill_sacks_total[2h])`,
		`resets(mill_sacks_total[26h])`,
		`changes(mill_sacks_total[1h])`,
		`sum by (grain) (rate(mill_sacks_total[10m]))`,
		`count by (floor) (mill_sacks_total)`,
		`count({__name__=~".+"})`,
		`count_over_time(mill_sacks_total[25h])`,
		`avg_over_time(mill_wind_speed[30m])`,
		`stddev_over_time(mill_wind_speed[3h])`,
		`quantile_over_time(0.9, mill_wind_speed[6h])`,
		`last_over_time(mill_wind_speed[20m])`,
		`mill_wind_speed offset 7m`,
		`max_over_time(rate(mill_sacks_total[5m])[1h:7m])`,
		`predict_linear(mill_wind_speed[1h], 600)`,
		`absent(mill_wind_speed{mast="west"})`,
		`topk(3, sum by (grain) (mill_sacks_total))`,
		`mill_sacks_total{grain="rye"} / on (floor) mill_sacks_total{grain="oats"}`,
		`timestamp(mill_wind_speed)`,
		`histogram_quantile(0.9, sum by (le) (rate(mill_grind_seconds_bucket[30m])))`,
		`histogram_quantile(0.5, rate(mill_grind_seconds_bucket[1h]))`,
		`rate(mill_grind_seconds_sum[1h]) / rate(mill_grind_seconds_count[1h])`,
		`mill_extreme`,
		`present_over_time(mill_extreme[1h])`,
		`count_over_time(mill_extreme[5h])`,
		`mill_flour_grams`,
		`rate(mill_flour_grams[10m])`,
		`increase(mill_flour_grams[3h])`,
		`resets(mill_flour_grams[20h])`,
		`histogram_quantile(0.9, rate(mill_flour_grams[30m]))`,
		`histogram_count(mill_flour_grams)`,
		`histogram_sum(increase(mill_flour_grams[1h]))`,
		`histogram_avg(mill_flour_grams)`,
		`histogram_fraction(0, 1, mill_flour_grams{stone=~"a|b"})`,
		`sum(rate(mill_flour_grams{stone=~"a|b"}[1h]))`,
		`avg_over_time(mill_queue[1h])`,
		`mill_queue`,
		`sum_over_time(mill_queue[2h])`,
	} {
		for _, part := range []float64{0.4, 0.663, 0.97} {
			all = append(all, question{path: "/api/v1/query", params: params("query", promql, "time", w.at(part)), mayBeEmpty: true})
		}
		for _, step := range []string{"300", "1777"} {
			all = append(all, question{path: "/api/v1/query_range", params: params("query", promql, "start", w.at(0.1), "end", w.at(1), "step", step), ordered: true})
		}
	}
	whole := func(pairs ...string) question {
		return question{params: params(append(pairs, "start", seconds(w.start.Add(-time.Hour)), "end", seconds(w.end.Add(time.Hour)))...)}
	}
	at := func(path string, q question) question {
		q.path = path
		return q
	}
	length := fmt.Sprintf("%ds", int((blocksSpan + time.Hour).Seconds()))
	return append(all,
		// Every sample there is.
		question{path: "/api/v1/query", params: params("query", `{__name__=~".+"}[`+length+`]`, "time", seconds(w.end.Add(time.Minute)))},
		at("/api/v1/series", whole("match[]", `{__name__=~".+"}`)),
		at("/api/v1/series", whole("match[]", `mill_sacks_total{floor="1"}`, "match[]", `mill_queue`)),
		at("/api/v1/labels", whole()),
		at("/api/v1/labels", whole("match[]", `mill_extreme`)),
		at("/api/v1/label/__name__/values", whole()),
		at("/api/v1/label/grain/values", whole()),
		at("/api/v1/label/stone/values", whole("match[]", `mill_flour_grams`)),
	)
}
