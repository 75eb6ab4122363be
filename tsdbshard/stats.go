package tsdbshard

import (
	"cmp"
	"maps"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/index"
)

// Stats returns what Prometheus' status/tsdb shows: the number of series, the
// range of the samples' timestamps (0 and 0 when there are none), and for each
// of its four lists the limit largest entries; the first list is of the values
// of the given label.
func (tv *TenantView) Stats(label string, limit int) *tsdb.Stats {
	s := &tsdb.Stats{NumSeries: tv.info.series, IndexPostingStats: &index.PostingsStats{}}
	if tv.info.mint <= tv.info.maxt {
		s.MinTime, s.MaxTime = tv.info.mint, tv.info.maxt
	}
	r := &indexReader{tv: tv}
	var all []string
	r.names(func(p *postings, _ uint32) { all = slices.Collect(maps.Keys(p.names)) })
	var byValue, names, lengths, pairs []index.Stat
	for _, name := range all {
		values, lists := r.values(name)
		if len(values) == 0 {
			continue
		}
		s.IndexPostingStats.NumLabelPairs += len(values)
		names = append(names, index.Stat{Name: name, Count: uint64(len(values))})
		size := uint64(0)
		for i, value := range values {
			series := uint64(len(lists[i]))
			if name == label {
				byValue = append(byValue, index.Stat{Name: value, Count: series})
			}
			pairs = append(pairs, index.Stat{Name: name + "=" + value, Count: series})
			size += labels.SizeOfLabels(name, value, series)
		}
		lengths = append(lengths, index.Stat{Name: name, Count: size})
	}
	s.IndexPostingStats.CardinalityMetricsStats = largest(byValue, limit)
	s.IndexPostingStats.CardinalityLabelStats = largest(names, limit)
	s.IndexPostingStats.LabelValueStats = largest(lengths, limit)
	s.IndexPostingStats.LabelValuePairsStats = largest(pairs, limit)
	return s
}

func largest(stats []index.Stat, limit int) []index.Stat {
	slices.SortFunc(stats, func(a, b index.Stat) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Name, b.Name))
	})
	return slices.Clip(stats[:min(limit, len(stats))])
}
