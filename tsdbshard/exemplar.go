package tsdbshard

import (
	"bytes"
	"cmp"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/quorate/quorate/internal/wire"
)

// exemplarRow is one exemplar of a series.
type exemplarRow struct {
	t      int64
	bits   uint64 // of the value
	labels []byte // canonical, may be empty
}

// compareExemplars is a total order, so that "the newest" are the same ones on
// every replica; exemplars that are equal by it are one.
func compareExemplars(a, b exemplarRow) int {
	return cmp.Or(cmp.Compare(a.t, b.t), cmp.Compare(a.bits, b.bits), bytes.Compare(a.labels, b.labels))
}

// insertExemplar inserts an exemplar at its place and keeps the newest
// MaxExemplars. What list refers to is not changed when shared.
func insertExemplar(list []exemplarRow, at int, e exemplarRow, shared bool) []exemplarRow {
	if at == len(list) {
		list = append(list, e) // past what a view can see
	} else {
		if shared {
			list = slices.Clone(list)
		}
		list = slices.Insert(list, at, e)
	}
	return list[max(0, len(list)-MaxExemplars):]
}

// mergeExemplars merges lists into the newest MaxExemplars of their union.
func mergeExemplars(dst []exemplarRow) []exemplarRow {
	slices.SortFunc(dst, compareExemplars)
	dst = slices.CompactFunc(dst, func(a, b exemplarRow) bool { return compareExemplars(a, b) == 0 })
	return dst[max(0, len(dst)-MaxExemplars):]
}

// exemplarQuerier reads one tenant's exemplars.
type exemplarQuerier struct{ tv *TenantView }

// ExemplarQuerier returns a reader of the tenant's exemplars at the view's index.
func (tv *TenantView) ExemplarQuerier() storage.ExemplarQuerier { return exemplarQuerier{tv: tv} }

// Select returns the exemplars within [start, end], in milliseconds, of the
// series that match all matchers of at least one of the sets, ordered by the
// series' labels and within each by time.
func (q exemplarQuerier) Select(start, end int64, matchers ...[]*labels.Matcher) ([]exemplar.QueryResult, error) {
	results := []exemplar.QueryResult{}
	refs, err := q.tv.exemplarSeries()
	if err != nil {
		return nil, err
	}
	for _, ref := range refs {
		lset := q.tv.view.labelSet(ref)
		if !matchesAnySet(lset, matchers) {
			continue
		}
		result := exemplar.QueryResult{SeriesLabels: lset}
		list, err := q.tv.view.exemplars(ref)
		if err != nil {
			return nil, err
		}
		for _, e := range list {
			if e.t < start || e.t > end {
				continue
			}
			result.Exemplars = append(result.Exemplars, exemplar.Exemplar{
				Labels: labelsOf(e.labels), Value: math.Float64frombits(e.bits), Ts: e.t, HasTs: true,
			})
		}
		if len(result.Exemplars) > 0 {
			results = append(results, result)
		}
	}
	slices.SortFunc(results, func(a, b exemplar.QueryResult) int {
		return labels.Compare(a.SeriesLabels, b.SeriesLabels)
	})
	return results, nil
}

// exemplarSeries returns the refs of the tenant's series that have exemplars.
func (tv *TenantView) exemplarSeries() ([]uint32, error) {
	if tv.tenant == nil {
		return nil, nil
	}
	v := tv.view
	refs := slices.Clone(v.liveExemplars)
	for _, m := range v.frozen {
		refs = append(refs, m.exemplarRefs...)
	}
	for _, f := range v.files {
		err := f.delta.ExemplarRefs(func(ref uint32) error {
			refs = append(refs, ref)
			return nil
		})
		if err != nil {
			return nil, f.read(err)
		}
	}
	slices.Sort(refs)
	refs = slices.Compact(refs)
	return slices.DeleteFunc(refs, func(ref uint32) bool { return v.tenantOf(ref) != tv.tenant.index }), nil
}

// matchesAnySet tells whether labels match all matchers of one of the sets.
func matchesAnySet(lset labels.Labels, sets [][]*labels.Matcher) bool {
	for _, set := range sets {
		if !slices.ContainsFunc(set, func(m *labels.Matcher) bool { return !m.Matches(lset.Get(m.Name)) }) {
			return true
		}
	}
	return false
}

// labelsOf decodes canonical labels.
func labelsOf(canonical []byte) labels.Labels {
	var b labels.ScratchBuilder
	for it := wire.IterLabels(canonical); it.Next(); {
		b.Add(textOf(it.Name()), textOf(it.Value()))
	}
	return b.Labels()
}
