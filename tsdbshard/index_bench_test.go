package tsdbshard

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/stretchr/testify/require"
)

// BenchmarkIndex reads the inverted index of 100k series, of which each has a
// value of its own for one label.
func BenchmarkIndex(b *testing.B) {
	s := benchShard(b, b.TempDir())
	applyAll(b, s, definitionEntries(benchSeries))
	v := viewOf(b, s)
	defer v.Close()
	ix := &indexReader{tv: v.tenant(1)}
	ctx := context.Background()
	m := labels.MustNewMatcher
	count := func(b *testing.B, p index.Postings) (n int) {
		b.Helper()
		for p.Next() {
			n++
		}
		require.NoError(b, p.Err())
		return n
	}
	selecting := func(want int, ms ...*labels.Matcher) func(b *testing.B) int {
		return func(b *testing.B) int {
			p, err := tsdb.PostingsForMatchers(ctx, ix, ms...)
			require.NoError(b, err)
			n := count(b, p)
			require.Equal(b, want, n)
			return n
		}
	}
	for _, bc := range []struct {
		name string
		run  func(b *testing.B) int
	}{
		{"select one of many by two labels", selecting(1, m(labels.MatchEqual, "cluster", "eu-central-1-production"), m(labels.MatchEqual, "pod", "server-17-7d9c6b5f4-050017"))},
		{"select a tenth by two labels", selecting(3334, m(labels.MatchEqual, "job", "kubernetes-pods-3"), m(labels.MatchEqual, "method", "GET"))},
		{"select a tenth by a regexp over all pods", selecting(benchSeries/10, m(labels.MatchRegexp, "pod", ".+7"))},
		{"select all but a tenth", selecting(benchSeries/10*9, m(labels.MatchNotEqual, "job", "kubernetes-pods-3"), m(labels.MatchEqual, "endpoint", "metrics"))},
		{"values of pod", func(b *testing.B) int {
			values, err := ix.LabelValues(ctx, "pod", nil)
			require.NoError(b, err)
			return len(values)
		}},
		{"values of pod for a tenth", func(b *testing.B) int {
			values, err := ix.LabelValues(ctx, "pod", nil, m(labels.MatchEqual, "job", "kubernetes-pods-3"))
			require.NoError(b, err)
			require.Len(b, values, benchSeries/10)
			return len(values)
		}},
		{"values of job for a method", func(b *testing.B) int {
			values, err := ix.LabelValues(ctx, "job", nil, m(labels.MatchEqual, "method", "GET"))
			require.NoError(b, err)
			require.Len(b, values, 10)
			return benchSeries / 3
		}},
		{"sort all", func(b *testing.B) int {
			p, err := ix.Postings(ctx, "endpoint", "metrics")
			require.NoError(b, err)
			refs := ix.SortedPostings(p).(*sortedList).refs
			require.Len(b, refs, benchSeries)
			return len(refs)
		}},
		{"labels of a thousandth", func(b *testing.B) int {
			var builder labels.ScratchBuilder
			for i := 0; i < benchSeries; i += 1000 {
				require.NoError(b, ix.Series(positionOf(uint32(i)), &builder, nil))
				_ = builder.Labels()
			}
			return benchSeries / 1000
		}},
	} {
		b.Run(bc.name, func(b *testing.B) {
			n, best := 0, time.Duration(1<<62)
			for b.Loop() {
				t0 := time.Now()
				n = bc.run(b)
				best = min(best, time.Since(t0))
			}
			b.ReportMetric(float64(best.Nanoseconds())/float64(n), "best-ns/series")
		})
	}
}
