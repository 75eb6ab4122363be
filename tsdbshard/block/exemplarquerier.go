package block

import (
	"fmt"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/quorate/quorate/internal/wire"
)

// exemplarQuerier reads one tenant's exemplars.
type exemplarQuerier struct{ t *CanonicalTenant }

// ExemplarQuerier returns a reader of the tenant's exemplars.
func (t *CanonicalTenant) ExemplarQuerier() storage.ExemplarQuerier { return exemplarQuerier{t: t} }

// Select returns the exemplars within [start, end], in milliseconds, of the
// series that match all matchers of at least one of the sets, ordered by the
// series' labels and within each by time.
func (q exemplarQuerier) Select(start, end int64, matchers ...[]*labels.Matcher) ([]exemplar.QueryResult, error) {
	results := []exemplar.QueryResult{}
	if q.t.entry.series == 0 {
		return results, nil
	}
	index, err := q.t.Index()
	if err != nil {
		return nil, err
	}
	var (
		builder labels.ScratchBuilder
		list    []Exemplar
	)
	err = q.t.f.eachBlob(q.t.cache, pageExemplars, q.t.entry.firstSeries, q.t.lastSeries(), func(page int, number uint32, row []byte) error {
		if list, err = readExemplars(list[:0], row); err != nil {
			return q.t.f.at(pageExemplars, page, fmt.Errorf("series %d: %w", number, err))
		}
		list = slices.DeleteFunc(list, func(e Exemplar) bool { return e.T < start || e.T > end })
		if len(list) == 0 {
			return nil
		}
		if err := index.Series(refOf(number-q.t.entry.firstSeries), &builder, nil); err != nil {
			return err
		}
		lset := builder.Labels()
		if !matchesAnySet(lset, matchers) {
			return nil
		}
		result := exemplar.QueryResult{SeriesLabels: lset}
		for _, e := range list {
			result.Exemplars = append(result.Exemplars, exemplar.Exemplar{
				Labels: labelsOf(e.Labels), Value: math.Float64frombits(e.Bits), Ts: e.T, HasTs: true,
			})
		}
		results = append(results, result)
		return nil
	})
	return results, err
}

// matchesAnySet tells whether labels match all matchers of one of the sets.
func matchesAnySet(lset labels.Labels, sets [][]*labels.Matcher) bool {
	return slices.ContainsFunc(sets, func(set []*labels.Matcher) bool {
		return !slices.ContainsFunc(set, func(m *labels.Matcher) bool { return !m.Matches(lset.Get(m.Name)) })
	})
}

// labelsOf decodes canonical labels.
func labelsOf(canonical []byte) labels.Labels {
	var b labels.ScratchBuilder
	for it := wire.IterLabels(canonical); it.Next(); {
		b.Add(string(it.Name()), string(it.Value()))
	}
	return b.Labels()
}
