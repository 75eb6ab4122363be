package tsdbshard

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

func metricA() []byte { return canonical("__name__", "a") }
func metricB() []byte { return canonical("__name__", "b") }

// oneFloat is a batch of one float of metric a.
func oneFloat(t int64, v float64) *wire.Batch { return &batchOf(1, 1).float(metricA(), t, v).Batch }

// samplesOfA describes the samples of metric a of tenant 1.
func (r *rig) samplesOfA() map[int64]string {
	r.t.Helper()
	return r.dumpNow(1)[1].samples[labelsOf(metricA()).String()]
}

func float(st int64, v float64) string { return describe(sample{ST: st, V: v}) }

func TestSamplesAreJudgedByTheNewestOfTheirSeries(t *testing.T) {
	h := testHistograms()[0].H
	conflict := func(row int) *wire.BatchResult {
		return &wire.BatchResult{Refused: 1, First: wire.RefusedRow{Section: wire.SectionFloats, Row: row, Reason: wire.RowConflict}}
	}
	for _, c := range []struct {
		says  string
		first *batchBuilder
		then  *batchBuilder
		want  *wire.BatchResult // of then; Status, Version and Defined are filled in
		kept  map[int64]string
	}{
		{
			says:  "a newer sample is appended",
			first: batchOf(1, 1).float(metricA(), 10, 1), then: batchOf(1, 1).float(metricA(), 11, 2),
			want: &wire.BatchResult{Floats: 1}, kept: map[int64]string{10: float(0, 1), 11: float(0, 2)},
		},
		{
			says:  "the identical sample counts as stored and as a duplicate",
			first: batchOf(1, 1).floatWithStart(metricA(), 10, 3, 1), then: batchOf(1, 1).floatWithStart(metricA(), 10, 3, 1),
			want: &wire.BatchResult{Floats: 1, Duplicates: 1}, kept: map[int64]string{10: float(3, 1)},
		},
		{
			says:  "another value for the newest timestamp is refused and the first stays",
			first: batchOf(1, 1).float(metricA(), 10, 1), then: batchOf(1, 1).float(metricB(), 1, 1).float(metricA(), 10, 2),
			want: &wire.BatchResult{Floats: 1, Refused: 1, First: conflict(1).First}, kept: map[int64]string{10: float(0, 1)},
		},
		{
			says:  "zero and minus zero are not identical",
			first: batchOf(1, 1).float(metricA(), 10, 0), then: batchOf(1, 1).float(metricA(), 10, math.Copysign(0, -1)),
			want: conflict(0), kept: map[int64]string{10: float(0, 0)},
		},
		{
			says:  "equal NaN payloads are identical",
			first: batchOf(1, 1).float(metricA(), 10, math.Float64frombits(value.StaleNaN)), then: batchOf(1, 1).float(metricA(), 10, math.Float64frombits(value.StaleNaN)),
			want: &wire.BatchResult{Floats: 1, Duplicates: 1}, kept: map[int64]string{10: float(0, math.Float64frombits(value.StaleNaN))},
		},
		{
			says:  "another start timestamp makes another sample",
			first: batchOf(1, 1).floatWithStart(metricA(), 10, 3, 1), then: batchOf(1, 1).floatWithStart(metricA(), 10, 4, 1),
			want: conflict(0), kept: map[int64]string{10: float(3, 1)},
		},
		{
			says:  "a histogram for the timestamp of the newest float is refused",
			first: batchOf(1, 1).float(metricA(), 10, 1), then: batchOf(1, 1).histogram(metricA(), 10, 0, h, nil),
			want: &wire.BatchResult{Refused: 1, First: wire.RefusedRow{Section: wire.SectionHistograms, Reason: wire.RowConflict}},
			kept: map[int64]string{10: float(0, 1)},
		},
		{
			says:  "the identical histogram is a duplicate",
			first: batchOf(1, 1).histogram(metricA(), 10, 0, h, nil), then: batchOf(1, 1).histogram(metricA(), 10, 0, h, nil),
			want: &wire.BatchResult{Histograms: 1, Duplicates: 1}, kept: map[int64]string{10: describe(sample{H: h})},
		},
		{
			says:  "the float histogram of the same counts is another sample",
			first: batchOf(1, 1).histogram(metricA(), 10, 0, h, nil), then: batchOf(1, 1).histogram(metricA(), 10, 0, nil, h.ToFloat(nil)),
			want: &wire.BatchResult{Refused: 1, First: wire.RefusedRow{Section: wire.SectionHistograms, Reason: wire.RowConflict}},
			kept: map[int64]string{10: describe(sample{H: h})},
		},
		{
			says:  "an older sample is stored in its place",
			first: batchOf(1, 1).float(metricA(), 10, 1).float(metricA(), 20, 2), then: batchOf(1, 1).float(metricA(), 15, 3),
			want: &wire.BatchResult{Floats: 1}, kept: map[int64]string{10: float(0, 1), 15: float(0, 3), 20: float(0, 2)},
		},
		{
			says:  "an older sample with another value counts as stored but the first stays",
			first: batchOf(1, 1).float(metricA(), 10, 1).float(metricA(), 20, 2), then: batchOf(1, 1).float(metricA(), 10, 3),
			want: &wire.BatchResult{Floats: 1}, kept: map[int64]string{10: float(0, 1), 20: float(0, 2)},
		},
		{
			says:  "of two late samples of one timestamp the first stays",
			first: batchOf(1, 1).float(metricA(), 20, 2).float(metricA(), 10, 1), then: batchOf(1, 1).float(metricA(), 10, 3),
			want: &wire.BatchResult{Floats: 1}, kept: map[int64]string{10: float(0, 1), 20: float(0, 2)},
		},
		{
			says:  "samples before the start and at the end of the bounds are refused",
			first: batchOf(1, 1).float(metricA(), 0, 1), then: batchOf(1, 1).float(metricA(), -1, 1).float(metricA(), 100, 1).float(metricA(), 99, 1),
			want: &wire.BatchResult{Floats: 1, Refused: 2, OutOfBounds: 2, First: wire.RefusedRow{Section: wire.SectionFloats, Reason: wire.RowOutOfBounds}},
			kept: map[int64]string{0: float(0, 1), 99: float(0, 1)},
		},
		{
			says:  "floats and histograms mix in one series",
			first: batchOf(1, 1).float(metricA(), 1, 1).histogram(metricA(), 2, 1, h, nil), then: batchOf(1, 1).float(metricA(), 3, 3).histogram(metricA(), 4, 0, nil, h.ToFloat(nil)),
			want: &wire.BatchResult{Floats: 1, Histograms: 1},
			kept: map[int64]string{1: float(0, 1), 2: describe(sample{ST: 1, H: h}), 3: float(0, 3), 4: describe(sample{FH: h.ToFloat(nil)})},
		},
	} {
		for _, between := range []string{"nothing", "a flush", "a restart", "a flush and a restart"} {
			t.Run(c.says+"/after "+between, func(t *testing.T) {
				r := newRig(t, t.TempDir(), openRange(0, 100))
				r.write(&c.first.Batch)
				switch between {
				case "a flush":
					r.flush()
				case "a restart":
					r.reopen()
				case "a flush and a restart":
					r.flush()
					r.reopen()
				}
				got := r.write(&c.then.Batch)[0]
				want := *c.want
				want.Status, want.Version, want.Defined = wire.BatchApplied, 1, got.Defined
				require.Equal(t, &want, got)
				require.Equal(t, c.kept, r.samplesOfA())
				r.flush()
				require.Equal(t, c.kept, r.samplesOfA(), "after a flush")
				r.reopen()
				require.Equal(t, c.kept, r.samplesOfA(), "after a restart")
			})
		}
	}
}

func TestProtocol5ABatchOfAnotherBoundsVersionIsRefusedWhole(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 100))
	r.write(oneFloat(1, 1))
	before := r.dumpNow(1)
	for _, version := range []quorate.BoundsVersion{0, 2} {
		stale := batchOf(1, version).float(metricA(), 2, 2).float(metricB(), 2, 2)
		require.Equal(t, &wire.BatchResult{Status: wire.BatchStaleRoute, Version: 1}, r.write(&stale.Batch)[0])
	}
	require.Equal(t, before, r.dumpNow(1))
	require.Equal(t, []wire.SeriesRef{1}, r.write(&batchOf(1, 1).float(metricB(), 2, 2).Batch)[0].Defined,
		"refused batches define nothing")
}

func TestProtocol20ABatchWithARefThatIsNotItsTenantsIsRefusedWhole(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 100))
	require.Equal(t, []wire.SeriesRef{0}, r.write(oneFloat(1, 1))[0].Defined)
	before := r.dumpNow(1, 2)

	unknown := batchOf(1, 1).float(metricB(), 2, 2).floatRow(wire.ByRef(1), 2, 0, 2)
	require.Equal(t, &wire.BatchResult{Status: wire.BatchUnknownRef, Version: 1}, r.write(&unknown.Batch)[0],
		"ref 1 is not defined before this batch")

	foreign := batchOf(2, 1).float(metricB(), 2, 2).floatRow(wire.ByRef(0), 2, 0, 2)
	require.Equal(t, &wire.BatchResult{Status: wire.BatchUnknownRef, Version: 1}, r.write(&foreign.Batch)[0],
		"ref 0 is another tenant's")

	exemplar := batchOf(1, 1).float(metricB(), 2, 2)
	exemplar.ExemplarSeries, exemplar.ExemplarTimestamps = []wire.RowSeries{wire.ByRef(9)}, []int64{1}
	exemplar.ExemplarValues, exemplar.ExemplarLabels = []float64{1}, [][]byte{nil}
	require.Equal(t, wire.BatchUnknownRef, r.write(&exemplar.Batch)[0].Status)

	require.Equal(t, before, r.dumpNow(1, 2))
	require.Equal(t, []wire.SeriesRef{1}, r.write(&batchOf(2, 1).float(metricB(), 2, 2).Batch)[0].Defined,
		"refused batches define nothing")
	foreign = batchOf(2, 1).floatRow(wire.ByRef(0), 3, 0, 2)
	require.Equal(t, wire.BatchUnknownRef, r.write(&foreign.Batch)[0].Status, "nor is it a tenant's that has another series")
}

func TestProtocol20RefsAreDenseAndLastForEver(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 100))
	define := func(tenant quorate.TenantID, names ...string) []wire.SeriesRef {
		b := batchOf(tenant, 1)
		for _, n := range names {
			b.Definitions = append(b.Definitions, canonical("__name__", n))
		}
		return r.write(&b.Batch)[0].Defined
	}
	require.Equal(t, []wire.SeriesRef{0, 1, 0}, define(1, "x", "y", "x"))
	require.Equal(t, []wire.SeriesRef{2, 3}, define(2, "x", "z"), "the same labels of another tenant are another series")
	r.flush() // series without samples are in the file as well
	r.reopen()
	require.Equal(t, []wire.SeriesRef{3, 2}, define(2, "z", "x"))
	require.Equal(t, []wire.SeriesRef{4, 1}, define(1, "new", "y"))
	r.reopen()
	require.Equal(t, []wire.SeriesRef{4}, define(1, "new"))
}

// TestBoundsTellTheNewestSample, which may lie past them, whatever was flushed.
func TestBoundsTellTheNewestSample(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 100))
	r.write(&batchOf(1, 1).float(metricA(), 70, 1).float(metricA(), 30, 1).Batch)
	r.flush()
	r.reopen()
	r.write(oneFloat(60, 1))
	cut := openRange(0, 50)
	cut.Version = 2
	require.Equal(t, []any{&BoundsResult{Applied: true, Index: r.index + 1, Bounds: cut, Newest: 70}}, r.apply(wire.KindBounds, AppendBoundsCommand(nil, cut)))
}

func TestProtocol5BoundsChangeByEntries(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 100))
	cut := openRange(0, 50)
	cut.Version = 2
	command := AppendBoundsCommand(nil, cut)
	require.Equal(t, []any{&BoundsResult{Applied: true, Index: 2, Bounds: cut, Newest: math.MinInt64}}, r.apply(wire.KindBounds, command))
	require.Equal(t, cut, r.shard.Bounds())
	require.Equal(t, []any{&BoundsResult{Applied: true, Index: 3, Bounds: cut, Newest: math.MinInt64}}, r.apply(wire.KindBounds, command), "repeating it changes nothing")

	older := openRange(0, 70)
	require.Equal(t, []any{&BoundsResult{Index: 4, Bounds: cut, Newest: math.MinInt64}}, r.apply(wire.KindBounds, AppendBoundsCommand(nil, older)), "an older intent is refused")

	require.Equal(t, wire.BatchStaleRoute, r.write(oneFloat(10, 1))[0].Status)
	got := r.write(&batchOf(1, 2).float(metricA(), 60, 1).Batch)[0]
	require.Equal(t, 1, got.OutOfBounds)
	require.Equal(t, quorate.BoundsVersion(2), got.Version)
	r.flush()
	r.reopen()
	require.Equal(t, cut, r.shard.Bounds(), "bounds are in the manifest even when there is nothing to write")
}

func TestProtocol22EntriesThatStopTheReplica(t *testing.T) {
	var enc wire.Encoder
	good := oneFloat(1, 1).Append(nil)
	newer := enc.Append(nil, wire.KindWrite, good)
	newer[2]++ // its version
	newer = newer[:len(newer)-4]
	newer = binary.LittleEndian.AppendUint32(newer, crc32.Checksum(newer, crc32.MakeTable(crc32.Castagnoli)))
	for says, data := range map[string][]byte{
		"an unknown kind":    enc.Append(nil, wire.KindMeta+1, good),
		"an unknown version": newer,
		"no seal":            enc.Append(nil, wire.KindSeal, []byte("x")),
		"no deletion":        enc.Append(nil, wire.KindDelete, []byte("x")),
		"activate":           enc.Append(nil, wire.KindActivate, []byte("x")),
		"a metadata command": enc.Append(nil, wire.KindMeta, []byte("x")),
		"no entry at all":    []byte("garbage"),
		"an empty entry":     nil,
		"a batch cut short":  enc.Append(nil, wire.KindWrite, good, good[:len(good)-1]),
		"bounds cut short":   enc.Append(nil, wire.KindBounds, []byte{1}),
		"empty bounds":       enc.Append(nil, wire.KindBounds, AppendBoundsCommand(nil, openRange(5, 5))),
	} {
		t.Run(says, func(t *testing.T) {
			r := newRig(t, t.TempDir(), openRange(0, 100))
			r.write(oneFloat(5, 5))
			_, err := r.shard.ApplyBatch([]quorate.LogEntry{
				{Index: r.index + 1, Data: data},
				{Index: r.index + 2, Data: enc.Append(nil, wire.KindWrite, good)},
			})
			require.Error(t, err)
			_, err = r.shard.ApplyBatch([]quorate.LogEntry{{Index: r.index + 2, Data: enc.Append(nil, wire.KindWrite, good)}})
			require.Error(t, err, "nothing is applied after it")
			_, err = r.shard.Freeze()
			require.Error(t, err, "and nothing is flushed")
			require.Equal(t, map[int64]string{5: float(0, 5)}, r.samplesOfA())
		})
	}
}

func TestEntriesOutOfTurnAreRefused(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 100))
	r.write(oneFloat(1, 1))
	_, err := r.shard.ApplyBatch(r.log)
	require.ErrorContains(t, err, "applied already")
}

// TestAnExemplarThatIsTooOldCostsNothing: senders repeat exemplars with every
// scrape, also those that newer ones have displaced.
func TestAnExemplarThatIsTooOldCostsNothing(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 1_000_000))
	full := batchOf(1, 1)
	for i := range MaxExemplars {
		full.exemplar(metricA(), int64(5000+i), 1, nil)
	}
	r.write(&full.Batch)
	live := r.shard.st.live
	bytes, slabUsed := r.shard.MemcacheBytes(), live.room.used
	for range 3 {
		old := batchOf(1, 1).exemplar(metricA(), 4999, 1, canonical("trace_id", "0123456789abcdef"))
		require.Equal(t, 1, r.write(&old.Batch)[0].Exemplars)
	}
	require.Equal(t, bytes, r.shard.MemcacheBytes())
	require.Equal(t, slabUsed, live.room.used)
}

func TestExemplarsAreKeptOnceAndTheNewestStay(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 1_000_000))
	m := newModel(openRange(0, 1_000_000))
	write := func(b *batchBuilder) {
		got := r.write(&b.Batch)[0]
		require.Equal(t, m.apply(t, &b.Batch), got)
	}
	trace := func(i int) []byte { return canonical("trace_id", fmt.Sprint(i)) }
	b := batchOf(1, 1).float(metricA(), 1, 1)
	for i := range 3000 {
		b.exemplar(metricA(), int64(5000+i), 1, trace(i))
	}
	b.exemplar(metricA(), 5000, 1, trace(0)).exemplar(metricB(), 3, 4, nil)
	write(b)
	r.flush()
	b = batchOf(1, 1)
	for i := range 3000 {
		b.exemplar(metricA(), int64(9000-i), 1, trace(i%2)) // backwards
	}
	write(b)
	require.Equal(t, m.dump(1), r.dumpNow(1))
	b = batchOf(1, 1)
	for i := range 5000 {
		b.exemplar(metricA(), int64(6000+i), 2, nil)
	}
	b.exemplar(metricA(), 1, 2, nil) // older than all that are kept
	write(b)
	require.Equal(t, m.dump(1), r.dumpNow(1))
	require.Len(t, r.dumpNow(1)[1].exemplars[labelsOf(metricA()).String()], MaxExemplars)
	r.flush()
	r.reopen()
	require.Equal(t, m.dump(1), r.dumpNow(1))

	v := r.view()
	defer v.Close()
	q := v.Tenant(1).ExemplarQuerier()
	got, err := q.Select(3, 3, []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "nothing")},
		[]*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "__name__", "a|b"), labels.MustNewMatcher(labels.MatchEqual, "x", "")})
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Equal(t, labelsOf(metricB()), got[0].SeriesLabels)
	none, err := v.Tenant(9).ExemplarQuerier().Select(0, 10)
	require.NoError(t, err)
	require.Empty(t, none)
}

func TestMetadataIsKeptWhenItChangesSomething(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 100))
	r.write(&batchOf(1, 1).metadata("f", "counter", "s", "help").metadata("g", "gauge", "", "").Batch)
	r.flush()
	r.write(&batchOf(1, 1).metadata("f", "counter", "s", "help").Batch)
	files := len(r.shard.st.files)
	r.flush()
	require.Len(t, r.shard.st.files, files, "the same again changes nothing, so there is nothing to write")
	r.write(&batchOf(1, 1).metadata("f", "counter", "s", "other").Batch, &batchOf(2, 1).metadata("f", "gauge", "", "").Batch)
	r.flush()
	r.reopen()
	require.Equal(t, map[string]string{"f": "counter|s|other", "g": "gauge||"}, r.dumpNow(1)[1].metadata)
	v := r.view()
	defer v.Close()
	require.Len(t, families(t, v.Tenant(2), "f"), 1)
	require.Empty(t, families(t, v.Tenant(2), "g"))
	require.Empty(t, families(t, v.Tenant(3), ""))
}

func TestARowThatIsNoHistogramIsRefusedAndTheOthersAreApplied(t *testing.T) {
	encoded := func(h *histogram.Histogram) []byte { return wire.AppendHistogram(nil, h) }
	for says, bad := range map[string][]byte{
		"no bytes":                nil,
		"garbage":                 []byte("garbage"),
		"more spans than buckets": encoded(&histogram.Histogram{PositiveSpans: []histogram.Span{{Length: 3}}, PositiveBuckets: []int64{1}}),
		"a schema of no meaning":  encoded(&histogram.Histogram{Schema: -7}),
		"custom buckets without bounds": encoded(&histogram.Histogram{
			Schema: histogram.CustomBucketsSchema, PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: []int64{1, 1},
		}),
	} {
		t.Run(says, func(t *testing.T) {
			r := newRig(t, t.TempDir(), openRange(0, 100))
			b := batchOf(1, 1).float(metricA(), 5, 5)
			b.HistogramSeries = append(b.HistogramSeries, b.Series[0])
			b.HistogramTimestamps = append(b.HistogramTimestamps, 6)
			b.Histograms = append(b.Histograms, bad)
			got := r.write(&b.Batch)[0]
			require.Equal(t, wire.BatchApplied, got.Status)
			require.Equal(t, 1, got.Floats)
			require.Equal(t, 0, got.Histograms)
			require.Equal(t, 1, got.Refused)
			require.Equal(t, wire.RefusedRow{Section: wire.SectionHistograms, Reason: wire.RowInvalid}, got.First)
			require.Equal(t, map[int64]string{5: float(0, 5)}, r.samplesOfA())
		})
	}
}
