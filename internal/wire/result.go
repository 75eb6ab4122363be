package wire

import (
	"fmt"

	"github.com/quorate/quorate"
)

// BatchStatus tells what Apply did with a batch as a whole.
type BatchStatus uint8

const (
	// BatchApplied means that every row was judged; see the counts.
	BatchApplied BatchStatus = iota + 1
	// BatchStaleRoute means that the batch was routed under another bounds
	// version and nothing of it was applied (PROTOCOL 5).
	BatchStaleRoute
	// BatchUnknownRef means that a row names a ref this ReplicaSet never gave
	// to this tenant, and nothing of the batch was applied (PROTOCOL 20).
	BatchUnknownRef
	// BatchSealed means that the set takes no more writes (PROTOCOL 14).
	BatchSealed
)

// String prints the status in words.
func (s BatchStatus) String() string {
	switch s {
	case BatchApplied:
		return "applied"
	case BatchStaleRoute:
		return "stale route"
	case BatchUnknownRef:
		return "unknown ref"
	case BatchSealed:
		return "sealed"
	}
	return fmt.Sprintf("BatchStatus(%d)", uint8(s))
}

// RowReason tells why Apply refused one row.
type RowReason uint8

const (
	// RowConflict is a sample whose timestamp is that of its series' newest
	// sample, with another value. The first applied stays.
	RowConflict RowReason = iota + 1
	// RowOutOfBounds is a sample outside the set's time bounds.
	RowOutOfBounds
	// RowInvalid is a native histogram that does not decode, or whose spans,
	// buckets and schema do not fit each other. Edges refuse these before they
	// are proposed; here they are refused, not an error, so that no row a
	// client sends can ever stop a set.
	RowInvalid
)

// String prints the reason as the sentence part that error messages use.
func (r RowReason) String() string {
	switch r {
	case RowConflict:
		return "duplicate sample for timestamp with another value"
	case RowOutOfBounds:
		return "sample outside the time bounds of its bucket"
	case RowInvalid:
		return "invalid native histogram"
	}
	return fmt.Sprintf("RowReason(%d)", uint8(r))
}

// RefusedRow names one row that Apply refused.
type RefusedRow struct {
	Section Section
	Row     int // position within its section
	Reason  RowReason
}

// BatchResult is what Apply answers for one write batch. The same log gives
// the same results on every replica.
type BatchResult struct {
	Status BatchStatus
	// Version is the set's bounds version at this entry.
	Version quorate.BoundsVersion
	// Floats, Histograms and Exemplars count rows that are stored now:
	// applied by this batch, or identical to one that was there.
	Floats, Histograms, Exemplars int
	// Duplicates counts the rows among them that were there already.
	Duplicates int
	// Refused counts refused rows; First is the first of them in section and
	// row order, meaningful when Refused > 0. OutOfBounds counts those of them
	// that lie outside the bounds.
	Refused, OutOfBounds int
	First                RefusedRow
	// Defined holds the refs of the batch's definitions, in their order.
	Defined []SeriesRef
}
