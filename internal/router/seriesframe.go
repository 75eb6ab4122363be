package router

import (
	"encoding/binary"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/quorate/quorate/internal/cursor"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/tsdbshard/chunk"
)

// Series travel in frames as records: the labels, then the samples in runs, which
// tsdbshard/chunk encodes. A series that is longer than a frame goes on in the
// next one. docs/format/rpc.md has the bytes.
const (
	recordSeries   = 1 // labels and runs of a series
	recordContinue = 2 // more runs of the series before

	runEnd  = 0 // of the series
	runMore = 4 // of the record: the series goes on in the next frame
	// Between them are the kinds of chunks, with this bit if a run of floats has
	// start timestamps.
	runStarts = 0x10
)

// seriesWriter encodes series into frames.
type seriesWriter struct {
	frames  frameWriter
	encoder chunk.Encoder
	labels  []byte
	it      chunkenc.Iterator
	// The run under way: of floats, or of histograms with their hints.
	times, starts []int64
	values        []float64
	started       bool // any of starts is not 0
	open          chunk.Open
	hints         []byte
}

// write encodes a series.
func (w *seriesWriter) write(s storage.Series) error {
	w.labels = w.labels[:0]
	s.Labels().Range(func(l labels.Label) { w.labels = wire.AppendLabel(w.labels, l.Name, l.Value) })
	w.frames.frame = cursor.AppendBytes(append(w.frames.begin(), recordSeries), w.labels)
	it := s.Iterator(w.it)
	w.it = it
	for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
		if err := w.sample(it, vt); err != nil {
			return err
		}
	}
	if err := it.Err(); err != nil {
		return err
	}
	if err := w.flushRuns(); err != nil {
		return err
	}
	return w.frames.element(append(w.frames.begin(), runEnd))
}

func (w *seriesWriter) sample(it chunkenc.Iterator, vt chunkenc.ValueType) error {
	if vt != chunkenc.ValFloat {
		return w.histogram(it, vt)
	}
	if err := w.flushHistograms(); err != nil {
		return err
	}
	if len(w.times) == chunk.MaxFloatRows {
		if err := w.flushFloats(); err != nil {
			return err
		}
	}
	t, v := it.At()
	st := it.AtST()
	w.times, w.starts, w.values = append(w.times, t), append(w.starts, st), append(w.values, v)
	w.started = w.started || st != 0
	return nil
}

// histogram adds a histogram. Its hint travels beside the run: what a chunk knows
// of counter resets depends on where it was cut.
func (w *seriesWriter) histogram(it chunkenc.Iterator, vt chunkenc.ValueType) error {
	if err := w.flushFloats(); err != nil {
		return err
	}
	sample := chunk.Sample{ST: it.AtST()}
	var hint histogram.CounterResetHint
	if vt == chunkenc.ValHistogram {
		sample.T, sample.H = it.AtHistogram(nil)
		hint = sample.H.CounterResetHint
	} else {
		sample.T, sample.FH = it.AtFloatHistogram(nil)
		hint = sample.FH.CounterResetHint
	}
	before, full, err := w.open.Append(sample)
	if err != nil {
		return err
	}
	if full {
		if err := w.run(&before, w.hints[:before.Rows]); err != nil {
			return err
		}
		w.hints = w.hints[:0]
	}
	w.hints = append(w.hints, byte(hint))
	return nil
}

func (w *seriesWriter) flushRuns() error {
	if err := w.flushFloats(); err != nil {
		return err
	}
	return w.flushHistograms()
}

func (w *seriesWriter) flushFloats() error {
	if len(w.times) == 0 {
		return nil
	}
	starts := w.starts
	if !w.started {
		starts = nil
	}
	c := w.encoder.Floats(w.times, starts, w.values)
	w.times, w.starts, w.values, w.started = w.times[:0], w.starts[:0], w.values[:0], false
	return w.run(&c, nil)
}

func (w *seriesWriter) flushHistograms() error {
	if w.open.Empty() {
		return nil
	}
	c := w.open.Chunk()
	err := w.run(&c, w.hints)
	w.open, w.hints = chunk.Open{}, w.hints[:0]
	return err
}

// run appends a run to the series under way. Where the frame is full, the series
// goes on in the next one.
func (w *seriesWriter) run(c *chunk.Chunk, hints []byte) error {
	if len(w.frames.frame) >= frameBytes {
		w.frames.frame = append(w.frames.frame, runMore)
		if err := w.frames.flush(); err != nil {
			return err
		}
		w.frames.frame = append(w.frames.begin(), recordContinue)
	}
	w.frames.frame = appendRun(w.frames.frame, c, hints)
	return nil
}

// appendRun appends the kind, uvarint rows, varint first time, uvarint distance
// to the last one, and the columns, each length-prefixed: of floats timestamps,
// start timestamps if there are any, and values; of histograms the chunk, then a
// byte for each counter reset hint.
func appendRun(dst []byte, c *chunk.Chunk, hints []byte) []byte {
	kind := byte(c.Kind)
	if c.Starts != nil {
		kind |= runStarts
	}
	dst = binary.AppendUvarint(append(dst, kind), uint64(c.Rows))
	dst = binary.AppendVarint(dst, c.MinTime)
	dst = binary.AppendUvarint(dst, uint64(c.MaxTime)-uint64(c.MinTime))
	if c.Kind != chunk.Floats {
		return append(cursor.AppendBytes(dst, c.Values), hints...)
	}
	dst = cursor.AppendBytes(dst, c.Times)
	if c.Starts != nil {
		dst = cursor.AppendBytes(dst, c.Starts)
	}
	return cursor.AppendBytes(dst, c.Values)
}

// hintedRun is a run with the counter reset hints of its histograms.
type hintedRun struct {
	chunk.Chunk
	hints []byte
}

// readRun reads what appendRun appended after the kind. The columns alias the
// input. What is in them is checked when they are decoded.
func readRun(c *cursor.Cursor, kind byte) (r hintedRun) {
	r.Kind = chunk.Kind(kind &^ runStarts)
	r.Rows = readInt(c)
	r.MinTime = c.Varint()
	r.MaxTime = int64(uint64(r.MinTime) + c.Uvarint())
	switch {
	case r.Kind == chunk.Floats:
		r.Times = c.Bytes()
		if kind&runStarts != 0 {
			r.Starts = c.Bytes()
		}
		r.Values = c.Bytes()
	case kind == byte(chunk.Histograms), kind == byte(chunk.FloatHistograms):
		r.Values = c.Bytes()
		r.hints = c.Take(uint64(r.Rows))
		for _, h := range r.hints {
			if h > byte(histogram.GaugeType) {
				c.Fail()
			}
		}
	default:
		c.Fail()
	}
	if !c.Bad && r.Check() != nil {
		c.Fail()
	}
	return r
}

// record is one of one series, as it stands in a frame.
type record struct {
	labels []byte // canonical; nil where the record continues the series before
	runs   []byte
	more   bool // it goes on in the next frame
	last   int64
	some   bool // there was a run, up to last
}

// readRecord reads a record of one series. The runs are checked to come in order
// after a time and not decoded; they are returned as they stand in the frame.
func readRecord(c *cursor.Cursor) (r record) {
	switch c.U8() {
	case recordSeries:
		r.labels = c.Bytes()
		if !c.Bad && wire.CheckLabels(r.labels) != nil {
			c.Fail()
		}
	case recordContinue:
	default:
		c.Fail()
	}
	return r
}

// readRuns reads the runs of a record that stand behind its labels, all of them
// later than the series' last time so far.
func (r *record) readRuns(c *cursor.Cursor) {
	start := c.B
	for !c.Bad {
		kind := c.U8()
		if kind == runEnd || kind == runMore {
			r.runs, r.more = start[:len(start)-len(c.B)-1], kind == runMore
			// What goes on in the next frame ends this one.
			if r.more && len(c.B) > 0 {
				c.Fail()
			}
			return
		}
		run := readRun(c, kind)
		if r.some && run.MinTime <= r.last {
			c.Fail()
		}
		r.last, r.some = run.MaxTime, true
	}
}
