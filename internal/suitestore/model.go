package suitestore

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// Model is the storage as the protocol describes it and as nobody would build
// it: a sorted list of samples per series (PROTOCOL 18), in memory, behind one
// mutex. Real storage is compared with it, and the edges are tested on it. It
// satisfies promql.Queryable, its Append is an AppendFunc, and it is safe for
// concurrent use.
type Model struct {
	mu      sync.Mutex
	tenants map[quorate.TenantID]*tenantModel
}

// NewModel returns an empty model.
func NewModel() *Model { return &Model{tenants: map[quorate.TenantID]*tenantModel{}} }

type tenantModel struct {
	series   map[string]*seriesModel // by canonical labels
	metadata map[string]metadata.Metadata
}

type seriesModel struct {
	labels    labels.Labels
	samples   []chunks.Sample // ascending, one a timestamp
	exemplars []exemplar.Exemplar
}

// Append stores a request. The first sample of a timestamp stays; another value
// for a series' newest timestamp is refused, for an older one it is passed over.
func (m *Model) Append(_ context.Context, tenant quorate.TenantID, req *wire.WriteRequest) (wire.WriteResult, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, ok := m.tenants[tenant]
	if !ok {
		t = &tenantModel{series: map[string]*seriesModel{}, metadata: map[string]metadata.Metadata{}}
		m.tenants[tenant] = t
	}
	var result wire.WriteResult
	var begin wire.RequestSeries
	for i, end := range req.Series {
		if err := t.appendSeries(req, i, begin, end, &result); err != nil {
			return result, err
		}
		begin = end
	}
	for _, md := range req.Metadata {
		t.metadata[md.Family] = metadata.Metadata{Type: model.MetricType(md.Type), Unit: md.Unit, Help: md.Help}
	}
	return result, nil
}

func (t *tenantModel) appendSeries(req *wire.WriteRequest, i int, begin, end wire.RequestSeries, result *wire.WriteResult) error {
	canonical, err := req.Labels.CanonicalLabels(nil, i)
	if err != nil {
		return err
	}
	s, ok := t.series[string(canonical)]
	if !ok {
		s = &seriesModel{labels: parseLabels(canonical)}
		t.series[string(canonical)] = s
	}
	for row := begin.FloatEnd; row < end.FloatEnd; row++ {
		p := sample{t: req.Timestamps[row], f: req.Values[row]}
		if len(req.StartTimestamps) > 0 {
			p.st = req.StartTimestamps[row]
		}
		result.Floats += s.add(p, result)
	}
	for _, h := range req.Histograms[begin.HistogramEnd:end.HistogramEnd] {
		p := sample{t: h.Timestamp, st: h.StartTimestamp}
		if p.h, p.fh, err = wire.DecodeHistogram(h.Encoded); err != nil {
			return err
		}
		result.Histograms += s.add(p, result)
	}
	for _, e := range req.Exemplars[begin.ExemplarEnd:end.ExemplarEnd] {
		s.exemplars = append(s.exemplars, exemplar.Exemplar{Labels: parseLabels(e.Labels), Value: e.Value, Ts: e.Timestamp, HasTs: true})
		result.Exemplars++
	}
	return nil
}

// add stores a sample and returns how many are stored of it.
func (s *seriesModel) add(p sample, result *wire.WriteResult) int {
	i, found := slices.BinarySearchFunc(s.samples, p.t, func(q chunks.Sample, t int64) int { return cmp.Compare(q.T(), t) })
	switch {
	case !found:
		s.samples = slices.Insert(s.samples, i, chunks.Sample(p))
	case p.equal(s.samples[i]):
		result.Duplicates++
	case i == len(s.samples)-1:
		result.Refused++
		return 0
	}
	return 1
}

func parseLabels(canonical []byte) labels.Labels {
	var b labels.ScratchBuilder
	for it := wire.IterLabels(canonical); it.Next(); {
		b.Add(string(it.Name()), string(it.Value()))
	}
	return b.Labels()
}

// sample is a float, or a histogram of either kind, at a time.
type sample struct {
	t, st int64
	f     float64
	h     *histogram.Histogram
	fh    *histogram.FloatHistogram
}

var _ chunks.Sample = sample{}

func (s sample) T() int64                      { return s.t }
func (s sample) ST() int64                     { return s.st }
func (s sample) F() float64                    { return s.f }
func (s sample) H() *histogram.Histogram       { return s.h }
func (s sample) FH() *histogram.FloatHistogram { return s.fh }

// Type tells which of the three the sample is.
func (s sample) Type() chunkenc.ValueType {
	switch {
	case s.h != nil:
		return chunkenc.ValHistogram
	case s.fh != nil:
		return chunkenc.ValFloatHistogram
	}
	return chunkenc.ValFloat
}

// Copy returns a deep copy.
func (s sample) Copy() chunks.Sample {
	if s.h != nil {
		s.h = s.h.Copy()
	}
	if s.fh != nil {
		s.fh = s.fh.Copy()
	}
	return s
}

// equal compares to the bit, start timestamps aside.
func (s sample) equal(o chunks.Sample) bool {
	switch {
	case s.Type() != o.Type():
		return false
	case s.h != nil:
		return s.h.Equals(o.H())
	case s.fh != nil:
		return s.fh.Equals(o.FH())
	}
	return math.Float64bits(s.f) == math.Float64bits(o.F())
}
