package wire

import (
	"encoding/binary"
	"math"

	"github.com/quorate/quorate"
)

// AppendBatchResult appends an encoded result, as it travels from the leader of
// a set to the node that forwarded the batch: one byte of status, uvarint bounds
// version, uvarint floats, histograms, exemplars, duplicates, refused rows; where
// rows were refused uvarint how many of them were out of bounds, then the first
// one's section, uvarint row and reason; uvarint number of refs, each a uvarint.
func AppendBatchResult(dst []byte, r *BatchResult) []byte {
	dst = append(dst, byte(r.Status))
	dst = binary.AppendUvarint(dst, uint64(r.Version))
	for _, n := range [...]int{r.Floats, r.Histograms, r.Exemplars, r.Duplicates, r.Refused} {
		dst = binary.AppendUvarint(dst, uint64(n))
	}
	if r.Refused > 0 {
		dst = binary.AppendUvarint(dst, uint64(r.OutOfBounds))
		dst = append(dst, byte(r.First.Section))
		dst = binary.AppendUvarint(dst, uint64(r.First.Row))
		dst = append(dst, byte(r.First.Reason))
	}
	dst = binary.AppendUvarint(dst, uint64(len(r.Defined)))
	for _, ref := range r.Defined {
		dst = binary.AppendUvarint(dst, uint64(ref))
	}
	return dst
}

// DecodeBatchResult decodes what AppendBatchResult appended. The error wraps
// ErrCorrupt. Whether the result fits the batch is for the caller to check.
func DecodeBatchResult(b []byte) (*BatchResult, error) {
	r := newReader(b)
	r.Shortest = true
	count := func(most uint64) int {
		n := r.Uvarint()
		if n > most {
			r.Fail()
			return 0
		}
		return int(n)
	}
	result := &BatchResult{Status: BatchStatus(r.U8()), Version: quorate.BoundsVersion(r.Uvarint())}
	for _, n := range [...]*int{&result.Floats, &result.Histograms, &result.Exemplars, &result.Duplicates, &result.Refused} {
		*n = count(math.MaxInt32)
	}
	if result.Refused > 0 {
		result.OutOfBounds = count(uint64(result.Refused))
		result.First.Section = Section(r.U8())
		result.First.Row = count(math.MaxInt32)
		result.First.Reason = RowReason(r.U8())
		if s := result.First.Section; s < SectionFloats || s > SectionMetadata {
			r.Fail()
		}
	}
	if n := r.Count(1); n > 0 {
		result.Defined = make([]SeriesRef, n)
		for i := range result.Defined {
			result.Defined[i] = SeriesRef(count(uint64(MaxSeriesRef)))
		}
	}
	if result.Status < BatchApplied || result.Status > BatchSealed {
		r.Fail()
	}
	return result, r.finish("batch result")
}
