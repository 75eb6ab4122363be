package quorate

import (
	"fmt"
	"math"
	"time"
)

// TimeRange is the half-open range [Start, End) of sample time in milliseconds.
type TimeRange struct {
	Start, End int64
}

// Forever is the range of every timestamp but the very last.
var Forever = TimeRange{Start: math.MinInt64, End: math.MaxInt64}

// Contains tells whether t lies in the range.
func (r TimeRange) Contains(t int64) bool { return r.Start <= t && t < r.End }

// Overlaps tells whether the range shares an instant with the closed range
// [mint, maxt], the form in which Prometheus' queriers ask.
func (r TimeRange) Overlaps(mint, maxt int64) bool { return r.Start <= maxt && mint < r.End }

// String prints the range in UTC, as "[2026-11-21T00:00:00Z, 2026-11-22T00:00:00Z)".
func (r TimeRange) String() string {
	return fmt.Sprintf("[%s, %s)", FormatTime(r.Start), FormatTime(r.End))
}

// FormatTime prints a sample's timestamp for a person: RFC 3339 in UTC, or the
// bare number of milliseconds where the calendar ends.
func FormatTime(ms int64) string {
	// time.Time formats years 0 to 9999 only.
	const first, last = -62167219200000, 253402300799999
	if ms < first || ms > last {
		return fmt.Sprintf("%dms", ms)
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.999Z")
}

// SetState is the state of a ReplicaSet as its own log knows it (PROTOCOL 5).
type SetState uint8

const (
	// SetOpen accepts samples inside its bounds.
	SetOpen SetState = iota + 1
	// SetSealed accepts nothing any more.
	SetSealed
)

// String prints the state's name.
func (s SetState) String() string {
	switch s {
	case SetOpen:
		return "open"
	case SetSealed:
		return "sealed"
	}
	return fmt.Sprintf("SetState(%d)", uint8(s))
}

// BoundsVersion is the version of a ReplicaSet's time bounds and state. It
// starts at 1 with the genesis and rises with each bounds or seal entry.
type BoundsVersion uint64

// Bounds say which samples a ReplicaSet accepts. They are state-machine state,
// changed only by log entries; a write routed under another version is refused.
type Bounds struct {
	Version BoundsVersion
	Range   TimeRange
	State   SetState
}
