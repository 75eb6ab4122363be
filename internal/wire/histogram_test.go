package wire

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func exampleHistogram() *histogram.Histogram {
	return &histogram.Histogram{
		CounterResetHint: histogram.NotCounterReset,
		Schema:           3, ZeroThreshold: 0.001, ZeroCount: 2, Count: 9, Sum: 18.4,
		PositiveSpans: []histogram.Span{{Offset: -2, Length: 2}, {Offset: 3, Length: 1}}, PositiveBuckets: []int64{1, 2, -1},
		NegativeSpans: []histogram.Span{{Offset: 0, Length: 1}}, NegativeBuckets: []int64{1},
	}
}

func exampleCustomHistogram() *histogram.FloatHistogram {
	return &histogram.FloatHistogram{
		Schema: histogram.CustomBucketsSchema, Count: 6.5, Sum: 12.5,
		PositiveSpans: []histogram.Span{{Offset: 0, Length: 3}}, PositiveBuckets: []float64{1, 2.5, 3},
		CustomValues: []float64{0.1, 1, 10},
	}
}

// encodeHistogram encodes whichever of the two is there.
func encodeHistogram(h *histogram.Histogram, fh *histogram.FloatHistogram) []byte {
	if h != nil {
		return AppendHistogram(nil, h)
	}
	return AppendFloatHistogram(nil, fh)
}

func TestHistogramComesBackAsItWent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := anyIntHistogram.Draw(t, "histogram")
		data := AppendHistogram(nil, h)
		got, float, err := DecodeHistogram(data)
		require.NoError(t, err)
		require.Nil(t, float)
		require.False(t, IsFloatHistogram(data))
		require.Equal(t, data, AppendHistogram(nil, got), "bit by bit")
		require.Equal(t, h.CounterResetHint, got.CounterResetHint)
		require.Equal(t, h.CustomValues == nil, got.CustomValues == nil)
		if !math.IsNaN(h.Sum) && !math.IsNaN(h.ZeroThreshold) && h.CustomValues == nil {
			require.True(t, h.Equals(got), "%s came back as %s", h, got)
		}
	})
}

func TestFloatHistogramComesBackAsItWent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := anyFloatHistogram.Draw(t, "histogram")
		data := AppendFloatHistogram(nil, h)
		integer, got, err := DecodeHistogram(data)
		require.NoError(t, err)
		require.Nil(t, integer)
		require.True(t, IsFloatHistogram(data))
		require.Equal(t, data, AppendFloatHistogram(nil, got), "bit by bit")
		require.Equal(t, h.CounterResetHint, got.CounterResetHint)
		require.True(t, equalFloats(h.PositiveBuckets, got.PositiveBuckets))
		require.True(t, equalFloats(h.NegativeBuckets, got.NegativeBuckets))
		require.True(t, equalFloats(h.CustomValues, got.CustomValues))
	})
}

func TestHistogramExamplesKeepTheirFields(t *testing.T) {
	h, _, err := DecodeHistogram(AppendHistogram(nil, exampleHistogram()))
	require.NoError(t, err)
	require.Equal(t, exampleHistogram(), h)
	_, fh, err := DecodeHistogram(AppendFloatHistogram(nil, exampleCustomHistogram()))
	require.NoError(t, err)
	require.Equal(t, exampleCustomHistogram(), fh)
}

func TestAStaleHistogramKeepsItsNaN(t *testing.T) {
	stale := math.Float64frombits(0x7ff0000000000002)
	h, _, err := DecodeHistogram(AppendHistogram(nil, &histogram.Histogram{Sum: stale}))
	require.NoError(t, err)
	require.True(t, equalFloats([]float64{stale}, []float64{h.Sum}))
}

func TestDecodeHistogramRefuses(t *testing.T) {
	good := AppendHistogram(nil, exampleHistogram())
	for name, data := range map[string][]byte{
		"nothing":               nil,
		"unknown flags":         append([]byte{1 << 6}, good[1:]...),
		"a tail":                append(bytes.Clone(good), 0),
		"a schema of 64 bits":   {0, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
		"custom bounds missing": append([]byte{good[0] | histogramCustom}, good[1:]...),
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := DecodeHistogram(data)
			require.ErrorIs(t, err, ErrCorrupt)
		})
	}
	for cut := range good {
		_, _, err := DecodeHistogram(good[:cut])
		require.ErrorIs(t, err, ErrCorrupt, "cut to %d bytes", cut)
	}
}

func FuzzDecodeHistogram(f *testing.F) {
	f.Add(AppendHistogram(nil, exampleHistogram()))
	f.Add(AppendFloatHistogram(nil, exampleCustomHistogram()))
	f.Add(AppendFloatHistogram(nil, exampleHistogram().ToFloat(nil)))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, fh, err := DecodeHistogram(data)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("error of no kind: %v", err)
			}
			return
		}
		if (h == nil) == (fh == nil) || IsFloatHistogram(data) != (fh != nil) {
			t.Fatal("exactly one result, the one that IsFloatHistogram tells")
		}
		encoded := encodeHistogram(h, fh)
		h, fh, err = DecodeHistogram(encoded)
		if err != nil {
			t.Fatalf("encoded again it does not decode: %v", err)
		}
		if !bytes.Equal(encoded, encodeHistogram(h, fh)) {
			t.Fatal("a histogram has two encodings")
		}
	})
}
