package router

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/metasvc"
)

func TestSamplesOfSeveralBucketsAndShardsReadBackAsOneSeries(t *testing.T) {
	r := newRig(t)
	var want []string
	var metrics []metric
	for i := range 20 { // over both shards of three buckets
		l := labels.FromStrings("__name__", "m", "i", fmt.Sprintf("%02d", i))
		metrics = append(metrics, metric{l, []float{{at(-7200), 1}, {at(-3600), 2}, {at(-10), 3}, {at(0), 4}}})
		want = append(want, l.String()+": -7200=1 -3600=2 -10=3 0=4")
	}
	result, _, err := r.write(t, metrics...)
	if err != nil || result.Floats != 80 || result.Refused != 0 {
		t.Fatalf("stored %+v, %v; want 80 floats", result, err)
	}
	expect(t, r.read(t, named("m")), want...)
	for _, replica := range r.replicas.All() {
		v, err := replica.Shard().View()
		if err != nil {
			t.Fatal(err)
		}
		if b := replica.Shard().Bounds(); b.Range.Start < now.UnixMilli() && v.Tenant(r.tenant).NumSeries() == 0 {
			t.Errorf("set %v of %v got none of 20 series", replica.set, b.Range)
		}
		v.Close()
	}
}

func TestLabelsAreParsedOncePerSeriesAndSet(t *testing.T) {
	r := newRig(t)
	l := labels.FromStrings("__name__", "m")
	for i, tc := range []struct {
		at   int64
		want int
	}{{-20, 1}, {-10, 0}, {-3600, 1}, {-3590, 0}, {-5, 0}} {
		if s := r.mustWrite(t, metric{l, []float{{at(tc.at), float64(i)}}}); s.parsed != tc.want {
			t.Errorf("write %d: labels were parsed %d times, want %d", i, s.parsed, tc.want)
		}
	}
	expect(t, r.read(t, named("m")), `{__name__="m"}: -3600=2 -3590=3 -20=0 -10=1 -5=4`)
}

// A later version's buckets may spread series otherwise: a binary that was rolled
// back refuses to guess, and goes on with the buckets that it knows.
func TestProtocol12ABucketOfAnotherShardHashTakesNothing(t *testing.T) {
	r := newRig(t)
	start := now.Truncate(time.Hour).UnixMilli() - 3*hour
	r.planHashed(t, 1, quorate.TimeRange{Start: start, End: start + hour}, wire.ShardHashVersion+1)
	l := labels.FromStrings("__name__", "m")
	_, _, err := r.write(t, metric{l, []float{{start, 1}, {at(0), 2}}})
	if quorate.KindOf(err) != quorate.Unavailable || !strings.Contains(err.Error(), fmt.Sprintf("version %d of the shard hash", wire.ShardHashVersion+1)) {
		t.Errorf("got %v", err)
	}
	r.mustWrite(t, metric{l, []float{{at(0), 2}}})
	expect(t, r.read(t, named("m")), `{__name__="m"}: 0=2`)
}

func TestProtocol20ARefThatASetDoesNotKnowIsReplacedByLabels(t *testing.T) {
	r := newRig(t)
	l := labels.FromStrings("__name__", "m")
	s := r.mustWrite(t, metric{l, []float{{at(-20), 1}}})
	key := s.request().Series[0].Key
	cache := r.routesOf(r.tenant)
	cache.update([]wire.SeriesKey{key}, func(_ int, c *cachedRoute) {
		for i := range c.refs {
			c.refs[i].ref = 1 << 20
		}
	})
	s = r.mustWrite(t, metric{l, []float{{at(-10), 2}}})
	if s.parsed != 1 || testutil.ToFloat64(r.metrics.unknownRefs) != 1 {
		t.Errorf("labels parsed %d times, %v refs refused; want once each", s.parsed, testutil.ToFloat64(r.metrics.unknownRefs))
	}
	if s = r.mustWrite(t, metric{l, []float{{at(0), 3}}}); s.parsed != 0 {
		t.Error("the right ref was not learned")
	}
	expect(t, r.read(t, named("m")), `{__name__="m"}: -20=1 -10=2 0=3`)
}

func TestIdenticalRowsCountAsStoredAndOtherValuesAreRefused(t *testing.T) {
	r := newRig(t)
	l := labels.FromStrings("__name__", "m", "job", "a")
	r.mustWrite(t, metric{l, []float{{at(-10), 1}}})
	if result, _, err := r.write(t, metric{l, []float{{at(-10), 1}}}); err != nil || result.Floats != 1 || result.Duplicates != 1 {
		t.Errorf("a retry got %+v, %v; want it stored as a duplicate", result, err)
	}
	result, _, err := r.write(t, metric{l, []float{{at(-10), 2}, {at(-5), 3}}})
	if quorate.KindOf(err) != quorate.Invalid || result.Floats != 1 || result.Refused != 1 {
		t.Fatalf("a conflict got %+v, %v; want the other row stored and an Invalid error", result, err)
	}
	for _, part := range []string{`{__name__="m", job="a"}`, "duplicate sample for timestamp", quorate.FormatTime(at(-10))} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not name %q", err, part)
		}
	}
	expect(t, r.read(t, named("m")), `{__name__="m", job="a"}: -10=1 -5=3`)
}

func TestASeriesWithBrokenLabelsLeavesTheOthersAlone(t *testing.T) {
	r := newRig(t)
	good, bad := labels.FromStrings("__name__", "good"), labels.FromStrings("__name__", "bad")
	s := &sent{
		metrics: []metric{{bad, []float{{at(-10), 1}, {at(-5), 1}}}, {good, []float{{at(-10), 2}}}},
		broken:  map[int]error{0: quorate.Errorf(quorate.Invalid, "label rule")},
	}
	result, err := r.Append(t.Context(), r.tenant, s.request())
	if quorate.KindOf(err) != quorate.Invalid || !strings.Contains(err.Error(), "label rule") || result.Floats != 1 || result.Refused != 2 {
		t.Fatalf("got %+v, %v; want one row stored and two refused for the label rule", result, err)
	}
	expect(t, r.read(t, named("good")), `{__name__="good"}: -10=2`)
	expect(t, r.read(t, named("bad")))
}

func TestTimesOutsideTheBoundsAreRefusedAndTheRestIsWritten(t *testing.T) {
	r := newRig(t)
	l := labels.FromStrings("__name__", "m")
	for name, tc := range map[string]struct {
		at   int64
		rule string
	}{"future": {at(601), "future bound"}, "retention": {at(-31 * 24 * 3600), "retention"}} {
		result, _, err := r.write(t, metric{l, []float{{at(-10), 1}, {tc.at, 2}}})
		if quorate.KindOf(err) != quorate.Invalid || !strings.Contains(err.Error(), tc.rule) || result.Floats != 1 || result.Refused != 1 {
			t.Errorf("%s: got %+v, %v; want one row stored and one refused for the %s", name, result, err, tc.rule)
		}
	}
	if result, _, err := r.write(t, metric{l, []float{{at(600), 3}}}); err != nil || result.Floats != 1 {
		t.Errorf("a sample at the future bound got %+v, %v", result, err)
	}
}

func TestABucketThatCannotBeOpenedIsUnavailableAndTheRestIsWritten(t *testing.T) {
	// Nothing forms the sets of buckets made on demand here.
	r := newRig(t, func(c *metasvc.ClientConfig) { c.FormTimeout = 50 * time.Millisecond })
	l := labels.FromStrings("__name__", "m")
	result, _, err := r.write(t, metric{l, []float{{at(-5 * 3600), 1}, {at(-10), 2}}})
	if quorate.KindOf(err) != quorate.Unavailable || result.Floats != 1 {
		t.Fatalf("got %+v, %v; want one row stored and Unavailable", result, err)
	}
	expect(t, r.read(t, named("m")), `{__name__="m"}: -10=2`)
}

func TestASetThatOpensWithinTheDeadlineIsLatencyNotAnError(t *testing.T) {
	r := newRig(t)
	set := r.client.Map().Bucket(1, at(0)).Sets
	var held []*Replica
	for _, s := range set {
		replica, err := r.replicas.Get(s.ID)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, replica)
		r.replicas.Remove(s.ID)
	}
	done := make(chan error, 1)
	go func() {
		_, err := r.Append(t.Context(), r.tenant, (&sent{metrics: []metric{{labels.FromStrings("__name__", "m"), []float{{at(0), 1}}}}}).request())
		done <- err
	}()
	for testutil.ToFloat64(r.metrics.retries) < 2 {
		select {
		case err := <-done:
			t.Fatalf("the write ended with %v while its set was not open", err)
		default:
		}
	}
	for _, replica := range held {
		r.replicas.Add(replica)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	expect(t, r.read(t, named("m")), `{__name__="m"}: 0=1`)
}

func TestABrokenSetFailsAtOnceAndIsNamed(t *testing.T) {
	r := newRig(t)
	for _, s := range r.client.Map().Bucket(1, at(0)).Sets {
		r.replicas.Break(s.ID, errors.New("disk on fire"), true)
	}
	_, _, err := r.write(t, metric{labels.FromStrings("__name__", "m"), []float{{at(0), 1}}})
	if quorate.KindOf(err) != quorate.Unavailable || !strings.Contains(err.Error(), "disk on fire") {
		t.Fatalf("a write got %v, want Unavailable with the reason", err)
	}
	if _, err := r.Querier(t.Context(), r.tenant, at(0), at(0)); quorate.KindOf(err) != quorate.Unavailable || !strings.Contains(err.Error(), "disk on fire") {
		t.Fatalf("a query got %v, want Unavailable with the reason", err)
	}
}

func TestALargeRequestIsSplitIntoBoundedBatches(t *testing.T) {
	r := newRig(t)
	const rows = 3*maxPartRows + 17
	m := metric{labels: labels.FromStrings("__name__", "m")}
	for i := range int64(rows) {
		m.floats = append(m.floats, float{at(-1200) + i, float64(i)})
	}
	result, s, err := r.write(t, m)
	if err != nil || result.Floats != rows {
		t.Fatalf("stored %+v, %v; want %d floats", result, err, rows)
	}
	if s.parsed != 1 {
		t.Errorf("labels were parsed %d times for 4 batches, want once", s.parsed)
	}
	if result, _, err = r.write(t, m); err != nil || result.Floats != rows {
		t.Fatalf("the retry stored %+v, %v", result, err)
	}
}

func TestTheNewestMetadataOfAFamilyIsRead(t *testing.T) {
	r := newRig(t)
	for _, help := range []string{"a", "b", "a", "c"} {
		_, err := r.Append(t.Context(), r.tenant, &wire.WriteRequest{Metadata: []wire.Metadata{
			{Family: "m", Type: "counter", Help: help}, {Family: "n", Type: "gauge", Help: "of n"},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	got, _, err := r.Metadata(t.Context(), r.tenant, "")
	if err != nil || len(got) != 2 || got["m"].Help != "c" || got["m"].Type != "counter" || got["n"].Help != "of n" {
		t.Fatalf("read %+v, %v; want the newest help of both families", got, err)
	}
	if got, _, err = r.Metadata(t.Context(), r.tenant, "n"); err != nil || len(got) != 1 {
		t.Fatalf("read %+v, %v; want one family", got, err)
	}
}

// A write's tenant is made before its rows are placed: that it is not there is
// a matter of moments, and a client that hears 404 drops what it has.
func TestAnUnknownTenantIsNotFoundByAQueryAndUnavailableToAWrite(t *testing.T) {
	r := newRig(t)
	if _, err := r.Append(t.Context(), 99, (&sent{}).request()); quorate.KindOf(err) != quorate.Unavailable {
		t.Errorf("a write got %v", err)
	}
	if _, err := r.Querier(t.Context(), 99, 0, 0); quorate.KindOf(err) != quorate.NotFound {
		t.Errorf("a query got %v", err)
	}
}

func TestALargeRequestOfHistogramsIsSplitIntoCommandsThatRaftTakes(t *testing.T) {
	r := newRig(t)
	h := &histogram.Histogram{PositiveSpans: []histogram.Span{{Length: 4096}}, PositiveBuckets: make([]int64, 4096)}
	encoded := wire.AppendHistogram(nil, h)
	s := &sent{metrics: []metric{{labels: labels.FromStrings("__name__", "m")}}}
	in := s.request()
	const rows = 5000 // 20 MB for one set
	for i := range int64(rows) {
		in.Histograms = append(in.Histograms, wire.RequestHistogram{Timestamp: at(-1200) + i, Encoded: encoded})
	}
	in.Series[0].HistogramEnd = rows
	result, err := r.Append(t.Context(), r.tenant, in)
	if err != nil || result.Histograms != rows {
		t.Fatalf("stored %+v, %v; want %d histograms", result, err, rows)
	}
}

func TestWhetherARowIsTooOldDoesNotDependOnTheRowsBeforeIt(t *testing.T) {
	// The oldest bucket of the rig begins before the retention's end.
	for name, order := range map[string][]int64{"oldest first": {-7300, -7100}, "oldest last": {-7100, -7300}} {
		r := newRig(t)
		policy := metasvc.DefaultPolicy()
		policy.Span, policy.LateWindow, policy.Retention = time.Hour, time.Hour, 2*time.Hour
		r.leader.do(t, metasvc.AlterPolicy{ID: 1, Term: 1, Policy: policy})
		testwait.For(t, "the shorter retention in the map", func() bool { return r.client.Map().Policy(1).Retention == 2*time.Hour })
		var rows []float
		for i, seconds := range order {
			rows = append(rows, float{at(seconds), float64(i)})
		}
		result, _, err := r.write(t, metric{labels.FromStrings("__name__", "m"), rows})
		if quorate.KindOf(err) != quorate.Invalid || result.Floats != 1 || result.Refused != 1 {
			t.Errorf("%s: got %+v, %v; want the row before the retention refused, the other stored", name, result, err)
		}
	}
}

func TestAReplicaThatIsClosedIsNoEmptyAnswer(t *testing.T) {
	r := newRig(t)
	r.mustWrite(t, metric{labels.FromStrings("__name__", "m"), []float{{at(0), 1}}})
	for _, set := range r.client.Map().Bucket(1, at(0)).Sets {
		replica, err := r.replicas.Get(set.ID)
		if err != nil {
			t.Fatal(err)
		}
		if err := replica.Group().Close(); err != nil {
			t.Fatal(err)
		}
		v, err := replica.View(t.Context(), nil)
		if err == nil {
			v.Close()
			t.Errorf("set %v is closed and shows a view", set.ID)
		}
		_, writeErr := replica.Write(t.Context(), nil)
		_, deleteErr := replica.Delete(t.Context(), nil)
		for what, err := range map[string]error{"view": err, "write": writeErr, "deletion": deleteErr} {
			if !isRetriable(err) {
				t.Errorf("a %s of closed set %v got %v, want an error that another replica may mend", what, set.ID, err)
			}
		}
	}
}
