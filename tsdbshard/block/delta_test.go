package block

import (
	"bytes"
	"crypto/sha256"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/tsdbshard/chunk"
)

var testDelta = DeltaHeader{Set: 7, Lo: 100, Hi: 250, FirstRef: 1000}

// writeDelta writes a model as a delta block: series get refs from FirstRef
// on, those at an odd place are defined by an older block.
func (m *model) writeDelta(w *DeltaWriter) (Summary, error) {
	for _, s := range m.series {
		if err := w.Define(s.tenant, s.canonical); err != nil {
			return Summary{}, err
		}
	}
	for i, s := range m.series {
		if s.newest.Kind == 0 && len(s.chunks) == 0 {
			continue
		}
		if err := w.Row(testDelta.FirstRef+uint32(i), s.newest, s.chunks); err != nil {
			return Summary{}, err
		}
	}
	for i, s := range m.series {
		if err := w.Exemplars(testDelta.FirstRef+uint32(i), s.exemplars); err != nil {
			return Summary{}, err
		}
	}
	for _, d := range m.metadata {
		if err := w.Metadata(d.tenant, d.Metadata); err != nil {
			return Summary{}, err
		}
	}
	return w.Finish()
}

func (m *model) delta(tb testing.TB) ([]byte, Summary) {
	tb.Helper()
	var b bytes.Buffer
	s, err := m.writeDelta(NewDeltaWriter(&b, testDelta))
	require.NoError(tb, err)
	return b.Bytes(), s
}

func TestADeltaBlockGivesBackWhatWasWritten(t *testing.T) {
	for seed := range uint64(6) {
		m := newModel(t, seed, modelConfig{tenants: 4, series: 150, samples: 700, start: testStart})
		data, summary := m.delta(t)
		require.Equal(t, sha256.Sum256(data), summary.Hash)
		require.Equal(t, uint64(len(data)), summary.Bytes)
		f := fileOf(data)
		d, err := OpenDelta(f, testDelta)
		require.NoError(t, err)
		m.checkDelta(t, d)
		verified, err := Verify(t.Context(), f, int64(len(data)))
		require.NoError(t, err)
		require.Equal(t, summary, verified)
		opened := d.Summary()
		opened.Hash = summary.Hash
		require.Equal(t, summary, opened)
		require.NoError(t, d.Release())
		require.Equal(t, int32(1), f.closed.Load())
	}
}

func (m *model) checkDelta(tb testing.TB, d *Delta) {
	tb.Helper()
	i := 0
	require.NoError(tb, d.Definitions(func(ref uint32, tenant quorate.TenantID, canonical []byte) error {
		require.Equal(tb, testDelta.FirstRef+uint32(i), ref)
		require.Equal(tb, m.series[i].tenant, tenant)
		require.Equal(tb, m.series[i].canonical, canonical)
		i++
		return nil
	}))
	require.Len(tb, m.series, i)

	newest := make(map[uint32]Newest)
	require.NoError(tb, d.Newest(func(ref uint32, n Newest) error {
		newest[ref] = n
		return nil
	}))
	rows := d.Rows()
	for i, s := range m.series {
		ref := testDelta.FirstRef + uint32(i)
		require.Equal(tb, s.newest, newest[ref])
		got, err := d.AppendChunks(nil, ref, math.MinInt64, math.MaxInt64)
		require.NoError(tb, err)
		requireChunks(tb, s.chunks, got)
		if s.newest.Kind != 0 || len(s.chunks) > 0 {
			require.True(tb, rows.Next(), "%v", rows.Err())
			require.Equal(tb, ref, rows.Ref())
			require.Equal(tb, s.newest, rows.Newest())
			requireChunks(tb, s.chunks, rows.Chunks())
		}
		from, to := testStart+int64(i*1000), testStart+int64(i*20_000)
		got, err = d.AppendChunks(nil, ref, from, to)
		require.NoError(tb, err)
		var want []chunk.Chunk
		for _, c := range s.chunks {
			if c.MinTime <= to && c.MaxTime >= from {
				want = append(want, c)
			}
		}
		requireChunks(tb, want, got)
		exemplars, err := d.AppendExemplars(nil, ref)
		require.NoError(tb, err)
		requireExemplars(tb, s.exemplars, exemplars)
	}
	require.False(tb, rows.Next())
	require.NoError(tb, rows.Err())
	var refs []uint32
	require.NoError(tb, d.ExemplarRefs(func(ref uint32) error { refs = append(refs, ref); return nil }))
	var want []uint32
	for i, s := range m.series {
		if len(s.exemplars) > 0 {
			want = append(want, testDelta.FirstRef+uint32(i))
		}
	}
	require.Equal(tb, want, refs)
	var metadata []modelMetadata
	require.NoError(tb, d.Metadata(func(tenant quorate.TenantID, m wire.Metadata) error {
		metadata = append(metadata, modelMetadata{tenant, m})
		return nil
	}))
	require.Equal(tb, m.metadata, metadata)
}

func requireChunks(tb testing.TB, want, got []chunk.Chunk) {
	tb.Helper()
	require.Len(tb, got, len(want))
	for i := range want {
		w, g := want[i], got[i]
		require.Equal(tb, [4]int64{int64(w.Kind), int64(w.Rows), w.MinTime, w.MaxTime}, [4]int64{int64(g.Kind), int64(g.Rows), g.MinTime, g.MaxTime})
		require.True(tb, bytes.Equal(w.Times, g.Times) && bytes.Equal(w.Starts, g.Starts) && bytes.Equal(w.Values, g.Values), "columns of chunk %d differ", i)
	}
}

func requireExemplars(tb testing.TB, want, got []Exemplar) {
	tb.Helper()
	require.Len(tb, got, len(want))
	for i := range want {
		require.Zero(tb, want[i].Compare(got[i]))
	}
}
