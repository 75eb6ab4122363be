package tsdbshard

import (
	"encoding/hex"
	"fmt"
	"os"

	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate/internal/wire"
)

// TestChecksumGolden pins the vectors of docs/format/checksum.md, which stands
// on them: the stream that is hashed, and its hash.
func TestChecksumGolden(t *testing.T) {
	integer := &histogram.Histogram{
		Schema: 3, ZeroThreshold: 0.001, ZeroCount: 2, Count: 9, Sum: 12.5,
		PositiveSpans:   []histogram.Span{{Offset: -1, Length: 3}},
		PositiveBuckets: []int64{3, -3, 4}, // 3, 0, 4
	}
	float := &histogram.FloatHistogram{
		CounterResetHint: histogram.GaugeType, Schema: histogram.CustomBucketsSchema, Count: 1.5, Sum: 2,
		PositiveSpans:   []histogram.Span{{Offset: 1, Length: 1}},
		PositiveBuckets: []float64{1.5}, CustomValues: []float64{1, 5},
	}
	for name, b := range map[string]*batchBuilder{
		"nothing": nil,
		"floats":  batchOf(1, 1).float(metricA(), 10, 1).floatWithStart(metricA(), 25, 5, 2.5),
		"everything": batchOf(300, 1).histogram(canonical("__name__", "h", "job", "x"), 10, 0, integer, nil).
			histogram(canonical("__name__", "h", "job", "x"), 20, 7, nil, float).
			exemplar(canonical("__name__", "h", "job", "x"), 20, 1, canonical("trace_id", "abc")).
			metadata("h", "histogram", "seconds", "Help."),
	} {
		r := newRig(t, t.TempDir(), openRange(0, 100))
		if b != nil {
			r.write(&b.Batch)
		}
		r.seal(wire.Seal{})
		src := r.sources(nil)
		h := newLogicalHash()
		require.NoError(t, src.walk(t.Context(), h))
		src.View.Close()
		stream := hex.EncodeToString(h.buf) // all but its last record
		got := fmt.Sprintf("%s\n%s\n", stream, r.checksum(nil))
		golden, err := os.ReadFile("testdata/checksum-" + name + ".txt")
		require.NoError(t, err)
		require.Equal(t, string(golden), got, name)
	}
}
