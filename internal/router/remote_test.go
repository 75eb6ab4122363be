package router

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/metasvc"
)

// begin reads the first series of a query and returns what is left of it.
func (r *rig) begin(t testing.TB) (storage.Querier, storage.SeriesSet) {
	t.Helper()
	q, err := r.Querier(t.Context(), r.tenant, at(-7200), at(0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	set := q.Select(t.Context(), true, nil, named("m"))
	if !set.Next() {
		t.Fatal(set.Err())
	}
	return q, set
}

func TestAQueryOfANodeThatGoesAwayIsAnErrorAndNeverShort(t *testing.T) {
	r := newRigOf(t, 2)
	// Enough for several frames.
	for i := range 40 {
		request := manySeries(1000, 0)
		for n := range request {
			request[n].floats = nil
			for k := range 50 {
				request[n].floats = append(request[n].floats, float{at(int64(-3000 + i*50 + k)), 1 / float64(1+n*k+i)})
			}
		}
		r.mustWrite(t, request...)
	}
	_, set := r.begin(t)
	n := 1
	r.network.setDown(r.nodes[1], true)
	for set.Next() {
		n++
	}
	// What was on the way may still come, all of it if need be; less than all
	// is an error.
	if err := set.Err(); err == nil && n != 1000 || err != nil && quorate.KindOf(err) != quorate.Unavailable {
		t.Errorf("%d series of 1000 came, %v", n, err)
	}
	// Before it has begun.
	r.queryTimeout = 100 * time.Millisecond
	if _, err := r.Querier(t.Context(), r.tenant, at(-3000), at(0)); quorate.KindOf(err) != quorate.Unavailable || !strings.Contains(err.Error(), "read shard 1") {
		t.Errorf("got %v, want Unavailable that names the shard", err)
	}
	r.network.setDown(r.nodes[1], false)
	r.queryTimeout = testwait.Deadline
	if got := len(r.read(t, named("m"))); got != 1000 {
		t.Errorf("%d series are read, want 1000", got)
	}
	// The connection breaks at each frame in turn.
	for broken := range 8 {
		r.network.setHarm(func(_ context.Context, _ quorate.NodeID, method string, n int) error {
			if method == methodSelect && n == broken {
				return errCut
			}
			return nil
		})
		q, err := r.Querier(t.Context(), r.tenant, at(-3000), at(0))
		if err != nil {
			t.Fatal(err)
		}
		set := q.Select(t.Context(), true, nil, named("m"))
		n := 0
		for set.Next() {
			n++
		}
		if set.Err() == nil && n != 1000 {
			t.Errorf("broken at message %d: %d series, %v", broken, n, set.Err())
		}
		if broken < 3 && quorate.KindOf(set.Err()) != quorate.Unavailable {
			t.Errorf("a connection that broke at message %d: got %v, want Unavailable", broken, set.Err())
		}
		q.Close()
	}
}

func TestAViewThatIsLostIsUnavailable(t *testing.T) {
	r := newRigOf(t, 2)
	r.mustWrite(t, manySeries(20, at(-10))...)
	q, _ := r.begin(t)
	for _, node := range r.nodes { // the connections break, and the views with them
		r.network.setDown(node, true)
	}
	testwait.For(t, "the views to be closed", func() bool { return r.views() == 0 })
	for _, node := range r.nodes {
		r.network.setDown(node, false)
	}
	set := q.Select(t.Context(), true, nil, named("m"))
	if set.Next() || quorate.KindOf(set.Err()) != quorate.Unavailable || !strings.Contains(set.Err().Error(), "is not open on this node") {
		t.Errorf("a select on a view that is gone got %v", set.Err())
	}
	if _, _, err := q.LabelNames(t.Context(), nil); quorate.KindOf(err) != quorate.Unavailable {
		t.Errorf("label names of a view that is gone got %v", err)
	}
}

// views counts those that the other nodes have open for this one.
func (r *rig) views() (n int) {
	for _, h := range r.homes {
		h.served.mu.Lock()
		n += len(h.served.open)
		h.served.mu.Unlock()
	}
	return n
}

func TestViewsElsewhereAreLetGo(t *testing.T) {
	r := newRigOf(t, 2)
	r.mustWrite(t, manySeries(20, at(-10))...)
	q, set := r.begin(t)
	if r.views() != 6 { // three buckets of two shards
		t.Errorf("%d views are open, want 6", r.views())
	}
	if got := r.network.called(methodPin); got != 2 {
		t.Errorf("%d nodes were asked, want 2, once each", got)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	testwait.For(t, "the views to be closed", func() bool { return r.views() == 0 })
	for set.Next() {
		continue // what has come may still be read
	}
	// One of a context that ends goes as well.
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := r.Querier(ctx, r.tenant, at(-7200), at(0)); err != nil {
		t.Fatal(err)
	}
	if r.views() != 6 {
		t.Errorf("%d views are open, want 6", r.views())
	}
	cancel()
	testwait.For(t, "the views to be closed", func() bool { return r.views() == 0 })
	// And those that were pinned by an attempt of which another part failed.
	r.network.setDown(r.nodes[1], true)
	r.queryTimeout = 50 * time.Millisecond
	if _, err := r.Querier(t.Context(), r.tenant, at(-7200), at(0)); err == nil {
		t.Error("a node that is away was read")
	}
	testwait.For(t, "the views to be closed", func() bool { return r.views() == 0 })
	// And those of a node that stops.
	r.network.setDown(r.nodes[1], false)
	r.queryTimeout = testwait.Deadline
	r.begin(t)
	for _, h := range r.homes {
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	}
	testwait.For(t, "the views to be closed", func() bool { return r.views() == 0 })
}

func TestAViewBelongsToTheNodeThatPinnedIt(t *testing.T) {
	r := newRigOf(t, 2)
	r.mustWrite(t, manySeries(20, at(-10))...)
	r.begin(t)
	home := r.homes[r.nodes[0]]
	var id uint64
	home.served.mu.Lock()
	for id = range home.served.open {
		break
	}
	home.served.mu.Unlock()
	stranger := &remoteQuerier{layer: &remoteLayer{router: r.homes[r.nodes[1]], node: r.nodes[0], view: id, left: new(atomic.Int64)}, window: allTime(id, r.tenant)}
	set := stranger.Select(t.Context(), true, nil, named("m"))
	if set.Next() || quorate.KindOf(set.Err()) != quorate.Unavailable {
		t.Errorf("another node's select got %v, want Unavailable", set.Err())
	}
}

func TestAQueryTakesInNoMoreThanItMay(t *testing.T) {
	r := newRigOf(t, 2)
	r.mustWrite(t, manySeries(200, at(-10))...)
	r.remoteBytes = 1000
	q, err := r.Querier(t.Context(), r.tenant, at(-7200), at(0))
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	set := q.Select(t.Context(), true, nil, named("m"))
	for set.Next() {
		continue
	}
	if quorate.KindOf(set.Err()) != quorate.TooLarge {
		t.Errorf("got %v, want TooLarge", set.Err())
	}
}

// Selects that are read in turns, more of them than a transport would buffer.
func TestSelectsAreReadInterleaved(t *testing.T) {
	r := newRigOf(t, 2)
	r.mustWrite(t, manySeries(300, at(-10))...)
	q, err := r.Querier(t.Context(), r.tenant, at(-7200), at(0))
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	sets := make([]storage.SeriesSet, 10)
	for i := range sets {
		sets[i] = q.Select(t.Context(), true, nil, named("m"))
	}
	counts := make([]int, len(sets))
	for more := true; more; {
		more = false
		for i, s := range sets {
			if i%3 == 0 && counts[i] == 5 {
				continue // not read to the end
			}
			if s.Next() {
				counts[i]++
				more = true
			} else if s.Err() != nil {
				t.Fatal(s.Err())
			}
		}
	}
	for i, n := range counts {
		if want := map[bool]int{true: 5, false: 300}[i%3 == 0]; n != want {
			t.Errorf("select %d gave %d series, want %d", i, n, want)
		}
	}
}

func TestACancelledQuerySaysSo(t *testing.T) {
	r := newRigOf(t, 2)
	r.mustWrite(t, manySeries(20, at(-10))...)
	q, err := r.Querier(t.Context(), r.tenant, at(-7200), at(0))
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	set := q.Select(ctx, true, nil, named("m"))
	if set.Next() || !errors.Is(set.Err(), context.Canceled) {
		t.Errorf("got %v, want the context's error", set.Err())
	}
}

func TestLimitsAndLabelsOfOtherNodes(t *testing.T) {
	here, away := newRig(t), newRigOf(t, 2)
	for _, r := range []*rig{here, away} {
		r.mustWrite(t, manySeries(50, at(-10))...)
		r.mustWrite(t, metric{labels.FromStrings("__name__", "other", "job", "x"), []float{{at(0), 1}}})
	}
	ask := func(r *rig) (all []string) {
		q, err := r.Querier(t.Context(), r.tenant, at(-7200), at(0))
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		names, _, err := q.LabelNames(t.Context(), nil)
		all = append(all, fmt.Sprint(names, err))
		names, _, err = q.LabelNames(t.Context(), &storage.LabelHints{Limit: 1}, named("other"))
		all = append(all, fmt.Sprint(names, err))
		values, _, err := q.LabelValues(t.Context(), "i", &storage.LabelHints{Limit: 7})
		all = append(all, fmt.Sprint(values, err))
		values, _, err = q.LabelValues(t.Context(), "i", nil, labels.MustNewMatcher(labels.MatchRegexp, "i", "000.|004."))
		all = append(all, fmt.Sprint(values, err))
		values, _, err = q.LabelValues(t.Context(), "", nil)
		all = append(all, fmt.Sprint(len(values), err))
		for _, hints := range []*storage.SelectHints{
			{Start: at(-7200), End: at(0), Limit: 4}, {Start: at(-7200), End: at(0), Func: "series"}, {Start: at(-5), End: at(0)},
			{Start: at(-7200), End: at(0), DisableTrimming: true, Step: 1000, Range: 1000, Grouping: []string{"i"}, By: true},
		} {
			all = append(all, linesOf(t, q.Select(t.Context(), true, hints, labels.MustNewMatcher(labels.MatchRegexp, "__name__", "m|other")))...)
		}
		return all
	}
	if got, want := ask(away), ask(here); !slices.Equal(got, want) {
		t.Errorf("other nodes answer\n%q\nwant\n%q", got, want)
	}
}

func TestExemplarsMetadataAndStatsOfOtherNodes(t *testing.T) {
	here, away := newRig(t), newRigOf(t, 2)
	ask := func(r *rig) string {
		for i := range 5 {
			s := &sent{metrics: []metric{{labels.FromStrings("__name__", "m", "i", fmt.Sprint(i)), []float{{at(0), 1}}}}}
			in := s.request()
			in.Exemplars = []wire.RequestExemplar{{Timestamp: at(-100), Value: 1, Labels: wire.AppendLabel(nil, "trace", "x")}, {Timestamp: at(-50), Value: math.Inf(1)}}
			in.Series[0].ExemplarEnd = 2
			in.Metadata = []wire.Metadata{{Family: fmt.Sprint("m", i), Type: "counter", Help: "h", Unit: "s"}}
			if _, err := r.Append(t.Context(), r.tenant, in); err != nil {
				t.Fatal(err)
			}
		}
		q, err := r.ExemplarQuerier(t.Context(), r.tenant)
		if err != nil {
			t.Fatal(err)
		}
		exemplars, err := q.Select(at(-100), at(0), []*labels.Matcher{named("m")}, []*labels.Matcher{named("x")})
		if err != nil || len(exemplars) != 5 {
			t.Fatalf("exemplars are %+v, %v", exemplars, err)
		}
		all, _, err := r.Metadata(t.Context(), r.tenant, "")
		if err != nil || len(all) != 5 {
			t.Fatalf("metadata is %+v, %v", all, err)
		}
		one, _, err := r.Metadata(t.Context(), r.tenant, "m3")
		if err != nil || len(one) != 1 {
			t.Fatalf("metadata of one family is %+v, %v", one, err)
		}
		stats, _, err := r.Stats(t.Context(), r.tenant, "__name__", 10)
		if err != nil || stats.NumSeries != 5 {
			t.Fatalf("stats are %+v, %v", stats, err)
		}
		return fmt.Sprintf("%+v\n%+v\n%+v\n%+v %+v", exemplars, all, one, *stats, *stats.IndexPostingStats)
	}
	strip := func(s string) string {
		return s[:strings.LastIndex(s, "IndexPostingStats:")] + s[strings.LastIndex(s, "}"):]
	}
	if got, want := ask(away), ask(here); strip(got) != strip(want) {
		t.Errorf("other nodes answer\n%s\nwant\n%s", got, want)
	}
}

func TestProtocol24ReadsHaveTheConsistencyThatIsAskedFor(t *testing.T) {
	r := newRigOf(t, 2)
	r.mustWrite(t, manySeries(20, at(-10))...)
	read := func(c quorate.Consistency) (n int, warnings string, err error) {
		q, err := r.Reads(c).Querier(t.Context(), r.tenant, at(-1800), at(0))
		if err != nil {
			return 0, "", err
		}
		defer q.Close()
		set := q.Select(t.Context(), true, nil, named("m"))
		for set.Next() {
			n++
		}
		return n, fmt.Sprint(set.Warnings().AsErrors()), set.Err()
	}
	testwait.For(t, "the map lease", r.client.MapCurrent)
	for _, c := range []quorate.Consistency{quorate.ConsistencyDefault, quorate.ConsistencyStrong} {
		if n, warnings, err := read(c); n != 20 || warnings != "[]" || err != nil {
			t.Errorf("%v: %d series, warnings %s, %v", c, n, warnings, err)
		}
	}
	if n, warnings, err := read(quorate.ConsistencyStale); n != 20 || !strings.Contains(warnings, "stale_read: 2 of 2 sets") || !strings.Contains(warnings, "lacked up to 0 log entries") || err != nil {
		t.Errorf("stale: %d series, warnings %s, %v", n, warnings, err)
	}
	own := r.meta
	r.meta = unconfirmedMeta{own}
	if n, warnings, err := read(quorate.ConsistencyStrong); n != 20 || err != nil || warnings != "[]" {
		t.Errorf("strong with a map that is confirmed when it is asked: %d, %s, %v", n, warnings, err)
	}
	r.meta = leaderlessMeta{own}
	r.queryTimeout = 50 * time.Millisecond
	if _, _, err := read(quorate.ConsistencyStrong); quorate.KindOf(err) != quorate.Unavailable {
		t.Errorf("strong without the metadata leader got %v, want Unavailable", err)
	}
	if n, warnings, err := read(quorate.ConsistencyDefault); n != 20 || err != nil || !strings.Contains(warnings, "map_unconfirmed") {
		t.Errorf("default without the metadata leader: %d, %s, %v", n, warnings, err)
	}
}

// leaderlessMeta is a Meta whose map lease has run out and that no leader answers.
type leaderlessMeta struct{ Meta }

func (leaderlessMeta) MapCurrent() bool { return false }
func (leaderlessMeta) ConfirmMap(context.Context) error {
	return quorate.Errorf(quorate.Unavailable, "no leader")
}

// currentMeta is leaderlessMeta with a lease that holds still.
type currentMeta struct{ leaderlessMeta }

func (currentMeta) MapCurrent() bool { return true }

// A bucket of visible time that another node's map has as open, and this one's
// as planned.
func TestABucketThatIsOpenElsewhereIsRead(t *testing.T) {
	r := newRigOf(t, 2)
	start := now.Truncate(time.Hour).UnixMilli() - 3*hour
	planned := r.leader.do(t, metasvc.PlanBucket{
		Policy: 1, Range: quorate.TimeRange{Start: start, End: start + hour}, HashVersion: wire.ShardHashVersion,
		Placement: [][]quorate.NodeID{{r.nodes[0]}, {r.nodes[1]}},
	}).(metasvc.PlanBucketResult)
	testwait.For(t, "the bucket in the map", func() bool { return r.client.Map().Set(planned.Sets[1]) != nil })
	bare := r.client.Map()
	r.open(t, bare.Set(planned.Sets[0]))
	testwait.For(t, "the first set to be open", func() bool {
		return r.client.Map().Set(planned.Sets[0]).State == metasvc.ReplicaSetOpen
	})
	half := r.client.Map()
	r.mustWrite(t, metric{labels.FromStrings("__name__", "m"), []float{{at(-10), 1}}})
	want := `{__name__="m"}: -10=1`
	// Nobody can have written to a set that is forming.
	expect(t, r.read(t, named("m")), want)
	own := r.meta
	r.queryTimeout = 50 * time.Millisecond
	r.meta = currentMeta{leaderlessMeta{own}}
	if _, err := r.Querier(t.Context(), r.tenant, math.MinInt64, math.MaxInt64); quorate.KindOf(err) != quorate.Unavailable {
		t.Errorf("a set that may be formed by now was passed over: %v", err)
	}
	r.meta = leaderlessMeta{own} // the answer warns then
	expect(t, r.read(t, named("m")), want)
	for _, meta := range []Meta{currentMeta{leaderlessMeta{own}}, leaderlessMeta{own}} { // a stale one asks nobody
		r.meta = meta
		stale, err := r.Reads(quorate.ConsistencyStale).Querier(t.Context(), r.tenant, math.MinInt64, math.MaxInt64)
		if err != nil {
			t.Fatalf("a stale read waits for the metadata leader: %v", err)
		}
		set := stale.Select(t.Context(), true, nil, named("m"))
		expect(t, linesOf(t, set), want)
		warning := errFormingLeftOut
		if !meta.MapCurrent() {
			warning = ErrMapUnconfirmed
		}
		if _, warned := set.Warnings()[warning.Error()]; !warned {
			t.Errorf("a stale answer that leaves sets out warns of %v, want %v", set.Warnings().AsErrors(), warning)
		}
		if err := stale.Close(); err != nil {
			t.Error(err)
		}
	}
	r.queryTimeout = testwait.Deadline
	r.meta = own
	r.open(t, half.Set(planned.Sets[1]))
	testwait.For(t, "the bucket to be open", func() bool {
		b := r.client.Map().Bucket(1, start)
		return b != nil && b.State == metasvc.BucketOpen
	})
	r.mustWrite(t, manySeries(20, start)...)
	for name, old := range map[string]*metasvc.Map{"with sets that form": half, "with nothing but the plan": bare} {
		meta := &lateMeta{Meta: own, old: old, looks: 1}
		r.meta = meta
		if got := len(r.read(t, named("m"))); got != 21 {
			t.Errorf("a map %s shows %d series, want 21", name, got)
		}
	}
	r.meta = own
	if err := r.DeleteSeries(t.Context(), r.tenant, math.MinInt64, math.MaxInt64, named("m")); err != nil {
		t.Fatal(err)
	}
	expect(t, r.read(t, named("m")))
}

func TestTombstonesAreCleanedOnOtherNodes(t *testing.T) {
	r := newRigOf(t, 2)
	var mu sync.Mutex
	compacted := map[quorate.NodeID]int{}
	for node, h := range r.homes {
		h.compact = func(context.Context, quorate.ReplicaSetID) error {
			mu.Lock()
			defer mu.Unlock()
			compacted[node]++
			return nil
		}
	}
	if err := r.CleanTombstones(t.Context(), r.tenant); err != nil {
		t.Fatal(err)
	}
	if compacted[r.nodes[0]] != 4 || compacted[r.nodes[1]] != 4 {
		t.Errorf("sets were compacted %v, want four on each node", compacted)
	}
	for _, h := range r.homes {
		h.compact = func(context.Context, quorate.ReplicaSetID) error {
			return quorate.Errorf(quorate.Internal, "the disk is broken")
		}
	}
	if err := r.CleanTombstones(t.Context(), r.tenant); err == nil || !strings.Contains(err.Error(), "the disk is broken") {
		t.Errorf("got %v", err)
	}
}

func TestChunksOfOtherNodesHaveAnEncodingOfPrometheus(t *testing.T) {
	r := newRigOf(t, 2)
	r.mustWrite(t, manySeries(5, at(-10))...)
	q, err := r.ChunkQuerier(t.Context(), r.tenant, at(-7200), at(0))
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	set := q.Select(t.Context(), true, nil, named("m"))
	n := 0
	for set.Next() {
		it := set.At().Iterator(nil)
		for it.Next() {
			if enc := it.At().Chunk.Encoding(); enc != chunkenc.EncXOR {
				t.Errorf("encoding %v", enc)
			}
			n++
		}
		if it.Err() != nil {
			t.Fatal(it.Err())
		}
	}
	if n != 5 || set.Err() != nil {
		t.Errorf("%d chunks, %v; want 5", n, set.Err())
	}
}
