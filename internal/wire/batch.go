package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
)

// SeriesRef is a series' number within one ReplicaSet: dense from 0, assigned
// in Apply order, valid for ever (PROTOCOL 20).
type SeriesRef uint32

// MaxSeriesRef is the largest ref: one below 2^31, so that a row can also name
// a definition of its own batch.
const MaxSeriesRef SeriesRef = 1<<31 - 1

// RowSeries names the series of a batch's row: either a ref of the ReplicaSet
// or, with the lowest bit set, the position of a definition in the batch.
type RowSeries uint32

// ByRef names a series by its ref.
func ByRef(ref SeriesRef) RowSeries { return RowSeries(ref) << 1 }

// ByDefinition names the series that the batch's i-th definition defines.
func ByDefinition(i int) RowSeries { return RowSeries(i)<<1 | 1 }

// Definition returns the position of the row's definition, if it names one.
func (s RowSeries) Definition() (int, bool) { return int(s >> 1), s&1 != 0 }

// Ref returns the row's ref; it is meaningful when Definition says false.
func (s RowSeries) Ref() SeriesRef { return SeriesRef(s >> 1) }

// Section numbers the kinds of rows of a batch.
type Section uint8

// The sections of batch format version 1, in the order in which they stand.
const (
	SectionFloats     Section = 1
	SectionHistograms Section = 2
	SectionExemplars  Section = 3
	SectionMetadata   Section = 4
)

// Batch is the rows that one tenant writes to one ReplicaSet with one request:
// the unit that the router sends, a log entry carries and Apply judges.
// Columns of one section have one length; StartTimestamps and
// HistogramStartTimestamps may also be empty, which means all zero.
type Batch struct {
	Tenant  quorate.TenantID
	Version quorate.BoundsVersion
	// Definitions are the canonical labels of series that the writer has no
	// ref for. A series already defined is mapped to its ref.
	Definitions [][]byte

	Series          []RowSeries
	Timestamps      []int64
	StartTimestamps []int64
	Values          []float64

	HistogramSeries          []RowSeries
	HistogramTimestamps      []int64
	HistogramStartTimestamps []int64
	Histograms               [][]byte // encoded, see AppendHistogram

	ExemplarSeries     []RowSeries
	ExemplarTimestamps []int64
	ExemplarValues     []float64
	ExemplarLabels     [][]byte // canonical, may be empty

	Metadata []Metadata
}

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset(tenant quorate.TenantID, version quorate.BoundsVersion) {
	b.Tenant, b.Version = tenant, version
	b.Definitions = b.Definitions[:0]
	b.Series, b.Timestamps, b.StartTimestamps, b.Values = b.Series[:0], b.Timestamps[:0], b.StartTimestamps[:0], b.Values[:0]
	b.HistogramSeries, b.HistogramTimestamps = b.HistogramSeries[:0], b.HistogramTimestamps[:0]
	b.HistogramStartTimestamps, b.Histograms = b.HistogramStartTimestamps[:0], b.Histograms[:0]
	b.ExemplarSeries, b.ExemplarTimestamps = b.ExemplarSeries[:0], b.ExemplarTimestamps[:0]
	b.ExemplarValues, b.ExemplarLabels = b.ExemplarValues[:0], b.ExemplarLabels[:0]
	b.Metadata = b.Metadata[:0]
}

// Rows counts the batch's rows of all sections.
func (b *Batch) Rows() int {
	return len(b.Series) + len(b.HistogramSeries) + len(b.ExemplarSeries) + len(b.Metadata)
}

// Empty tells whether the batch carries nothing: neither rows nor definitions.
func (b *Batch) Empty() bool { return b.Rows() == 0 && len(b.Definitions) == 0 }

// Append appends the batch's encoding to dst: one command of a write entry.
func (b *Batch) Append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(b.Tenant))
	dst = binary.AppendUvarint(dst, uint64(b.Version))
	dst = binary.AppendUvarint(dst, uint64(len(b.Definitions)))
	for _, d := range b.Definitions {
		dst = cursor.AppendBytes(dst, d)
	}
	if len(b.Series) > 0 {
		dst = appendSectionHead(dst, SectionFloats, len(b.Series))
		dst = appendSeriesColumn(dst, b.Series)
		dst = appendTimeColumn(dst, b.Timestamps)
		dst = appendStartColumn(dst, b.StartTimestamps, b.Timestamps)
		dst = appendValueColumn(dst, b.Values)
	}
	if len(b.HistogramSeries) > 0 {
		dst = appendSectionHead(dst, SectionHistograms, len(b.HistogramSeries))
		dst = appendSeriesColumn(dst, b.HistogramSeries)
		dst = appendTimeColumn(dst, b.HistogramTimestamps)
		dst = appendStartColumn(dst, b.HistogramStartTimestamps, b.HistogramTimestamps)
		for _, h := range b.Histograms {
			dst = cursor.AppendBytes(dst, h)
		}
	}
	if len(b.ExemplarSeries) > 0 {
		dst = appendSectionHead(dst, SectionExemplars, len(b.ExemplarSeries))
		dst = appendSeriesColumn(dst, b.ExemplarSeries)
		dst = appendTimeColumn(dst, b.ExemplarTimestamps)
		dst = appendValueColumn(dst, b.ExemplarValues)
		for _, l := range b.ExemplarLabels {
			dst = cursor.AppendBytes(dst, l)
		}
	}
	if len(b.Metadata) > 0 {
		dst = appendSectionHead(dst, SectionMetadata, len(b.Metadata))
		for _, m := range b.Metadata {
			dst = cursor.AppendBytes(dst, m.Family)
			dst = cursor.AppendBytes(dst, m.Type)
			dst = cursor.AppendBytes(dst, m.Unit)
			dst = cursor.AppendBytes(dst, m.Help)
		}
	}
	return dst
}

func appendSectionHead(dst []byte, s Section, rows int) []byte {
	return binary.AppendUvarint(append(dst, byte(s)), uint64(rows))
}

// Decode decodes one command of a write entry into the batch, whose memory is
// used again. Byte slices alias data. Definitions and exemplars' labels are checked
// to be canonical, rows to name a definition that is there; refs are for Apply
// to judge.
func (b *Batch) Decode(data []byte) error {
	r := newReader(data)
	b.Reset(quorate.TenantID(r.Uvarint()), quorate.BoundsVersion(r.Uvarint()))
	for range r.Count(1) {
		b.Definitions = append(b.Definitions, r.Bytes())
	}
	if r.Bad {
		return r.finish("batch")
	}
	for i, d := range b.Definitions {
		if err := CheckLabels(d); err != nil {
			return fmt.Errorf("definition %d: %w", i, err)
		}
	}
	for previous := Section(0); len(r.B) > 0; {
		s := Section(r.U8())
		if s <= previous {
			return fmt.Errorf("%w: batch section %d after section %d", ErrCorrupt, s, previous)
		}
		previous = s
		if err := b.decodeSection(&r, s); err != nil {
			return err
		}
	}
	return r.finish("batch")
}

func (b *Batch) decodeSection(r *reader, s Section) error {
	switch s {
	case SectionFloats:
		n := r.Count(2)
		b.Series = r.seriesColumn(b.Series, n, len(b.Definitions))
		b.Timestamps = r.timeColumn(b.Timestamps, n)
		b.StartTimestamps = r.startColumn(b.StartTimestamps, b.Timestamps)
		b.Values = r.valueColumn(b.Values, n)
	case SectionHistograms:
		n := r.Count(2)
		b.HistogramSeries = r.seriesColumn(b.HistogramSeries, n, len(b.Definitions))
		b.HistogramTimestamps = r.timeColumn(b.HistogramTimestamps, n)
		b.HistogramStartTimestamps = r.startColumn(b.HistogramStartTimestamps, b.HistogramTimestamps)
		for range n {
			b.Histograms = append(b.Histograms, r.Bytes())
		}
	case SectionExemplars:
		n := r.Count(2)
		b.ExemplarSeries = r.seriesColumn(b.ExemplarSeries, n, len(b.Definitions))
		b.ExemplarTimestamps = r.timeColumn(b.ExemplarTimestamps, n)
		b.ExemplarValues = r.valueColumn(b.ExemplarValues, n)
		for i := range n {
			labels := r.Bytes()
			if len(labels) > 0 {
				if err := CheckLabels(labels); err != nil {
					return fmt.Errorf("exemplar %d: %w", i, err)
				}
			}
			b.ExemplarLabels = append(b.ExemplarLabels, labels)
		}
	case SectionMetadata:
		for range r.Count(4) {
			b.Metadata = append(b.Metadata, Metadata{
				Family: string(r.Bytes()), Type: string(r.Bytes()), Unit: string(r.Bytes()), Help: string(r.Bytes()),
			})
		}
	default:
		return fmt.Errorf("%w: batch section %d", ErrUnknownKind, s)
	}
	if r.Bad {
		return r.finish(fmt.Sprintf("batch section %d", s))
	}
	return nil
}
