package block

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/tsdbshard/chunk"
)

// longRow has chunks of many pages; short has one chunk.
func longRow(t *testing.T) (long, short []chunk.Chunk) {
	t.Helper()
	chance := rand.New(rand.NewPCG(1, 1))
	var samples []chunk.Sample
	for i := range int64(20_000) {
		samples = append(samples, chunk.Sample{T: testStart + i*1000, V: chance.NormFloat64()})
	}
	long, err := chunk.AppendChunks(nil, samples)
	require.NoError(t, err)
	short, err = chunk.AppendChunks(nil, samples[:7])
	require.NoError(t, err)
	return long, short
}

func TestARowOfManyPagesIsReadWholeAndInPart(t *testing.T) {
	long, short := longRow(t)
	rows := [][]chunk.Chunk{short, short, long, short, long, long, short}
	var b bytes.Buffer
	w := NewDeltaWriter(&b, testDelta)
	for i := range rows {
		require.NoError(t, w.Define(1, wire.AppendLabel(nil, "a", string(rune('a'+i)))))
	}
	for i := range rows {
		require.NoError(t, w.Row(testDelta.FirstRef+uint32(i), Newest{}, rows[i]))
	}
	_, err := w.Finish()
	require.NoError(t, err)
	f := fileOf(b.Bytes())
	_, err = Verify(t.Context(), f, int64(b.Len()))
	require.NoError(t, err)
	for name, cache := range map[string]*Cache{"no cache": nil, "cache": NewCache(1 << 20)} {
		d, err := OpenDelta(f, testDelta, WithCache(cache))
		require.NoError(t, err)
		require.Greater(t, len(d.dir.sections[pageSamples].pages), 12)
		cursor := d.Rows()
		for i, want := range rows {
			got, err := d.AppendChunks(nil, testDelta.FirstRef+uint32(i), math.MinInt64, math.MaxInt64)
			require.NoError(t, err)
			requireChunks(t, want, got)
			require.True(t, cursor.Next(), name)
			requireChunks(t, want, cursor.Chunks())
		}
		require.False(t, cursor.Next())
		require.NoError(t, cursor.Err())
	}
	d, err := OpenDelta(f, testDelta)
	require.NoError(t, err)
	before := f.reads.Load()
	got, err := d.AppendChunks(nil, testDelta.FirstRef+4, long[40].MinTime, long[40].MaxTime)
	require.NoError(t, err)
	requireChunks(t, long[40:41], got)
	require.LessOrEqual(t, f.reads.Load()-before, int64(2), "pages of other times are not read")
}

func TestASeriesOfManyPagesInACanonicalBlock(t *testing.T) {
	long, short := longRow(t)
	var b bytes.Buffer
	w := NewCanonicalWriter(&b, testCanonical)
	rows := [][]chunk.Chunk{short, nil, long, long, nil, short}
	for i := range rows {
		require.NoError(t, w.Series(9, wire.AppendLabel(nil, "a", string(rune('a'+i))), rows[i], nil))
	}
	_, err := w.Finish()
	require.NoError(t, err)
	f := fileOf(b.Bytes())
	_, err = Verify(t.Context(), f, int64(b.Len()))
	require.NoError(t, err)
	c, err := OpenCanonical(f, testCanonical)
	require.NoError(t, err)
	cursor := c.Series()
	for _, want := range rows {
		require.True(t, cursor.Next(), "%v", cursor.Err())
		requireChunks(t, want, cursor.Chunks())
	}
	require.False(t, cursor.Next())
	reader, err := c.Tenant(9).Chunks()
	require.NoError(t, err)
	for _, place := range []int{50, 3, 3, 83, 0} { // forth and back
		_, iterable, err := reader.ChunkOrIterable(metaOf(2, place))
		require.NoError(t, err)
		requireChunks(t, long[place:place+1], []chunk.Chunk{*iterable.(*chunk.Chunk)})
	}
	_, _, err = reader.ChunkOrIterable(metaOf(2, 84))
	require.Error(t, err)
	_, _, err = reader.ChunkOrIterable(metaOf(6, 0))
	require.Error(t, err)
}
