package promql

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	upstream "github.com/prometheus/prometheus/promql"
)

// turns bounds how many queries are evaluated at once. It stands where
// Prometheus puts its log of active queries, whose one other duty, to name
// after a crash the queries that were running, needs a file that is locked,
// mapped and written by every query.
type turns struct {
	taken   chan struct{}
	waiting prometheus.Gauge
}

var _ upstream.QueryTracker = (*turns)(nil)

func newTurns(concurrency int, waiting prometheus.Gauge) *turns {
	return &turns{taken: make(chan struct{}, concurrency), waiting: waiting}
}

// GetMaxConcurrent returns how many queries may run at once.
func (t *turns) GetMaxConcurrent() int { return cap(t.taken) }

// Insert waits for a turn. Its error says that the query was cancelled or timed
// out while it waited.
func (t *turns) Insert(ctx context.Context, _ string) (int, error) {
	select {
	case t.taken <- struct{}{}:
		return 0, nil
	default:
	}
	t.waiting.Inc()
	defer t.waiting.Dec()
	select {
	case t.taken <- struct{}{}:
		return 0, nil
	case <-ctx.Done():
	}
	const where = "the queue of queries"
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return 0, upstream.ErrQueryTimeout(where)
	}
	return 0, upstream.ErrQueryCanceled(where)
}

// Delete ends a turn that Insert gave.
func (t *turns) Delete(int) { <-t.taken }

// Close has nothing to release: queries end with their requests.
func (t *turns) Close() error { return nil }
