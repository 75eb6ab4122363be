package wire

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/quorate/quorate"
)

// equalFloats compares bit by bit, so that NaN payloads and the sign of zero count.
func equalFloats(a, b []float64) bool {
	return slices.EqualFunc(a, b, func(x, y float64) bool { return math.Float64bits(x) == math.Float64bits(y) })
}

// equalStarts compares columns of which the empty one means all zero.
func equalStarts(a, b []int64) bool {
	for i := range max(len(a), len(b)) {
		var x, y int64
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			return false
		}
	}
	return true
}

// difference names the first column in which two batches differ.
func difference(a, b *Batch) string {
	for _, c := range []struct {
		column string
		equal  bool
	}{
		{"tenant", a.Tenant == b.Tenant},
		{"version", a.Version == b.Version},
		{"definitions", slices.EqualFunc(a.Definitions, b.Definitions, bytes.Equal)},
		{"series", slices.Equal(a.Series, b.Series)},
		{"timestamps", slices.Equal(a.Timestamps, b.Timestamps)},
		{"start timestamps", equalStarts(a.StartTimestamps, b.StartTimestamps)},
		{"values", equalFloats(a.Values, b.Values)},
		{"histogram series", slices.Equal(a.HistogramSeries, b.HistogramSeries)},
		{"histogram timestamps", slices.Equal(a.HistogramTimestamps, b.HistogramTimestamps)},
		{"histogram start timestamps", equalStarts(a.HistogramStartTimestamps, b.HistogramStartTimestamps)},
		{"histograms", slices.EqualFunc(a.Histograms, b.Histograms, bytes.Equal)},
		{"exemplar series", slices.Equal(a.ExemplarSeries, b.ExemplarSeries)},
		{"exemplar timestamps", slices.Equal(a.ExemplarTimestamps, b.ExemplarTimestamps)},
		{"exemplar values", equalFloats(a.ExemplarValues, b.ExemplarValues)},
		{"exemplar labels", slices.EqualFunc(a.ExemplarLabels, b.ExemplarLabels, bytes.Equal)},
		{"metadata", slices.Equal(a.Metadata, b.Metadata)},
	} {
		if !c.equal {
			return c.column
		}
	}
	return ""
}

func TestBatchComesBackAsItWent(t *testing.T) {
	var decoded Batch // used again throughout, as Apply does
	rapid.Check(t, func(t *rapid.T) {
		b := anyBatch.Draw(t, "batch")
		data := b.Append(nil)
		require.NoError(t, decoded.Decode(data))
		require.Empty(t, difference(b, &decoded), "column that differs")
		require.Equal(t, data, decoded.Append(nil), "one batch has one encoding")
		require.Equal(t, b.Rows(), decoded.Rows())
		require.Equal(t, b.Empty(), decoded.Empty())
	})
}

func TestBatchResetForgetsEveryColumn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := anyBatch.Draw(t, "batch")
		b.Reset(7, 8)
		require.Empty(t, difference(&Batch{Tenant: 7, Version: 8}, b))
		require.True(t, b.Empty())
	})
}

func TestEveryPrefixOfABatchIsRefusedOrShorter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := anyBatch.Draw(t, "batch")
		data := b.Append(nil)
		cut := rapid.IntRange(0, len(data)-1).Draw(t, "cut")
		var decoded Batch
		if err := decoded.Decode(data[:cut]); err == nil {
			// A cut between sections is a smaller batch; an entry's frame
			// and checksum keep that from happening.
			require.NotEmpty(t, difference(b, &decoded))
		} else {
			require.ErrorIs(t, err, ErrCorrupt)
		}
	})
}

func TestBatchDecodeRefuses(t *testing.T) {
	head := func(definitions ...[]byte) []byte {
		b := Batch{Tenant: 1, Version: 1, Definitions: definitions}
		return b.Append(nil)
	}
	up := AppendLabel(nil, "__name__", "up")
	for name, tc := range map[string]struct {
		data []byte
		want error
	}{
		"nothing":                                {nil, ErrCorrupt},
		"a count of definitions past the end":    {[]byte{1, 1, 200, 1}, ErrCorrupt},
		"a definition without labels":            {head([]byte{}), ErrCorrupt},
		"a definition with an empty value":       {head(AppendLabel(nil, "a", "")), ErrCorrupt},
		"a definition with an empty name":        {head(AppendLabel(nil, "", "a")), ErrCorrupt},
		"a definition out of order":              {head(AppendLabel(AppendLabel(nil, "b", "1"), "a", "1")), ErrCorrupt},
		"a definition with a name twice":         {head(AppendLabel(AppendLabel(nil, "a", "1"), "a", "2")), ErrCorrupt},
		"a definition cut short":                 {head(up[:len(up)-1]), ErrCorrupt},
		"an unknown section":                     {append(head(), 9, 0), ErrUnknownKind},
		"section zero":                           {append(head(), 0, 0), ErrCorrupt},
		"sections out of order":                  {append(head(), byte(SectionMetadata), 0, byte(SectionFloats), 0), ErrCorrupt},
		"a section twice":                        {append(head(), byte(SectionMetadata), 0, byte(SectionMetadata), 0), ErrCorrupt},
		"a row of a definition that is not":      {append(head(up), byte(SectionFloats), 1, byte(zigzag(3)), timesEqual, 0, startsNone, 0), ErrCorrupt},
		"a row below ref 0":                      {append(head(up), byte(SectionFloats), 1, byte(zigzag(-1)), timesEqual, 0, startsNone, 0), ErrCorrupt},
		"more rows than bytes":                   {append(head(), byte(SectionFloats), 100, 0, 0), ErrCorrupt},
		"an unknown time mode":                   {append(head(), byte(SectionFloats), 1, 0, 9, 0, startsNone, 0), ErrCorrupt},
		"an unknown start mode":                  {append(head(), byte(SectionFloats), 1, 0, timesEqual, 0, 9, 0), ErrCorrupt},
		"a raw value with a mantissa":            {append(head(), byte(SectionFloats), 1, 0, timesEqual, 0, startsNone, 15, 1, 2, 3, 4, 5, 6, 7, 8), ErrCorrupt},
		"a raw value cut short":                  {append(head(), byte(SectionFloats), 1, 0, timesEqual, 0, startsNone, 7, 1, 2, 3, 4, 5, 6, 7), ErrCorrupt},
		"an exemplar with labels out of order":   {append(head(), byte(SectionExemplars), 1, 0, timesEqual, 0, 0, 8, 1, 'b', 1, '1', 1, 'a', 1, '1'), ErrCorrupt},
		"a varint of eleven bytes where a value": {append(head(), append([]byte{byte(SectionFloats), 1, 0, timesEqual, 0, startsNone}, bytes.Repeat([]byte{0xff}, 11)...)...), ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			var b Batch
			require.ErrorIs(t, b.Decode(tc.data), tc.want)
		})
	}
}

func TestAValueTakesTheBytesItNeeds(t *testing.T) {
	for name, tc := range map[string]struct {
		value float64
		bytes int
	}{
		"zero":                      {0, 1},
		"a small count":             {7, 1},
		"minus one":                 {-1, 1},
		"a counter":                 {1_000_000, 4},
		"three decimals":            {12.345, 3},
		"six decimals":              {0.000001, 1},
		"minus zero is kept as is":  {math.Copysign(0, -1), 9},
		"a full mantissa":           {math.Pi, 9},
		"an integer too large":      {1 << 60, 9},
		"not a number":              {math.NaN(), 9},
		"the stale marker":          {math.Float64frombits(0x7ff0000000000002), 9},
		"infinity":                  {math.Inf(-1), 9},
		"the largest exact integer": {maxMantissa - 1, 8},
	} {
		t.Run(name, func(t *testing.T) {
			data := appendValue(nil, tc.value)
			require.Len(t, data, tc.bytes)
			r := newReader(data)
			require.True(t, equalFloats([]float64{tc.value}, r.valueColumn(nil, 1)))
			require.NoError(t, r.finish("value"))
		})
	}
}

func TestVarintsOfEveryLength(t *testing.T) {
	for shift := range 64 {
		for _, u := range []uint64{1 << shift, 1<<shift - 1, 1<<shift | 1} {
			// Both the fast path, with bytes to spare, and the slow one.
			for _, spare := range []int{0, 1, 16} {
				m := unzigzag(u)
				if u >= 1<<60 || m <= -maxMantissa || m >= maxMantissa {
					continue // such values are raw
				}
				data := appendValue(nil, float64(m))
				r := newReader(append(data, make([]byte, spare)...))
				require.Equal(t, []float64{float64(m)}, r.valueColumn(nil, 1))
				require.Len(t, r.B, spare)
			}
		}
	}
}

func FuzzDecodeBatch(f *testing.F) {
	var b Batch
	scrapeRows(&b, 30, 3)
	f.Add(b.Append(nil))
	b.StartTimestamps = slices.Repeat([]int64{1_770_000_000_000}, 30)
	b.Definitions = [][]byte{exampleLabels()}
	b.Series[4] = ByDefinition(0)
	b.HistogramSeries, b.HistogramTimestamps = b.Series[:1], []int64{5}
	b.Histograms = [][]byte{AppendHistogram(nil, exampleHistogram())}
	b.ExemplarSeries, b.ExemplarTimestamps = b.Series[:1], []int64{6}
	b.ExemplarValues, b.ExemplarLabels = []float64{0.5}, [][]byte{AppendLabel(nil, "trace_id", "abc")}
	b.Metadata = []Metadata{{Family: "up", Type: "gauge", Help: "Whether the target is up."}}
	f.Add(b.Append(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		var b, again Batch
		if err := b.Decode(data); err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnknownKind) {
				t.Fatalf("error of no kind: %v", err)
			}
			return
		}
		// A row takes at least two bytes, so no input may decode to more.
		if b.Rows() > len(data) {
			t.Fatalf("%d bytes gave %d rows", len(data), b.Rows())
		}
		if err := again.Decode(b.Append(nil)); err != nil {
			t.Fatalf("encoded again it does not decode: %v", err)
		}
		if d := difference(&b, &again); d != "" {
			t.Fatalf("encoded again its %s differ", d)
		}
	})
}

func TestRowSeriesNamesRefsOrDefinitions(t *testing.T) {
	for _, ref := range []SeriesRef{0, 1, MaxSeriesRef} {
		s := ByRef(ref)
		_, ok := s.Definition()
		require.False(t, ok)
		require.Equal(t, ref, s.Ref())
	}
	i, ok := ByDefinition(12).Definition()
	require.True(t, ok)
	require.Equal(t, 12, i)
	require.Equal(t, quorate.TenantID(0), (&Batch{}).Tenant)
}
