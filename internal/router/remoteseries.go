package router

import (
	"context"
	"fmt"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
	"github.com/quorate/quorate/tsdbshard/chunk"
)

// remoteSeriesSet is the series of one Select on another node, read as they are
// asked for. What ends it early is its error; it never just ends.
type remoteSeriesSet struct {
	frames  *frameReader
	cancel  context.CancelFunc
	builder labels.ScratchBuilder

	rest    cursor.Cursor // of the frame under way
	current *remoteSeries
	done    bool
	err     error
}

var _ storage.SeriesSet = (*remoteSeriesSet)(nil)

// Next moves to the next series.
func (s *remoteSeriesSet) Next() bool {
	if s.done {
		return false
	}
	next, err := s.read()
	if err != nil || next == nil {
		s.err, s.done = err, true
		s.cancel()
		return false
	}
	s.current = next
	return true
}

// read reads a series, nil at the end.
func (s *remoteSeriesSet) read() (*remoteSeries, error) {
	if len(s.rest.B) == 0 {
		if more, err := s.frame(); err != nil || !more {
			return nil, err
		}
	}
	r := readRecord(&s.rest)
	if r.labels == nil {
		s.rest.Fail()
	}
	series := &remoteSeries{}
	for {
		r.readRuns(&s.rest)
		if s.rest.Bad {
			return nil, s.malformed()
		}
		series.runs = append(series.runs, r.runs)
		if !r.more {
			break
		}
		more, err := s.frame()
		if err != nil {
			return nil, err
		}
		if next := readRecord(&s.rest); !more || next.labels != nil {
			return nil, s.malformed()
		}
	}
	series.labels = s.labels(r.labels)
	if s.current != nil && labels.Compare(s.current.labels, series.labels) >= 0 {
		return nil, s.malformed()
	}
	s.frames.count++
	return series, nil
}

// frame goes on to the next frame and tells whether there is one.
func (s *remoteSeriesSet) frame() (bool, error) {
	elements, err := s.frames.next()
	s.rest = cursor.Cursor{B: elements, Shortest: true}
	return elements != nil, err
}

func (s *remoteSeriesSet) malformed() error {
	return quorate.Errorf(quorate.Internal, "node %s: %w: series", s.frames.from.Name, errMessage)
}

// labels makes labels of canonical ones, in one string for all of them.
func (s *remoteSeriesSet) labels(canonical []byte) labels.Labels {
	text := string(canonical)
	part := func(b []byte, end int) string { return text[end-len(b) : end] }
	s.builder.Reset()
	c := cursor.Cursor{B: canonical}
	for len(c.B) > 0 {
		name := part(c.Bytes(), len(canonical)-len(c.B))
		value := part(c.Bytes(), len(canonical)-len(c.B))
		s.builder.Add(name, value)
	}
	return s.builder.Labels()
}

// At returns the current series, which stays valid.
func (s *remoteSeriesSet) At() storage.Series { return s.current }

// Err returns what ended the set early.
func (s *remoteSeriesSet) Err() error { return s.err }

// Warnings returns those of the other node.
func (s *remoteSeriesSet) Warnings() annotations.Annotations { return s.frames.warnings }

// remoteSeries is one series of another node: its runs of samples as they stand
// in the frames that brought them.
type remoteSeries struct {
	labels labels.Labels
	runs   [][]byte
}

// Labels returns the series' labels.
func (s *remoteSeries) Labels() labels.Labels { return s.labels }

// Iterator returns the samples. It uses the memory of an iterator that it
// returned before.
func (s *remoteSeries) Iterator(it chunkenc.Iterator) chunkenc.Iterator {
	r, ok := it.(*remoteIterator)
	if !ok {
		r = new(remoteIterator)
	}
	*r = remoteIterator{rest: s.runs, in: r.in}
	return r
}

// remoteIterator walks runs. Each is decoded when it is reached.
type remoteIterator struct {
	rest [][]byte      // pieces that are not begun
	now  cursor.Cursor // of the piece that is
	run  hintedRun
	in   chunkenc.Iterator // of the run
	row  int               // in the run, of histograms
	at   chunkenc.ValueType
	err  error
}

// next moves on to the next run and tells whether there is one.
func (it *remoteIterator) next() bool {
	if it.err != nil {
		return false
	}
	for len(it.now.B) == 0 {
		if len(it.rest) == 0 {
			return false
		}
		it.now, it.rest = cursor.Cursor{B: it.rest[0], Shortest: true}, it.rest[1:]
	}
	it.run = readRun(&it.now, it.now.U8())
	if it.now.Bad {
		it.err = fmt.Errorf("%w: run of samples", errMessage)
		return false
	}
	it.row = -1
	return true
}

// enter begins to decode the run.
func (it *remoteIterator) enter() { it.in = it.run.Iterator(it.in) }

// Next moves to the next sample.
func (it *remoteIterator) Next() chunkenc.ValueType {
	if it.at == chunkenc.ValNone && !it.begin() {
		return chunkenc.ValNone
	}
	for {
		if it.at = it.in.Next(); it.at != chunkenc.ValNone {
			it.row++
			return it.at
		}
		if it.err = it.in.Err(); it.err != nil || !it.next() {
			return it.end()
		}
		it.enter()
	}
}

// begin stands before the first sample, and tells whether there may be one.
func (it *remoteIterator) begin() bool {
	if !it.next() {
		return false
	}
	it.enter()
	return true
}

// end stands behind the last sample.
func (it *remoteIterator) end() chunkenc.ValueType {
	it.at, it.rest, it.now = chunkenc.ValNone, nil, cursor.Cursor{}
	return it.at
}

// Seek moves to the first sample at or after t, unless the current one is.
func (it *remoteIterator) Seek(t int64) chunkenc.ValueType { //nolint:govet // chunkenc.Iterator, not io.Seeker
	if it.at != chunkenc.ValNone && it.AtT() >= t {
		return it.at
	}
	inside := it.at != chunkenc.ValNone
	for {
		if !inside && !it.next() {
			return it.end()
		}
		if it.run.MaxTime >= t {
			if !inside {
				it.enter()
			}
			if it.at = it.seekInRun(t); it.at != chunkenc.ValNone {
				return it.at
			}
			if it.err = it.in.Err(); it.err != nil {
				return it.end()
			}
		}
		inside = false
	}
}

// seekInRun seeks in the run that was entered. Histograms are counted on the
// way, for their hints.
func (it *remoteIterator) seekInRun(t int64) chunkenc.ValueType {
	if it.run.Kind == chunk.Floats {
		return it.in.Seek(t)
	}
	for vt := it.in.Next(); vt != chunkenc.ValNone; vt = it.in.Next() {
		it.row++
		if it.in.AtT() >= t {
			return vt
		}
	}
	return chunkenc.ValNone
}

// At returns the current float.
func (it *remoteIterator) At() (int64, float64) { return it.in.At() }

// AtT returns the current timestamp.
func (it *remoteIterator) AtT() int64 { return it.in.AtT() }

// AtST returns the current start timestamp.
func (it *remoteIterator) AtST() int64 { return it.in.AtST() }

// AtHistogram returns the current integer histogram, with the hint that it has
// where it is stored.
func (it *remoteIterator) AtHistogram(h *histogram.Histogram) (int64, *histogram.Histogram) {
	t, h := it.in.AtHistogram(h)
	h.CounterResetHint = histogram.CounterResetHint(it.run.hints[it.row])
	return t, h
}

// AtFloatHistogram returns the current histogram with float counts.
func (it *remoteIterator) AtFloatHistogram(h *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	t, h := it.in.AtFloatHistogram(h)
	h.CounterResetHint = histogram.CounterResetHint(it.run.hints[it.row])
	return t, h
}

// Err returns what was wrong with the bytes.
func (it *remoteIterator) Err() error { return it.err }
