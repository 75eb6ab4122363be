package remote

import (
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/quorate/quorate/internal/wire"
)

// addHistogram adds a Histogram message of either version: they share their
// fields, except that 1.0 knows no start timestamp. The generated code decodes
// it, since a histogram costs what a hundred samples do anyway.
func (q *request) addHistogram(m span, message []byte, refusedRows *int) error {
	if err := q.takeRow(); err != nil {
		return err
	}
	// The generated code takes 20 times a message's size for its spans.
	if len(message) > q.maxHistogramBytes {
		return q.refuseHistogram(m, refusedRows, 0, fmt.Errorf("its message of %d bytes is over the limit of %d", len(message), q.maxHistogramBytes))
	}
	var p writev2.Histogram
	if err := p.Unmarshal(message); err != nil {
		return errMalformed
	}
	row := wire.RequestHistogram{Timestamp: p.Timestamp}
	if q.version == version2 {
		row.StartTimestamp = p.StartTimestamp
	}
	if p.ResetHint < writev2.Histogram_RESET_HINT_UNSPECIFIED || p.ResetHint > writev2.Histogram_RESET_HINT_GAUGE {
		p.ResetHint = writev2.Histogram_RESET_HINT_UNSPECIFIED
	}
	start := len(q.arena)
	var err error
	if q.arena, err = appendHistogram(q.arena, &p); err != nil {
		return q.refuseHistogram(m, refusedRows, p.Timestamp, err)
	}
	row.Encoded = slices.Clip(q.arena[start:])
	q.Histograms = append(q.Histograms, row)
	return nil
}

// appendHistogram validates a histogram and appends its encoding. A resolution
// finer than what PromQL knows is reduced, as Prometheus' receiver does.
func appendHistogram(dst []byte, p *writev2.Histogram) ([]byte, error) {
	reduce := histogram.IsExponentialSchemaReserved(p.Schema) && p.Schema > histogram.ExponentialSchemaMax
	if p.IsFloatHistogram() {
		h := p.ToFloatHistogram()
		if reduce {
			// Validated first, under a schema that is known: reducing
			// trusts the spans.
			h.Schema = histogram.ExponentialSchemaMax
			if err := h.Validate(); err != nil {
				return dst, err
			}
			h.Schema = p.Schema
			if err := h.ReduceResolution(histogram.ExponentialSchemaMax); err != nil {
				return dst, err
			}
		}
		if err := h.Validate(); err != nil {
			return dst, err
		}
		return wire.AppendFloatHistogram(dst, h), nil
	}
	h := p.ToIntHistogram()
	if reduce {
		h.Schema = histogram.ExponentialSchemaMax
		if err := h.Validate(); err != nil {
			return dst, err
		}
		h.Schema = p.Schema
		if err := h.ReduceResolution(histogram.ExponentialSchemaMax); err != nil {
			return dst, err
		}
	}
	if err := h.Validate(); err != nil {
		return dst, err
	}
	return wire.AppendHistogram(dst, h), nil
}

func (q *request) refuseHistogram(m span, refusedRows *int, timestamp int64, err error) error {
	*refusedRows++
	q.refuseSeries(refusedHistogram, m, 1, "histogram at %d: %v", timestamp, err)
	return nil
}
