package wire

import "github.com/prometheus/common/model"

// SeriesKey is a keyed 128-bit hash of a series' labels in the bytes in which
// one sender sends them: the key of the router's route cache. It is valid in
// one process only, and never leaves it.
type SeriesKey struct{ Hi, Lo uint64 }

// WriteRequest is one remote-write request in columns: what the edges parse
// requests into and the router splits by ReplicaSet. Series i owns the rows
// from series i-1's end offsets (0 for the first) up to its own.
//
// Everything may alias the request's body and scratch space and is valid until
// the edge that made the request takes it back.
type WriteRequest struct {
	Series []RequestSeries

	// Float samples: three columns of one length, except that
	// StartTimestamps may be empty when no sample has one. A start timestamp
	// of 0 means none.
	Timestamps      []int64
	Values          []float64
	StartTimestamps []int64

	Histograms []RequestHistogram
	Exemplars  []RequestExemplar
	Metadata   []Metadata

	// Labels gives a series' labels when its key is not known.
	Labels LabelSource
}

// RequestSeries is one series of a request: its key and where its rows end in
// the request's columns.
type RequestSeries struct {
	Key                                 SeriesKey
	FloatEnd, HistogramEnd, ExemplarEnd uint32
}

// RequestHistogram is one native histogram sample, encoded as by
// AppendHistogram or AppendFloatHistogram.
type RequestHistogram struct {
	Timestamp, StartTimestamp int64
	Encoded                   []byte
}

// RequestExemplar is one exemplar; its labels are canonical and may be empty.
type RequestExemplar struct {
	Timestamp int64
	Value     float64
	Labels    []byte
}

// Metadata is what is known of one metric family.
type Metadata struct {
	Family, Type, Unit, Help string
}

// MetricType returns the type as Prometheus names it.
func (m Metadata) MetricType() model.MetricType { return model.MetricType(m.Type) }

// LabelSource parses the labels of a request's series on demand.
type LabelSource interface {
	// CanonicalLabels appends to dst the canonical encoding of series i's
	// labels, or returns an error of kind Invalid that names the series and
	// the rule it breaks.
	CanonicalLabels(dst []byte, i int) ([]byte, error)
}

// WriteResult counts what a write request stored. Rows that were there already,
// identical to the bit, count as stored: a retry sees what its first try would
// have seen.
type WriteResult struct {
	Floats, Histograms, Exemplars int
	// Duplicates counts the rows among them that were there already.
	Duplicates int
	// Refused counts rows that were not stored and must not be sent again.
	Refused int
}
