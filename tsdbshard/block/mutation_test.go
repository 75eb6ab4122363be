package block

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/tsdbshard/chunk"
)

// errUntyped is for an error that wraps neither ErrDamaged nor ErrFormat.
var errUntyped = errors.New("error of no kind")

func typed(err error) error {
	if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrFormat) {
		return fmt.Errorf("%w: %w", errUntyped, err)
	}
	return err
}

// digestDelta reads a delta block by every method and sums up the answers.
func digestDelta(data []byte) (uint64, error) {
	d, err := OpenDelta(fileOf(data), testDelta)
	if err != nil {
		return 0, typed(err)
	}
	h := fnv.New64a()
	say := func(parts ...any) { fmt.Fprintln(h, parts...) }
	say(d.Summary())
	var errs []error
	errs = append(errs, d.Definitions(func(ref uint32, tenant quorate.TenantID, canonical []byte) error {
		say(ref, tenant, canonical)
		return nil
	}), d.Newest(func(ref uint32, n Newest) error {
		say(ref, n)
		return nil
	}), d.Metadata(func(tenant quorate.TenantID, m wire.Metadata) error {
		say(tenant, m)
		return nil
	}), d.ExemplarRefs(func(ref uint32) error {
		list, err := d.AppendExemplars(nil, ref)
		say(ref, list)
		return err
	}))
	rows := d.Rows()
	for rows.Next() {
		say(rows.Ref(), rows.Newest())
		sumChunks(h, rows.Chunks())
	}
	errs = append(errs, rows.Err())
	for ref := testDelta.FirstRef; ref < testDelta.FirstRef+d.Summary().Series; ref += 7 {
		chunks, err := d.AppendChunks(nil, ref, testStart+600_000, testStart+4_000_000)
		errs = append(errs, err)
		sumChunks(h, chunks)
	}
	return h.Sum64(), typed(errors.Join(errs...))
}

func sumChunks(h io.Writer, chunks []chunk.Chunk) {
	for i := range chunks {
		c := &chunks[i]
		fmt.Fprintln(h, c.Kind, c.Rows, c.MinTime, c.MaxTime, len(c.Times), len(c.Starts), len(c.Values))
		for _, column := range [][]byte{c.Times, c.Starts, c.Values} {
			h.Write(column) //nolint:errcheck // a hash
		}
	}
}

// digestCanonical reads a canonical block by every method and sums up the
// answers.
func digestCanonical(ctx context.Context, data []byte) (uint64, error) {
	c, err := OpenCanonical(fileOf(data), testCanonical)
	if err != nil {
		return 0, typed(err)
	}
	h := fnv.New64a()
	say := func(parts ...any) { fmt.Fprintln(h, parts...) }
	say(c.Summary(), c.Tenants())
	var errs []error
	errs = append(errs, c.MetadataAll(func(tenant quorate.TenantID, m wire.Metadata) error {
		say(tenant, m)
		return nil
	}))
	all := c.Series()
	for all.Next() {
		say(all.Tenant(), all.Labels(), all.Exemplars())
		sumChunks(h, all.Chunks())
	}
	errs = append(errs, all.Err())
	for _, id := range c.Tenants() {
		errs = append(errs, digestTenant(ctx, c.Tenant(id), say))
	}
	return h.Sum64(), typed(errors.Join(errs...))
}

func digestTenant(ctx context.Context, t *CanonicalTenant, say func(...any)) error {
	metadata, err := t.Metadata("")
	say(t.Meta(), t.NumSeries(), metadata)
	stats, statsErr := t.Stats("job", 10)
	if statsErr == nil {
		say(*stats.IndexPostingStats)
	}
	exemplars, exemplarsErr := t.ExemplarQuerier().Select(0, math.MaxInt64, []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "job", "a.*")})
	say(exemplars)
	if err := errors.Join(err, statsErr, exemplarsErr); err != nil {
		return err
	}
	q, err := tsdb.NewBlockQuerier(t, testStart, testStart+5_000_000)
	if err != nil {
		return err
	}
	set := q.Select(ctx, true, nil, labels.MustNewMatcher(labels.MatchRegexp, "instance", ".*[13579]:9090"), labels.MustNewMatcher(labels.MatchNotEqual, "job", "ab"))
	var it chunkenc.Iterator
	for set.Next() {
		it = set.At().Iterator(it)
		n := 0
		for it.Next() != chunkenc.ValNone {
			n++
		}
		say(set.At().Labels().String(), n)
		if err := it.Err(); err != nil {
			return err
		}
	}
	values, _, valuesErr := q.LabelValues(ctx, "instance", nil, labels.MustNewMatcher(labels.MatchEqual, "__name__", "up"))
	say(values)
	return errors.Join(set.Err(), valuesErr, q.Close())
}

// A file with one bit flipped, or cut, must be refused by Verify; what reads
// still answer must be what was written.
func TestDamageIsFoundAndNeverRead(t *testing.T) {
	m := newModel(t, 3, modelConfig{tenants: 3, series: 60, samples: 300, start: testStart})
	delta, _ := m.delta(t)
	canonical, _ := m.canonical(t)
	for name, tc := range map[string]struct {
		data   []byte
		digest func([]byte) (uint64, error)
	}{
		"delta":     {delta, digestDelta},
		"canonical": {canonical, func(b []byte) (uint64, error) { return digestCanonical(t.Context(), b) }},
	} {
		t.Run(name, func(t *testing.T) {
			want, err := tc.digest(tc.data)
			require.NoError(t, err)
			chance := rand.New(rand.NewPCG(1, 2))
			const flips = 700
			for i := range flips {
				data := bytes.Clone(tc.data)
				at := i * len(data) / flips // spread over the file
				data[at] ^= 1 << chance.IntN(8)
				checkDamaged(t, data, want, tc.digest, fmt.Sprintf("bit flip at %d of %d", at, len(data)))
			}
			for i := range 60 {
				n := i * len(tc.data) / 60
				if i > 40 {
					n = len(tc.data) - (i - 40)
				}
				checkDamaged(t, bytes.Clone(tc.data[:n]), want, tc.digest, fmt.Sprintf("cut to %d of %d", n, len(tc.data)))
			}
			for i := range 20 {
				data := bytes.Clone(tc.data)
				at := chance.IntN(len(data) - 600)
				copy(data[at:at+512], make([]byte, 512)) // a hole
				if bytes.Equal(data, tc.data) {
					continue
				}
				checkDamaged(t, data, want, tc.digest, fmt.Sprintf("hole %d at %d", i, at))
			}
		})
	}
}

func checkDamaged(t *testing.T, data []byte, want uint64, digest func([]byte) (uint64, error), what string) {
	t.Helper()
	_, err := Verify(t.Context(), fileOf(data), int64(len(data)))
	require.Error(t, err, what)
	require.NotErrorIs(t, typed(err), errUntyped, what)
	got, err := digest(data)
	require.NotErrorIs(t, err, errUntyped, what)
	if err == nil {
		require.Equal(t, want, got, "%s: other answers", what)
	}
}

func TestAFileOfAnotherVersionIsNotTakenForDamage(t *testing.T) {
	m := newModel(t, 4, modelConfig{tenants: 1, series: 10, samples: 10, start: testStart})
	data, _ := m.delta(t)
	foot := data[len(data)-footerBytes:]
	foot[16] = 9
	copy(foot[20:], le32(checksum(foot[:20])))
	_, err := OpenDelta(fileOf(data), testDelta)
	require.ErrorIs(t, err, ErrFormat)
	require.ErrorContains(t, err, "version 9")
	_, err = Verify(t.Context(), fileOf(data), int64(len(data)))
	require.ErrorIs(t, err, ErrFormat)
}

func le32(u uint32) []byte { return []byte{byte(u), byte(u >> 8), byte(u >> 16), byte(u >> 24)} }

func TestABlockOfAnotherSetOrIntervalIsRefused(t *testing.T) {
	m := newModel(t, 4, modelConfig{tenants: 1, series: 10, samples: 10, start: testStart})
	delta, _ := m.delta(t)
	canonical, _ := m.canonical(t)
	other := testDelta
	other.Hi++
	_, err := OpenDelta(fileOf(delta), other)
	require.ErrorIs(t, err, ErrDamaged)
	_, err = OpenDelta(fileOf(canonical), testDelta)
	require.ErrorIs(t, err, ErrDamaged)
	otherSeal := testCanonical
	otherSeal.SealIndex++
	_, err = OpenCanonical(fileOf(canonical), otherSeal)
	require.ErrorIs(t, err, ErrDamaged)
	_, err = OpenCanonical(fileOf(delta), testCanonical)
	require.ErrorIs(t, err, ErrDamaged)
}

func TestAReadErrorNamesPageAndOffset(t *testing.T) {
	m := newModel(t, 3, modelConfig{tenants: 3, series: 60, samples: 300, start: testStart})
	data, _ := m.delta(t)
	f := fileOf(data)
	d, err := OpenDelta(f, testDelta)
	require.NoError(t, err)
	bad := d.dir.sections[pageSamples].pages[1].offset
	f.fail = func(offset int64) error {
		if offset == bad {
			return errDisk
		}
		return nil
	}
	rows := d.Rows()
	for rows.Next() {
	}
	require.ErrorIs(t, rows.Err(), errDisk)
	require.ErrorIs(t, rows.Err(), ErrDamaged)
	require.ErrorContains(t, rows.Err(), fmt.Sprintf("samples page 1 at offset %d", bad))
	require.NoError(t, d.Newest(func(uint32, Newest) error { return nil }), "no other page is touched")
}

func TestEveryFailedWriteIsReported(t *testing.T) {
	m := newModel(t, 5, modelConfig{tenants: 2, series: 100, samples: 400, start: testStart})
	for name, write := range map[string]func(w io.Writer) error{
		"delta":     func(w io.Writer) error { _, err := m.writeDelta(NewDeltaWriter(w, testDelta)); return err },
		"canonical": func(w io.Writer) error { _, err := m.writeCanonical(NewCanonicalWriter(w, testCanonical)); return err },
	} {
		t.Run(name, func(t *testing.T) {
			for n := 0; ; n++ {
				w := &failingWriter{left: n}
				err := write(w)
				if err == nil {
					require.Greater(t, n, 5, "it should take several writes")
					require.Zero(t, w.left)
					return
				}
				require.ErrorIs(t, err, errDisk)
			}
		})
	}
}

func TestAWriterRefusesWhatIsOutOfOrder(t *testing.T) {
	lset := func(name string) []byte { return wire.AppendLabel(nil, "__name__", name) }
	chunks, err := chunk.AppendChunks(nil, []chunk.Sample{{T: testStart, V: 1}, {T: testStart + 1, V: 2}})
	require.NoError(t, err)
	twice := append(chunks[:1:1], chunks...)
	for name, step := range map[string]func(w *DeltaWriter) error{
		"a row of a series that nobody defined": func(w *DeltaWriter) error { return w.Row(testDelta.FirstRef+2, Newest{}, chunks) },
		"a ref that falls":                      func(w *DeltaWriter) error { _ = w.Row(5, Newest{}, chunks); return w.Row(5, Newest{}, chunks) },
		"a definition after a row":              func(w *DeltaWriter) error { _ = w.Row(5, Newest{}, chunks); return w.Define(1, lset("x")) },
		"chunks that overlap":                   func(w *DeltaWriter) error { return w.Row(5, Newest{}, twice) },
		"an empty row":                          func(w *DeltaWriter) error { return w.Row(5, Newest{}, nil) },
		"exemplars twice":                       func(w *DeltaWriter) error { return w.Exemplars(5, []Exemplar{{T: 1}, {T: 1}}) },
		"metadata that fall": func(w *DeltaWriter) error {
			_ = w.Metadata(2, wire.Metadata{Family: "b"})
			return w.Metadata(2, wire.Metadata{Family: "a"})
		},
		"a second end": func(w *DeltaWriter) error { _, _ = w.Finish(); _, err := w.Finish(); return err },
	} {
		t.Run(name, func(t *testing.T) {
			w := NewDeltaWriter(io.Discard, testDelta)
			require.NoError(t, w.Define(1, lset("a")))
			require.NoError(t, w.Define(1, lset("b")))
			require.Error(t, step(w))
			_, err := w.Finish()
			require.Error(t, err, "the error sticks")
		})
	}
	for name, step := range map[string]func(w *CanonicalWriter) error{
		"a tenant that falls":        func(w *CanonicalWriter) error { return w.Series(1, lset("x"), chunks, nil) },
		"a series twice":             func(w *CanonicalWriter) error { return w.Series(2, lset("m"), chunks, nil) },
		"labels that fall":           func(w *CanonicalWriter) error { return w.Series(2, lset("a"), chunks, nil) },
		"labels that are not labels": func(w *CanonicalWriter) error { return w.Series(2, []byte{9}, chunks, nil) },
		"chunks that overlap":        func(w *CanonicalWriter) error { return w.Series(2, lset("z"), twice, nil) },
		"exemplars twice":            func(w *CanonicalWriter) error { return w.Series(2, lset("z"), nil, []Exemplar{{T: 1}, {T: 1}}) },
		"samples outside the bounds": func(w *CanonicalWriter) error { return w.Series(2, lset("z"), []chunk.Chunk{old(t)}, nil) },
		"metadata of the same family": func(w *CanonicalWriter) error {
			_ = w.Metadata(2, wire.Metadata{})
			return w.Metadata(2, wire.Metadata{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := NewCanonicalWriter(io.Discard, testCanonical)
			require.NoError(t, w.Series(2, lset("m"), chunks, nil))
			require.Error(t, step(w))
			_, err := w.Finish()
			require.Error(t, err, "the error sticks")
		})
	}
}

func old(t *testing.T) chunk.Chunk {
	t.Helper()
	chunks, err := chunk.AppendChunks(nil, []chunk.Sample{{T: 1, V: 1}})
	require.NoError(t, err)
	return chunks[0]
}

func TestTheLastReleaseClosesTheFileOnce(t *testing.T) {
	m := newModel(t, 4, modelConfig{tenants: 1, series: 10, samples: 10, start: testStart})
	data, _ := m.delta(t)
	f := fileOf(data)
	d, err := OpenDelta(f, testDelta, WithCache(NewCache(1<<20)))
	require.NoError(t, err)
	d.Retain()
	require.NoError(t, d.Release())
	require.Zero(t, f.closed.Load())
	m.checkDelta(t, d)
	require.NoError(t, d.Release())
	require.Equal(t, int32(1), f.closed.Load())
	require.Error(t, d.Release())
	require.Equal(t, int32(1), f.closed.Load())
}

func TestAFailedOpenLeavesTheFileOpen(t *testing.T) {
	f := fileOf([]byte("no block"))
	_, err := OpenDelta(f, testDelta)
	require.ErrorIs(t, err, ErrDamaged)
	require.Zero(t, f.closed.Load())
}
