package block

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"runtime"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/tsdbshard/chunk"
)

func TestASamplesPageHasShapesOfItsOwnInADeltaBlockAlone(t *testing.T) {
	_, short := longRow(t)
	var b bytes.Buffer
	w := NewDeltaWriter(&b, testDelta)
	w.samples.own = false
	require.NoError(t, w.Define(1, wire.AppendLabel(nil, "a", "b")))
	require.NoError(t, w.Row(testDelta.FirstRef, Newest{}, short))
	_, err := w.Finish()
	require.NoError(t, err)
	f := fileOf(b.Bytes())
	for name, cache := range map[string]*Cache{"no cache": nil, "cache": NewCache(1 << 20)} {
		d, err := OpenDelta(f, testDelta, WithCache(cache))
		require.NoError(t, err)
		_, err = d.AppendChunks(nil, testDelta.FirstRef, math.MinInt64, math.MaxInt64)
		require.ErrorIs(t, err, ErrDamaged, name)
		rows := d.Rows()
		require.False(t, rows.Next())
		require.ErrorIs(t, rows.Err(), ErrDamaged)
	}
	_, err = Verify(t.Context(), f, int64(b.Len()))
	require.ErrorIs(t, err, ErrDamaged)

	b.Reset()
	c := NewCanonicalWriter(&b, testCanonical)
	c.samples.own = true
	require.NoError(t, c.Series(9, wire.AppendLabel(nil, "a", "b"), short, nil))
	_, err = c.Finish()
	require.NoError(t, err)
	_, err = Verify(t.Context(), fileOf(b.Bytes()), int64(b.Len()))
	require.ErrorIs(t, err, ErrDamaged)
}

func TestVerifyFindsPagesThatReadersWouldPassOver(t *testing.T) {
	_, short := longRow(t)
	writers := map[string]func(b *bytes.Buffer, first, last int64) error{
		"delta": func(b *bytes.Buffer, first, last int64) error {
			w := NewDeltaWriter(b, testDelta)
			err := errors.Join(w.Define(1, wire.AppendLabel(nil, "a", "b")), w.Row(testDelta.FirstRef, Newest{}, short))
			w.samples.entry.mint += first
			w.samples.entry.maxt += last
			_, end := w.Finish()
			return errors.Join(err, end)
		},
		"canonical": func(b *bytes.Buffer, first, last int64) error {
			w := NewCanonicalWriter(b, testCanonical)
			err := w.Series(9, wire.AppendLabel(nil, "a", "b"), short, nil)
			w.samples.entry.mint += first
			w.samples.entry.maxt += last
			_, end := w.Finish()
			return errors.Join(err, end)
		},
	}
	for name, c := range map[string]struct{ first, last int64 }{
		"as written":           {},
		"first time too late":  {first: 1000},
		"last time too early":  {last: -1000},
		"first time too early": {first: -1},
		"last time too late":   {last: 1},
		"narrow on both sides": {first: 1000, last: -1000},
		"a single instant":     {first: 6000},
	} {
		for kind, write := range writers {
			t.Run(kind+", "+name, func(t *testing.T) {
				var b bytes.Buffer
				require.NoError(t, write(&b, c.first, c.last))
				_, err := Verify(t.Context(), fileOf(b.Bytes()), int64(b.Len()))
				if name == "as written" {
					require.NoError(t, err)
					return
				}
				require.ErrorIs(t, err, ErrDamaged)
				require.ErrorContains(t, err, "samples page 0")
			})
		}
	}
}

// compressedPage is a page with the right checksum whose body claims n bytes.
func compressedPage(n int, frames ...[]byte) []byte {
	body := binary.AppendUvarint(nil, uint64(n))
	body = append(body, slices.Concat(frames...)...)
	page := []byte{byte(pageSeries), flagZstd, 0, 0, 0, 0}
	binary.LittleEndian.PutUint32(page[2:], uint32(len(body)))
	page = append(page, body...)
	return binary.LittleEndian.AppendUint32(page, checksum(page))
}

func TestACompressedPageIsOneFrameAndTakesNoMoreThanItClaims(t *testing.T) {
	small, big := bytes.Repeat([]byte("ab"), 400), make([]byte, 16<<20)
	frame, bomb := zstd.EncodeTo(nil, small), zstd.EncodeTo(nil, big)
	body, err := pageBody(compressedPage(len(small), frame), pageSeries)
	require.NoError(t, err)
	require.Equal(t, small, body)
	// The header of a frame that claims 200 MiB, then the blocks of a small one.
	claims := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0x80, 0x0c}, 0x01, 0x00, 0x00)
	for name, page := range map[string][]byte{
		"frames after the first":          compressedPage(len(small), frame, bomb, bomb, bomb, bomb),
		"a small frame after the first":   compressedPage(len(small), frame, zstd.EncodeTo(nil, small[:2])),
		"bytes after the frame":           compressedPage(len(small), frame, []byte{0}),
		"a frame cut short":               compressedPage(len(small), frame[:len(frame)-1]),
		"a claim that the frame differs":  compressedPage(len(small)-1, frame),
		"a claim that blocks cannot meet": compressedPage(200<<20, claims),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := pageBody(page, pageSeries)
		runtime.ReadMemStats(&after)
		require.ErrorIs(t, err, ErrDamaged, name)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(8<<20), name)
	}
}

func TestChunksOfSeveralSeriesSideBySideAreWalkedOnce(t *testing.T) {
	long, _ := longRow(t)
	var b bytes.Buffer
	w := NewCanonicalWriter(&b, testCanonical)
	for i := range keptWalks {
		require.NoError(t, w.Series(9, wire.AppendLabel(nil, "a", string(rune('a'+i))), long, nil))
	}
	_, err := w.Finish()
	require.NoError(t, err)
	c, err := OpenCanonical(fileOf(b.Bytes()), testCanonical)
	require.NoError(t, err)
	chunks, err := c.Tenant(9).Chunks()
	require.NoError(t, err)
	reader := chunks.(*chunkReader)
	for place := range long {
		for i := range keptWalks {
			if place > 0 {
				require.Equal(t, place, reader.walks[keptWalks-1].next, "the walk of series %d goes on", i)
			}
			_, iterable, err := reader.ChunkOrIterable(metaOf(uint32(i), place))
			require.NoError(t, err)
			requireChunks(t, long[place:place+1], []chunk.Chunk{*iterable.(*chunk.Chunk)})
		}
	}
}
