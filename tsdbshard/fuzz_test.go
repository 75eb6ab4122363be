package tsdbshard

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// FuzzApply applies entries whose commands are arbitrary bytes, with sound
// frames, so that what is fuzzed is behind the checksum. Whatever they are,
// there is an error or a result for each, and what was applied reads, flushes
// and opens again.
func FuzzApply(f *testing.F) {
	f.Add(uint8(wire.KindWrite), everything(5).Append(nil), oneFloat(6, 1).Append(nil))
	f.Add(uint8(wire.KindBounds), AppendBoundsCommand(nil, openRange(1, 50)), []byte{})
	seal := AppendSealCommand(nil, &wire.Seal{Intent: 1, Horizons: []wire.Horizon{{Tenant: 1, Oldest: 5}}})
	f.Add(uint8(wire.KindSeal), seal, seal)
	d := wire.Deletion{Tenant: 1, MinTime: 1, MaxTime: 2, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "a")}}
	f.Add(uint8(wire.KindDelete), d.Append(nil), d.Append(nil))
	for _, h := range testHistograms() {
		b := batchOf(1, 1).histogram(metricA(), 3, 1, h.H, h.FH)
		f.Add(uint8(wire.KindWrite), b.Append(nil), everything(5).Append(nil))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, kind uint8, one, two []byte) {
		s, err := New(Config{Dir: dir, Set: testSet})
		require.NoError(t, err)
		require.NoError(t, s.Open(t.Context(), GenesisPayload(openRange(0, 1000)), 1))
		defer s.Close()
		var enc wire.Encoder
		good := oneFloat(2, 2).Append(nil)
		results, err := s.ApplyBatch([]quorate.LogEntry{
			{Index: 2, Data: enc.Append(nil, wire.KindWrite, good)},
			{Index: 3, Data: enc.Append(nil, wire.Kind(kind), one, two)},
		})
		v := viewOf(t, s)
		before := dumpView(t, v, testTenants...)
		v.Close()
		if err != nil {
			return
		}
		require.Len(t, results[1], 2)
		fr, err := s.Freeze()
		require.NoError(t, err)
		payload, err := fr.Persist(t.Context(), 3)
		require.NoError(t, err)
		fr.Published()
		again, err := New(Config{Dir: dir, Set: testSet})
		require.NoError(t, err)
		require.NoError(t, again.Open(t.Context(), payload, 3))
		defer again.Close()
		v = viewOf(t, again)
		defer v.Close()
		require.Equal(t, before, dumpView(t, v, testTenants...))
	})
}

// FuzzApplyRaw applies arbitrary bytes as an entry.
func FuzzApplyRaw(f *testing.F) {
	var enc wire.Encoder
	f.Add(enc.Append(nil, wire.KindWrite, everything(1).Append(nil)))
	f.Add([]byte("QE\x01\x01"))
	s, err := New(Config{Dir: f.TempDir(), Set: testSet})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, data []byte) {
		require.NoError(t, s.Restore(t.Context(), GenesisPayload(openRange(0, 1000)), 1))
		results, err := s.ApplyBatch([]quorate.LogEntry{{Index: 2, Data: data}})
		require.True(t, err != nil || len(results) == 1)
	})
}

// FuzzManifest decodes arbitrary bytes as a shard manifest.
func FuzzManifest(f *testing.F) {
	r := newRig(f, f.TempDir(), openRange(0, 100))
	f.Add(r.payload)
	r.write(everything(1))
	r.flush()
	r.write(everything(2))
	r.flush()
	f.Add(r.payload)
	d := wire.Deletion{Tenant: 1, MinTime: 1, MaxTime: 2, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "a")}}
	r.apply(wire.KindDelete, d.Append(nil))
	r.flush()
	f.Add(r.payload)
	r.seal(wire.Seal{Intent: 1, Horizons: []wire.Horizon{{Tenant: 1, Oldest: 5}}})
	r.flush()
	f.Add(r.payload)
	f.Fuzz(func(t *testing.T, data []byte) {
		check := func(data []byte) {
			m, err := decodeManifest(data)
			if err != nil {
				require.True(t, errors.Is(err, ErrDamaged) || errors.Is(err, ErrFormat), "%v", err)
				return
			}
			again, err := decodeManifest(m.encode())
			require.NoError(t, err)
			require.Equal(t, m, again)
			files, err := FilesOf(m.encode())
			require.NoError(t, err)
			for _, f := range files {
				require.True(t, f.Bytes > math.MaxInt64 || f.check() == nil, f.Name)
			}
		}
		check(data)
		if len(data) >= 4 {
			fixed := bytes.Clone(data)
			body := fixed[:len(fixed)-4]
			binary.LittleEndian.PutUint32(fixed[len(body):], crc32.Checksum(body, castagnoli))
			check(fixed)
		}
	})
}
