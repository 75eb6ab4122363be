package tsdbshard

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// seal seals the rig's set and returns what the seal is.
func (r *rig) seal(seal wire.Seal) SealInfo {
	r.t.Helper()
	r.apply(wire.KindSeal, AppendSealCommand(nil, &seal))
	info, ok := r.shard.Sealed()
	require.True(r.t, ok)
	return info
}

// sources are those of the rig's seal; the view is the caller's to close.
func (r *rig) sources(base *Sealed) Sources {
	r.t.Helper()
	info, ok := r.shard.Sealed()
	require.True(r.t, ok)
	return Sources{View: r.view(), Base: base, Seal: info.Seal}
}

// checksum returns the logical checksum of the sealed rig.
func (r *rig) checksum(base *Sealed) string {
	r.t.Helper()
	src := r.sources(base)
	defer src.View.Close()
	sum, err := Checksum(context.Background(), src)
	require.NoError(r.t, err)
	return fmt.Sprintf("%x", sum)
}

// canonical writes the sealed rig's canonical block, checks that it has the
// logical checksum of the sources, and opens it.
func (r *rig) canonical(base *Sealed) *Sealed {
	r.t.Helper()
	src := r.sources(base)
	defer src.View.Close()
	info, _ := r.shard.Sealed()
	cfg := Config{Dir: r.dir, Disk: r.disk, Set: testSet}
	file, err := WriteCanonical(context.Background(), src, cfg, info.Index)
	require.NoError(r.t, err)
	require.NoError(r.t, VerifySealed(context.Background(), cfg, file))
	sealed, err := OpenSealed(cfg, info.Index, src.View.Bounds().Range, file)
	require.NoError(r.t, err)
	c, err := sealed.hold()
	require.NoError(r.t, err)
	defer c.Release() //nolint:errcheck // only read from
	sum, err := checksumOf(context.Background(), c)
	require.NoError(r.t, err)
	require.Equal(r.t, r.checksum(base), fmt.Sprintf("%x", sum))
	return sealed
}

// dumpSealed dumps what a sealed set shows but for deletions.
func dumpSealed(t failer, s *Sealed, deletions []wire.NumberedDeletion, tenants ...quorate.TenantID) dump {
	t.Helper()
	v, err := s.View(deletions)
	require.NoError(t, err)
	defer v.Close()
	d := dump{}
	for _, id := range tenants {
		d[id] = dumpTenant(t, v.Tenant(id))
	}
	return d
}

// sealedDump is what the model says that the canonical block has.
func (m *model) sealedDump(seal *wire.Seal, tenants ...quorate.TenantID) dump {
	for _, s := range m.series {
		for _, h := range seal.Horizons {
			if h.Tenant != s.tenant {
				continue
			}
			for t := range s.samples {
				if t < h.Oldest {
					delete(s.samples, t)
				}
			}
			s.exemplars = slices.DeleteFunc(s.exemplars, func(e exemplarRow) bool { return e.t < h.Oldest })
		}
	}
	m.series = slices.DeleteFunc(m.series, func(s *modelSeries) bool { return len(s.samples)+len(s.exemplars) == 0 })
	for _, s := range m.series {
		s.stored = nil
		for t := range s.samples {
			s.stored = append(s.stored, t)
		}
	}
	return m.dump(tenants...)
}

// under returns the model of an overlay merged over this one, its base.
func (m *model) under(overlay *model) *model {
	merged := newModel(m.bounds)
	merged.meta = m.meta
	for _, s := range slices.Concat(m.series, overlay.series) {
		key := fmt.Sprintf("%d %s", s.tenant, s.labels)
		i, ok := merged.byKey[key]
		if !ok {
			i = len(merged.series)
			merged.byKey[key] = i
			merged.series = append(merged.series, &modelSeries{tenant: s.tenant, labels: s.labels, samples: map[int64]string{}})
		}
		to := merged.series[i]
		for t, text := range s.samples {
			to.keep(t, text)
		}
		for _, e := range s.exemplars {
			if !slices.ContainsFunc(to.exemplars, func(o exemplarRow) bool { return compareExemplars(o, e) == 0 }) {
				to.exemplars = append(to.exemplars, e)
			}
		}
	}
	for tenant, all := range overlay.meta {
		for family, entry := range all {
			if merged.meta[tenant] == nil {
				merged.meta[tenant] = map[string]wire.Metadata{}
			}
			merged.meta[tenant][family] = entry
		}
	}
	return merged
}

// history drives a rig and its model through writes and deletes, with flushes
// of its own.
func history(t *rapid.T, dir string, flushes bool) *machine {
	bounds := openRange(-1000, 10_000)
	m := &machine{
		t: t, rig: newRig(t, dir, bounds), model: newModel(bounds), clock: 40,
		values: testValues(), hists: testHistograms(),
	}
	for range rapid.IntRange(1, 12).Draw(t, "entries") {
		switch rapid.IntRange(0, 5).Draw(t, "entry") {
		case 0:
			m.Delete(t)
		case 1:
			if flushes {
				m.rig.flush()
			}
		default:
			m.Write(t)
		}
	}
	return m
}

func drawSeal(t *rapid.T) wire.Seal {
	seal := wire.Seal{Intent: 3}
	for _, id := range testTenants {
		if rapid.Bool().Draw(t, "horizon") {
			seal.Horizons = append(seal.Horizons, wire.Horizon{Tenant: id, Oldest: rapid.Int64Range(-20, 120).Draw(t, "oldest")})
		}
	}
	return seal
}

// TestCanonicalBlocksEqualTheModel seals random histories and compares what the
// canonical block shows, with and without deletions over it, with the model.
// Then it lays an overlay of another history over it and seals that too.
func TestCanonicalBlocksEqualTheModel(t *testing.T) {
	root := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		m := history(rt, filepath.Join(root, fmt.Sprint(n)), true)
		seal := drawSeal(rt)
		m.rig.seal(seal)
		sum := m.rig.checksum(nil)
		sealed := m.rig.canonical(nil)
		require.Equal(rt, m.model.sealedDump(&seal, testTenants...), dumpSealed(rt, sealed, nil, testTenants...))

		overlay := history(rt, filepath.Join(root, fmt.Sprint(n, "o")), true)
		second := drawSeal(rt)
		for id := range rapid.Uint64Range(0, 3).Draw(rt, "deletions") {
			second.Deletions = append(second.Deletions, wire.NumberedDeletion{ID: id + 1, Deletion: *m.deletion()})
		}
		overlay.rig.seal(second)
		merged := overlay.rig.canonical(sealed)
		for i := range second.Deletions {
			m.model.applyDelete(&second.Deletions[i].Deletion)
		}
		require.Equal(rt, m.model.dump(testTenants...), dumpSealed(rt, sealed, second.Deletions, testTenants...), "the base without what was deleted")
		require.Equal(rt, m.model.under(overlay.model).sealedDump(&second, testTenants...), dumpSealed(rt, merged, nil, testTenants...))

		m.rig.flush()
		m.rig.reopen()
		require.Equal(rt, sum, m.rig.checksum(nil), "of the restarted replica")
		for _, s := range []*Sealed{sealed, merged} {
			require.NoError(rt, s.Close())
		}
		require.NoError(rt, m.rig.shard.Close())
		require.NoError(rt, overlay.rig.shard.Close())
		require.NoError(rt, os.RemoveAll(m.rig.dir))
		require.NoError(rt, os.RemoveAll(overlay.rig.dir))
	})
}

// TestChecksumsDoNotDependOnFlushes applies one log to a replica that never
// flushes, one that flushes after every entry, and one that flushes, compacts
// and restarts now and then; their results, contents and checksums are equal.
func TestChecksumsDoNotDependOnFlushes(t *testing.T) {
	root := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		m := history(rt, filepath.Join(root, fmt.Sprint(n, "never")), false)
		seal := drawSeal(rt)
		m.rig.seal(seal)
		want, sum := m.rig.dumpNow(testTenants...), m.rig.checksum(nil)
		for _, kind := range []string{"always", "sometimes"} {
			r := newRig(rt, filepath.Join(root, fmt.Sprint(n, kind)), openRange(-1000, 10_000))
			for i, e := range m.rig.log {
				got, err := r.shard.ApplyBatch([]quorate.LogEntry{e})
				require.NoError(rt, err)
				require.Equal(rt, m.rig.results[i], got[0])
				r.index, r.log, r.results = e.Index, append(r.log, e), append(r.results, got[0])
				if kind == "always" {
					r.flush()
					continue
				}
				switch rapid.IntRange(0, 4).Draw(rt, "what") {
				case 0:
					r.shard.RequestCompaction()
					r.flush()
				case 1:
					r.flush()
				case 2:
					r.reopen()
				}
			}
			require.Equal(rt, want, r.dumpNow(testTenants...), kind)
			require.Equal(rt, sum, r.checksum(nil), kind)
			require.NoError(rt, r.shard.Close())
			require.NoError(rt, os.RemoveAll(r.dir))
		}
		require.NoError(rt, m.rig.shard.Close())
	})
}

// TestOneBitMakesAnotherChecksum changes one thing at a time.
func TestOneBitMakesAnotherChecksum(t *testing.T) {
	h := testHistograms()
	sums := map[string]string{}
	for says, b := range map[string]*batchBuilder{
		"a float":                 batchOf(1, 1).float(metricA(), 10, 1),
		"another tenant":          batchOf(2, 1).float(metricA(), 10, 1),
		"another label":           batchOf(1, 1).float(metricB(), 10, 1),
		"another time":            batchOf(1, 1).float(metricA(), 11, 1),
		"another start":           batchOf(1, 1).floatWithStart(metricA(), 10, 1, 1),
		"zero":                    batchOf(1, 1).float(metricA(), 10, 0),
		"minus zero":              batchOf(1, 1).float(metricA(), 10, math.Copysign(0, -1)),
		"a NaN":                   batchOf(1, 1).float(metricA(), 10, math.NaN()),
		"another NaN":             batchOf(1, 1).float(metricA(), 10, math.Float64frombits(0x7ff8dead0000beef)),
		"two samples":             batchOf(1, 1).float(metricA(), 10, 1).float(metricA(), 11, 1),
		"two series":              batchOf(1, 1).float(metricA(), 10, 1).float(metricB(), 11, 1),
		"an exemplar":             batchOf(1, 1).float(metricA(), 10, 1).exemplar(metricA(), 10, 1, nil),
		"another exemplar":        batchOf(1, 1).float(metricA(), 10, 1).exemplar(metricA(), 10, 2, nil),
		"a labelled exemplar":     batchOf(1, 1).float(metricA(), 10, 1).exemplar(metricA(), 10, 1, canonical("a", "b")),
		"metadata":                batchOf(1, 1).float(metricA(), 10, 1).metadata("a", "counter", "", ""),
		"other metadata":          batchOf(1, 1).float(metricA(), 10, 1).metadata("a", "gauge", "", ""),
		"a histogram":             batchOf(1, 1).histogram(metricA(), 10, 0, h[0].H, nil),
		"the float histogram":     batchOf(1, 1).histogram(metricA(), 10, 0, nil, h[0].H.ToFloat(nil)),
		"a gauge histogram":       batchOf(1, 1).histogram(metricA(), 10, 0, h[8].H, nil),
		"the same counter":        batchOf(1, 1).histogram(metricA(), 10, 0, h[2].H, nil),
		"another schema":          batchOf(1, 1).histogram(metricA(), 10, 0, h[10].H, nil),
		"custom buckets":          batchOf(1, 1).histogram(metricA(), 10, 0, h[12].H, nil),
		"a stale histogram":       batchOf(1, 1).histogram(metricA(), 10, 0, h[16].H, nil),
		"a stale float histogram": batchOf(1, 1).histogram(metricA(), 10, 0, nil, h[17].FH),
	} {
		r := newRig(t, t.TempDir(), openRange(0, 100))
		r.write(&b.Batch)
		r.seal(wire.Seal{})
		sum := r.checksum(nil)
		if other, ok := sums[sum]; ok {
			t.Errorf("%s and %s have one checksum", says, other)
		}
		sums[sum] = says
	}
}

// TestAddedBucketsAndChunkBordersMakeNoOtherChecksum stores one histogram alone
// and between others whose buckets its chunk then shares.
func TestAddedBucketsAndChunkBordersMakeNoOtherChecksum(t *testing.T) {
	h := testHistograms()
	matchers := []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "a")}
	alone := newRig(t, t.TempDir(), openRange(0, 100))
	alone.write(&batchOf(1, 1).histogram(metricA(), 10, 0, h[0].H, nil).Batch)
	alone.seal(wire.Seal{})

	among := newRig(t, t.TempDir(), openRange(0, 100))
	among.write(&batchOf(1, 1).histogram(metricA(), 9, 0, h[0].H, nil).histogram(metricA(), 10, 0, h[0].H, nil).histogram(metricA(), 11, 0, h[4].H, nil).Batch)
	for _, t := range []int64{9, 11} {
		d := wire.Deletion{Tenant: 1, MinTime: t, MaxTime: t, Matchers: matchers}
		among.apply(wire.KindDelete, d.Append(nil))
	}
	among.seal(wire.Seal{})
	require.Equal(t, alone.checksum(nil), among.checksum(nil))
}
