package remote

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/quorate/quorate/internal/wire"
)

// This file is the dumb model: it decodes bodies with Prometheus' generated
// code and judges them rule by rule, without a thought for speed.

// row is one row of a request in a form that compares.
type row struct {
	kind      string // float, histogram, exemplar
	labels    string // of the series, canonical
	t, start  int64
	value     uint64 // bits
	encoded   string // histogram
	exemplars string // the exemplar's labels, canonical
}

// expected is what a request holds: rows that are good, in order, metadata in
// order, and whether anything was refused.
type expected struct {
	rows     []row
	metadata []wire.Metadata
	refused  bool
}

type nameValue struct{ name, value string }

func refCanonical(labels []nameValue) string {
	var dst []byte
	for _, l := range labels {
		if l.value != "" {
			dst = wire.AppendLabel(dst, l.name, l.value)
		}
	}
	return string(dst)
}

// refSeriesLabels judges a series' labels under the default limits.
func refSeriesLabels(labels []nameValue) (canonical string, ok bool) {
	names := map[string]bool{}
	metric := ""
	for i, l := range labels {
		if l.name == "" || names[l.name] || !utf8.ValidString(l.name) || !utf8.ValidString(l.value) {
			return "", false
		}
		if len(l.name) > 1024 || len(l.value) > 8192 || i > 0 && labels[i-1].name > l.name {
			return "", false
		}
		names[l.name] = true
		if l.name == "__name__" {
			metric = l.value
		}
	}
	return refCanonical(labels), metric != "" && len(labels) <= 128
}

func refExemplarLabels(labels []nameValue) (canonical string, ok bool) {
	labels = slices.Clone(labels)
	sort.SliceStable(labels, func(i, j int) bool { return labels[i].name < labels[j].name })
	names, characters := map[string]bool{}, 0
	for _, l := range labels {
		if l.name == "" || names[l.name] || !utf8.ValidString(l.name) || !utf8.ValidString(l.value) {
			return "", false
		}
		if len(l.name) > 1024 || len(l.value) > 8192 {
			return "", false
		}
		names[l.name] = true
		if l.value != "" {
			characters += len([]rune(l.name + l.value))
		}
	}
	return refCanonical(labels), characters <= 128
}

func refHistogram(h *histogram.Histogram, fh *histogram.FloatHistogram) (encoded string, ok bool) {
	if h != nil {
		if h.CounterResetHint > 3 {
			h.CounterResetHint = 0
		}
		if h.Schema > 8 && h.Schema <= 52 && h.ReduceResolution(8) != nil || h.Validate() != nil {
			return "", false
		}
		return string(wire.AppendHistogram(nil, h)), true
	}
	if fh.CounterResetHint > 3 {
		fh.CounterResetHint = 0
	}
	if fh.Schema > 8 && fh.Schema <= 52 && fh.ReduceResolution(8) != nil || fh.Validate() != nil {
		return "", false
	}
	return string(wire.AppendFloatHistogram(nil, fh)), true
}

// add adds a series' rows if its labels are good.
func (m *expected) add(labels []nameValue, rows []row, empty bool) {
	canonical, ok := refSeriesLabels(labels)
	if empty || !ok {
		m.refused = true
		return
	}
	for _, r := range rows {
		r.labels = canonical
		m.rows = append(m.rows, r)
	}
}

// referenceV1 models an RW 1.0 body; its error is that of the generated code.
func referenceV1(body []byte) (expected, error) {
	var req prompb.WriteRequest
	if err := req.Unmarshal(body); err != nil {
		return expected{}, err
	}
	var m expected
	for _, ts := range req.Timeseries {
		var rows []row
		pairs := refPairsV1(ts.Labels)
		for _, s := range ts.Samples {
			rows = append(rows, row{kind: "float", t: s.Timestamp, value: math.Float64bits(s.Value)})
		}
		for _, p := range ts.Histograms {
			if p.ResetHint < 0 || p.ResetHint > 3 {
				p.ResetHint = 0
			}
			h, fh := p.ToIntHistogram(), (*histogram.FloatHistogram)(nil)
			if p.IsFloatHistogram() {
				fh = p.ToFloatHistogram()
			}
			if encoded, ok := refHistogram(h, fh); ok {
				rows = append(rows, row{kind: "histogram", t: p.Timestamp, encoded: encoded})
			} else {
				m.refused = true
			}
		}
		for _, e := range ts.Exemplars {
			if canonical, ok := refExemplarLabels(refPairsV1(e.Labels)); ok {
				rows = append(rows, row{kind: "exemplar", t: e.Timestamp, value: math.Float64bits(e.Value), exemplars: canonical})
			} else {
				m.refused = true
			}
		}
		if len(rows) > 0 || len(ts.Samples)+len(ts.Histograms)+len(ts.Exemplars) == 0 {
			m.add(pairs, rows, len(rows) == 0)
		}
	}
	for _, md := range req.Metadata {
		if md.MetricFamilyName == "" || !utf8.ValidString(md.MetricFamilyName) || len(md.MetricFamilyName) > 8192 {
			m.refused = true
			continue
		}
		kind := strings.ToLower(prompb.MetricMetadata_MetricType_name[int32(md.Type)])
		if kind == "" {
			kind = "unknown"
		}
		m.metadata = append(m.metadata, wire.Metadata{
			Family: md.MetricFamilyName, Type: kind, Unit: readableText([]byte(md.Unit), 8192), Help: readableText([]byte(md.Help), 8192),
		})
	}
	return m, nil
}

func refPairsV1(labels []prompb.Label) []nameValue {
	var pairs []nameValue
	for _, l := range labels {
		pairs = append(pairs, nameValue{l.Name, l.Value})
	}
	return pairs
}

// refPairsV2 resolves refs; an odd number of them or one outside the table is not ok.
func refPairsV2(refs []uint32, symbols []string) (pairs []nameValue, ok bool) {
	if len(refs)%2 != 0 {
		return nil, false
	}
	for i := 0; i < len(refs); i += 2 {
		if int(refs[i]) >= len(symbols) || int(refs[i+1]) >= len(symbols) {
			return nil, false
		}
		pairs = append(pairs, nameValue{symbols[refs[i]], symbols[refs[i+1]]})
	}
	return pairs, true
}

// referenceV2 models an RW 2.0 body. Metadata is modelled by its own tests.
func referenceV2(body []byte) (expected, error) {
	var req writev2.Request
	if err := req.Unmarshal(body); err != nil {
		return expected{}, err
	}
	var m expected
	for _, ts := range req.Timeseries {
		var rows []row
		for _, s := range ts.Samples {
			rows = append(rows, row{kind: "float", t: s.Timestamp, start: s.StartTimestamp, value: math.Float64bits(s.Value)})
		}
		for _, p := range ts.Histograms {
			if p.ResetHint < 0 || p.ResetHint > 3 {
				p.ResetHint = 0
			}
			h, fh := p.ToIntHistogram(), (*histogram.FloatHistogram)(nil)
			if p.IsFloatHistogram() {
				fh = p.ToFloatHistogram()
			}
			if encoded, ok := refHistogram(h, fh); ok {
				rows = append(rows, row{kind: "histogram", t: p.Timestamp, start: p.StartTimestamp, encoded: encoded})
			} else {
				m.refused = true
			}
		}
		for _, e := range ts.Exemplars {
			pairs, ok := refPairsV2(e.LabelsRefs, req.Symbols)
			canonical, good := refExemplarLabels(pairs)
			if ok && good {
				rows = append(rows, row{kind: "exemplar", t: e.Timestamp, value: math.Float64bits(e.Value), exemplars: canonical})
			} else {
				m.refused = true
			}
		}
		pairs, ok := refPairsV2(ts.LabelsRefs, req.Symbols)
		help, unit := ts.Metadata.HelpRef, ts.Metadata.UnitRef
		ok = ok && (help == 0 || int(help) < len(req.Symbols)) && (unit == 0 || int(unit) < len(req.Symbols))
		if !ok {
			m.refused = true
			continue
		}
		if len(rows) == 0 {
			_, good := refSeriesLabels(pairs)
			said := ts.Metadata.Type != 0 || refSymbol(req.Symbols, help) != "" || refSymbol(req.Symbols, unit) != ""
			m.refused = m.refused || !good || !said
			continue
		}
		m.add(pairs, rows, false)
	}
	return m, nil
}

func refSymbol(symbols []string, ref uint32) string {
	if int(ref) < len(symbols) {
		return symbols[ref]
	}
	return ""
}

// observed turns what the walker made of a body into the model's form, by
// asking for the labels of every series as the router does on a miss.
func observed(q *wire.WriteRequest) (m expected, keys map[wire.SeriesKey]string, err error) {
	keys = map[wire.SeriesKey]string{}
	if n := len(q.StartTimestamps); n != 0 && n != len(q.Timestamps) {
		return m, nil, fmt.Errorf("%d start timestamps for %d samples", n, len(q.Timestamps))
	}
	var start wire.RequestSeries
	for i, s := range q.Series {
		canonical, labelErr := q.Labels.CanonicalLabels([]byte("kept"), i)
		if !strings.HasPrefix(string(canonical), "kept") {
			return m, nil, fmt.Errorf("labels of series %d replace what was there", i)
		}
		canonical = canonical[4:]
		if labelErr != nil {
			m.refused = true
		} else {
			if err := wire.CheckLabels(canonical); err != nil {
				return m, nil, fmt.Errorf("series %d: %w", i, err)
			}
			keys[s.Key] = string(canonical)
			m.rows = append(m.rows, seriesRows(q, start, s, string(canonical))...)
		}
		start = s
	}
	m.metadata = q.Metadata
	return m, keys, nil
}

func seriesRows(q *wire.WriteRequest, start, end wire.RequestSeries, labels string) []row {
	var rows []row
	for i := start.FloatEnd; i < end.FloatEnd; i++ {
		r := row{kind: "float", labels: labels, t: q.Timestamps[i], value: math.Float64bits(q.Values[i])}
		if len(q.StartTimestamps) > 0 {
			r.start = q.StartTimestamps[i]
		}
		rows = append(rows, r)
	}
	for _, h := range q.Histograms[start.HistogramEnd:end.HistogramEnd] {
		rows = append(rows, row{kind: "histogram", labels: labels, t: h.Timestamp, start: h.StartTimestamp, encoded: string(h.Encoded)})
	}
	for _, e := range q.Exemplars[start.ExemplarEnd:end.ExemplarEnd] {
		rows = append(rows, row{kind: "exemplar", labels: labels, t: e.Timestamp, value: math.Float64bits(e.Value), exemplars: string(e.Labels)})
	}
	return rows
}
