package engine_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate/benchmarks/engine"
)

// TestCompareMeasuresBothEngines runs the comparison on a small scale. That
// their answers agree is checked by Compare itself.
func TestCompareMeasuresBothEngines(t *testing.T) {
	report, err := engine.Compare(t.Context(), engine.Config{Series: 210, Rounds: 3, BlockRounds: 20, Passes: 1, Dir: t.TempDir()})
	require.NoError(t, err)
	var table bytes.Buffer
	n, err := report.WriteTo(&table)
	require.NoError(t, err)
	require.Equal(t, int64(table.Len()), n)
	require.Contains(t, table.String(), "210 series, 20 samples each")
	require.NotContains(t, table.String(), "NaN")
}

func TestConfigsThatMakeNoSenseAreRefused(t *testing.T) {
	for name, cfg := range map[string]engine.Config{
		"no directory":           {},
		"a negative number":      {Dir: t.TempDir(), Series: -1},
		"a block of fewer":       {Dir: t.TempDir(), Rounds: 10, BlockRounds: 9},
		"a block of three hours": {Dir: t.TempDir(), BlockRounds: 720},
	} {
		_, err := engine.Compare(t.Context(), cfg)
		require.Error(t, err, name)
	}
}

// BenchmarkEngines prints the comparison of 20,000 series as a table; for
// 100,000 run benchmarks/engine/compare.
func BenchmarkEngines(b *testing.B) {
	for b.Loop() {
		report, err := engine.Compare(b.Context(), engine.Config{Series: 20_000, Dir: b.TempDir()})
		require.NoError(b, err)
		var table bytes.Buffer
		_, err = report.WriteTo(&table)
		require.NoError(b, err)
		b.Log("\n" + table.String())
	}
}
