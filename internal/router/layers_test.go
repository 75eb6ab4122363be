package router

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

// layerSample is one sample of a layer: a float or a histogram.
type layerSample struct {
	t, st int64
	f     float64
	h     *histogram.Histogram
	fh    *histogram.FloatHistogram
}

func (s layerSample) T() int64                      { return s.t }
func (s layerSample) ST() int64                     { return s.st }
func (s layerSample) F() float64                    { return s.f }
func (s layerSample) H() *histogram.Histogram       { return s.h }
func (s layerSample) FH() *histogram.FloatHistogram { return s.fh }
func (s layerSample) Copy() chunks.Sample           { return s }

func (s layerSample) Type() chunkenc.ValueType {
	switch {
	case s.h != nil:
		return chunkenc.ValHistogram
	case s.fh != nil:
		return chunkenc.ValFloatHistogram
	}
	return chunkenc.ValFloat
}

// text names a sample, its layer by the value.
func (s layerSample) text() string {
	switch {
	case s.h != nil:
		return fmt.Sprintf("%d/%d h%v %v", s.t, s.st, s.h.Sum, s.h.CounterResetHint)
	case s.fh != nil:
		return fmt.Sprintf("%d/%d fh%v %v", s.t, s.st, s.fh.Sum, s.fh.CounterResetHint)
	}
	return fmt.Sprintf("%d/%d %v", s.t, s.st, s.f)
}

// textAt names the sample at which an iterator stands.
func textAt(it chunkenc.Iterator, typ chunkenc.ValueType) string {
	s := layerSample{t: it.AtT(), st: it.AtST()}
	switch typ {
	case chunkenc.ValFloat:
		s.t, s.f = it.At()
	case chunkenc.ValHistogram:
		s.t, s.h = it.AtHistogram(nil)
	case chunkenc.ValFloatHistogram:
		s.t, s.fh = it.AtFloatHistogram(nil)
	case chunkenc.ValNone:
		return "end"
	}
	return s.text()
}

// randomLayer returns samples of all kinds at some of the times below most. A
// histogram's hint tells that it follows on the one before in its layer.
func randomLayer(rng *rand.Rand, value float64, most int64, density float64) (list []layerSample) {
	for t := range most {
		if rng.Float64() > density {
			continue
		}
		s := layerSample{t: t, st: t * rng.Int64N(2)}
		switch rng.IntN(4) {
		case 0:
			s.h = &histogram.Histogram{Sum: value, CounterResetHint: histogram.NotCounterReset}
		case 1:
			s.fh = &histogram.FloatHistogram{Sum: value, CounterResetHint: histogram.GaugeType}
		default:
			s.f = value
		}
		list = append(list, s)
	}
	return list
}

// mergeByRule is the merge as PROTOCOL 15 has it: the base's sample counts.
func mergeByRule(lower, upper []layerSample) (merged []layerSample) {
	merged = append(merged, lower...)
	for _, s := range upper {
		if !slices.ContainsFunc(lower, func(b layerSample) bool { return b.t == s.t }) {
			merged = append(merged, s)
		}
	}
	slices.SortFunc(merged, func(a, b layerSample) int { return cmp.Compare(a.t, b.t) })
	for i := range slices.Backward(merged) { // the one before still has its own hint
		// A hint holds only right after the sample that it was judged by.
		if h := merged[i].h; h != nil && (i == 0 || !follows(lower, merged[i-1], merged[i]) && !follows(upper, merged[i-1], merged[i])) {
			unknown := *h
			unknown.CounterResetHint = histogram.UnknownCounterReset
			merged[i].h = &unknown
		}
	}
	return merged
}

func follows(layer []layerSample, a, b layerSample) bool {
	i := slices.IndexFunc(layer, func(s layerSample) bool { return s.text() == a.text() })
	return i >= 0 && i+1 < len(layer) && layer[i+1].text() == b.text()
}

func seriesOf(name string, list []layerSample) storage.Series {
	samples := make([]chunks.Sample, len(list))
	for i := range list {
		samples[i] = list[i]
	}
	return storage.NewListSeries(labels.FromStrings("__name__", name), samples)
}

func TestProtocol15TheBasesSampleCountsOfTwoAtOneTime(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var it chunkenc.Iterator // used again, as engines do
	for range 2000 {
		lower, upper := randomLayer(rng, 1, 12, rng.Float64()), randomLayer(rng, 2, 12, rng.Float64())
		want := mergeByRule(lower, upper)
		it = layeredSeries{seriesOf("m", lower), seriesOf("m", upper)}.Iterator(it)
		for i := range want {
			if got := textAt(it, it.Next()); got != want[i].text() {
				t.Fatalf("base %v, overlay %v: sample %d is %s, want %s", lower, upper, i, got, want[i].text())
			}
		}
		if typ := it.Next(); typ != chunkenc.ValNone || it.Next() != chunkenc.ValNone || it.Seek(0) != chunkenc.ValNone || it.Err() != nil {
			t.Fatalf("after the last sample there is a %v, error %v", typ, it.Err())
		}
	}
}

func TestSeeksAndStepsThroughTwoLayersMeetTheSameSamples(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 3000 {
		lower, upper := randomLayer(rng, 1, 12, rng.Float64()), randomLayer(rng, 2, 12, rng.Float64())
		want := mergeByRule(lower, upper)
		it := layeredSeries{seriesOf("m", lower), seriesOf("m", upper)}.Iterator(nil)
		at, path := -1, ""
		for at < len(want) {
			var typ chunkenc.ValueType
			sought := rng.IntN(2) == 0
			if sought {
				to := rng.Int64N(13)
				for at < 0 || at < len(want) && want[at].t < to {
					at++
				}
				typ = it.Seek(to)
				path += fmt.Sprintf(" seek %d", to)
			} else {
				at++
				typ = it.Next()
				path += " next"
			}
			if at >= len(want) {
				if typ != chunkenc.ValNone {
					t.Fatalf("base %v, overlay %v,%s: there is a %v after the end", lower, upper, path, typ)
				}
				break
			}
			if typ != want[at].Type() || it.AtT() != want[at].t || it.AtST() != want[at].st {
				t.Fatalf("base %v, overlay %v,%s: at %d (%v), want %s", lower, upper, path, it.AtT(), typ, want[at].text())
			}
		}
	}
}

// listSet is a sorted set of series, which may end early.
type listSet struct {
	list []storage.Series
	at   int
	err  error
}

func (s *listSet) Next() bool         { s.at++; return s.at <= len(s.list) }
func (s *listSet) At() storage.Series { return s.list[s.at-1] }
func (s *listSet) Err() error {
	if s.at > len(s.list) {
		return s.err
	}
	return nil
}
func (s *listSet) Warnings() annotations.Annotations {
	return annotations.Annotations{"w" + fmt.Sprint(len(s.list)): errors.New("w")}
}

// setQuerier answers every selection with series of these names.
type setQuerier struct {
	storage.Querier
	names []string
	value float64
	err   error
}

func (q *setQuerier) Select(_ context.Context, sorted bool, _ *storage.SelectHints, _ ...*labels.Matcher) storage.SeriesSet {
	if !sorted {
		return storage.ErrSeriesSet(errors.New("layers are to be asked for sorted series"))
	}
	s := &listSet{err: q.err}
	for _, name := range q.names {
		s.list = append(s.list, seriesOf(name, []layerSample{{t: 1, f: q.value}}))
	}
	return s
}

func namesIn(set storage.SeriesSet) (names []string) {
	for set.Next() {
		it := set.At().Iterator(nil)
		for it.Next() != chunkenc.ValNone {
			_, v := it.At()
			names = append(names, fmt.Sprintf("%s=%v", set.At().Labels().Get("__name__"), v))
		}
	}
	return names
}

func TestSeriesOfBothLayersAreOneSortedSet(t *testing.T) {
	for name, tc := range map[string]struct {
		base, overlay []string
		limit         int
		want          []string
	}{
		"in one only":      {[]string{"a", "c"}, []string{"b", "d"}, 0, []string{"a=1", "b=2", "c=1", "d=2"}},
		"in both":          {[]string{"a", "b"}, []string{"a", "b"}, 0, []string{"a=1", "b=1"}},
		"the base empty":   {nil, []string{"a"}, 0, []string{"a=2"}},
		"the overlay too":  {nil, nil, 0, nil},
		"up to a limit":    {[]string{"a", "c"}, []string{"a", "b"}, 2, []string{"a=1", "b=2"}},
		"over at the end":  {[]string{"a", "b"}, []string{"b", "c"}, 0, []string{"a=1", "b=1", "c=2"}},
		"under at the end": {[]string{"b", "c"}, []string{"a", "b"}, 0, []string{"a=2", "b=1", "c=1"}},
	} {
		q := newLayeredQuerier(&setQuerier{names: tc.base, value: 1}, &setQuerier{names: tc.overlay, value: 2})
		set := q.Select(t.Context(), false, &storage.SelectHints{Limit: tc.limit})
		if got := namesIn(set); !slices.Equal(got, tc.want) || set.Err() != nil {
			t.Errorf("%s: got %v, %v; want %v", name, got, set.Err(), tc.want)
		}
		got := namesIn(storage.NewSeriesSetFromChunkSeriesSet(encodedQuerier{q}.Select(t.Context(), false, &storage.SelectHints{Limit: tc.limit})))
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: got chunks of %v, want %v", name, got, tc.want)
		}
		if w := set.Warnings(); len(tc.base) != len(tc.overlay) && len(w) != 2 {
			t.Errorf("%s: warnings are %v, want those of both layers", name, w)
		}
	}
}

func TestALayerThatFailsIsNoHalfAnswer(t *testing.T) {
	failure := errors.New("page 7 is damaged")
	for _, names := range [][2][]string{{{"a"}, {"b", "c"}}, {{"b", "c"}, {"a"}}, {{}, {"a"}}} {
		q := newLayeredQuerier(&setQuerier{names: names[0], err: failure}, &setQuerier{names: names[1]})
		set := q.Select(t.Context(), true, nil)
		got := namesIn(set)
		if !errors.Is(set.Err(), failure) || slices.Contains(got, "c=0") && len(names[0]) == 1 {
			t.Errorf("of %v there were %v, error %v; want the failure and nothing after it", names, got, set.Err())
		}
	}
	it := layeredSeries{failingSeries{failure}, seriesOf("m", []layerSample{{t: 1}, {t: 2}})}.Iterator(nil)
	if typ := it.Next(); typ != chunkenc.ValNone || !errors.Is(it.Err(), failure) {
		t.Errorf("a series whose base fails shows a %v, error %v", typ, it.Err())
	}
}

// failingSeries has no samples, for a reason.
type failingSeries struct{ err error }

func (failingSeries) Labels() labels.Labels { return labels.FromStrings("__name__", "m") }
func (s failingSeries) Iterator(chunkenc.Iterator) chunkenc.Iterator {
	return failingIterator{chunkenc.NewNopIterator(), s.err}
}

type failingIterator struct {
	chunkenc.Iterator
	err error
}

func (f failingIterator) Err() error { return f.err }
