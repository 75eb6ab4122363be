package block

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

var testCanonical = CanonicalHeader{Set: 7, SealIndex: 4711, Range: quorate.TimeRange{Start: testStart - 1000, End: testStart + 86_400_000}}

// writeCanonical writes a model as a canonical block.
func (m *model) writeCanonical(w *CanonicalWriter) (Summary, error) {
	for _, s := range m.series {
		if err := w.Series(s.tenant, s.canonical, s.chunks, s.exemplars); err != nil {
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

func (m *model) canonical(tb testing.TB) ([]byte, Summary) {
	tb.Helper()
	var b bytes.Buffer
	s, err := m.writeCanonical(NewCanonicalWriter(&b, testCanonical))
	require.NoError(tb, err)
	return b.Bytes(), s
}

func (m *model) tenants() (ids []quorate.TenantID) {
	for _, s := range m.series {
		if len(ids) == 0 || ids[len(ids)-1] != s.tenant {
			ids = append(ids, s.tenant)
		}
	}
	return ids
}

func TestACanonicalBlockGivesBackWhatWasWritten(t *testing.T) {
	for seed := range uint64(6) {
		m := newModel(t, seed, modelConfig{tenants: 4, series: 150, samples: 700, start: testStart})
		data, summary := m.canonical(t)
		require.Equal(t, sha256.Sum256(data), summary.Hash)
		f := fileOf(data)
		c, err := OpenCanonical(f, testCanonical)
		require.NoError(t, err)
		m.checkCanonical(t, c)
		verified, err := Verify(t.Context(), f, int64(len(data)))
		require.NoError(t, err)
		require.Equal(t, summary, verified)
		opened := c.Summary()
		opened.Hash = summary.Hash
		require.Equal(t, summary, opened)
		again, _ := m.canonical(t)
		require.True(t, bytes.Equal(data, again), "the same input gave other bytes")
		require.NoError(t, c.Release())
		require.Equal(t, int32(1), f.closed.Load())
	}
}

func (m *model) checkCanonical(tb testing.TB, c *Canonical) {
	tb.Helper()
	cursor := c.Series()
	for _, s := range m.series {
		require.True(tb, cursor.Next(), "%v", cursor.Err())
		require.Equal(tb, s.tenant, cursor.Tenant())
		require.Equal(tb, s.canonical, cursor.Labels())
		requireChunks(tb, s.chunks, cursor.Chunks())
		requireExemplars(tb, s.exemplars, cursor.Exemplars())
	}
	require.False(tb, cursor.Next())
	require.NoError(tb, cursor.Err())
	var metadata []modelMetadata
	require.NoError(tb, c.MetadataAll(func(tenant quorate.TenantID, m wire.Metadata) error {
		metadata = append(metadata, modelMetadata{tenant, m})
		return nil
	}))
	require.Equal(tb, m.metadata, metadata)
}
