package chunk_test

import (
	"encoding/hex"
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/value"
	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate/tsdbshard/chunk"
)

// TestBytesAreThoseOfTheFormat pins the columns of docs/format/chunk.md. A
// difference is a new version of the format, even if both are read.
func TestBytesAreThoseOfTheFormat(t *testing.T) {
	stale := math.Float64frombits(value.StaleNaN)
	late := []int64{0, 10, 20, 31, 40, 50, 60, 70, 80, 90, 100, 110, 120, 130, 140, 150, 160, 170, 180, 190}
	for _, c := range []struct {
		name   string
		values []float64
		want   string
	}{
		{"constant", []float64{5, 5, 5}, "030a"},
		{"deltas", []float64{1, 2, 4}, "0102010202"},
		{"decimals around a stale marker", []float64{0.5, 0.25, stale, 0.75}, "2d010200640219010c"},
		{"nothing but rare values", []float64{stale, stale}, "f8010008"},
		{"float bits", []float64{1. / 3, 1. / 3}, "e3555555555555d53f"},
	} {
		var enc chunk.Encoder
		column := enc.Floats(late[:len(c.values)], nil, c.values)
		require.Equal(t, c.want, hex.EncodeToString(column.Values), c.name)
	}
	var enc chunk.Encoder
	require.Equal(t, "010002122555555515", hex.EncodeToString(enc.Floats(late, nil, make([]float64, len(late))).Times), "timestamps of which one is late")
}
