package tsdbshard

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

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
	f.Add(uint8(wire.KindSeal), []byte{}, []byte{})
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

// fixChecksums makes the checksums of a file's pages right, so that a fuzzer
// gets past them.
func fixChecksums(b []byte) (fixed []byte, rollup uint32) {
	fixed = bytes.Clone(b)
	for rest := fixed; len(rest) >= pageHeadBytes; {
		n := uint64(binary.LittleEndian.Uint32(rest[1:]))
		binary.LittleEndian.PutUint32(rest[5:], crc32.Checksum(rest[:5], castagnoli))
		if n+pageHeadBytes+4 > uint64(len(rest)) {
			break
		}
		body, tail := rest[pageHeadBytes:pageHeadBytes+n], rest[pageHeadBytes+n:pageHeadBytes+n+4]
		binary.LittleEndian.PutUint32(tail, crc32.Update(crc32.Checksum(rest[:5], castagnoli), castagnoli, body))
		rollup = crc32.Update(rollup, castagnoli, tail)
		rest = rest[pageHeadBytes+n+4:]
	}
	return fixed, rollup
}

// FuzzFlushFile loads arbitrary bytes as a flush file, as they are and with
// checksums made right.
func FuzzFlushFile(f *testing.F) {
	r := newRig(f, f.TempDir(), openRange(0, 100))
	r.write(everything(1))
	r.flush()
	good, err := os.ReadFile(filepath.Join(r.dir, flushFileName(1, 2)))
	require.NoError(f, err)
	entry := r.shard.st.files[0]
	f.Add(good)
	f.Add(good[:40])
	f.Fuzz(func(t *testing.T, data []byte) {
		load := func(data []byte, want fileEntry) error {
			st := &state{table: newTable(), live: &memcache{}}
			err := loadFlushFile(bytes.NewReader(data), testSet, &want, st)
			require.True(t, err == nil || errors.Is(err, ErrDamaged) || errors.Is(err, ErrFormat), "%v", err)
			if err == nil {
				for ref := range st.table.next {
					st.blocks[0].appendParts(nil, ref)
					st.blocks[0].appendExemplars(nil, ref)
				}
			}
			return err
		}
		if err := load(data, entry); err == nil {
			require.Equal(t, good, data)
		}
		fixed, rollup := fixChecksums(data)
		want := entry
		want.rollup, want.bytes = rollup, uint64(len(fixed))
		load(fixed, want) //nolint:errcheck // its kind is checked in load
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
