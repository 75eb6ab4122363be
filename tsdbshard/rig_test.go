package tsdbshard

import (
	"context"
	"encoding/hex"
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/internal/wire"
)

const testSet quorate.ReplicaSetID = 7

// failer is what *testing.T and *rapid.T have in common.
type failer interface {
	require.TestingT
	Helper()
	Fatalf(format string, args ...any)
}

// rig is a shard with the log and the manifest that raftset would keep for it.
type rig struct {
	t     failer
	dir   string
	disk  durable.Disk
	shard *Shard

	index   uint64
	log     []quorate.LogEntry
	results [][]any // of log

	payload  []byte // of the manifest in force
	manifest uint64 // its index
}

func openRange(start, end int64) quorate.Bounds {
	return quorate.Bounds{Version: 1, Range: quorate.TimeRange{Start: start, End: end}, State: quorate.SetOpen}
}

func newRig(t failer, dir string, b quorate.Bounds) *rig {
	return newRigOn(t, durable.Disk{}, dir, b)
}

func newRigOn(t failer, disk durable.Disk, dir string, b quorate.Bounds) *rig {
	r := &rig{t: t, dir: dir, disk: disk, index: 1, payload: GenesisPayload(b), manifest: 1}
	r.open()
	return r
}

func (r *rig) open() {
	r.t.Helper()
	s, err := New(Config{Dir: r.dir, Disk: r.disk, Set: testSet})
	require.NoError(r.t, err)
	require.NoError(r.t, s.Open(context.Background(), r.payload, r.manifest))
	r.shard = s
}

// reopen closes the shard, opens it from the manifest and replays the log,
// whose results must be what they were the first time.
func (r *rig) reopen() {
	r.t.Helper()
	require.NoError(r.t, r.shard.Close())
	r.open()
	r.replay()
}

func (r *rig) replay() {
	r.t.Helper()
	for i, e := range r.log {
		got, err := r.shard.ApplyBatch([]quorate.LogEntry{e})
		require.NoError(r.t, err)
		if e.Index <= r.manifest {
			require.Equal(r.t, [][]any{nil}, got, "entry %d is in the files", e.Index)
			continue
		}
		require.Equal(r.t, r.results[i], got[0], "results of entry %d when replayed", e.Index)
	}
}

// restore installs the manifest in force as a snapshot and replays the log.
func (r *rig) restore() {
	r.t.Helper()
	require.NoError(r.t, r.shard.Restore(context.Background(), r.payload, r.manifest))
	r.replay()
}

func (r *rig) apply(kind wire.Kind, commands ...[]byte) []any {
	r.t.Helper()
	r.index++
	var enc wire.Encoder
	e := quorate.LogEntry{Index: r.index, Term: 1, Data: enc.Append(nil, kind, commands...)}
	results, err := r.shard.ApplyBatch([]quorate.LogEntry{e})
	require.NoError(r.t, err)
	require.Len(r.t, results, 1)
	r.log = append(r.log, e)
	r.results = append(r.results, results[0])
	return results[0]
}

func (r *rig) write(batches ...*wire.Batch) []*wire.BatchResult {
	r.t.Helper()
	commands := make([][]byte, len(batches))
	for i, b := range batches {
		commands[i] = b.Append(nil)
	}
	results := make([]*wire.BatchResult, len(batches))
	for i, res := range r.apply(wire.KindWrite, commands...) {
		results[i] = res.(*wire.BatchResult)
	}
	return results
}

func (r *rig) freeze() quorate.Frozen {
	r.t.Helper()
	f, err := r.shard.Freeze()
	require.NoError(r.t, err)
	return f
}

// persist persists at an index, that of the last entry before the freeze.
func (r *rig) persist(f quorate.Frozen, index uint64) []byte {
	r.t.Helper()
	payload, err := f.Persist(context.Background(), index)
	require.NoError(r.t, err)
	return payload
}

// publish makes a payload the manifest in force.
func (r *rig) publish(f quorate.Frozen, payload []byte, index uint64) {
	r.payload, r.manifest = payload, index
	f.Published()
}

func (r *rig) flush() {
	r.t.Helper()
	f := r.freeze()
	r.publish(f, r.persist(f, r.index), r.index)
}

// canonical encodes labels given as name, value, name, value...
func canonical(pairs ...string) []byte {
	var dst []byte
	for i := 0; i < len(pairs); i += 2 {
		dst = wire.AppendLabel(dst, pairs[i], pairs[i+1])
	}
	return dst
}

// batchOf starts a batch.
func batchOf(tenant quorate.TenantID, version quorate.BoundsVersion) *batchBuilder {
	b := &batchBuilder{defined: map[string]int{}}
	b.Reset(tenant, version)
	return b
}

// batchBuilder builds batches from rows that name series by their labels.
type batchBuilder struct {
	wire.Batch

	defined map[string]int
}

func (b *batchBuilder) series(lset []byte) wire.RowSeries {
	i, ok := b.defined[string(lset)]
	if !ok {
		i = len(b.Definitions)
		b.defined[string(lset)] = i
		b.Definitions = append(b.Definitions, lset)
	}
	return wire.ByDefinition(i)
}

func (b *batchBuilder) float(lset []byte, t int64, v float64) *batchBuilder {
	return b.floatWithStart(lset, t, 0, v)
}

func (b *batchBuilder) floatWithStart(lset []byte, t, st int64, v float64) *batchBuilder {
	return b.floatRow(b.series(lset), t, st, v)
}

func (b *batchBuilder) floatRow(row wire.RowSeries, t, st int64, v float64) *batchBuilder {
	b.Series = append(b.Series, row)
	b.Timestamps = append(b.Timestamps, t)
	b.Values = append(b.Values, v)
	b.StartTimestamps = append(b.StartTimestamps, st)
	return b
}

func (b *batchBuilder) histogram(lset []byte, t, st int64, h *histogram.Histogram, fh *histogram.FloatHistogram) *batchBuilder {
	b.HistogramSeries = append(b.HistogramSeries, b.series(lset))
	b.HistogramTimestamps = append(b.HistogramTimestamps, t)
	b.HistogramStartTimestamps = append(b.HistogramStartTimestamps, st)
	if h != nil {
		b.Histograms = append(b.Histograms, wire.AppendHistogram(nil, h))
	} else {
		b.Histograms = append(b.Histograms, wire.AppendFloatHistogram(nil, fh))
	}
	return b
}

func (b *batchBuilder) exemplar(lset []byte, t int64, v float64, exemplarLabels []byte) *batchBuilder {
	b.ExemplarSeries = append(b.ExemplarSeries, b.series(lset))
	b.ExemplarTimestamps = append(b.ExemplarTimestamps, t)
	b.ExemplarValues = append(b.ExemplarValues, v)
	b.ExemplarLabels = append(b.ExemplarLabels, exemplarLabels)
	return b
}

func (b *batchBuilder) metadata(family, typ, unit, help string) *batchBuilder {
	b.Metadata = append(b.Metadata, wire.Metadata{Family: family, Type: typ, Unit: unit, Help: help})
	return b
}

// dump is the logical content of a shard in a form to compare: for each tenant
// its series with their samples, its exemplars and its metadata.
type dump map[quorate.TenantID]tenantDump

type tenantDump struct {
	series     uint64 // without samples too
	mint, maxt int64  // of all samples that were stored, end exclusive
	samples    map[string]map[int64]string
	exemplars  map[string][]string
	metadata   map[string]string
}

func newTenantDump() tenantDump {
	return tenantDump{samples: map[string]map[int64]string{}, exemplars: map[string][]string{}, metadata: map[string]string{}}
}

// describe tells all of a sample but what a codec may lay out anew: empty
// buckets of histograms, and whether a counter reset is known not to be one.
func describe(s sample) string {
	switch {
	case s.H != nil:
		if value.IsStaleNaN(s.H.Sum) {
			return fmt.Sprintf("stale histogram st=%d", s.ST)
		}
		h := s.H.Copy().Compact(0)
		if h.CounterResetHint != histogram.GaugeType {
			h.CounterResetHint = histogram.UnknownCounterReset
		}
		return fmt.Sprintf("histogram st=%d %s", s.ST, hex.EncodeToString(wire.AppendHistogram(nil, h)))
	case s.FH != nil:
		if value.IsStaleNaN(s.FH.Sum) {
			return fmt.Sprintf("stale float histogram st=%d", s.ST)
		}
		h := s.FH.Copy().Compact(0)
		if h.CounterResetHint != histogram.GaugeType {
			h.CounterResetHint = histogram.UnknownCounterReset
		}
		return fmt.Sprintf("float histogram st=%d %s", s.ST, hex.EncodeToString(wire.AppendFloatHistogram(nil, h)))
	}
	return fmt.Sprintf("float st=%d %016x", s.ST, math.Float64bits(s.V))
}

func describeExemplar(lset labels.Labels, ts int64, v float64) string {
	return fmt.Sprintf("%d %016x %s", ts, math.Float64bits(v), lset)
}

// dumpView reads tenants through the queriers of tsdb, as queries do.
func dumpView(t failer, v *View, tenants ...quorate.TenantID) dump {
	t.Helper()
	d := dump{}
	for _, id := range tenants {
		d[id] = dumpTenant(t, v.Tenant(id))
	}
	return d
}

// dumpTenant reads one tenant through the queriers of tsdb, as queries do.
func dumpTenant(t failer, tv TenantReader) tenantDump {
	t.Helper()
	td := newTenantDump()
	td.series, td.mint, td.maxt = tv.NumSeries(), tv.Meta().MinTime, tv.Meta().MaxTime
	for lset, samples := range querySamples(t, tv, math.MinInt64, math.MaxInt64, matchAll()) {
		td.samples[lset] = map[int64]string{}
		last := int64(math.MinInt64)
		for i, s := range samples {
			if i > 0 && s.T <= last {
				t.Fatalf("series %s: sample at %d after one at %d", lset, s.T, last)
			}
			last = s.T
			td.samples[lset][s.T] = describe(s)
		}
	}
	results, err := tv.ExemplarQuerier().Select(math.MinInt64, math.MaxInt64, []*labels.Matcher{matchAll()})
	require.NoError(t, err)
	for _, r := range results {
		for _, e := range r.Exemplars {
			td.exemplars[r.SeriesLabels.String()] = append(td.exemplars[r.SeriesLabels.String()], describeExemplar(e.Labels, e.Ts, e.Value))
		}
	}
	for family, m := range families(t, tv, "") {
		td.metadata[family] = fmt.Sprintf("%s|%s|%s", m.Type, m.Unit, m.Help)
	}
	return td
}

// families returns what is known of a metric family, or of all.
func families(t failer, tv TenantReader, family string) map[string]metadata.Metadata {
	t.Helper()
	m, err := tv.Metadata(family)
	require.NoError(t, err)
	return m
}

// statsOf returns a tenant's statistics.
func statsOf(t failer, tv TenantReader, limit int) *tsdb.Stats {
	t.Helper()
	s, err := tv.Stats("__name__", limit)
	require.NoError(t, err)
	return s
}

func matchAll() *labels.Matcher { return labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".*") }

// querySamples reads matching series through tsdb.NewBlockQuerier.
func querySamples(t failer, tv TenantReader, mint, maxt int64, ms ...*labels.Matcher) map[string][]sample {
	t.Helper()
	q, err := tsdb.NewBlockQuerier(tv, mint, maxt)
	require.NoError(t, err)
	defer q.Close()
	return collect(t, q.Select(context.Background(), true, nil, ms...))
}

func collect(t failer, set storage.SeriesSet) map[string][]sample {
	t.Helper()
	found := map[string][]sample{}
	var it chunkenc.Iterator
	var previous labels.Labels
	for set.Next() {
		lset := set.At().Labels()
		if len(found) > 0 && labels.Compare(previous, lset) >= 0 {
			t.Fatalf("series %s comes after %s", lset, previous)
		}
		previous = lset
		it = set.At().Iterator(it)
		found[lset.String()] = readAll(t, it)
	}
	require.NoError(t, set.Err())
	return found
}

func readAll(t failer, it chunkenc.Iterator) []sample {
	t.Helper()
	var samples []sample
	for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
		s := sample{T: it.AtT(), ST: it.AtST()}
		var ts int64
		switch vt {
		case chunkenc.ValFloat:
			ts, s.V = it.At()
		case chunkenc.ValHistogram:
			ts, s.H = it.AtHistogram(nil)
		case chunkenc.ValFloatHistogram:
			ts, s.FH = it.AtFloatHistogram(nil)
		default:
			t.Fatalf("value type %v", vt)
		}
		if ts != s.T {
			t.Fatalf("AtT says %d, At says %d", s.T, ts)
		}
		samples = append(samples, s)
	}
	require.NoError(t, it.Err())
	return samples
}

func viewOf(t failer, s *Shard) *View {
	t.Helper()
	v, err := s.View()
	require.NoError(t, err)
	return v
}

func (r *rig) view() *View {
	r.t.Helper()
	return viewOf(r.t, r.shard)
}

// dumpNow dumps what a view taken now shows.
func (r *rig) dumpNow(tenants ...quorate.TenantID) dump {
	r.t.Helper()
	v := r.view()
	defer v.Close()
	return dumpView(r.t, v, tenants...)
}
