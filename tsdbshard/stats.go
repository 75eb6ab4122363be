package tsdbshard

import (
	"cmp"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/index"
)

// Stats returns what Prometheus' status/tsdb shows: the number of series, the
// range of the samples' timestamps (0 and 0 when there are none), and for each
// of its four lists the limit largest entries; the first list is of the values
// of the given label.
func (tv *TenantView) Stats(label string, limit int) (*tsdb.Stats, error) {
	s := &tsdb.Stats{NumSeries: tv.info.series, IndexPostingStats: &index.PostingsStats{}}
	if tv.info.mint <= tv.info.maxt {
		s.MinTime, s.MaxTime = tv.info.mint, tv.info.maxt
	}
	r := &indexReader{tv: tv}
	byValue, names, lengths, pairs := newLargest(limit), newLargest(limit), newLargest(limit), newLargest(limit)
	for _, n := range r.nameNumbers() {
		name := tv.view.names[n].text
		values := r.values(name)
		ids := values.appendAll(nil)
		s.IndexPostingStats.NumLabelPairs += len(ids)
		names.add(name, "", uint64(len(ids)))
		size := uint64(0)
		err := r.lists(ids, func(i int, l *idList) error {
			value, series := tv.view.value(ids[i]), uint64(l.count())
			if name == label {
				byValue.add(value, "", series)
			}
			pairs.add(name, value, series)
			size += labels.SizeOfLabels(name, value, series)
			return nil
		})
		if err != nil {
			return nil, err
		}
		lengths.add(name, "", size)
	}
	s.IndexPostingStats.CardinalityMetricsStats = byValue.entries
	s.IndexPostingStats.CardinalityLabelStats = names.entries
	s.IndexPostingStats.LabelValueStats = lengths.entries
	s.IndexPostingStats.LabelValuePairsStats = pairs.entries
	return s, nil
}

// largest keeps the limit largest of the entries added: a label may have a
// million values, of which ten are asked for.
type largest struct {
	limit   int
	entries []index.Stat // in order
}

func newLargest(limit int) *largest { return &largest{limit: limit} }

// add adds an entry that is named after a label, or a label and its value.
func (l *largest) add(name, value string, count uint64) {
	last := len(l.entries) - 1
	if l.limit <= 0 || last+1 == l.limit && count < l.entries[last].Count {
		return
	}
	if value != "" {
		name += "=" + value
	}
	e := index.Stat{Name: name, Count: count}
	at, _ := slices.BinarySearchFunc(l.entries, e, func(a, b index.Stat) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Name, b.Name))
	})
	if at == l.limit {
		return
	}
	l.entries = slices.Insert(l.entries[:min(len(l.entries), l.limit-1)], at, e)
}
