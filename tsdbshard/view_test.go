package tsdbshard

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// TestViewsStayWhatTheyWereWhileEntriesAreApplied reads views from several
// goroutines while entries of every kind are applied and flushed, and compares
// each with the model at the view's index. Run it with -race.
func TestViewsStayWhatTheyWereWhileEntriesAreApplied(t *testing.T) {
	const entries = 250
	bounds := openRange(0, 1_000_000)
	m := newModel(bounds)
	rng := rand.New(rand.NewPCG(3, 4))
	want := map[uint64]dump{1: m.dump(testTenants...)}
	var log []quorate.LogEntry
	var enc wire.Encoder
	values, hists := testValues(), testHistograms()
	for i := range entries {
		b := batchOf(testTenants[rng.IntN(2)], 1)
		for range rng.IntN(60) {
			b.floatWithStart(canonical("__name__", "m", "i", string(rune('a'+rng.IntN(3+i/20)))), int64(1000+10*i-rng.IntN(3)*rng.IntN(400)), int64(rng.IntN(2)), values[rng.IntN(len(values))])
		}
		for range rng.IntN(8) {
			h := hists[rng.IntN(len(hists))]
			b.histogram(canonical("__name__", "h", "i", string(rune('a'+rng.IntN(3)))), int64(1000+10*i-rng.IntN(2)*rng.IntN(400)), 0, h.H, h.FH)
		}
		b.exemplar(metricA(), int64(1000+rng.IntN(40)), values[rng.IntN(3)], nil).metadata("m", "counter", "", string(rune('a'+rng.IntN(26))))
		m.apply(t, &b.Batch)
		index := uint64(2 + i)
		want[index] = m.dump(testTenants...)
		log = append(log, quorate.LogEntry{Index: index, Data: enc.Append(nil, wire.KindWrite, b.Append(nil))})
	}

	s, err := New(Config{Dir: t.TempDir(), Set: testSet})
	require.NoError(t, err)
	require.NoError(t, s.Open(t.Context(), GenesisPayload(bounds), 1))
	done := make(chan struct{})
	var readers, flusher sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			var older *View
			for {
				v, err := s.View()
				if err != nil {
					t.Error(err)
					return
				}
				assert.Equal(t, want[v.AppliedIndex()], dumpView(t, v, testTenants...), "index %d", v.AppliedIndex())
				if older != nil {
					assert.Equal(t, want[older.AppliedIndex()], dumpView(t, older, testTenants...), "an older view, of index %d", older.AppliedIndex())
					older.Close()
				}
				older = v
				select {
				case <-done:
					older.Close()
					return
				default:
				}
			}
		})
	}
	for i := range log {
		_, err := s.ApplyBatch(log[i : i+1])
		require.NoError(t, err)
		if i%25 == 24 {
			flusher.Wait()
			f, err := s.Freeze()
			require.NoError(t, err)
			flusher.Go(func() {
				if _, err := f.Persist(context.Background(), log[i].Index); err != nil {
					t.Error(err)
				}
				f.Published()
			})
		}
	}
	flusher.Wait()
	close(done)
	readers.Wait()
	v := viewOf(t, s)
	require.Equal(t, want[uint64(1+entries)], dumpView(t, v, testTenants...))
	v.Close()
	require.Empty(t, s.st.views)
	require.Empty(t, s.st.live.views)
	require.NoError(t, s.Close())
}

// TestAShardThatIsNotOpenHasNoView: an empty view would be taken for an answer.
func TestAShardThatIsNotOpenHasNoView(t *testing.T) {
	s, err := New(Config{Dir: t.TempDir(), Set: testSet})
	require.NoError(t, err)
	none := func(when string) {
		v, err := s.View()
		require.Nil(t, v, when)
		require.ErrorIs(t, err, ErrNotOpen, when)
		require.Equal(t, quorate.Unavailable, quorate.KindOf(err), when)
		require.ErrorContains(t, err, "set 7", when)
	}
	none("before Open")
	require.NoError(t, s.Open(t.Context(), GenesisPayload(openRange(0, 100)), 1))
	viewOf(t, s).Close()
	require.NoError(t, s.Close())
	none("after Close")
}

// TestProtocol23ViewsOutliveTheirState has views of the live memcache, of a frozen one
// and of a file shown after a Restore and after Close.
func TestProtocol23ViewsOutliveTheirState(t *testing.T) {
	for _, tc := range []struct {
		name string
		end  func(r *rig)
	}{
		{"a restore", func(r *rig) { r.restore() }},
		{"close", func(r *rig) { require.NoError(r.t, r.shard.Close()) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, t.TempDir(), openRange(0, 1000))
			r.write(everything(10))
			r.flush()
			r.write(everything(30))
			frozen := r.freeze()
			r.write(everything(20))
			v, want := r.view(), r.dumpNow(1)
			r.write(everything(40)) // saves rows into the view
			tc.end(r)
			_, err := frozen.Persist(t.Context(), r.index)
			require.ErrorIs(t, err, ErrVoid)
			require.Equal(t, want, dumpView(t, v, 1))
			v.Close()
			v.Close()
			require.Empty(t, v.st.views)
		})
	}
}

func TestAViewDoesNotShowWhatCameLater(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 100))
	r.write(&batchOf(1, 1).float(canonical("__name__", "old", "x", "1"), 1, 1).Batch)
	v := r.view()
	defer v.Close()
	r.write(&batchOf(1, 1).float(canonical("__name__", "new", "x", "2", "y", "3"), 1, 1).metadata("f", "gauge", "", "").Batch,
		&batchOf(5, 1).float(metricA(), 1, 1).Batch)
	r.flush()
	tv := v.tenant(1)
	ix := &indexReader{tv: tv}
	names, err := ix.LabelNames(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"__name__", "x"}, names)
	values, err := ix.SortedLabelValues(t.Context(), "__name__", nil)
	require.NoError(t, err)
	require.Equal(t, []string{"old"}, values)
	require.Len(t, querySamples(t, tv, math.MinInt64, math.MaxInt64, matchAll()), 1)
	require.EqualValues(t, 1, tv.NumSeries())
	require.Empty(t, families(t, tv, ""))
	require.EqualValues(t, 1, statsOf(t, tv, 10).NumSeries)
	require.Zero(t, v.Tenant(5).NumSeries())
	require.Empty(t, querySamples(t, v.Tenant(5), math.MinInt64, math.MaxInt64, matchAll()))
}
