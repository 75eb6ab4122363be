package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The golden files pin bytes that outlive a process. A change in them is a
// change of format: it needs a new version, never new golden files.
var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(hex.Dump(got)), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), hex.Dump(got), "the bytes of format version 1 changed")
}

// goldenBatch has every section and every column mode.
func goldenBatch() *Batch {
	const at = 1_770_000_000_000
	up := AppendLabel(AppendLabel(nil, "__name__", "up"), "job", "node")
	return &Batch{
		Tenant: 300, Version: 2, Definitions: [][]byte{up},
		Series:                   []RowSeries{ByRef(5), ByRef(6), ByDefinition(0), ByRef(4)},
		Timestamps:               []int64{at, at, at, at},
		StartTimestamps:          []int64{0, at - 15_000, 0, 0},
		Values:                   []float64{42, 0.125, 1, 2.5e300},
		HistogramSeries:          []RowSeries{ByRef(9), ByRef(10)},
		HistogramTimestamps:      []int64{at, at + 5},
		HistogramStartTimestamps: nil,
		Histograms:               [][]byte{AppendHistogram(nil, exampleHistogram()), AppendFloatHistogram(nil, exampleCustomHistogram())},
		ExemplarSeries:           []RowSeries{ByRef(5)},
		ExemplarTimestamps:       []int64{at - 3},
		ExemplarValues:           []float64{0.25},
		ExemplarLabels:           [][]byte{AppendLabel(nil, "trace_id", "4bf92f3577b34da6")},
		Metadata:                 []Metadata{{Family: "up", Type: "gauge", Help: "Whether the target is up."}},
	}
}

func TestGoldenBatch(t *testing.T) {
	data := goldenBatch().Append(nil)
	golden(t, "batch.hex", data)
	var b Batch
	require.NoError(t, b.Decode(data))
	require.Empty(t, difference(goldenBatch(), &b))
}

func TestGoldenEntry(t *testing.T) {
	var e Encoder
	// One small entry as it stands and one large enough to be compressed. The
	// compressor is free to change what it writes, so for that one the golden
	// bytes are only decoded.
	small := e.Append(nil, KindMeta, []byte("first"), nil, []byte("third"))
	golden(t, "entry-plain.hex", small)
	packed := e.Append(nil, KindWrite, goldenBatch().Append(nil), goldenBatch().Append(nil))
	require.NotZero(t, packed[4]&entryFlagS2, "the entry is compressed")
	if *update {
		golden(t, "entry-s2.hex", packed)
	}
	var d Decoder
	entry, err := d.Decode(undump(t, "entry-s2.hex"))
	require.NoError(t, err)
	require.Equal(t, KindWrite, entry.Kind)
	require.Len(t, entry.Commands, 2)
	for _, c := range entry.Commands {
		require.Equal(t, goldenBatch().Append(nil), c)
	}
}

// undump reads the bytes back from a golden file.
func undump(t *testing.T, name string) []byte {
	t.Helper()
	dump, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	var out []byte
	for line := range strings.Lines(string(dump)) {
		digits, _, _ := strings.Cut(line, "|")
		for i, field := range strings.Fields(digits) {
			if i == 0 {
				continue // the offset
			}
			b, err := hex.DecodeString(field)
			require.NoError(t, err)
			out = append(out, b...)
		}
	}
	return out
}

func TestEntryComesBackAsItWent(t *testing.T) {
	var e Encoder
	var d Decoder
	command := rapid.OneOf(
		rapid.SliceOfN(rapid.Byte(), 0, 300),
		rapid.Map(rapid.IntRange(0, 5000), func(n int) []byte { return bytes.Repeat([]byte("abc"), n) }),
	)
	rapid.Check(t, func(t *rapid.T) {
		kind := Kind(rapid.ByteRange(byte(KindWrite), byte(KindMeta)).Draw(t, "kind"))
		commands := rapid.SliceOfN(command, 0, 4).Draw(t, "commands")
		before := rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "dst")
		data := e.Append(bytes.Clone(before), kind, commands...)
		require.True(t, bytes.HasPrefix(data, before))
		require.NoError(t, CheckEntry(data[len(before):]))
		entry, err := d.Decode(data[len(before):])
		require.NoError(t, err)
		require.Equal(t, kind, entry.Kind)
		require.Len(t, entry.Commands, len(commands))
		for i := range commands {
			require.True(t, bytes.Equal(commands[i], entry.Commands[i]))
		}
	})
}

func TestOneFlippedBitIsFound(t *testing.T) {
	var e Encoder
	var d Decoder
	data := e.Append(nil, KindWrite, goldenBatch().Append(nil))
	for bit := range len(data) * 8 {
		data[bit/8] ^= 1 << (bit % 8)
		_, err := d.Decode(data)
		require.ErrorIs(t, err, ErrCorrupt, "bit %d", bit)
		data[bit/8] ^= 1 << (bit % 8)
	}
	for cut := range data {
		_, err := d.Decode(data[:cut])
		require.ErrorIs(t, err, ErrCorrupt, "cut to %d bytes", cut)
	}
}

// seal gives bytes a frame with a good checksum.
func seal(head [5]byte, payload ...byte) []byte {
	data := append(head[:], payload...)
	return binary.LittleEndian.AppendUint32(data, crc32.Checksum(data, castagnoli))
}

func TestEntryDecodeRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		data []byte
		want error
	}{
		"nothing":                            {nil, ErrCorrupt},
		"another magic":                      {seal([5]byte{'Q', 'F', 1, 1, 0}, 0), ErrCorrupt},
		"a newer version":                    {seal([5]byte{'Q', 'E', 2, 1, 0}, 0), ErrUnknownVersion},
		"kind 0":                             {seal([5]byte{'Q', 'E', 1, 0, 0}, 0), ErrUnknownKind},
		"a newer kind":                       {seal([5]byte{'Q', 'E', 1, 7, 0}, 0), ErrUnknownKind},
		"unknown flags":                      {seal([5]byte{'Q', 'E', 1, 1, 2}, 0), ErrCorrupt},
		"a command past the end":             {seal([5]byte{'Q', 'E', 1, 1, 0}, 1, 5, 'x'), ErrCorrupt},
		"more commands than bytes":           {seal([5]byte{'Q', 'E', 1, 1, 0}, 100, 0), ErrCorrupt},
		"bytes after the commands":           {seal([5]byte{'Q', 'E', 1, 1, 0}, 1, 1, 'x', 'y'), ErrCorrupt},
		"a payload that declares 4 GiB":      {seal([5]byte{'Q', 'E', 1, 1, 1}, 0xff, 0xff, 0xff, 0xff, 0x0f), ErrCorrupt},
		"a payload that declares a GiB":      {seal([5]byte{'Q', 'E', 1, 1, 1}, 0x80, 0x80, 0x80, 0x80, 0x04), ErrCorrupt},
		"a payload that does not decompress": {seal([5]byte{'Q', 'E', 1, 1, 1}, 9, 1, 2, 3), ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			var d Decoder
			_, err := d.Decode(tc.data)
			require.ErrorIs(t, err, tc.want)
		})
	}
}

func FuzzDecodeEntry(f *testing.F) {
	var e Encoder
	f.Add(e.Append(nil, KindMeta, []byte("first"), nil, []byte("third")), false)
	f.Add(e.Append(nil, KindWrite, goldenBatch().Append(nil)), false)
	f.Add([]byte{'Q', 'E', 1, 1, 0, 1, 1, 'x'}, true)
	f.Add([]byte{'Q', 'E', 1, 1, 1, 4, 12, 1, 2, 'x', 'y'}, true)
	f.Fuzz(func(t *testing.T, data []byte, mend bool) {
		if mend { // a good checksum, so that the fuzzer gets past it
			data = binary.LittleEndian.AppendUint32(bytes.Clone(data), crc32.Checksum(data, castagnoli))
		}
		var d Decoder
		entry, err := d.Decode(data)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnknownVersion) && !errors.Is(err, ErrUnknownKind) {
				t.Fatalf("error of no kind: %v", err)
			}
			return
		}
		commands := make([][]byte, len(entry.Commands))
		for i, c := range entry.Commands {
			commands[i] = bytes.Clone(c)
		}
		var e Encoder
		again, err := d.Decode(e.Append(nil, entry.Kind, commands...))
		if err != nil {
			t.Fatalf("encoded again it does not decode: %v", err)
		}
		for i, c := range again.Commands {
			if !bytes.Equal(c, commands[i]) {
				t.Fatalf("command %d differs", i)
			}
		}
		if len(again.Commands) != len(commands) {
			t.Fatal("commands were lost")
		}
	})
}
