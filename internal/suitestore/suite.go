package suitestore

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	upstream "github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
)

// RunSuite runs the whole upstream PromQL suite on the storages that open
// gives, with the engine that upstream runs it with: every experimental feature
// on, as the suite uses them. It logs how many cases there were, which is also
// what it returns; a case that fails is a failed subtest.
func RunSuite(t *testing.T, open func(testing.TB) storage.Storage) (cases int) {
	t.Helper()
	exprs, err := promqltest.GetBuiltInExprs()
	if err != nil {
		t.Fatal(err)
	}
	engine := &countingEngine{QueryEngine: promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery)}
	var storages atomic.Int64
	promqltest.RunBuiltinTestsWithStorage(t, engine, func(tb testing.TB) storage.Storage {
		storages.Add(1)
		return open(tb)
	})
	if queries := engine.queries.Load(); queries < int64(len(exprs)) {
		t.Errorf("the suite has %d cases, but only %d queries were run", len(exprs), queries)
	}
	if !t.Failed() {
		t.Logf("PromQL suite: %d of %d cases pass, %d queries, %d storages", len(exprs), len(exprs), engine.queries.Load(), storages.Load())
	}
	return len(exprs)
}

// countingEngine counts the queries that the suite runs: one or more a case,
// since it evaluates the same case at @-modified times and as a range too.
type countingEngine struct {
	upstream.QueryEngine
	queries atomic.Int64
}

func (e *countingEngine) NewInstantQuery(ctx context.Context, q storage.Queryable, opts upstream.QueryOpts, qs string, ts time.Time) (upstream.Query, error) {
	e.queries.Add(1)
	return e.QueryEngine.NewInstantQuery(ctx, q, opts, qs, ts)
}

func (e *countingEngine) NewRangeQuery(ctx context.Context, q storage.Queryable, opts upstream.QueryOpts, qs string, start, end time.Time, interval time.Duration) (upstream.Query, error) {
	e.queries.Add(1)
	return e.QueryEngine.NewRangeQuery(ctx, q, opts, qs, start, end, interval)
}
