package engine

import (
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/quorate/quorate/benchmarks/engine/mix"
	"github.com/quorate/quorate/tsdbshard/chunk"
)

// codecFigures are what is measured of an encoding: bytes and ns of a sample.
type codecFigures struct{ bytes, encode, decode float64 }

// codec is an encoding.
type codec struct {
	name string
	rows int // of a chunk
	// encode returns the chunks of runs, and their bytes.
	encode func(runs []run) (chunks []decoder, bytes int, err error)
	// decode walks all samples and compares them with the runs.
	decode func(chunks []decoder, runs []run) error
}

// decoder is an encoded chunk.
type decoder interface {
	Iterator(it chunkenc.Iterator) chunkenc.Iterator
}

// codecs are columns in chunks of a memcache's rows, of Prometheus', and of a
// block's, the last decoded without an iterator too; and Prometheus' own.
func codecs() []codec {
	return []codec{
		{"columns", 16, encodeColumns, iterate}, {"columns", 120, encodeColumns, iterate}, {"columns", 240, encodeColumns, iterate},
		{"in bulk", 240, encodeColumns, decodeInBulk},
		{"XOR", 120, encodeWith(chunkenc.EncXOR), iterate}, {"XOR2", 120, encodeWith(chunkenc.EncXOR2), iterate},
	}
}

// run is the samples of one chunk.
type run struct {
	times  []int64
	values []float64
}

// codecRows are how many samples of a series are encoded: chunks of all sizes
// divide it.
const codecRows = 480

// codecRuns cuts the samples of one target's series into runs, of one kind or,
// without one, of the mix.
func codecRuns(cfg Config, kind *mix.Kind, rows int) (runs []run) {
	times := mix.Timestamps(cfg.Seed, 0, start, interval, codecRows)
	series := make([][]float64, min(cfg.Series, seriesPerTarget))
	for i := range series {
		s := mix.NewSeries(cfg.Seed, i)
		if kind != nil {
			s = mix.NewSeriesOf(*kind, cfg.Seed, i)
		}
		for range times {
			series[i] = append(series[i], s.Next())
		}
	}
	for from := 0; from < codecRows; from += rows {
		for _, values := range series {
			runs = append(runs, run{times[from : from+rows], values[from : from+rows]})
		}
	}
	return runs
}

// measureCodec measures an encoding, and that it gives back every sample.
func measureCodec(c codec, runs []run, passes int) (f codecFigures, err error) {
	samples := len(runs) * c.rows
	encode, decode := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
	for range passes {
		var chunks []decoder
		var bytes int
		var encoded, decoded clock
		if err := encoded.run(func() (err error) { chunks, bytes, err = c.encode(runs); return err }); err != nil {
			return f, err
		}
		if err := decoded.run(func() error { return c.decode(chunks, runs) }); err != nil {
			return f, err
		}
		f.bytes = float64(bytes) / float64(samples)
		encode, decode = min(encode, encoded.total), min(decode, decoded.total)
	}
	f.encode, f.decode = float64(encode)/float64(samples), float64(decode)/float64(samples)
	return f, nil
}

// encodeColumns counts the bytes of equal timestamps that follow each other
// once, as a block stores them.
func encodeColumns(runs []run) (chunks []decoder, bytes int, err error) {
	var enc chunk.Encoder
	list := make([]chunk.Chunk, len(runs))
	chunks = make([]decoder, len(runs))
	for i, r := range runs {
		c := enc.Floats(r.times, nil, r.values)
		c.Values = slices.Clone(c.Values)
		if i > 0 && slices.Equal(c.Times, list[i-1].Times) {
			c.Times = list[i-1].Times
		} else {
			c.Times = slices.Clone(c.Times)
			bytes += len(c.Times)
		}
		bytes += len(c.Values)
		list[i] = c
		chunks[i] = &list[i]
	}
	return chunks, bytes, nil
}

func encodeWith(encoding chunkenc.Encoding) func([]run) ([]decoder, int, error) {
	return func(runs []run) (chunks []decoder, bytes int, err error) {
		chunks = make([]decoder, len(runs))
		for i, r := range runs {
			c, err := chunkenc.NewEmptyChunk(encoding)
			if err != nil {
				return nil, 0, err
			}
			app, err := c.Appender()
			if err != nil {
				return nil, 0, err
			}
			for j, t := range r.times {
				app.Append(0, t, r.values[j])
			}
			bytes += len(c.Bytes())
			chunks[i] = c
		}
		return chunks, bytes, nil
	}
}

func iterate(chunks []decoder, runs []run) error {
	var it chunkenc.Iterator
	for i, c := range chunks {
		it = c.Iterator(it)
		r := &runs[i]
		for j := range r.times {
			if it.Next() != chunkenc.ValFloat {
				return fmt.Errorf("a chunk ends after %d of %d samples: %w", j, len(r.times), it.Err())
			}
			if t, v := it.At(); t != r.times[j] || math.Float64bits(v) != math.Float64bits(r.values[j]) {
				return fmt.Errorf("sample %d is %d %v, want %d %v", j, t, v, r.times[j], r.values[j])
			}
		}
	}
	return nil
}

func decodeInBulk(chunks []decoder, runs []run) error {
	var times []int64
	var values []float64
	for i, d := range chunks {
		c, ok := d.(*chunk.Chunk)
		if !ok {
			return fmt.Errorf("chunk %d is a %T", i, d)
		}
		var err error
		if times, values, err = c.DecodeFloats(times[:0], values[:0]); err != nil {
			return err
		}
		r := &runs[i]
		if len(times) != len(r.times) || times[0] != r.times[0] || math.Float64bits(values[0]) != math.Float64bits(r.values[0]) {
			return fmt.Errorf("chunk %d is decoded to other samples", i)
		}
	}
	return nil
}

// codecRow is what is measured of all encodings over one kind of samples.
type codecRow struct {
	kind    string
	figures []codecFigures // of codecs
}

func compareCodecs(cfg Config) (rows []codecRow, err error) {
	kinds := []*mix.Kind{nil}
	for _, k := range append(mix.Kinds(), mix.Adversaries()...) {
		kinds = append(kinds, &k)
	}
	for _, k := range kinds {
		row := codecRow{kind: "the mix"}
		if k != nil {
			row.kind = k.String()
		}
		for _, c := range codecs() {
			f, err := measureCodec(c, codecRuns(cfg, k, c.rows), cfg.Passes)
			if err != nil {
				return nil, fmt.Errorf("%s in chunks of %d, %s: %w", c.name, c.rows, row.kind, err)
			}
			row.figures = append(row.figures, f)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// writeCodecs prints a row for each kind, and for each encoding bytes and ns to
// encode and decode a sample.
func writeCodecs(w io.Writer, rows []codecRow) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "B, ns to encode, ns to decode\t") //nolint:errcheck // Flush tells
	for _, c := range codecs() {
		fmt.Fprintf(t, "%s, %d\t", c.name, c.rows) //nolint:errcheck // Flush tells
	}
	fmt.Fprintln(t) //nolint:errcheck // Flush tells
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t", r.kind) //nolint:errcheck // Flush tells
		for _, f := range r.figures {
			fmt.Fprintf(t, "%.2f %3.0f %4.1f\t", f.bytes, f.encode, f.decode) //nolint:errcheck // Flush tells
		}
		fmt.Fprintln(t) //nolint:errcheck // Flush tells
	}
	return t.Flush()
}
