package tsdbshard

import (
	"fmt"
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// delete applies a deletion from tenant 1.
func (r *rig) delete(mint, maxt int64, matchers ...*labels.Matcher) *DeleteResult {
	r.t.Helper()
	d := wire.Deletion{Tenant: 1, MinTime: mint, MaxTime: maxt, Matchers: matchers}
	return r.apply(wire.KindDelete, d.Append(nil))[0].(*DeleteResult)
}

func named(value string) *labels.Matcher {
	return labels.MustNewMatcher(labels.MatchEqual, "__name__", value)
}

// What comes after a delete it leaves alone, whatever was flushed in between.
func TestProtocol19ADeleteRemovesWhatCameBeforeIt(t *testing.T) {
	all := int64(math.MaxInt64)
	for _, c := range []struct {
		says  string
		first *batchBuilder
		mint  int64
		maxt  int64
		match *labels.Matcher
		then  *batchBuilder // nil for nothing
		want  DeleteResult
		dups  int // of then
		kept  map[int64]string
	}{
		{
			says: "a range is closed at both ends", first: batchOf(1, 1).float(metricA(), 1, 1).float(metricA(), 2, 2).float(metricA(), 3, 3).float(metricA(), 4, 4),
			mint: 2, maxt: 3, match: named("a"), want: DeleteResult{Series: 1},
			kept: map[int64]string{1: float(0, 1), 4: float(0, 4)},
		},
		{
			says: "a series that the matchers do not select stays", first: batchOf(1, 1).float(metricA(), 1, 1).float(metricB(), 1, 1),
			maxt: all, match: named("b"), want: DeleteResult{Series: 1}, kept: map[int64]string{1: float(0, 1)},
		},
		{
			says: "another tenant's series stays", first: batchOf(2, 1).float(metricA(), 1, 1),
			maxt: all, match: named("a"), want: DeleteResult{}, kept: nil,
		},
		{
			says: "a deleted sample that is written again is stored and is no duplicate", first: batchOf(1, 1).float(metricA(), 5, 1),
			maxt: all, match: named("a"), then: batchOf(1, 1).float(metricA(), 5, 1), want: DeleteResult{Series: 1},
			kept: map[int64]string{5: float(0, 1)},
		},
		{
			says: "after a delete a timestamp may get another value", first: batchOf(1, 1).float(metricA(), 5, 1),
			maxt: all, match: named("a"), then: batchOf(1, 1).float(metricA(), 5, 2), want: DeleteResult{Series: 1},
			kept: map[int64]string{5: float(0, 2)},
		},
		{
			says: "a sample that a delete left wins over a later one", first: batchOf(1, 1).float(metricA(), 5, 1).float(metricA(), 6, 1),
			mint: 6, maxt: 6, match: named("a"), then: batchOf(1, 1).float(metricA(), 5, 2), want: DeleteResult{Series: 1},
			kept: map[int64]string{5: float(0, 1)},
		},
		{
			says: "a series is selected by its labels alone", first: batchOf(1, 1).float(metricA(), 5, 1),
			mint: 90, maxt: 99, match: named("a"), then: batchOf(1, 1).float(metricA(), 5, 1).float(metricA(), 5, 1), want: DeleteResult{Series: 1},
			dups: 1, kept: map[int64]string{5: float(0, 1)},
		},
		{
			says: "late samples are deleted like others", first: batchOf(1, 1).float(metricA(), 50, 1).float(metricA(), 5, 1).float(metricA(), 6, 2),
			mint: 5, maxt: 5, match: named("a"), want: DeleteResult{Series: 1}, kept: map[int64]string{6: float(0, 2), 50: float(0, 1)},
		},
	} {
		for _, between := range []string{"nothing", "a flush", "a restart", "a flush and a restart", "a compaction"} {
			t.Run(c.says+"/between "+between, func(t *testing.T) {
				r := newRig(t, t.TempDir(), openRange(0, 100))
				step := func() {
					switch between {
					case "a flush":
						r.flush()
					case "a restart":
						r.reopen()
					case "a flush and a restart":
						r.flush()
						r.reopen()
					case "a compaction":
						r.shard.RequestCompaction()
						r.flush()
					}
				}
				r.write(&c.first.Batch)
				step()
				require.Equal(t, &c.want, r.delete(c.mint, c.maxt, c.match))
				step()
				if c.then != nil {
					require.Equal(t, c.dups, r.write(&c.then.Batch)[0].Duplicates)
				}
				require.Equal(t, c.kept, r.samplesOfA())
				step()
				require.Equal(t, c.kept, r.samplesOfA())
				r.reopen()
				require.Equal(t, c.kept, r.samplesOfA(), "after a restart")
			})
		}
	}
}

// TestProtocol18WhatADeleteForgotStaysForgotten restarts from a block that is older than
// the delete and one that is younger, which does not have the series.
func TestProtocol18WhatADeleteForgotStaysForgotten(t *testing.T) {
	for _, after := range []string{"a younger block", "no younger block"} {
		r := newRig(t, t.TempDir(), openRange(0, 1000))
		b := batchOf(1, 1)
		for at := range int64(200) {
			b.float(metricA(), at, 1)
		}
		r.write(&b.Batch)
		r.flush()
		r.delete(500, 600, named("a"))
		if after == "a younger block" {
			r.write(&batchOf(1, 1).float(metricB(), 1, 1).Batch)
		}
		r.flush()
		require.Equal(t, after == "a younger block", len(r.shard.st.files) == 2)
		got := r.write(oneFloat(199, 2))[0]
		require.Zero(t, got.Refused+got.Duplicates, "the newest sample is not known any more")
		r.reopen() // compares the result when it is replayed
		require.Equal(t, float(0, 1), r.samplesOfA()[199])
	}
}

func TestADeleteRemovesExemplarsUpToItsEnd(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 100))
	b := batchOf(1, 1)
	for at := range int64(6) {
		b.exemplar(metricA(), at, float64(at), nil).exemplar(metricB(), at, 1, nil)
	}
	r.write(&b.Batch)
	r.delete(2, 3, named("a"))
	check := func(want int) {
		d := r.dumpNow(1)[1].exemplars
		require.Len(t, d[labelsOf(metricA()).String()], want)
		require.Len(t, d[labelsOf(metricB()).String()], 6)
	}
	check(2)
	r.flush()
	check(2)
	r.write(&batchOf(1, 1).exemplar(metricA(), 1, 7, nil).Batch)
	check(3)
	r.reopen()
	check(3)
}

// TestExemplarsOfReplicasAreEqualWhateverIsDeleted has more exemplars than are
// kept on both sides of a delete: replicas that flushed at different times must
// not know of different older ones.
func TestExemplarsOfReplicasAreEqualWhateverIsDeleted(t *testing.T) {
	a, b := newRig(t, t.TempDir(), openRange(0, 100_000)), newRig(t, t.TempDir(), openRange(0, 100_000))
	fill := func(from, to int64) {
		batch := batchOf(1, 1)
		for at := from; at < to; at++ {
			batch.exemplar(metricA(), at, 1, nil)
		}
		a.write(&batch.Batch)
		b.write(&batch.Batch)
	}
	remove := func(mint, maxt int64) {
		a.delete(mint, maxt, named("a"))
		b.delete(mint, maxt, named("a"))
	}
	same := func() {
		t.Helper()
		want := a.dumpNow(1)[1].exemplars
		require.Equal(t, want, b.dumpNow(1)[1].exemplars)
	}
	fill(0, 3000)
	b.flush()
	fill(3000, 6000)
	same()
	remove(4000, 5999)
	same()
	fill(1000, 2000)
	b.flush()
	remove(1500, 1600)
	fill(0, 500)
	same()
	b.shard.RequestCompaction()
	b.flush()
	same()
	a.flush()
	a.reopen()
	same()
}

func TestADeleteThatSelectsNothingCostsNothing(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 100))
	r.write(oneFloat(1, 1))
	require.Equal(t, &DeleteResult{}, r.delete(0, 99, named("x")))
	require.Empty(t, r.shard.st.tombstones)
	require.Empty(t, r.shard.st.frozen)
}

func TestADeleteFreezesOnlyAMemcacheThatHasItsSeries(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 100))
	r.write(oneFloat(1, 1))
	r.flush()
	r.write(&batchOf(1, 1).float(metricB(), 1, 1).Batch)
	r.delete(0, 99, named("a"))
	require.Empty(t, r.shard.st.frozen)
	r.delete(0, 99, named("b"))
	require.Len(t, r.shard.st.frozen, 1)
	require.Empty(t, r.dumpNow(1)[1].samples)
}

// TestManyDeletesAreFoldedIn deletes more often than tombstones are kept.
func TestManyDeletesAreFoldedIn(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 100_000))
	b := batchOf(1, 1)
	for at := range int64(1000) {
		b.float(metricA(), at, float64(at))
	}
	r.write(&b.Batch)
	r.flush()
	for i := range int64(maxTombstones) {
		r.delete(2*i, 2*i, named("a"))
	}
	r.write(&batchOf(1, 1).float(metricB(), 1, 1).Batch)
	r.flush()
	require.Len(t, r.shard.st.tombstones, maxTombstones)
	want := r.dumpNow(1)
	r.delete(999, 999, named("a"))
	delete(want[1].samples[labelsOf(metricA()).String()], 999)
	r.flush()
	require.Empty(t, r.shard.st.tombstones)
	require.Len(t, r.shard.st.files, 1)
	require.Equal(t, want, r.dumpNow(1))
	r.reopen()
	require.Equal(t, want, r.dumpNow(1))
}

func TestRefRuns(t *testing.T) {
	var runs refRuns
	has := map[uint32]bool{}
	for _, ref := range []uint32{0, 1, 2, 7, 9, 10, 4000} {
		runs = runs.add(ref)
		has[ref] = true
	}
	require.Equal(t, refRuns{{0, 3}, {7, 8}, {9, 11}, {4000, 4001}}, runs)
	require.Equal(t, 7, runs.count())
	for ref := range uint32(4100) {
		require.Equal(t, has[ref], runs.has(ref), "ref %d", ref)
	}
	require.Equal(t, refRuns{{0, 3}, {7, 8}, {9, 10}}, runs.below(10))
	require.Equal(t, refRuns{{0, 3}, {7, 8}}, runs.below(9))
	require.Equal(t, runs, runs.below(5000))
	require.Empty(t, runs.below(0))
}

func TestProtocol14ASealEndsWrites(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 100))
	r.write(oneFloat(1, 1))
	require.EqualValues(t, 2, r.shard.LastWriteIndex())
	first := wire.Seal{Intent: 4, Horizons: []wire.Horizon{{Tenant: 1, Oldest: 1}}}
	require.Equal(t, []any{&SealResult{Index: 3}}, r.apply(wire.KindSeal, AppendSealCommand(nil, &first)))
	want := quorate.Bounds{Version: 2, Range: quorate.TimeRange{Start: 0, End: 100}, State: quorate.SetSealed}
	check := func(says string) {
		t.Helper()
		require.Equal(t, want, r.shard.Bounds(), says)
		info, ok := r.shard.Sealed()
		require.True(t, ok, says)
		require.Equal(t, SealInfo{Index: 3, Seal: first}, info, says)
		got := r.write(&batchOf(1, 2).float(metricA(), 2, 1).Batch)[0]
		require.Equal(t, wire.BatchSealed, got.Status, says)
		require.Equal(t, &DeleteResult{Sealed: true}, r.delete(0, 99, named("a")), says)
		second := wire.Seal{Intent: 5}
		require.Equal(t, []any{&SealResult{Index: 3}}, r.apply(wire.KindSeal, AppendSealCommand(nil, &second)), says)
		later := openRange(0, 50)
		later.Version = 9
		next := r.index + 1
		require.Equal(t, []any{&BoundsResult{Index: next, Bounds: want, Newest: 1}}, r.apply(wire.KindBounds, AppendBoundsCommand(nil, later)), says)
		require.Equal(t, map[int64]string{1: float(0, 1)}, r.samplesOfA(), says)
		require.EqualValues(t, 2, r.shard.LastWriteIndex(), says)
	}
	check("at once")
	r.reopen()
	check("after a replay")
	r.flush()
	r.reopen()
	check("from the manifest")
}

// TestProtocol23AMergeTakesNoFileFromUnderAView reads a view of blocks that were merged
// away, while and after the shard is restored and closed. The files go when the
// view does.
func TestProtocol23AMergeTakesNoFileFromUnderAView(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 100_000))
	for i := range int64(3) {
		b := batchOf(1, 1)
		for at := range 400 >> (2 * i) {
			b.float(metricA(), 1000*i+int64(at), float64(at))
		}
		r.write(&b.Batch)
		r.flush()
	}
	old := fileNames(t, r.dir)
	require.Len(t, old, 3, "blocks of falling size")
	want := r.dumpNow(1)
	first, second := r.view(), r.view()
	check := func(says string) {
		t.Helper()
		require.Equal(t, want, dumpView(t, first, 1), says)
		require.Equal(t, want, dumpView(t, second, 1), says)
	}
	r.shard.RequestCompaction()
	r.flush()
	merged := deltaOf(t, r.dir, 1, r.index)
	require.Equal(t, []string{old[0], merged, old[1], old[2]}, fileNames(t, r.dir))
	check("after the merge")
	r.restore()
	require.Equal(t, []string{old[0], merged, old[1], old[2]}, fileNames(t, r.dir), "a view reads them")
	check("after a restore")
	first.Close()
	first = second
	check("after one view is closed")
	require.NoError(t, r.shard.Close())
	check("after the shard is closed")
	second.Close()
	require.Equal(t, []string{merged}, fileNames(t, r.dir))
	r.open()
	require.Equal(t, want, r.dumpNow(1))
}

// TestFilesStayFew simulates flushes and counts files and how often a sample is
// rewritten.
func TestFilesStayFew(t *testing.T) {
	for says, size := range map[string]func(i int) uint64{
		"equal flushes":   func(int) uint64 { return 1000 },
		"falling flushes": func(i int) uint64 { return uint64(1_000_000 / (i + 1)) },
		"rising flushes":  func(i int) uint64 { return uint64(1000 * (i + 1)) },
		"mixed flushes":   func(i int) uint64 { return []uint64{1, 50_000, 300, 7, 9000}[i*i%5] },
	} {
		t.Run(says, func(t *testing.T) {
			const flushes = 2000
			var files []*blockFile
			given, written, most := uint64(0), uint64(0), 0
			for i := range flushes {
				src := &deltaSource{frozen: []frozenCache{{samples: size(i)}}}
				taken := filesToMerge(files, src)
				sum := size(i)
				for _, f := range taken {
					sum += f.entry.samples
				}
				given, written = given+size(i), written+sum
				files = append(files[:len(files)-len(taken)], &blockFile{entry: fileEntry{samples: sum}})
				most = max(most, len(files))
			}
			log := math.Log2(flushes)
			require.LessOrEqual(t, float64(most), log+2, "files")
			require.LessOrEqual(t, float64(written)/float64(given), log+2, "times that a sample is written")
			t.Logf("at most %d files, each sample written %.1f times", most, float64(written)/float64(given))
		})
	}
}

// TestDirectoriesOfDifferentBlocksDiffer is what an Open relies on to know a
// sound block in the wrong place.
func TestDirectoriesOfDifferentBlocksDiffer(t *testing.T) {
	seen := map[uint32]string{}
	for i := range 4 {
		r := newRig(t, t.TempDir(), openRange(0, 100))
		r.write(oneFloat(1, 1.25+float64(i)))
		r.flush()
		e := r.shard.st.files[0].entry
		says := fmt.Sprintf("block of %v, %d bytes", 1.25+float64(i), e.bytes)
		require.Empty(t, seen[e.directory], says)
		seen[e.directory] = says
	}
}
