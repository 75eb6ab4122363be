package tsdbshard

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// testValues are floats whose every bit must survive.
func testValues() []float64 {
	return []float64{
		0, math.Copysign(0, -1), 1, 1.5, 1e300, math.Inf(1), math.NaN(),
		math.Float64frombits(value.StaleNaN), math.Float64frombits(0x7ff8dead0000beef), math.Float64frombits(0xfff0000000000001),
	}
}

// testHistograms are histograms of every kind: growing counters with the same
// and with other buckets, resets, explicit resets, gauges, custom buckets,
// stale markers, integer and float.
func testHistograms() []sample {
	spans := []histogram.Span{{Offset: 0, Length: 2}, {Offset: 1, Length: 1}}
	wider := []histogram.Span{{Offset: -2, Length: 5}}
	base := &histogram.Histogram{Schema: 3, ZeroThreshold: 1e-6, ZeroCount: 1, Count: 7, Sum: 3.25, PositiveSpans: spans, PositiveBuckets: []int64{1, 1, 1}}
	more := &histogram.Histogram{Schema: 3, ZeroThreshold: 1e-6, ZeroCount: 2, Count: 12, Sum: 4.5, PositiveSpans: spans, PositiveBuckets: []int64{2, 1, 2}}
	wide := &histogram.Histogram{Schema: 3, ZeroThreshold: 1e-6, ZeroCount: 2, Count: 18, Sum: 9, PositiveSpans: wider, PositiveBuckets: []int64{1, 0, 3, -1, 2}, NegativeSpans: spans, NegativeBuckets: []int64{1, 0, 0}}
	reset := base.Copy()
	reset.CounterResetHint = histogram.CounterReset
	gauge := more.Copy()
	gauge.CounterResetHint = histogram.GaugeType
	otherSchema := base.Copy()
	otherSchema.Schema = 1
	custom := &histogram.Histogram{Schema: histogram.CustomBucketsSchema, Count: 6, Sum: 20, PositiveSpans: []histogram.Span{{Offset: 0, Length: 3}}, PositiveBuckets: []int64{1, 1, 1}, CustomValues: []float64{1, 5, 10}}
	custom2 := custom.Copy()
	custom2.CustomValues = []float64{1, 5, 20, 50}
	custom2.Count, custom2.Sum = 9, 100
	custom2.PositiveBuckets = []int64{2, 1, 1}
	stale := &histogram.Histogram{Sum: math.Float64frombits(value.StaleNaN)}
	var all []sample
	for _, h := range []*histogram.Histogram{base, more, wide, reset, gauge, otherSchema, custom, custom2, stale} {
		fh := h.ToFloat(nil)
		if !value.IsStaleNaN(h.Sum) {
			fh.Count += 0.5
			fh.ZeroCount += 0.5
			if h.Schema == histogram.CustomBucketsSchema {
				fh.ZeroCount = 0
			}
		}
		all = append(all, sample{H: h}, sample{FH: fh})
	}
	return all
}

// machine drives a shard and its model through one random history. An action that
// does not apply to its state calls Skip, by which rapid draws another.
type machine struct {
	t       *rapid.T
	rig     *rig
	model   *model
	clock   int64
	frozen  quorate.Frozen
	payload []byte // of frozen, once persisted
	at      uint64 // index at the freeze
	views   []pinned
	values  []float64
	hists   []sample
}

type pinned struct {
	view  *View
	want  dump
	index uint64
}

var testTenants = []quorate.TenantID{1, 2}

func (m *machine) labels() []byte {
	i := rapid.IntRange(0, 4).Draw(m.t, "series")
	return canonical("__name__", "metric", "instance", fmt.Sprint(i))
}

func (m *machine) time() int64 {
	return m.clock + rapid.Int64Range(-60, 6).Draw(m.t, "time")
}

func (m *machine) batch() *wire.Batch {
	t := m.t
	b := batchOf(rapid.SampledFrom(testTenants).Draw(t, "tenant"), m.model.bounds.Version)
	if rapid.IntRange(0, 15).Draw(t, "stale route") == 0 {
		b.Version += 1
	}
	inOrder := rapid.Bool().Draw(t, "in order")
	start := func() int64 { return rapid.SampledFrom([]int64{0, 0, 0, 5, 7}).Draw(t, "start") }
	for range rapid.IntRange(0, 40).Draw(t, "floats") {
		ts := m.time()
		if inOrder {
			m.clock++
			ts = m.clock
		}
		lset := m.labels()
		if i, ok := m.model.byKey[fmt.Sprintf("%d %s", b.Tenant, lset)]; ok && rapid.IntRange(0, 3).Draw(t, "newest again") == 0 {
			ts = m.model.series[i].newest // judged by its identity, if no delete made that forgotten
		}
		v := rapid.SampledFrom(m.values).Draw(t, "value")
		if len(m.model.series) > 0 && rapid.IntRange(0, 30).Draw(t, "by ref") == 0 {
			ref := rapid.IntRange(0, len(m.model.series)).Draw(t, "ref") // one too high now and then
			b.floatRow(wire.ByRef(wire.SeriesRef(ref)), ts, start(), v)
			continue
		}
		b.floatWithStart(lset, ts, start(), v)
	}
	for range rapid.IntRange(0, 8).Draw(t, "histograms") {
		h := rapid.SampledFrom(m.hists).Draw(t, "histogram")
		ts := m.time()
		if inOrder {
			m.clock++
			ts = m.clock
		}
		b.histogram(m.labels(), ts, start(), h.H, h.FH)
	}
	for range rapid.IntRange(0, 4).Draw(t, "exemplars") {
		var lset []byte
		if rapid.Bool().Draw(t, "exemplar labels") {
			lset = canonical("trace_id", rapid.SampledFrom([]string{"a", "b"}).Draw(t, "trace"))
		}
		b.exemplar(m.labels(), m.time(), rapid.SampledFrom(m.values[:3]).Draw(t, "exemplar"), lset)
	}
	for range rapid.IntRange(0, 2).Draw(t, "metadata") {
		b.metadata(rapid.SampledFrom([]string{"metric", "other"}).Draw(t, "family"),
			rapid.SampledFrom([]string{"counter", "gauge"}).Draw(t, "type"), "", rapid.SampledFrom([]string{"", "help"}).Draw(t, "help"))
	}
	return &b.Batch
}

func (m *machine) Write(*rapid.T) {
	batches := make([]*wire.Batch, rapid.IntRange(1, 3).Draw(m.t, "batches"))
	for i := range batches {
		batches[i] = m.batch()
	}
	got := m.rig.write(batches...)
	for i, b := range batches {
		require.Equal(m.t, m.model.apply(m.t, b), got[i], "result of batch %d", i)
	}
}

func (m *machine) Bounds(t *rapid.T) {
	b := m.model.bounds
	b.Version += quorate.BoundsVersion(rapid.IntRange(0, 1).Draw(t, "version step"))
	b.Range.End = m.clock + rapid.Int64Range(5, 400).Draw(t, "end")
	b.Range.Start = min(b.Range.Start+rapid.Int64Range(0, 3).Draw(t, "start"), b.Range.End-1)
	m.rig.apply(wire.KindBounds, AppendBoundsCommand(nil, b))
	m.model.applyBounds(b)
	require.Equal(t, m.model.bounds, m.rig.shard.Bounds())
}

func (m *machine) deletion() *wire.Deletion {
	t := m.t
	d := &wire.Deletion{Tenant: rapid.SampledFrom(testTenants).Draw(t, "tenant"), MinTime: math.MinInt64, MaxTime: math.MaxInt64}
	if rapid.Bool().Draw(t, "part") {
		d.MinTime = m.time()
		d.MaxTime = d.MinTime + rapid.Int64Range(0, 40).Draw(t, "length")
	}
	pattern := rapid.SampledFrom([]string{"0", "[12]", ".*", "none"}).Draw(t, "instances")
	d.Matchers = []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "instance", pattern)}
	return d
}

func (m *machine) Delete(t *rapid.T) {
	d := m.deletion()
	got := m.rig.apply(wire.KindDelete, d.Append(nil))
	require.Equal(t, []any{m.model.applyDelete(d)}, got)
}

func (m *machine) Seal(t *rapid.T) {
	if rapid.IntRange(0, 9).Draw(t, "seal") != 0 {
		t.Skip("not yet")
	}
	seal := wire.Seal{Intent: rapid.Uint64Range(1, 5).Draw(t, "intent")}
	got := m.rig.apply(wire.KindSeal, AppendSealCommand(nil, &seal))
	require.Equal(t, []any{m.model.applySeal(m.rig.index)}, got)
	info, sealed := m.rig.shard.Sealed()
	require.True(t, sealed)
	require.Equal(t, m.model.seal, info.Index)
}

func (m *machine) Compact(*rapid.T) { m.rig.shard.RequestCompaction() }

func (m *machine) Freeze(*rapid.T) { m.frozen, m.payload, m.at = m.rig.freeze(), nil, m.rig.index }

func (m *machine) Persist(t *rapid.T) {
	if m.frozen == nil || m.payload != nil {
		t.Skip("nothing to persist")
	}
	m.payload = m.rig.persist(m.frozen, m.at)
}

func (m *machine) Publish(t *rapid.T) {
	if m.payload == nil {
		t.Skip("nothing to publish")
	}
	m.rig.publish(m.frozen, m.payload, m.at)
	m.frozen, m.payload = nil, nil
}

func (m *machine) Discard(t *rapid.T) {
	if m.frozen == nil {
		t.Skip("nothing to discard")
	}
	m.frozen.Discard()
	m.frozen, m.payload = nil, nil
}

func (m *machine) Reopen(*rapid.T) {
	m.closeViews()
	m.frozen, m.payload = nil, nil
	m.rig.reopen()
}

func (m *machine) Restore(*rapid.T) {
	old := m.frozen
	m.frozen, m.payload = nil, nil
	m.rig.restore()
	if old != nil {
		old.Published() // void, so it must change nothing
	}
}

func (m *machine) View(*rapid.T) {
	if len(m.views) < 4 {
		m.views = append(m.views, pinned{m.rig.view(), m.model.dump(testTenants...), m.rig.index})
	}
}

func (m *machine) CloseView(t *rapid.T) {
	if len(m.views) == 0 {
		t.Skip("no view")
	}
	i := rapid.IntRange(0, len(m.views)-1).Draw(t, "view")
	m.checkView(m.views[i])
	m.views[i].view.Close()
	m.views = append(m.views[:i], m.views[i+1:]...)
}

func (m *machine) checkView(p pinned) {
	require.Equal(m.t, p.index, p.view.AppliedIndex())
	require.Equal(m.t, p.want, dumpView(m.t, p.view, testTenants...), "a view of index %d", p.index)
}

func (m *machine) closeViews() {
	for _, p := range m.views {
		m.checkView(p)
		p.view.Close()
	}
	m.views = nil
}

// Check compares the shard with the model after each step.
func (m *machine) Check(*rapid.T) {
	require.Equal(m.t, m.model.dump(testTenants...), m.rig.dumpNow(testTenants...))
	v := m.rig.view()
	defer v.Close()
	mint := m.time()
	maxt := mint + rapid.Int64Range(0, 30).Draw(m.t, "range")
	for _, id := range testTenants {
		require.Equal(m.t, describeRange(m.t, v.Tenant(id), mint, maxt), describeRange(m.t, v.TenantIn(id, mint, maxt), mint, maxt), "from %d to %d", mint, maxt)
	}
}

// TestProtocol18ShardEqualsModel runs random histories of writes, flushes that succeed,
// fail or are overtaken, restarts, installed snapshots and pinned views, and
// compares results and content with the model.
func TestProtocol18ShardEqualsModel(t *testing.T) {
	root := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		dir := filepath.Join(root, fmt.Sprint(n))
		require.NoError(rt, os.MkdirAll(dir, 0o700))
		bounds := openRange(0, 300)
		m := &machine{
			t: rt, rig: newRig(rt, dir, bounds), model: newModel(bounds), clock: 40,
			values: testValues(), hists: testHistograms(),
		}
		actions := rapid.StateMachineActions(m)
		rt.Repeat(actions)
		m.closeViews()
		m.rig.reopen()
		m.Check(rt)
		require.NoError(rt, m.rig.shard.Close())
		require.NoError(rt, os.RemoveAll(dir))
	})
}
