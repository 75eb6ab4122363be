package router

import (
	"encoding/binary"
	"maps"
	"math"
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/quorate/quorate/internal/cursor"
)

// encodeMetadata encodes families by name: uvarint number, for each the family,
// its type, unit and help, length-prefixed.
func encodeMetadata(all map[string]metadata.Metadata) []byte {
	b := binary.AppendUvarint(beginMessage(), uint64(len(all)))
	for _, family := range slices.Sorted(maps.Keys(all)) {
		m := all[family]
		for _, s := range [...]string{family, string(m.Type), m.Unit, m.Help} {
			b = cursor.AppendBytes(b, s)
		}
	}
	return b
}

func decodeMetadata(b []byte) (map[string]metadata.Metadata, error) {
	c, err := openMessage(b)
	if err != nil {
		return nil, err
	}
	n := c.Count(4)
	all := make(map[string]metadata.Metadata, n)
	for range n {
		family := c.String()
		all[family] = metadata.Metadata{Type: model.MetricType(c.String()), Unit: c.String(), Help: c.String()}
	}
	if len(all) != n {
		c.Fail()
	}
	return all, c.Finish(errMessage, "metadata")
}

// statLists are the lists of statistics in the order in which they travel.
func statLists(p *index.PostingsStats) [4]*[]index.Stat {
	return [...]*[]index.Stat{&p.CardinalityMetricsStats, &p.CardinalityLabelStats, &p.LabelValueStats, &p.LabelValuePairsStats}
}

// encodeStats encodes uvarint series, varint first and last time, uvarint label
// pairs, then the four lists of names with their uvarint counts.
func encodeStats(s *tsdb.Stats) []byte {
	postings := s.IndexPostingStats
	if postings == nil {
		postings = &index.PostingsStats{}
	}
	b := binary.AppendUvarint(beginMessage(), s.NumSeries)
	b = binary.AppendVarint(binary.AppendVarint(b, s.MinTime), s.MaxTime)
	b = binary.AppendUvarint(b, uint64(postings.NumLabelPairs))
	for _, list := range statLists(postings) {
		b = binary.AppendUvarint(b, uint64(len(*list)))
		for _, stat := range *list {
			b = binary.AppendUvarint(cursor.AppendBytes(b, stat.Name), stat.Count)
		}
	}
	return b
}

func decodeStats(b []byte) (*tsdb.Stats, error) {
	c, err := openMessage(b)
	if err != nil {
		return nil, err
	}
	s := &tsdb.Stats{IndexPostingStats: &index.PostingsStats{}}
	s.NumSeries, s.MinTime, s.MaxTime = c.Uvarint(), c.Varint(), c.Varint()
	s.IndexPostingStats.NumLabelPairs = readInt(c)
	for _, list := range statLists(s.IndexPostingStats) {
		for range c.Count(2) {
			*list = append(*list, index.Stat{Name: c.String(), Count: c.Uvarint()})
		}
	}
	return s, c.Finish(errMessage, "statistics")
}

// appendLabels appends uvarint number of labels, then names and values,
// length-prefixed.
func appendLabels(dst []byte, l labels.Labels) []byte {
	dst = binary.AppendUvarint(dst, uint64(l.Len()))
	l.Range(func(l labels.Label) { dst = cursor.AppendBytes(cursor.AppendBytes(dst, l.Name), l.Value) })
	return dst
}

// readLabels reads labels that are sorted by name.
func readLabels(c *cursor.Cursor) labels.Labels {
	n := c.Count(2)
	list := make([]labels.Label, 0, n)
	for range n {
		l := labels.Label{Name: c.String(), Value: c.String()}
		if len(list) > 0 && list[len(list)-1].Name >= l.Name {
			c.Fail()
		}
		list = append(list, l)
	}
	if c.Bad {
		return labels.EmptyLabels()
	}
	return labels.New(list...)
}

// appendExemplars appends the exemplars of one series: its labels, uvarint number
// of exemplars, and for each its labels, value, varint time and whether it has
// one.
func appendExemplars(dst []byte, r *exemplar.QueryResult) []byte {
	dst = appendLabels(dst, r.SeriesLabels)
	dst = binary.AppendUvarint(dst, uint64(len(r.Exemplars)))
	for i := range r.Exemplars {
		e := &r.Exemplars[i]
		dst = appendLabels(dst, e.Labels)
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(e.Value))
		dst = appendBool(binary.AppendVarint(dst, e.Ts), e.HasTs)
	}
	return dst
}

func readExemplars(c *cursor.Cursor) (r exemplar.QueryResult) {
	r.SeriesLabels = readLabels(c)
	const least = 1 + 8 + 1 + 1
	n := c.Count(least)
	if n == 0 {
		return r
	}
	r.Exemplars = make([]exemplar.Exemplar, n)
	for i := range r.Exemplars {
		r.Exemplars[i] = exemplar.Exemplar{Labels: readLabels(c), Value: c.Float(), Ts: c.Varint(), HasTs: readBool(c)}
	}
	return r
}
