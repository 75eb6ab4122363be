package remote

import (
	"math"
)

// The fields of prometheus.WriteRequest, TimeSeries, Label, Exemplar and
// MetricMetadata (prompb/remote.proto and types.proto).
const (
	v1RequestSeries   = 1
	v1RequestMetadata = 3

	v1SeriesLabels     = 1
	v1SeriesSamples    = 2
	v1SeriesExemplars  = 3
	v1SeriesHistograms = 4

	v1LabelName  = 1
	v1LabelValue = 2

	v1ExemplarLabels    = 1
	v1ExemplarValue     = 2
	v1ExemplarTimestamp = 3

	v1MetadataType   = 1
	v1MetadataFamily = 2
	v1MetadataHelp   = 4
	v1MetadataUnit   = 5
)

// labelTag starts each label of an RW 1.0 series.
const labelTag = v1SeriesLabels<<3 | wireBytes

// parseV1 walks a prometheus.WriteRequest. It returns where in the body the
// field at fault begins.
func (q *request) parseV1() (at int, err error) {
	for rest := q.body; len(rest) > 0; {
		at = len(q.body) - len(rest)
		f, _, n := nextField(rest)
		if n == 0 {
			return at, errMalformed
		}
		rest = rest[n:]
		if f.number != v1RequestSeries && f.number != v1RequestMetadata {
			continue
		}
		if f.wire != wireBytes {
			return at, errMalformed
		}
		end := len(q.body) - len(rest)
		m := span{uint32(end - len(f.bytes)), uint32(end)}
		if f.number == v1RequestSeries {
			err = q.addSeriesV1(m)
		} else {
			err = q.addMetadataV1(f.bytes)
		}
		if err != nil {
			return at, err
		}
	}
	return 0, nil
}

// addSeriesV1 adds a TimeSeries without looking at its labels: their bytes,
// which stand together in what every sender writes, are its key.
func (q *request) addSeriesV1(m span) error {
	if err := q.takeRow(); err != nil {
		return err
	}
	message, since, refusedRows := q.message(m), q.rows(), 0
	var labels labelRun
	for i := 0; i < len(message); {
		start := i
		// Nearly all there is: a run of labels of up to 127 bytes each.
		for i+1 < len(message) && message[i] == labelTag && message[i+1] < 0x80 {
			i += 2 + int(message[i+1])
		}
		var f field
		if i > start {
			f.number = v1SeriesLabels
		} else {
			n := 0
			if f, _, n = nextField(message[i:]); n == 0 {
				return errMalformed
			}
			i += n
			if f.number <= v1SeriesHistograms && f.wire != wireBytes {
				return errMalformed
			}
		}
		var err error
		switch f.number {
		case v1SeriesLabels:
			if i > len(message) {
				return errMalformed
			}
			labels.add(q, message, start, i)
		case v1SeriesSamples:
			err = q.addSample(f.bytes)
		case v1SeriesExemplars:
			err = q.addExemplarV1(m, f.bytes, &refusedRows)
		case v1SeriesHistograms:
			err = q.addHistogram(m, f.bytes, &refusedRows)
		}
		if err != nil {
			return err
		}
	}
	if q.rows() == since {
		if refusedRows == 0 {
			q.refuseSeries(refusedEmptySeries, m, 0, "it has no sample, histogram or exemplar")
		}
		return nil
	}
	q.endSeries(q.hasher.labelBytes(labels.bytes), m)
	return nil
}

// labelRun is the bytes of a series' labels: a part of its message as long as
// they stand together, else gathered in scratch space, so that equal labels
// give equal bytes either way.
type labelRun struct {
	bytes     []byte
	end       int // in the message
	gathering bool
}

// add adds the labels at message[start:end].
func (r *labelRun) add(q *request, message []byte, start, end int) {
	switch {
	case r.bytes == nil:
		r.bytes = message[start:end]
	case !r.gathering && start == r.end:
		r.bytes = message[start-len(r.bytes) : end]
	default:
		if !r.gathering {
			q.gathered = append(q.gathered[:0], r.bytes...)
			r.gathering = true
		}
		q.gathered = append(q.gathered, message[start:end]...)
		r.bytes = q.gathered
	}
	r.end = end
}

// pairsV1 appends the labels of a TimeSeries or Exemplar message, whose
// repeated Label field has number 1 in both.
func pairsV1(pairs []labelPair, message []byte) ([]labelPair, bool) {
	for len(message) > 0 {
		f, _, n := nextField(message)
		if n == 0 {
			return pairs, false
		}
		message = message[n:]
		if f.number != v1SeriesLabels {
			continue
		}
		if f.wire != wireBytes {
			return pairs, false
		}
		p, ok := parseLabelV1(f.bytes)
		if !ok {
			return pairs, false
		}
		pairs = append(pairs, p)
	}
	return pairs, true
}

func parseLabelV1(b []byte) (p labelPair, ok bool) {
	for len(b) > 0 {
		f, _, n := nextField(b)
		if n == 0 {
			return p, false
		}
		b = b[n:]
		switch f.number {
		case v1LabelName:
			p.name = f.bytes
		case v1LabelValue:
			p.value = f.bytes
		default:
			continue
		}
		if f.wire != wireBytes {
			return p, false
		}
	}
	return p, true
}

func (q *request) addExemplarV1(m span, message []byte, refusedRows *int) error {
	var e exemplarRow
	for rest := message; len(rest) > 0; {
		f, num, n := nextField(rest)
		if n == 0 {
			return errMalformed
		}
		rest = rest[n:]
		ok := true
		switch f.number {
		case v1ExemplarLabels:
			ok = f.wire == wireBytes
		case v1ExemplarValue:
			e.value, ok = math.Float64frombits(num), f.wire == wireFixed64
		case v1ExemplarTimestamp:
			e.timestamp, ok = int64(num), f.wire == wireVarint
		}
		if !ok {
			return errMalformed
		}
	}
	pairs, ok := pairsV1(q.pairs[:0], message)
	q.pairs = pairs
	if !ok {
		return errMalformed
	}
	return q.addExemplar(m, e, pairs, refusedRows)
}

func (q *request) addMetadataV1(b []byte) error {
	raw := b
	var item metadataItem
	var kind int32
	for len(b) > 0 {
		f, num, n := nextField(b)
		if n == 0 {
			return errMalformed
		}
		b = b[n:]
		ok := true
		switch f.number {
		case v1MetadataType:
			kind, ok = int32(num), f.wire == wireVarint
		case v1MetadataFamily:
			item.family, ok = f.bytes, f.wire == wireBytes
		case v1MetadataHelp:
			item.help, ok = f.bytes, f.wire == wireBytes
		case v1MetadataUnit:
			item.unit, ok = f.bytes, f.wire == wireBytes
		}
		if !ok {
			return errMalformed
		}
	}
	if err := q.takeRow(); err != nil {
		return err
	}
	item.kind = metricTypeOf(kind)
	if rule := checkFamily(item.family, q.limits); rule != "" {
		q.refusals.add(refusedMetadata, 1, func() string { return "metadata of family " + quoteShort(item.family) + ": " + rule })
		return nil
	}
	item.hash = q.hasher.metadataBytes(raw)
	q.metadata.items = append(q.metadata.items, item)
	return nil
}
