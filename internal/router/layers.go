package router

import (
	"context"
	"errors"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/annotations"
)

// A sealed shard with late samples is read as two layers, the base and the
// overlay over it; of two samples with one timestamp the base's counts
// (PROTOCOL 15). storage.ChainedSeriesMerge does not say which of the two it
// keeps, so layers are merged here, below upstream's merge over the shards,
// which never meets two samples of one series and timestamp.

// layeredQuerier reads the two layers of one shard as one storage.
type layeredQuerier struct {
	// Querier merges what is asked of labels, where it does not matter which
	// layer comes first, and closes both.
	storage.Querier
	base, overlay storage.Querier
}

func newLayeredQuerier(base, overlay storage.Querier) *layeredQuerier {
	both := storage.NewMergeQuerier([]storage.Querier{base, overlay}, nil, storage.ChainedSeriesMerge)
	return &layeredQuerier{Querier: both, base: base, overlay: overlay}
}

// Select returns the series of both layers by their labels, sorted or not.
func (q *layeredQuerier) Select(ctx context.Context, _ bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	set := &layeredSet{}
	if hints != nil {
		set.limit = hints.Limit
	}
	// Queriers may reorder the matchers that they are given.
	set.sets[ofBase] = q.base.Select(ctx, true, hints, slices.Clone(matchers)...)
	set.sets[ofOverlay] = q.overlay.Select(ctx, true, hints, matchers...)
	return set
}

// The layers' places in the arrays below. Where both have something, the
// first is asked first.
const (
	ofBase = iota
	ofOverlay
	layerCount
)

// layeredSet merges two sorted sets of series. A series that is in one of them
// is handed through as it is.
type layeredSet struct {
	sets  [layerCount]storage.SeriesSet
	limit int // of series, 0 is none

	started bool
	open    [layerCount]bool // stands at a series
	at      [layerCount]bool // has the current series
	count   int
}

// Next moves to the next series by labels.
func (s *layeredSet) Next() bool {
	if s.limit > 0 && s.count == s.limit {
		return false
	}
	for i, set := range s.sets {
		if s.at[i] || !s.started {
			s.open[i] = set.Next()
		}
	}
	s.started = true
	if s.Err() != nil {
		return false // what the other layer has would be half an answer
	}
	s.at = s.open
	if s.open[ofBase] && s.open[ofOverlay] {
		order := labels.Compare(s.sets[ofBase].At().Labels(), s.sets[ofOverlay].At().Labels())
		s.at[ofBase], s.at[ofOverlay] = order <= 0, order >= 0
	}
	if !s.at[ofBase] && !s.at[ofOverlay] {
		return false
	}
	s.count++
	return true
}

// At returns the current series.
func (s *layeredSet) At() storage.Series {
	switch {
	case !s.at[ofOverlay]:
		return s.sets[ofBase].At()
	case !s.at[ofBase]:
		return s.sets[ofOverlay].At()
	}
	return layeredSeries{s.sets[ofBase].At(), s.sets[ofOverlay].At()}
}

// Err returns what ended one of the sets early.
func (s *layeredSet) Err() error { return errors.Join(s.sets[ofBase].Err(), s.sets[ofOverlay].Err()) }

// Warnings returns those of both sets.
func (s *layeredSet) Warnings() annotations.Annotations {
	var all annotations.Annotations
	for _, set := range s.sets {
		all.Merge(set.Warnings())
	}
	return all
}

// layeredSeries is one series that both layers have.
type layeredSeries [layerCount]storage.Series

// Labels returns the series' labels.
func (s layeredSeries) Labels() labels.Labels { return s[ofBase].Labels() }

// Iterator returns the samples of both layers in order of time. It uses the
// memory of an iterator that it returned before.
func (s layeredSeries) Iterator(it chunkenc.Iterator) chunkenc.Iterator {
	l, ok := it.(*layeredIterator)
	if !ok {
		l = new(layeredIterator)
	}
	for i, series := range s {
		l.its[i] = series.Iterator(l.its[i])
		l.types[i], l.times[i] = chunkenc.ValNone, 0
	}
	l.current, l.before = noLayer, noLayer
	l.started = false
	return l
}

// noLayer stands where there is no sample.
const noLayer = -1

// layeredIterator merges the samples of two layers. Each layer's iterator
// stands at its next sample that was not passed yet, so what is asked of the
// current sample is asked of its layer.
type layeredIterator struct {
	its   [layerCount]chunkenc.Iterator
	types [layerCount]chunkenc.ValueType // where the iterators stand; ValNone at their end
	times [layerCount]int64

	started bool
	current int // the layer of the current sample, or noLayer
	before  int // the layer of the sample before it, where that was the one passed last
}

// advance moves a layer by its Next or Seek.
func (l *layeredIterator) advance(i int, move func(chunkenc.Iterator) chunkenc.ValueType) {
	if l.types[i] = move(l.its[i]); l.types[i] != chunkenc.ValNone {
		l.times[i] = l.its[i].AtT()
	}
}

// choose makes the earliest sample the current one, the base's of two.
func (l *layeredIterator) choose() chunkenc.ValueType {
	l.current = noLayer
	if l.Err() != nil {
		return chunkenc.ValNone // the other layer would be half an answer
	}
	for i, t := range l.types {
		if t != chunkenc.ValNone && (l.current == noLayer || l.times[i] < l.times[l.current]) {
			l.current = i
		}
	}
	if l.current == noLayer {
		return chunkenc.ValNone
	}
	return l.types[l.current]
}

// Next moves to the next sample.
func (l *layeredIterator) Next() chunkenc.ValueType {
	switch {
	case !l.started:
		l.started = true
		for i := range l.its {
			l.advance(i, chunkenc.Iterator.Next)
		}
	case l.current == noLayer:
		return chunkenc.ValNone
	default:
		passed := l.times[l.current]
		for i, t := range l.types {
			if t != chunkenc.ValNone && l.times[i] <= passed {
				l.advance(i, chunkenc.Iterator.Next)
			}
		}
	}
	l.before = l.current
	return l.choose()
}

// Seek moves to the first sample at or after t, unless the current one is.
func (l *layeredIterator) Seek(t int64) chunkenc.ValueType { //nolint:govet // chunkenc.Iterator, not io.Seeker
	switch {
	case l.started && l.current == noLayer:
		return chunkenc.ValNone
	case l.started && l.times[l.current] >= t:
		return l.types[l.current]
	}
	seek := func(it chunkenc.Iterator) chunkenc.ValueType { return it.Seek(t) }
	for i := range l.its {
		if !l.started || l.types[i] != chunkenc.ValNone && l.times[i] < t {
			l.advance(i, seek)
		}
	}
	l.started = true
	l.before = noLayer
	return l.choose()
}

// At returns the current float.
func (l *layeredIterator) At() (int64, float64) { return l.its[l.current].At() }

// AtT returns the current timestamp.
func (l *layeredIterator) AtT() int64 { return l.times[l.current] }

// AtST returns the current start timestamp.
func (l *layeredIterator) AtST() int64 { return l.its[l.current].AtST() }

// AtHistogram returns the current integer histogram.
func (l *layeredIterator) AtHistogram(h *histogram.Histogram) (int64, *histogram.Histogram) {
	t, h := l.its[l.current].AtHistogram(h)
	h.CounterResetHint = l.hint(h.CounterResetHint)
	return t, h
}

// AtFloatHistogram returns the current histogram with float counts.
func (l *layeredIterator) AtFloatHistogram(h *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	t, h := l.its[l.current].AtFloatHistogram(h)
	h.CounterResetHint = l.hint(h.CounterResetHint)
	return t, h
}

// hint is what a layer knows of a counter's reset: it compared with the sample
// before in the same layer, which says nothing where another came between.
func (l *layeredIterator) hint(own histogram.CounterResetHint) histogram.CounterResetHint {
	if own == histogram.GaugeType || l.before == l.current {
		return own
	}
	return histogram.UnknownCounterReset
}

// Err returns what ended one of the layers early.
func (l *layeredIterator) Err() error {
	return errors.Join(l.its[ofBase].Err(), l.its[ofOverlay].Err())
}
