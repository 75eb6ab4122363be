package tsdbshard

import (
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/prometheus/tsdb"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// DeleteResult is what Apply answers for one delete command (wire.Deletion).
type DeleteResult struct {
	// Sealed tells that the set is sealed: nothing was deleted.
	Sealed bool
	// Series is how many series the matchers selected, samples or not.
	Series int
}

// applyDeletes applies a delete entry. What its matchers select is found
// before the lock is taken: readers would wait for regular expressions.
func (s *Shard) applyDeletes(index uint64, commands [][]byte) ([]any, error) {
	deletions := make([]wire.Deletion, len(commands))
	for k, c := range commands {
		var err error
		if deletions[k], err = wire.DecodeDeletion(c); err != nil {
			return nil, fmt.Errorf("command %d: %w", k, err)
		}
	}
	results := make([]any, len(commands))
	var added tombstoneList
	for k := range deletions {
		result := &DeleteResult{Sealed: s.st.bounds.State == quorate.SetSealed}
		results[k] = result
		if result.Sealed {
			continue
		}
		d := &deletions[k]
		series, err := s.selectSeries(d)
		if err != nil {
			return nil, fmt.Errorf("command %d: %w", k, err)
		}
		if result.Series = series.count(); result.Series > 0 {
			added = append(added, &tombstone{index: index, mint: d.MinTime, maxt: d.MaxTime, series: series})
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.st
	for _, t := range added {
		st.bury(t)
	}
	st.advance(index)
	s.setTombstones(st.tombstones)
	s.metrics.deletes.Add(float64(len(added)))
	return results, nil
}

// bury adds a tombstone. The samples that the live memcache has of its series
// were all applied before it; they move to the frozen ones, so that everything
// it deletes lies in pieces whose interval ends before it, and what comes later
// in others. The newest samples of its series are forgotten (PROTOCOL 18): a
// sample that is written again must not be taken for a duplicate.
func (st *state) bury(t *tombstone) {
	if t.series.any(st.live.hasAny) {
		st.freezeLive()
	}
	st.tombstones = append(slices.Clip(st.tombstones), t)
	st.table.forget(t.series)
}

// any tells whether one of the refs of the set does.
func (r refRuns) any(does func(ref uint32) bool) bool {
	for _, run := range r {
		for ref := run.first; ref < run.end; ref++ {
			if does(ref) {
				return true
			}
		}
	}
	return false
}

// forget clears the newest samples of series.
func (t *table) forget(series refRuns) {
	for _, run := range series {
		for ref := run.first; ref < run.end; ref++ {
			t.setNewest(ref, &newestSample{})
		}
	}
}

// selectSeries returns the series that a deletion's matchers select. Only the
// apply goroutine calls it, so the table does not change meanwhile.
func (s *Shard) selectSeries(d *wire.Deletion) (refRuns, error) {
	v := &View{shard: s, st: s.st, catalog: s.st.table.catalog()}
	r := &indexReader{tv: v.tenant(d.Tenant)}
	selected, err := tsdb.PostingsForMatchers(uncanceled{}, r, slices.Clone(d.Matchers)...)
	if err != nil {
		return nil, err
	}
	var series refRuns
	for selected.Next() {
		ref, err := r.ref(selected.At())
		if err != nil {
			return nil, err
		}
		series = series.add(ref)
	}
	return series, selected.Err()
}

// uncanceled is the context of what Apply does: it is not for anyone to cancel.
type uncanceled struct{}

func (uncanceled) Deadline() (deadline time.Time, ok bool) { return time.Time{}, false }
func (uncanceled) Done() <-chan struct{}                   { return nil }
func (uncanceled) Err() error                              { return nil }
func (uncanceled) Value(any) any                           { return nil }
