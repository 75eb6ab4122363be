package router

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"

	"github.com/quorate/quorate"
)

// sentSeries encodes series and returns the frames.
func sentSeries(t testing.TB, series ...storage.Series) (frames [][]byte) {
	t.Helper()
	w := seriesWriter{frames: frameWriter{send: func(b []byte) error {
		frames = append(frames, bytes.Clone(b))
		return nil
	}}}
	for _, s := range series {
		if err := w.write(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.frames.end(nil); err != nil {
		t.Fatal(err)
	}
	return frames
}

// received reads frames as a query does.
func received(ctx context.Context, frames [][]byte) *remoteSeriesSet {
	n := 0
	return &remoteSeriesSet{
		cancel: func() {}, builder: labels.NewScratchBuilder(0),
		frames: &frameReader{ctx: ctx, from: someNode, take: func(int) error { return nil }, recv: func() ([]byte, error) {
			if n == len(frames) {
				return nil, io.EOF
			}
			n++
			return frames[n-1], nil
		}},
	}
}

// samplesOf reads a series whole.
func samplesOf(t testing.TB, it chunkenc.Iterator) (all []layerSample) {
	t.Helper()
	for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
		all = append(all, sampleAt(it, vt))
	}
	if it.Err() != nil {
		t.Fatal(it.Err())
	}
	return all
}

func sampleAt(it chunkenc.Iterator, vt chunkenc.ValueType) layerSample {
	s := layerSample{t: it.AtT(), st: it.AtST()}
	switch vt {
	case chunkenc.ValFloat:
		_, s.f = it.At()
	case chunkenc.ValHistogram:
		_, s.h = it.AtHistogram(nil)
	case chunkenc.ValFloatHistogram:
		_, s.fh = it.AtFloatHistogram(nil)
	case chunkenc.ValNone: // there is no sample
	}
	return s
}

// sameSample compares to the bit, hints included; of histograms it does not
// matter which empty buckets are there.
func sameSample(a, b layerSample) bool {
	if a.t != b.t || a.st != b.st || math.Float64bits(a.f) != math.Float64bits(b.f) || (a.h == nil) != (b.h == nil) || (a.fh == nil) != (b.fh == nil) {
		return false
	}
	if a.h != nil {
		if value.IsStaleNaN(a.h.Sum) || value.IsStaleNaN(b.h.Sum) {
			return value.IsStaleNaN(a.h.Sum) && value.IsStaleNaN(b.h.Sum) && a.h.CounterResetHint == b.h.CounterResetHint
		}
		return a.h.CounterResetHint == b.h.CounterResetHint && a.h.Copy().Compact(0).Equals(b.h.Copy().Compact(0))
	}
	if a.fh != nil {
		return a.fh.CounterResetHint == b.fh.CounterResetHint && a.fh.Copy().Compact(0).Equals(b.fh.Copy().Compact(0))
	}
	return true
}

// mixedSeries has floats of all sorts, both kinds of histograms, and every hint.
func mixedSeries(rng *rand.Rand, l labels.Labels, n int) (storage.Series, []layerSample) {
	var list []chunks.Sample
	var want []layerSample
	odd := []float64{math.Copysign(0, -1), math.Inf(-1), math.Float64frombits(value.StaleNaN), math.Float64frombits(0x7ff800000000beef)}
	mode := 0
	for i := range n {
		if rng.IntN(200) == 0 {
			mode = rng.IntN(3)
		}
		s := layerSample{t: int64(i) * 15_000}
		if mode > 0 || i > n/2 {
			s.st = s.t - 5000
		}
		switch mode {
		case 0:
			s.f = float64(rng.IntN(1000)) / 8
			if rng.IntN(20) == 0 {
				s.f = odd[rng.IntN(len(odd))]
			}
		case 1:
			s.h = tsdbutil.GenerateTestHistogram(int64(rng.IntN(5) * i))
			s.h.CounterResetHint = histogram.CounterResetHint(rng.IntN(4))
			if rng.IntN(30) == 0 {
				s.h = &histogram.Histogram{Sum: math.Float64frombits(value.StaleNaN)}
			}
		case 2:
			s.fh = tsdbutil.GenerateTestFloatHistogram(int64(rng.IntN(5) * i))
			s.fh.CounterResetHint = histogram.CounterResetHint(rng.IntN(4))
		}
		list, want = append(list, s), append(want, s)
	}
	return storage.NewListSeries(l, list), want
}

func TestSeriesComeAsTheyWereSent(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var series []storage.Series
	var want [][]layerSample
	for i, n := range []int{0, 1, 5000, 3, 240, 241, 60_000, 0} {
		s, samples := mixedSeries(rng, labels.FromStrings("__name__", "m", "i", string(rune('a'+i))), n)
		series, want = append(series, s), append(want, samples)
	}
	frames := sentSeries(t, series...)
	if len(frames) < 4 {
		t.Errorf("only %d frames were sent: no series is longer than one", len(frames))
	}
	set := received(t.Context(), frames)
	var it chunkenc.Iterator
	var all []storage.Series
	for set.Next() {
		all = append(all, set.At())
	}
	if set.Err() != nil || len(all) != len(series) {
		t.Fatalf("%d series came, %v; want %d", len(all), set.Err(), len(series))
	}
	for i, s := range all { // the engine reads samples when it has all series
		if !labels.Equal(s.Labels(), series[i].Labels()) {
			t.Errorf("series %d is %v, want %v", i, s.Labels(), series[i].Labels())
		}
		it = s.Iterator(it)
		got := samplesOf(t, it)
		if !slices.EqualFunc(got, want[i], sameSample) {
			t.Errorf("series %d has %d samples that are not the %d that were sent", i, len(got), len(want[i]))
		}
		if vt := it.Next(); vt != chunkenc.ValNone {
			t.Errorf("series %d goes on after its end", i)
		}
	}
}

func TestSeeksGoWhereAListGoes(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 30 {
		s, samples := mixedSeries(rng, labels.FromStrings("a", "b"), 2000)
		set := received(t.Context(), sentSeries(t, s))
		if !set.Next() {
			t.Fatal(set.Err())
		}
		it := set.At().Iterator(nil)
		at := -1 // in samples
		for at < len(samples) {
			var vt chunkenc.ValueType
			if rng.IntN(3) == 0 {
				vt = it.Next()
				at++
			} else {
				target := int64(max(at, 0)+rng.IntN(400)-5) * 15_000
				vt = it.Seek(target)
				at = max(at, 0)
				for at < len(samples) && samples[at].t < target {
					at++
				}
			}
			if at >= len(samples) {
				if vt != chunkenc.ValNone || it.Err() != nil {
					t.Fatalf("got %v, %v at the end", vt, it.Err())
				}
				break
			}
			if vt == chunkenc.ValNone || !sameSample(sampleAt(it, vt), samples[at]) {
				t.Fatalf("stands at %v %d, want sample %d at %d", vt, it.AtT(), at, samples[at].t)
			}
		}
	}
}

func TestAStreamOfSeriesThatIsNotWholeIsAnError(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	a, _ := mixedSeries(rng, labels.FromStrings("a", "1"), 30_000)
	b, _ := mixedSeries(rng, labels.FromStrings("a", "2"), 30_000)
	frames := sentSeries(t, a, b)
	drain := func(frames [][]byte) error {
		set := received(t.Context(), frames)
		for set.Next() {
			continue
		}
		if set.Next() {
			t.Error("a set that has ended goes on")
		}
		return set.Err()
	}
	for n := range len(frames) {
		if err := drain(frames[:n]); quorate.KindOf(err) != quorate.Unavailable || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d of %d frames give %v, want Unavailable", n, len(frames), err)
		}
	}
	for n := range len(frames) - 1 {
		if err := drain(slices.Concat(frames[:n], frames[n+1:])); quorate.KindOf(err) != quorate.Internal {
			t.Errorf("without frame %d: %v, want an error of kind Internal", n, err)
		}
	}
	if err := drain(sentSeries(t, b, a)); !errors.Is(err, errMessage) {
		t.Errorf("series out of order give %v", err)
	}
	if err := drain(sentSeries(t, a, a)); !errors.Is(err, errMessage) {
		t.Errorf("a series that comes twice gives %v", err)
	}
}

func TestWarningsOfAStreamCome(t *testing.T) {
	frames := [][]byte{frameEndOf(0, []error{errors.New("careful")})}
	set := received(t.Context(), frames)
	if set.Next() || set.Err() != nil || len(set.Warnings()) != 1 || !strings.Contains(set.Warnings().AsErrors()[0].Error(), "careful") {
		t.Errorf("got %v, %v", set.Warnings(), set.Err())
	}
}

// FuzzSeriesStream reads two arbitrary messages as a stream of series: it ends,
// and in an error if it is not what a writer makes.
func FuzzSeriesStream(f *testing.F) {
	rng := rand.New(rand.NewPCG(7, 8))
	s, _ := mixedSeries(rng, labels.FromStrings("__name__", "m"), 300)
	for _, frame := range sentSeries(f, s) {
		f.Add(frame, frameEndOf(1, nil))
		f.Add(frame, frame)
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		set := received(t.Context(), [][]byte{a, b})
		for set.Next() {
			it := set.At().Iterator(nil)
			last, some := int64(0), false
			for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
				if some && it.AtT() <= last {
					t.Fatal("samples are out of order")
				}
				last, some = it.AtT(), true
				sampleAt(it, vt)
			}
			set.At().Iterator(it).Seek(last)
		}
		if set.Err() == nil && set.frames.count == 0 && len(a) > 0 && len(b) > 0 && a[1] == frameData {
			t.Error("series were left out")
		}
	})
}

func BenchmarkRemoteSeries(b *testing.B) {
	var series []storage.Series
	for i := range 1000 {
		var list []chunks.Sample
		for n := range 240 {
			list = append(list, layerSample{t: int64(n) * 15_000, f: float64(i*n) / 4})
		}
		series = append(series, storage.NewListSeries(labels.FromStrings("__name__", "m", "i", string(rune('a'+i))), list))
	}
	b.ReportAllocs()
	for b.Loop() {
		set := received(b.Context(), sentSeries(b, series...))
		var it chunkenc.Iterator
		for set.Next() {
			it = set.At().Iterator(it)
			for it.Next() != chunkenc.ValNone {
				it.At()
			}
		}
		if set.Err() != nil {
			b.Fatal(set.Err())
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*240_000), "ns/sample")
}
