package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/quorate/quorate/benchmarks"
)

// history asks the same queries of a day of sealed buckets and of a real
// Prometheus over blocks of the same samples.
type history struct {
	Prometheus string        `required:"" placeholder:"FILE" help:"A built Prometheus."`
	Series     int           `default:"100000" help:"Series."`
	Interval   time.Duration `default:"60s" help:"Time between two samples of a series."`
	Hours      int           `default:"24" help:"Sealed buckets, of an hour each."`
	Runs       int           `default:"5" help:"How often each query is asked."`
}

// questions are range queries as dashboards ask them.
var questions = []string{
	`sum by (job) (rate(http_requests_total[5m]))`,
	`histogram_quantile(0.99, sum by (le) (rate(http_request_duration_seconds_bucket[5m])))`,
	`process_resident_memory_bytes{job="checkout", handler="/healthz", method="GET"}`,
	`topk(5, sum by (instance) (rate(cache_hits_total[15m])))`,
	`avg by (zone) (avg_over_time(queue_depth_average[1h]))`,
	`count by (__name__) ({__name__=~"database_.*"})`,
	`max(scheduler_load_ratio)`,
	`rate(rpc_server_handled_total{instance="10.0.1.1:8080", handler="/healthz", method="GET"}[5m])`,
}

func (h *history) run(ctx context.Context, l *lab) error {
	end := time.Now().Truncate(time.Hour).Add(-2 * time.Hour).Truncate(2 * time.Hour)
	start := end.Add(-time.Duration(h.Hours) * time.Hour)
	w, err := benchmarks.NewWorkload(benchmarks.WorkloadConfig{
		Series: h.Series, Rounds: int(time.Duration(h.Hours) * time.Hour / h.Interval), Start: start, Interval: h.Interval, Seed: 1,
	})
	if err != nil {
		return err
	}
	quorate, err := h.fill(ctx, l, w, start)
	if err != nil {
		return err
	}
	blocks := filepath.Join(l.dir, "blocks")
	began := time.Now()
	if err := h.writeBlocks(ctx, w, blocks); err != nil {
		return fmt.Errorf("write TSDB blocks: %w", err)
	}
	size, err := diskUsage(blocks, "")
	if err != nil {
		return err
	}
	l.printf("TSDB: %d samples in blocks of 2 h in %.0f s, %.2f bytes a sample\n", w.Samples(), time.Since(began).Seconds(), float64(size)/float64(w.Samples()))
	prometheus, took, err := l.startPrometheus(ctx, h.Prometheus, blocks)
	if err != nil {
		return err
	}
	l.printf("Prometheus ready after %.1f s\n\n", took.Seconds())
	if err := h.compare(ctx, l, quorate, prometheus, start, end); err != nil {
		return err
	}
	return errors.Join(quorate.stop(), prometheus.stop())
}

// fill writes the workload to a Quorate, seals its buckets and starts it anew.
func (h *history) fill(ctx context.Context, l *lab, w *benchmarks.Workload, start time.Time) (*server, error) {
	settings := []string{"buckets:", "  span: 1h", "  late_window: 1h"}
	s, _, err := l.startQuorate(ctx, settings...)
	if err != nil {
		return nil, err
	}
	report, err := benchmarks.Run(ctx, benchmarks.Config{URLs: []string{s.http + "/api/v1/write"}, Live: true, Server: s.processes(), Timeout: 5 * time.Minute}, w)
	if err != nil {
		return nil, errors.Join(err, s.explain())
	}
	if n := report.Errors(); n > 0 {
		return nil, fmt.Errorf("%d requests failed: %q", n, report.Failures)
	}
	began := time.Now()
	var samples, size int64
	for k := range h.Hours {
		sets, err := s.seal(ctx, start.Add(time.Duration(k)*time.Hour))
		if err != nil {
			return nil, errors.Join(err, s.explain())
		}
		for _, set := range sets {
			samples, size = samples+set.Samples, size+set.Bytes
		}
	}
	if samples != int64(w.Samples()) {
		return nil, fmt.Errorf("the sealed sets hold %d samples, %d were written", samples, w.Samples())
	}
	l.printf("Quorate: %d samples written at %.0f a second, sealed in %d buckets at %.0f a second, %.2f bytes a sample\n",
		samples, report.Steady.SamplesPerSecond, h.Hours, float64(samples)/time.Since(began).Seconds(), float64(size)/float64(samples))
	if err := s.stop(); err != nil {
		return nil, err
	}
	s, took, err := l.startQuorate(ctx, settings...)
	if err != nil {
		return nil, err
	}
	rss, err := s.settledRSS(ctx)
	l.printf("Quorate ready after %.1f s with %.0f MB\n", took.Seconds(), mb(rss))
	return s, err
}

// writeBlocks writes the workload as TSDB blocks of two hours.
func (h *history) writeBlocks(ctx context.Context, w *benchmarks.Workload, dir string) error {
	span := 2 * time.Hour
	perBlock := int(span / h.Interval)
	lsets := make([]labels.Labels, h.Series)
	var builder labels.ScratchBuilder
	var pairs []benchmarks.Label
	for i := range lsets {
		builder.Reset()
		pairs = w.Labels(pairs[:0], i)
		for _, p := range pairs {
			builder.Add(p.Name, p.Value)
		}
		lsets[i] = builder.Labels()
	}
	var block *blockInTheMaking
	err := w.Each(0, h.Series, func(round, series int, t int64, v float64) error {
		if series == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			if round%perBlock == 0 {
				if err := block.flush(ctx); err != nil {
					return err
				}
				var err error
				if block, err = newBlock(ctx, dir, span, h.Series); err != nil {
					return err
				}
			} else if err := block.commit(ctx); err != nil {
				return err
			}
		}
		return block.append(lsets[series], series, t, v)
	})
	return errors.Join(err, block.flush(ctx))
}

// blockInTheMaking is one TSDB block.
type blockInTheMaking struct {
	writer   *tsdb.BlockWriter
	appender storage.Appender
	refs     []storage.SeriesRef
}

func newBlock(ctx context.Context, dir string, span time.Duration, series int) (*blockInTheMaking, error) {
	w, err := tsdb.NewBlockWriter(slog.New(slog.DiscardHandler), dir, span.Milliseconds())
	if err != nil {
		return nil, err
	}
	return &blockInTheMaking{writer: w, appender: w.Appender(ctx), refs: make([]storage.SeriesRef, series)}, nil
}

func (b *blockInTheMaking) append(l labels.Labels, series int, t int64, v float64) (err error) {
	b.refs[series], err = b.appender.Append(b.refs[series], l, t, v)
	return err
}

func (b *blockInTheMaking) commit(ctx context.Context) error {
	err := b.appender.Commit()
	b.appender = b.writer.Appender(ctx)
	return err
}

func (b *blockInTheMaking) flush(ctx context.Context) error {
	if b == nil {
		return nil
	}
	if err := b.appender.Commit(); err != nil {
		return err
	}
	_, err := b.writer.Flush(ctx)
	return errors.Join(err, b.writer.Close())
}

// compare asks both servers and prints the medians.
func (h *history) compare(ctx context.Context, l *lab, quorate, prometheus *server, start, end time.Time) error {
	l.printf("| range query over %d h, step 5m | first, ms: Quorate / Prometheus | median, ms: Quorate / Prometheus | ratio |\n|---|---|---|---|\n", h.Hours)
	differences := 0
	for _, q := range questions {
		var took [2][]float64
		var answers [2][]byte
		for range h.Runs {
			for k, s := range []*server{quorate, prometheus} {
				began := time.Now()
				body, err := rangeQuery(ctx, s, q, start.Add(time.Hour), end)
				if err != nil {
					return err
				}
				took[k] = append(took[k], float64(time.Since(began).Microseconds())/1e3)
				answers[k] = body
			}
		}
		equal, err := equalAnswers(answers[0], answers[1])
		if err != nil {
			return err
		}
		if !equal {
			differences++
			l.printf("| DIFFERENT ANSWERS: `%s` | | | |\n", q)
		}
		first := [2]float64{took[0][0], took[1][0]}
		slices.Sort(took[0])
		slices.Sort(took[1])
		a, b := took[0][len(took[0])/2], took[1][len(took[1])/2]
		l.printf("| `%s` | %.0f / %.0f | %.0f / %.0f | %.2f |\n", q, first[0], first[1], a, b, a/b)
	}
	for _, s := range []*server{quorate, prometheus} {
		peak, err := s.processes().PeakRSS()
		if err != nil {
			return err
		}
		l.printf("\n%s: peak RSS %.0f MB", s.name, mb(peak))
	}
	l.printf("\n")
	if differences > 0 {
		return fmt.Errorf("%d of %d queries were answered differently", differences, len(questions))
	}
	return nil
}

func rangeQuery(ctx context.Context, s *server, expr string, from, to time.Time) ([]byte, error) {
	values := url.Values{"query": {expr}, "start": {strconv.FormatInt(from.Unix(), 10)}, "end": {strconv.FormatInt(to.Unix(), 10)}, "step": {"300"}, "timeout": {"2m"}}
	return s.call(ctx, http.MethodGet, s.http+"/api/v1/query_range?"+values.Encode(), nil)
}

// equalAnswers compares two matrices: the same series and steps, values equal
// up to the last bits, in which sums differ by the order of their addends.
func equalAnswers(a, b []byte) (bool, error) {
	if bytes.Equal(a, b) {
		return true, nil
	}
	x, err := matrix(a)
	if err != nil {
		return false, err
	}
	y, err := matrix(b)
	if err != nil || len(x) != len(y) {
		return false, err
	}
	for key, v := range x {
		w, ok := y[key]
		if !ok || math.Abs(v-w) > 1e-9*max(math.Abs(v), math.Abs(w)) {
			return false, nil
		}
	}
	return true, nil
}

// matrix maps series and timestamp to the value.
func matrix(body []byte) (map[string]float64, error) {
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string `json:"metric"`
				Values [][2]any          `json:"values"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	all := make(map[string]float64)
	for _, series := range answer.Data.Result {
		name := labels.FromMap(series.Metric).String()
		for _, point := range series.Values {
			text, _ := point[1].(string)
			v, err := strconv.ParseFloat(text, 64)
			if err != nil {
				return nil, err
			}
			all[fmt.Sprint(name, point[0])] = v
		}
	}
	return all, nil
}
