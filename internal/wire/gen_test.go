package wire

import (
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"pgregory.net/rapid"

	"github.com/quorate/quorate"
)

// The generators of this file make what the encoders are handed in life, plus
// the corners of every type.

var anyValue = rapid.OneOf(
	rapid.Float64(),
	rapid.SampledFrom([]float64{
		0, math.Copysign(0, -1), 1, -1, 0.1, 0.3, 1.001, 12.345678, 1 << 52, 1<<52 - 1, -(1 << 52), 1 << 53, math.MaxFloat64,
		math.SmallestNonzeroFloat64, math.Inf(1), math.Inf(-1), math.NaN(), math.Float64frombits(0x7ff0000000000002),
		-math.MaxInt64, math.MinInt64, 0.000001, 123456789.123456,
	}),
	rapid.Map(rapid.Int64(), func(i int64) float64 { return float64(i) }),
	rapid.Map(rapid.Int64Range(-1e9, 1e9), func(i int64) float64 { return float64(i) / 1000 }),
	rapid.Map(rapid.Uint64(), math.Float64frombits),
)

var anyTime = rapid.OneOf(
	rapid.Int64(),
	rapid.Int64Range(1_770_000_000_000, 1_770_000_060_000),
	rapid.SampledFrom([]int64{0, math.MinInt64, math.MaxInt64}),
)

var anyText = rapid.StringN(1, 12, 64)

var anyLabels = rapid.Custom(func(t *rapid.T) []byte {
	names := rapid.SliceOfNDistinct(anyText, 1, 6, rapid.ID[string]).Draw(t, "names")
	slices.Sort(names)
	var l []byte
	for _, n := range names {
		l = AppendLabel(l, n, anyText.Draw(t, "value"))
	}
	return l
})

// column draws n elements of g.
func column[T any](t *rapid.T, g *rapid.Generator[T], n int, name string) []T {
	return rapid.SliceOfN(g, n, n).Draw(t, name)
}

func drawTimes(t *rapid.T, n int, name string) []int64 {
	if rapid.Bool().Draw(t, name+" are equal") {
		return slices.Repeat([]int64{anyTime.Draw(t, name)}, n)
	}
	return column(t, anyTime, n, name)
}

// drawStarts draws start timestamps: none at all, or one for each time with
// zeros among them. The pair 2^63 ms apart has no encoding by design.
func drawStarts(t *rapid.T, times []int64, name string) []int64 {
	if !rapid.Bool().Draw(t, name+" are there") {
		return nil
	}
	starts := make([]int64, len(times))
	for i, at := range times {
		starts[i] = rapid.OneOf(rapid.Just(int64(0)), rapid.Just(at-15_000), anyTime).Draw(t, name)
		if at-starts[i] == math.MinInt64 {
			starts[i] = 0
		}
	}
	if !slices.ContainsFunc(starts, func(st int64) bool { return st != 0 }) {
		return nil
	}
	return starts
}

var anyBatch = rapid.Custom(func(t *rapid.T) *Batch {
	b := &Batch{
		Tenant:      quorate.TenantID(rapid.Uint64().Draw(t, "tenant")),
		Version:     quorate.BoundsVersion(rapid.Uint64().Draw(t, "version")),
		Definitions: rapid.SliceOfN(anyLabels, 0, 4).Draw(t, "definitions"),
	}
	series := rapid.Map(rapid.Uint32Range(0, uint32(MaxSeriesRef)), func(r uint32) RowSeries { return ByRef(SeriesRef(r)) })
	if n := len(b.Definitions); n > 0 {
		series = rapid.OneOf(series, rapid.Map(rapid.IntRange(0, n-1), ByDefinition))
	}
	n := rapid.IntRange(0, 20).Draw(t, "floats")
	b.Series = column(t, series, n, "series")
	b.Timestamps = drawTimes(t, n, "times")
	b.StartTimestamps = drawStarts(t, b.Timestamps, "starts")
	b.Values = column(t, anyValue, n, "values")

	n = rapid.IntRange(0, 3).Draw(t, "histograms")
	b.HistogramSeries = column(t, series, n, "histogram series")
	b.HistogramTimestamps = drawTimes(t, n, "histogram times")
	b.HistogramStartTimestamps = drawStarts(t, b.HistogramTimestamps, "histogram starts")
	b.Histograms = column(t, anyEncodedHistogram, n, "histograms")

	n = rapid.IntRange(0, 3).Draw(t, "exemplars")
	b.ExemplarSeries = column(t, series, n, "exemplar series")
	b.ExemplarTimestamps = drawTimes(t, n, "exemplar times")
	b.ExemplarValues = column(t, anyValue, n, "exemplar values")
	b.ExemplarLabels = column(t, rapid.OneOf(rapid.Just([]byte{}), anyLabels), n, "exemplar labels")

	b.Metadata = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Metadata {
		return Metadata{
			Family: anyText.Draw(t, "family"), Type: anyText.Draw(t, "type"),
			Unit: rapid.String().Draw(t, "unit"), Help: rapid.String().Draw(t, "help"),
		}
	}), 0, 3).Draw(t, "metadata")
	return b
})

var anySpans = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) histogram.Span {
	return histogram.Span{Offset: rapid.Int32().Draw(t, "offset"), Length: rapid.Uint32().Draw(t, "length")}
}), 0, 4)

var anyIntHistogram = rapid.Custom(func(t *rapid.T) *histogram.Histogram {
	return &histogram.Histogram{
		CounterResetHint: histogram.CounterResetHint(rapid.ByteRange(0, 3).Draw(t, "hint")),
		Schema:           rapid.Int32().Draw(t, "schema"),
		ZeroThreshold:    anyValue.Draw(t, "zero threshold"),
		ZeroCount:        rapid.Uint64().Draw(t, "zero count"),
		Count:            rapid.Uint64().Draw(t, "count"),
		Sum:              anyValue.Draw(t, "sum"),
		PositiveSpans:    anySpans.Draw(t, "positive spans"),
		PositiveBuckets:  rapid.SliceOfN(rapid.Int64(), 0, 6).Draw(t, "positive"),
		NegativeSpans:    anySpans.Draw(t, "negative spans"),
		NegativeBuckets:  rapid.SliceOfN(rapid.Int64(), 0, 6).Draw(t, "negative"),
		CustomValues:     drawCustom(t),
	}
})

var anyFloatHistogram = rapid.Custom(func(t *rapid.T) *histogram.FloatHistogram {
	return &histogram.FloatHistogram{
		CounterResetHint: histogram.CounterResetHint(rapid.ByteRange(0, 3).Draw(t, "hint")),
		Schema:           rapid.Int32().Draw(t, "schema"),
		ZeroThreshold:    anyValue.Draw(t, "zero threshold"),
		ZeroCount:        anyValue.Draw(t, "zero count"),
		Count:            anyValue.Draw(t, "count"),
		Sum:              anyValue.Draw(t, "sum"),
		PositiveSpans:    anySpans.Draw(t, "positive spans"),
		PositiveBuckets:  rapid.SliceOfN(anyValue, 0, 6).Draw(t, "positive"),
		NegativeSpans:    anySpans.Draw(t, "negative spans"),
		NegativeBuckets:  rapid.SliceOfN(anyValue, 0, 6).Draw(t, "negative"),
		CustomValues:     drawCustom(t),
	}
})

// drawCustom draws no custom bounds (nil) or some, possibly zero of them: the
// two are not the same histogram.
func drawCustom(t *rapid.T) []float64 {
	if !rapid.Bool().Draw(t, "custom buckets") {
		return nil
	}
	return append([]float64{}, rapid.SliceOfN(anyValue, 0, 4).Draw(t, "bounds")...)
}

var anyEncodedHistogram = rapid.Custom(func(t *rapid.T) []byte {
	if rapid.Bool().Draw(t, "float") {
		return AppendFloatHistogram(nil, anyFloatHistogram.Draw(t, "histogram"))
	}
	return AppendHistogram(nil, anyIntHistogram.Draw(t, "histogram"))
})
