package block

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
func (t *CanonicalTenant) Stats(label string, limit int) (*tsdb.Stats, error) {
	s := &tsdb.Stats{NumSeries: t.NumSeries(), IndexPostingStats: &index.PostingsStats{}}
	if t.entry.samples > 0 {
		s.MinTime, s.MaxTime = t.entry.mint, t.entry.maxt
	}
	all, err := t.labelNames()
	if err != nil {
		return nil, err
	}
	byValue, names, lengths, pairs := top{n: limit}, top{n: limit}, top{n: limit}, top{n: limit}
	for i := range all {
		n := &all[i]
		s.IndexPostingStats.NumLabelPairs += int(n.values)
		names.add(n.name, "", uint64(n.values))
		size := uint64(0)
		err := t.f.eachValue(t.cache, t.entry.firstPair+n.first, n.values, func(_ uint32, value string, series uint32) bool {
			if n.name == label {
				byValue.add(value, "", uint64(series))
			}
			pairs.add(n.name+"=", value, uint64(series))
			size += labels.SizeOfLabels(n.name, value, uint64(series))
			return true
		})
		if err != nil {
			return nil, err
		}
		lengths.add(n.name, "", size)
	}
	s.IndexPostingStats.CardinalityMetricsStats = byValue.sorted()
	s.IndexPostingStats.CardinalityLabelStats = names.sorted()
	s.IndexPostingStats.LabelValueStats = lengths.sorted()
	s.IndexPostingStats.LabelValuePairsStats = pairs.sorted()
	return s, nil
}

// top keeps the n largest of many entries.
type top struct {
	n     int
	stats []index.Stat
	least uint64 // counts below it are not among them
}

func (t *top) add(name, more string, count uint64) {
	if count < t.least || t.n <= 0 {
		return
	}
	t.stats = append(t.stats, index.Stat{Name: name + more, Count: count})
	// Sorting once in a while costs less than a heap is long.
	if len(t.stats) >= 2*t.n+64 {
		t.cut()
	}
}

func (t *top) cut() {
	slices.SortFunc(t.stats, func(a, b index.Stat) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Name, b.Name))
	})
	if len(t.stats) >= t.n && t.n > 0 {
		t.stats = t.stats[:t.n]
		t.least = t.stats[t.n-1].Count
	}
}

func (t *top) sorted() []index.Stat {
	t.cut()
	return slices.Clip(t.stats)
}
