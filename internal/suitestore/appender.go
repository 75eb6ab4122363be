package suitestore

import (
	"context"
	"errors"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"

	"github.com/quorate/quorate/internal/wire"
)

// appender collects one transaction. Rows may come in any order of series; a
// write request wants each series' rows together.
type appender struct {
	ctx      context.Context // of the transaction: upstream's interface passes it at its start only
	store    *store
	series   []*rows
	byLabels map[string]*rows
	metadata []wire.Metadata
}

// rows are what one series appended.
type rows struct {
	canonical                   []byte
	timestamps, startTimestamps []int64
	values                      []float64
	histograms                  []wire.RequestHistogram
	exemplars                   []wire.RequestExemplar
}

func canonicalLabels(ls labels.Labels) []byte {
	var dst []byte
	ls.Range(func(l labels.Label) { dst = wire.AppendLabel(dst, l.Name, l.Value) })
	return dst
}

func (a *appender) rowsOf(ls labels.Labels) *rows {
	canonical := canonicalLabels(ls)
	r, ok := a.byLabels[string(canonical)]
	if !ok {
		r = &rows{canonical: canonical}
		a.byLabels[string(canonical)] = r
		a.series = append(a.series, r)
	}
	return r
}

// Append collects one sample, with its exemplars and metadata.
func (a *appender) Append(_ storage.SeriesRef, ls labels.Labels, st, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, opts storage.AppendV2Options) (storage.SeriesRef, error) {
	r := a.rowsOf(ls)
	switch {
	case fh != nil:
		r.histograms = append(r.histograms, wire.RequestHistogram{Timestamp: t, StartTimestamp: st, Encoded: wire.AppendFloatHistogram(nil, fh)})
	case h != nil:
		r.histograms = append(r.histograms, wire.RequestHistogram{Timestamp: t, StartTimestamp: st, Encoded: wire.AppendHistogram(nil, h)})
	default:
		r.timestamps = append(r.timestamps, t)
		r.startTimestamps = append(r.startTimestamps, st)
		r.values = append(r.values, v)
	}
	for _, e := range opts.Exemplars {
		r.exemplars = append(r.exemplars, wire.RequestExemplar{Timestamp: e.Ts, Value: e.Value, Labels: canonicalLabels(e.Labels)})
	}
	if !opts.Metadata.IsEmpty() {
		family := opts.MetricFamilyName
		if family == "" {
			family = ls.Get(labels.MetricName)
		}
		a.metadata = append(a.metadata, wire.Metadata{Family: family, Type: string(opts.Metadata.Type), Unit: opts.Metadata.Unit, Help: opts.Metadata.Help})
	}
	return 0, nil
}

// Commit appends what was collected, in the order of the series' first rows.
func (a *appender) Commit() error {
	req := &wire.WriteRequest{Labels: labelSource(a.series), Metadata: a.metadata}
	for _, r := range a.series {
		req.Timestamps = append(req.Timestamps, r.timestamps...)
		req.StartTimestamps = append(req.StartTimestamps, r.startTimestamps...)
		req.Values = append(req.Values, r.values...)
		req.Histograms = append(req.Histograms, r.histograms...)
		req.Exemplars = append(req.Exemplars, r.exemplars...)
		req.Series = append(req.Series, wire.RequestSeries{
			Key:          a.store.key(r.canonical),
			FloatEnd:     uint32(len(req.Values)),
			HistogramEnd: uint32(len(req.Histograms)),
			ExemplarEnd:  uint32(len(req.Exemplars)),
		})
	}
	return a.store.commit(a.ctx, req)
}

// Rollback forgets what was collected.
func (a *appender) Rollback() error {
	a.series, a.byLabels, a.metadata = nil, map[string]*rows{}, nil
	return nil
}

// labelSource gives the labels of a request's series, which are canonical already.
type labelSource []*rows

// CanonicalLabels appends series i's labels. It never fails.
func (s labelSource) CanonicalLabels(dst []byte, i int) ([]byte, error) {
	return append(dst, s[i].canonical...), nil
}

var errOnlyV2 = errors.New("this storage is loaded by AppenderV2")

// onlyV2 refuses what comes by the older interface, which has no start timestamps.
type onlyV2 struct{}

var _ storage.Appender = onlyV2{}

func (onlyV2) SetOptions(*storage.AppendOptions) {}
func (onlyV2) Rollback() error                   { return nil }
func (onlyV2) Commit() error                     { return errOnlyV2 }

func (onlyV2) Append(storage.SeriesRef, labels.Labels, int64, float64) (storage.SeriesRef, error) {
	return 0, errOnlyV2
}

func (onlyV2) AppendExemplar(storage.SeriesRef, labels.Labels, exemplar.Exemplar) (storage.SeriesRef, error) {
	return 0, errOnlyV2
}

func (onlyV2) AppendHistogram(storage.SeriesRef, labels.Labels, int64, *histogram.Histogram, *histogram.FloatHistogram) (storage.SeriesRef, error) {
	return 0, errOnlyV2
}

func (onlyV2) AppendHistogramSTZeroSample(storage.SeriesRef, labels.Labels, int64, int64, *histogram.Histogram, *histogram.FloatHistogram) (storage.SeriesRef, error) {
	return 0, errOnlyV2
}

func (onlyV2) UpdateMetadata(storage.SeriesRef, labels.Labels, metadata.Metadata) (storage.SeriesRef, error) {
	return 0, errOnlyV2
}

func (onlyV2) AppendSTZeroSample(storage.SeriesRef, labels.Labels, int64, int64) (storage.SeriesRef, error) {
	return 0, errOnlyV2
}
