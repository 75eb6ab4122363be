package tsdbshard

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/quorate/quorate"
)

// BoundsResult is what Apply answers for one bounds command.
type BoundsResult struct {
	// Applied tells that Bounds are what the command asked for: it changed
	// them, or they were so already. A command whose version is not newer
	// than the set's is refused unless it repeats them.
	Applied bool
	// Index is that of the entry that was answered.
	Index uint64
	// Bounds are the set's bounds after the command.
	Bounds quorate.Bounds
	// Newest is the time (ms) of the newest sample that the set was ever given,
	// math.MinInt64 when there was none. It may lie past the bounds: the sample
	// was taken under earlier ones.
	Newest int64
}

// AppendBoundsCommand appends the command of a wire.KindBounds entry: uvarint
// version, varint start, varint end (milliseconds, end exclusive). The state
// of b is not part of it.
func AppendBoundsCommand(dst []byte, b quorate.Bounds) []byte { return appendBounds(dst, b) }

func appendBounds(dst []byte, b quorate.Bounds) []byte {
	dst = binary.AppendUvarint(dst, uint64(b.Version))
	dst = binary.AppendVarint(dst, b.Range.Start)
	return binary.AppendVarint(dst, b.Range.End)
}

func (r *reader) bounds() quorate.Bounds {
	b := quorate.Bounds{Version: quorate.BoundsVersion(r.Uvarint())}
	b.Range = quorate.TimeRange{Start: r.Varint(), End: r.Varint()}
	return b
}

func decodeBoundsCommand(command []byte) (quorate.Bounds, error) {
	c := newReader(command)
	b := c.bounds()
	if err := c.finish("bounds command"); err != nil {
		return quorate.Bounds{}, err
	}
	if b.Version == 0 || b.Range.Start >= b.Range.End {
		return quorate.Bounds{}, fmt.Errorf("%w: bounds version %d with range %v", ErrDamaged, b.Version, b.Range)
	}
	return b, nil
}

// changeBounds applies a bounds command (PROTOCOL 4: an older intent is
// refused). The bounds of a sealed set do not change any more.
func (st *state) changeBounds(index uint64, b quorate.Bounds) *BoundsResult {
	if b.Version > st.bounds.Version && st.bounds.State == quorate.SetOpen {
		st.bounds.Version, st.bounds.Range = b.Version, b.Range
	}
	return &BoundsResult{
		Applied: st.bounds.Version == b.Version && st.bounds.Range == b.Range,
		Index:   index,
		Bounds:  st.bounds,
		Newest:  st.newest(),
	}
}

// newest is the time of the newest sample that was ever stored.
func (st *state) newest() int64 {
	newest := int64(math.MinInt64)
	for _, tn := range st.table.byID {
		if tn.info.mint <= tn.info.maxt {
			newest = max(newest, tn.info.maxt)
		}
	}
	return newest
}
