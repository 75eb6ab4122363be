package tsdbshard

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// sealedRig is a rig that was sealed, and what its set holds.
func sealedRig(t *testing.T) (*rig, *Sealed) {
	t.Helper()
	r := newRig(t, t.TempDir(), openRange(0, 100))
	for i := range int64(20) {
		r.write(everything(i))
	}
	r.seal(wire.Seal{Intent: 1})
	return r, r.canonical(nil)
}

func TestASealedSetIsOpenOnlyWhileItIsRead(t *testing.T) {
	r, s := sealedRig(t)
	require.NoError(t, s.Close())
	m, err := NewMetrics(prometheus.NewRegistry())
	require.NoError(t, err)
	info, _ := r.shard.Sealed()
	cfg := Config{Dir: r.dir, Set: testSet, Metrics: m}
	s, err = OpenSealed(cfg, info.Index, r.shard.Bounds().Range, s.File())
	require.NoError(t, err)
	open := func() int { return int(testutil.ToFloat64(m.sealedOpen)) }
	require.Zero(t, open())
	want := r.dumpNow(1)
	require.Equal(t, want, dumpSealed(t, s, nil, 1))
	require.Equal(t, 1, open())
	require.NoError(t, s.Rest())
	require.Equal(t, 1, open(), "it was used since the last rest")
	v, err := s.View(nil)
	require.NoError(t, err)
	require.NoError(t, s.Rest())
	require.NoError(t, s.Rest())
	require.Zero(t, open())
	require.Equal(t, want[1], dumpTenant(t, v.Tenant(1)), "a view goes on")
	require.Equal(t, want, dumpSealed(t, s, nil, 1), "and another opens the file again")
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	require.Equal(t, want[1], dumpTenant(t, v.Tenant(1)), "a view outlives Close")
	v.Close()
	v.Close()
	_, err = s.View(nil)
	require.ErrorIs(t, err, ErrNotOpen)
	require.Zero(t, open())
	require.Zero(t, testutil.ToFloat64(m.views))
	require.Zero(t, testutil.ToFloat64(m.sealedSets))
	require.Zero(t, testutil.ToFloat64(m.sealedBytes))
}

func TestASealedFileOfAnotherPlaceIsRefused(t *testing.T) {
	r, s := sealedRig(t)
	require.NoError(t, s.Close())
	info, _ := r.shard.Sealed()
	good, bounds := s.File(), r.shard.Bounds().Range
	cfg := Config{Dir: r.dir, Set: testSet}
	open := func(cfg Config, index uint64, bounds quorate.TimeRange, file wire.SealedFile) error {
		s, err := OpenSealed(cfg, index, bounds, file)
		if err == nil {
			require.NoError(t, s.Close())
		}
		return err
	}
	require.NoError(t, open(cfg, info.Index, bounds, good))
	require.ErrorIs(t, open(Config{Dir: r.dir, Set: testSet + 1}, info.Index, bounds, good), ErrDamaged)
	require.ErrorIs(t, open(cfg, info.Index+1, bounds, good), ErrDamaged)
	require.ErrorIs(t, open(cfg, info.Index, quorate.TimeRange{Start: 0, End: 99}, good), ErrDamaged)
	fewer := good
	fewer.Samples--
	require.ErrorIs(t, open(cfg, info.Index, bounds, fewer), ErrDamaged)
	require.ErrorIs(t, VerifySealed(t.Context(), cfg, fewer), ErrDamaged)
	absent := good
	absent.Hash[0]++
	require.ErrorIs(t, open(cfg, info.Index, bounds, absent), fs.ErrNotExist)
	require.ErrorIs(t, VerifySealed(t.Context(), cfg, absent), fs.ErrNotExist)
	require.NoError(t, os.Rename(filepath.Join(r.dir, SealedFileName(good)), filepath.Join(r.dir, SealedFileName(absent))))
	require.ErrorIs(t, VerifySealed(t.Context(), cfg, absent), ErrDamaged, "the hash is of the bytes")
}

// TestAnIdleSealedSetCostsAlmostNothing opens the same file as many sets.
func TestAnIdleSealedSetCostsAlmostNothing(t *testing.T) {
	r, s := sealedRig(t)
	require.NoError(t, s.Close())
	info, _ := r.shard.Sealed()
	m, err := NewMetrics(nil)
	require.NoError(t, err)
	const sets = 5000
	var before, after runtime.MemStats
	all := make([]*Sealed, 0, sets)
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range sets {
		s, err := OpenSealed(Config{Dir: r.dir, Set: testSet, Metrics: m}, info.Index, r.shard.Bounds().Range, s.File())
		require.NoError(t, err)
		all = append(all, s)
	}
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / sets
	t.Logf("%d bytes a sealed set that is idle", each)
	require.Less(t, each, int64(2048))
	runtime.KeepAlive(all)
}

func TestVerifyReadsAllOfAReplica(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 10_000))
	for i := range int64(100) {
		r.write(aFew(i))
	}
	r.flush()
	r.write(aFew(200))
	r.flush()
	r.delete(0, 5, named("a"))
	r.flush()
	report, err := Verify(t.Context(), Config{Dir: r.dir, Set: testSet}, r.payload, r.manifest)
	require.NoError(t, err)
	require.Positive(t, report.Bytes)
	report.Bytes = 0
	require.Equal(t, VerifyReport{Files: 2, Series: 3, Samples: 303, Tombstones: 1}, report)
	require.NoError(t, os.Remove(filepath.Join(r.dir, r.shard.st.files[1].entry.name())))
	_, err = Verify(t.Context(), Config{Dir: r.dir, Set: testSet}, r.payload, r.manifest)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestOnlyASealedSetHasACanonicalBlock(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 100))
	r.write(oneFloat(1, 1))
	v := r.view()
	defer v.Close()
	_, err := Checksum(t.Context(), Sources{View: v})
	require.ErrorIs(t, err, errNotSealed)
	_, err = WriteCanonical(t.Context(), Sources{View: v}, Config{Dir: r.dir, Set: testSet}, 3)
	require.ErrorIs(t, err, errNotSealed)
	require.Empty(t, fileNames(t, r.dir))
}

// TestProtocol14TheCanonicalBlockIsTheSameOnAllReplicas writes it on one that never
// flushed and on one that did.
func TestProtocol14TheCanonicalBlockIsTheSameOnAllReplicas(t *testing.T) {
	a, b := newRig(t, t.TempDir(), openRange(0, 1000)), newRig(t, t.TempDir(), openRange(0, 1000))
	for i := range int64(50) {
		a.write(aFew(2 * i))
		b.write(aFew(2 * i))
		a.write(aFew(i))
		b.write(aFew(i))
		if i%10 == 0 {
			b.flush()
		}
	}
	a.seal(wire.Seal{})
	b.seal(wire.Seal{})
	one, other := a.canonical(nil), b.canonical(nil)
	require.Equal(t, fmt.Sprintf("%x", one.File().Hash), fmt.Sprintf("%x", other.File().Hash))
	require.NoError(t, one.Close())
	require.NoError(t, other.Close())
}
