package tsdbshard

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// model is the dumb shard: the fold of PROTOCOL 18 in maps.
type model struct {
	bounds quorate.Bounds
	seal   uint64 // index of the entry that sealed it
	series []*modelSeries
	byKey  map[string]int
	meta   map[quorate.TenantID]map[string]wire.Metadata
}

type modelSeries struct {
	tenant    quorate.TenantID
	labels    []byte
	samples   map[int64]string
	stored    []int64 // timestamps, deleted ones too
	newest    int64
	identity  string // of the newest sample; "" when there is none
	exemplars []exemplarRow
}

func newModel(b quorate.Bounds) *model {
	return &model{bounds: b, byKey: map[string]int{}, meta: map[quorate.TenantID]map[string]wire.Metadata{}}
}

func (m *model) applyBounds(b quorate.Bounds) {
	if b.Version > m.bounds.Version && m.bounds.State == quorate.SetOpen {
		m.bounds.Version, m.bounds.Range = b.Version, b.Range
	}
}

func (m *model) applySeal(index uint64) *SealResult {
	if m.seal == 0 {
		m.seal = index
		m.bounds.State = quorate.SetSealed
		m.bounds.Version++
	}
	return &SealResult{Index: m.seal}
}

func (m *model) applyDelete(d *wire.Deletion) *DeleteResult {
	if m.seal != 0 {
		return &DeleteResult{Sealed: true}
	}
	res := &DeleteResult{}
	for _, s := range m.series {
		if s.tenant != d.Tenant || !matchesAnySet(labelsOf(s.labels), [][]*labels.Matcher{d.Matchers}) {
			continue
		}
		res.Series++
		s.identity = ""
		for t := range s.samples {
			if t >= d.MinTime && t <= d.MaxTime {
				delete(s.samples, t)
			}
		}
		s.exemplars = slices.DeleteFunc(s.exemplars, func(e exemplarRow) bool { return e.t <= d.MaxTime })
	}
	return res
}

func (m *model) apply(t failer, b *wire.Batch) *wire.BatchResult {
	res := &wire.BatchResult{Status: wire.BatchApplied, Version: m.bounds.Version}
	if m.seal != 0 {
		res.Status = wire.BatchSealed
		return res
	}
	if b.Version != m.bounds.Version {
		res.Status = wire.BatchStaleRoute
		return res
	}
	for _, row := range slices.Concat(b.Series, b.HistogramSeries, b.ExemplarSeries) {
		if _, ok := row.Definition(); ok {
			continue
		}
		if int(row.Ref()) >= len(m.series) || m.series[row.Ref()].tenant != b.Tenant {
			res.Status = wire.BatchUnknownRef
			return res
		}
	}
	for _, d := range b.Definitions {
		key := fmt.Sprintf("%d %s", b.Tenant, d)
		ref, ok := m.byKey[key]
		if !ok {
			ref = len(m.series)
			m.byKey[key] = ref
			m.series = append(m.series, &modelSeries{tenant: b.Tenant, labels: slices.Clone(d), samples: map[int64]string{}})
		}
		res.Defined = append(res.Defined, wire.SeriesRef(ref))
	}
	of := func(row wire.RowSeries) *modelSeries {
		if i, ok := row.Definition(); ok {
			return m.series[res.Defined[i]]
		}
		return m.series[row.Ref()]
	}
	refuse := func(section wire.Section, row int, why wire.RowReason) {
		if res.Refused == 0 {
			res.First = wire.RefusedRow{Section: section, Row: row, Reason: why}
		}
		res.Refused++
		if why == wire.RowOutOfBounds {
			res.OutOfBounds++
		}
	}
	store := func(section wire.Section, i int, s *modelSeries, ts int64, identity, text string, stored *int) {
		switch {
		case !m.bounds.Range.Contains(ts):
			refuse(section, i, wire.RowOutOfBounds)
			return
		case s.identity == "" || ts > s.newest:
			s.newest, s.identity = ts, identity
			s.keep(ts, text)
		case ts == s.newest && identity == s.identity:
			res.Duplicates++
		case ts == s.newest:
			refuse(section, i, wire.RowConflict)
			return
		default:
			s.keep(ts, text)
		}
		*stored++
	}
	for i, row := range b.Series {
		s := sample{T: b.Timestamps[i], V: b.Values[i]}
		if len(b.StartTimestamps) > 0 {
			s.ST = b.StartTimestamps[i]
		}
		store(wire.SectionFloats, i, of(row), s.T, describe(s), describe(s), &res.Floats)
	}
	for i, row := range b.HistogramSeries {
		s := sample{T: b.HistogramTimestamps[i]}
		if len(b.HistogramStartTimestamps) > 0 {
			s.ST = b.HistogramStartTimestamps[i]
		}
		var err error
		s.H, s.FH, err = wire.DecodeHistogram(b.Histograms[i])
		require.NoError(t, err)
		store(wire.SectionHistograms, i, of(row), s.T, fmt.Sprintf("h %d %x", s.ST, b.Histograms[i]), describe(s), &res.Histograms)
	}
	for i, row := range b.ExemplarSeries {
		if !m.bounds.Range.Contains(b.ExemplarTimestamps[i]) {
			refuse(wire.SectionExemplars, i, wire.RowOutOfBounds)
			continue
		}
		s := of(row)
		e := exemplarRow{t: b.ExemplarTimestamps[i], bits: math.Float64bits(b.ExemplarValues[i]), labels: slices.Clone(b.ExemplarLabels[i])}
		if !slices.ContainsFunc(s.exemplars, func(o exemplarRow) bool { return compareExemplars(o, e) == 0 }) {
			s.exemplars = append(s.exemplars, e)
		}
		res.Exemplars++
	}
	for _, md := range b.Metadata {
		if m.meta[b.Tenant] == nil {
			m.meta[b.Tenant] = map[string]wire.Metadata{}
		}
		m.meta[b.Tenant][md.Family] = md
	}
	return res
}

// keep stores a sample if its timestamp is absent.
func (s *modelSeries) keep(ts int64, text string) {
	s.stored = append(s.stored, ts)
	if _, ok := s.samples[ts]; !ok {
		s.samples[ts] = text
	}
}

func (m *model) dump(tenants ...quorate.TenantID) dump {
	d := dump{}
	for _, id := range tenants {
		td := newTenantDump()
		for _, s := range m.series {
			if s.tenant != id {
				continue
			}
			td.series++
			name := labelsOf(s.labels).String()
			for _, ts := range s.stored {
				if td.mint == td.maxt {
					td.mint, td.maxt = ts, ts+1
				}
				td.mint, td.maxt = min(td.mint, ts), max(td.maxt, ts+1)
			}
			if len(s.samples) > 0 {
				td.samples[name] = map[int64]string{}
				for ts, text := range s.samples {
					td.samples[name][ts] = text
				}
			}
			sorted := slices.Clone(s.exemplars)
			slices.SortFunc(sorted, compareExemplars)
			for _, e := range sorted[max(0, len(sorted)-MaxExemplars):] {
				td.exemplars[name] = append(td.exemplars[name], describeExemplar(labelsOf(e.labels), e.t, math.Float64frombits(e.bits)))
			}
		}
		for family, md := range m.meta[id] {
			td.metadata[family] = strings.Join([]string{md.Type, md.Unit, md.Help}, "|")
		}
		d[id] = td
	}
	return d
}
