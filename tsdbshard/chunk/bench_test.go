package chunk_test

import (
	"fmt"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate/benchmarks/engine/mix"
	"github.com/quorate/quorate/tsdbshard/chunk"
)

// benchSizes are the rows of a memcache's chunk, of a Prometheus chunk, and of
// one in a block.
var benchSizes = []int{16, 120, 240}

// benchRows are how many samples of each series are measured: a multiple of all
// benchSizes, so that short chunks see the same as long ones.
const benchRows = 480

// runs are the samples of some series of one target.
type runs struct {
	times  []int64
	series [][]float64
}

// runsOf makes series of one kind; of the mix without one.
func runsOf(kind *mix.Kind) runs {
	r := runs{times: mix.Timestamps(1, 0, 1_760_000_000_000, 15_000, benchRows)}
	for i := range 200 {
		s := mix.NewSeries(1, i)
		if kind != nil {
			s = mix.NewSeriesOf(*kind, 1, i)
		}
		values := make([]float64, benchRows)
		for j := range values {
			values[j] = s.Next()
		}
		r.series = append(r.series, values)
	}
	return r
}

// codec is what is measured.
type codec struct {
	name string
	// encode returns the bytes that the samples take.
	encode func(times []int64, values []float64) int
	// keep returns what encode made last, for decode.
	keep   func() any
	decode func(data any) int // returns the samples it saw
}

// ours counts the bytes of values only; timestamps are one column for all
// series of a target.
func ours() codec {
	var enc chunk.Encoder
	var last chunk.Chunk
	var it chunkenc.Iterator
	return codec{
		name: "columns",
		encode: func(times []int64, values []float64) int {
			last = enc.Floats(times, nil, values)
			return len(last.Values)
		},
		keep: func() any {
			c := clone(last)
			return &c
		},
		decode: func(data any) int {
			it = data.(*chunk.Chunk).Iterator(it)
			n := 0
			for it.Next() != chunkenc.ValNone {
				it.At()
				n++
			}
			return n
		},
	}
}

// bulk decodes by DecodeFloats, timestamps each time anew.
func bulk() codec {
	c := ours()
	c.name = "columns, bulk"
	var times []int64
	var values []float64
	c.decode = func(data any) int {
		times, values, _ = data.(*chunk.Chunk).DecodeFloats(times[:0], values[:0])
		return len(values)
	}
	return c
}

// theirs has timestamps and values in one stream.
func theirs(name string, enc chunkenc.Encoding) codec {
	var last chunkenc.Chunk
	var it chunkenc.Iterator
	return codec{
		name: name,
		encode: func(times []int64, values []float64) int {
			last, _ = chunkenc.NewEmptyChunk(enc)
			app, _ := last.Appender()
			for i, t := range times {
				app.Append(0, t, values[i])
			}
			return len(last.Bytes())
		},
		keep: func() any { return last },
		decode: func(data any) int {
			it = data.(chunkenc.Chunk).Iterator(it)
			n := 0
			for it.Next() != chunkenc.ValNone {
				it.At()
				n++
			}
			return n
		},
	}
}

func codecs() []codec {
	return []codec{ours(), bulk(), theirs("XOR", chunkenc.EncXOR), theirs("XOR2", chunkenc.EncXOR2)}
}

// eachKind runs a benchmark for the mix and for each kind alone.
func eachKind(b *testing.B, run func(b *testing.B, r runs, size int, c codec)) {
	kinds := []*mix.Kind{nil}
	for _, k := range append(mix.Kinds(), mix.Adversaries()...) {
		kinds = append(kinds, &k)
	}
	for _, k := range kinds {
		name := "mix"
		if k != nil {
			name = k.String()
		}
		r := runsOf(k)
		for _, size := range benchSizes {
			for _, c := range codecs() {
				if c.name == "XOR2" && size > 120 {
					continue // it is made for up to 120, and breaks down beyond
				}
				b.Run(fmt.Sprintf("%s/%d/%s", name, size, c.name), func(b *testing.B) { run(b, r, size, c) })
			}
		}
	}
}

// cut calls f with each run of size rows.
func (r *runs) cut(size int, f func(times []int64, values []float64)) {
	for from := 0; from < benchRows; from += size {
		for _, values := range r.series {
			f(r.times[from:from+size], values[from:from+size])
		}
	}
}

func perSample(b *testing.B, samples int) {
	b.Helper()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(samples), "ns/sample")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkEncode encodes the series of one target, one after the other.
func BenchmarkEncode(b *testing.B) {
	eachKind(b, func(b *testing.B, r runs, size int, c codec) {
		samples, bytes := 0, 0
		for b.Loop() {
			r.cut(size, func(times []int64, values []float64) {
				bytes += c.encode(times, values)
				samples += len(times)
			})
		}
		perSample(b, samples)
		b.ReportMetric(float64(bytes)/float64(samples), "B/sample")
	})
}

// BenchmarkDecode iterates over what BenchmarkEncode encodes.
func BenchmarkDecode(b *testing.B) {
	eachKind(b, func(b *testing.B, r runs, size int, c codec) {
		var data []any
		r.cut(size, func(times []int64, values []float64) {
			c.encode(times, values)
			data = append(data, c.keep())
		})
		samples := 0
		for b.Loop() {
			for _, d := range data {
				samples += c.decode(d)
			}
		}
		require.Zero(b, samples%benchRows)
		perSample(b, samples)
	})
}
